/** A device that connects, is welcomed, and then only stays: it comes back where its connection ends. */
import { create, toBinary } from "@bufbuild/protobuf";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { Handshake, type KeyPair, type Transport } from "../../wire/channel.ts";
import { decodeEnvelopes } from "../../wire/envelope.ts";
import { prologue, protocolVersions, subprotocol } from "../../wire/protocol.ts";
import { openRecord } from "../../wire/records.ts";
import { FrameSocket } from "./frame-socket.ts";

const recordBytesBound = 1024 * 1024;

export class IdleDevice {
  readonly #keys: KeyPair;
  readonly #groupId: Uint8Array;
  #socket: FrameSocket | undefined;
  /** What the relay said about coming back, in milliseconds. */
  #retryAfterMs: number | undefined;
  /** Called when the connection ended, with when to come back. */
  onGone: (retryAfterMs: number | undefined) => void = () => undefined;

  constructor(keys: KeyPair, groupId: Uint8Array) {
    this.#keys = keys;
    this.#groupId = groupId;
  }

  /** Resolves when the relay has welcomed it; rejects where the connection ends before. */
  async connect(port: number): Promise<void> {
    const socket = await FrameSocket.connect(port, "/v1/sync", subprotocol);
    this.#socket = socket;
    this.#retryAfterMs = undefined;
    const handshake = new Handshake({ role: "initiator", keyPair: this.#keys, prologue });
    await new Promise<void>((resolve, reject) => {
      let transport: Transport | undefined;
      let welcomed = false;
      socket.onClose = (reason) => {
        // Told for the close frame and for the end of the stream.
        if (this.#socket !== socket) return;
        this.#socket = undefined;
        if (welcomed) this.onGone(this.#retryAfterMs);
        else reject(new Error(`the relay closed the connection: ${reason}`));
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
            resolve();
          } else if (body.case === "error") {
            this.#retryAfterMs = body.value.retryAfterMs;
          }
        }
      };
      socket.send(handshake.write(new Uint8Array(0)));
    });
  }

  close(): void {
    this.onGone = () => undefined;
    this.#socket?.close();
  }
}
