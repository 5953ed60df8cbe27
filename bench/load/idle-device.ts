/**
 * A device that connects, is welcomed, and then only stays. When to come back it decides as a client
 * does: with the same back-off, which believes what the relay said inside the channel.
 */
import { create, toBinary } from "@bufbuild/protobuf";
import { Backoff, type ConnectionEnd } from "../../client/reconnect.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { Handshake, type KeyPair, type Transport } from "../../wire/channel.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { ErrorCode, errorOfMessage, SyncError } from "../../wire/errors.ts";
import { prologue, protocolVersions, subprotocol } from "../../wire/protocol.ts";
import { openRecord } from "../../wire/records.ts";
import { FrameSocket } from "./frame-socket.ts";

const recordBytesBound = 1024 * 1024;

/** A try that came to nothing. */
export class NotWelcomed extends Error {
  /** When the device tries again, in milliseconds. */
  readonly waitMs: number;

  constructor(reason: string, waitMs: number) {
    super(reason);
    this.waitMs = waitMs;
  }
}

export class IdleDevice {
  readonly #keys: KeyPair;
  readonly #groupId: Uint8Array;
  readonly #backoff = new Backoff();
  #socket: FrameSocket | undefined;
  /** Called when the connection ended, with when to come back, in milliseconds. */
  onGone: (waitMs: number) => void = () => undefined;

  constructor(keys: KeyPair, groupId: Uint8Array) {
    this.#keys = keys;
    this.#groupId = groupId;
  }

  /** Resolves when the relay has welcomed it; rejects with `NotWelcomed` where the connection ends before. */
  async connect(port: number): Promise<void> {
    const socket = await FrameSocket.connect(port, "/v1/sync", subprotocol).catch(
      (error: unknown) => {
        throw new NotWelcomed(String(error), this.#waitMs(undefined));
      },
    );
    this.#socket = socket;
    let told: SyncError | undefined;
    const handshake = new Handshake({ role: "initiator", keyPair: this.#keys, prologue });
    await new Promise<void>((resolve, reject) => {
      let transport: Transport | undefined;
      let welcomed = false;
      socket.onClose = (reason) => {
        // Told for the close frame and for the end of the stream.
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        const waitMs = this.#waitMs(told);
        if (welcomed) this.onGone(waitMs);
        else reject(new NotWelcomed(`the relay closed the connection: ${reason}`, waitMs));
      };
      socket.onMessage = (message) => {
        if (transport === undefined) {
          handshake.read(new Uint8Array(message));
          const hello = create(HelloSchema, {
            versions: protocolVersions,
            client: "bench",
            groupId: this.#groupId,
          });
          socket.send(handshake.write(toBinary(HelloSchema, hello)));
          transport = handshake.finish();
          return;
        }
        const plaintext = openRecord(transport, message, recordBytesBound);
        for (const { body } of decodeEnvelopes(plaintext, recordBytesBound)) {
          if (body.case === "welcome") {
            welcomed = true;
            this.#backoff.opened(performance.now());
            resolve();
          } else if (body.case === "error") {
            told = errorOfMessage(body.value);
          }
        }
      };
      socket.send(handshake.write(new Uint8Array(0)));
    });
  }

  /** `told`: by the relay, inside the channel. */
  #waitMs(told: SyncError | undefined): number {
    const end: ConnectionEnd = {
      error: told ?? new SyncError(ErrorCode.CONNECTION_LOST),
      certain: told !== undefined,
    };
    const waitMs = this.#backoff.ended(end, performance.now(), Math.random());
    if (waitMs === undefined) throw end.error;
    return waitMs;
  }

  close(): void {
    this.onGone = () => undefined;
    this.#socket?.close();
  }
}
