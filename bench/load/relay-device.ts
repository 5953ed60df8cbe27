/**
 * A device as a load generator plays it: the real protocol from the handshake
 * to the last envelope, but with everything that can be made before the clock
 * starts made before it. Headers, links and envelopes are real; signatures and
 * bodies are random bytes, which a relay cannot tell from real ones.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { create, toBinary } from "@bufbuild/protobuf";
import { BlobHeaderSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  type ChangeMembership,
  ChangeMembershipSchema,
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { HelloSchema, MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { Handshake, type KeyPair, keyPairOf, type Transport } from "../../wire/channel.ts";
import {
  decodeEnvelopes,
  type Envelope,
  type EnvelopeBody,
  encodeEnvelope,
} from "../../wire/envelope.ts";
import { type BlobParts, encodePush } from "../../wire/hot-encoders.ts";
import { blobLink, groupIdBytes, linkBytes, signatureBytes, zeroLink } from "../../wire/ids.ts";
import { noisePlaintextBytesMax, noiseTagBytes } from "../../wire/limits.ts";
import { prologue, protocolVersions, subprotocol } from "../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { FrameSocket } from "./frame-socket.ts";

const recordBytesBound = 64 * 1024 * 1024;

/** Where a relay listens. */
export interface RelayPlace {
  readonly port: number;
}

/** A session of a device. */
export class RelayDevice {
  readonly #socket: FrameSocket;
  readonly #transport: Transport;
  #lastRequest = 0;
  /** Called with each record's plaintext: whole size-delimited envelopes. */
  onRecord: (plaintext: Uint8Array) => void = () => undefined;

  private constructor(socket: FrameSocket, transport: Transport) {
    this.#socket = socket;
    this.#transport = transport;
    socket.onMessage = (record) => {
      this.onRecord(openRecord(this.#transport, record, recordBytesBound));
    };
    // What answers caused goes out together, like a device's that empties its queue.
    socket.onDrained = () => socket.flush();
    socket.onClose = (reason) => {
      throw new Error(`the relay closed the connection: ${reason}`);
    };
  }

  /** Connects, shakes hands, and waits for the welcome. */
  static async connect(
    relay: RelayPlace,
    keys: KeyPair,
    groupId: Uint8Array | undefined,
  ): Promise<RelayDevice> {
    const socket = await FrameSocket.connect(relay.port, "/v1/sync", subprotocol);
    const handshake = new Handshake({ role: "initiator", keyPair: keys, prologue });
    const inbox = new Inbox(socket);
    socket.send(handshake.write(new Uint8Array(0)));
    handshake.read(await inbox.next());
    const hello = create(HelloSchema, {
      versions: protocolVersions,
      client: "bench",
      ...(groupId === undefined ? {} : { groupId }),
    });
    socket.send(handshake.write(toBinary(HelloSchema, hello)));
    const transport = handshake.finish();
    const [first] = decodeEnvelopes(
      openRecord(transport, await inbox.next(), recordBytesBound),
      recordBytesBound,
    );
    if (first?.body.case !== "welcome") throw unexpected(first);
    const device = new RelayDevice(socket, transport);
    // Who else is there may have come with the welcome; the channel counts what it opens.
    for (const record of inbox.rest()) openRecord(transport, record, recordBytesBound);
    return device;
  }

  /** The next request id. */
  nextRequest(): number {
    this.#lastRequest += 1;
    return this.#lastRequest;
  }

  /** Sends a request and waits for its answer, of any kind but `error`. For what is not measured. */
  ask(body: EnvelopeBody): Promise<Envelope> {
    const requestId = this.nextRequest();
    return new Promise((resolve, reject) => {
      const before = this.onRecord;
      this.onRecord = (plaintext) => {
        for (const envelope of decodeEnvelopes(plaintext, recordBytesBound)) {
          if (envelope.requestId !== BigInt(requestId)) continue;
          this.onRecord = before;
          if (envelope.body.case === "error") reject(unexpected(envelope));
          else resolve(envelope);
        }
      };
      this.request(requestId, body);
      this.flush();
    });
  }

  /** Adds a request; `flush` sends it. */
  request(requestId: number, body: EnvelopeBody): void {
    this.send(encodeEnvelope(requestId, body));
  }

  /** Adds a record with this plaintext; `flush` sends it. */
  send(plaintext: Uint8Array): void {
    if (plaintext.byteLength > noisePlaintextBytesMax) {
      const record = sealRecord(this.#transport, plaintext);
      this.#socket.frame(record.byteLength, (output, offset) => output.set(record, offset));
      return;
    }
    this.#socket.frame(plaintext.byteLength + noiseTagBytes, (output, offset) => {
      this.#transport.encryptInto(plaintext, output, offset);
    });
  }

  flush(): void {
    this.#socket.flush();
  }

  /** Stops reading, for good. */
  pause(): void {
    this.#socket.pause();
  }

  close(): void {
    this.#socket.close();
  }
}

/** Messages one by one, for a handshake. None is lost between one and the next. */
class Inbox {
  readonly #waiting: Uint8Array[] = [];
  #take: ((message: Uint8Array) => void) | undefined;
  #fail: ((error: Error) => void) | undefined;

  constructor(socket: FrameSocket) {
    socket.onMessage = (message) => {
      const take = this.#take;
      this.#take = undefined;
      if (take === undefined) this.#waiting.push(new Uint8Array(message));
      else take(new Uint8Array(message));
    };
    socket.onClose = (reason) =>
      this.#fail?.(new Error(`the relay closed the connection: ${reason}`));
  }

  next(): Promise<Uint8Array> {
    const message = this.#waiting.shift();
    if (message !== undefined) return Promise.resolve(message);
    return new Promise((resolve, reject) => {
      this.#take = resolve;
      this.#fail = reject;
    });
  }

  /** What came that nobody waited for. */
  rest(): readonly Uint8Array[] {
    return this.#waiting;
  }
}

/** An answer nobody asked for, or a refusal: the benchmark is wrong, or the relay. */
export function unexpected(envelope: Envelope | undefined): Error {
  const { body } = envelope ?? {};
  const what =
    body?.case === "error" ? `error ${body.value.code}: ${body.value.message}` : body?.case;
  return new Error(`the relay answered ${what ?? "nothing"}`);
}

/** A device's keys, fresh. */
export function freshKeys(): KeyPair {
  return keyPairOf(randomBytes(32));
}

/** Founds a group of these devices, the first of which asks. The relay must let anybody. */
export async function foundGroup(
  relay: RelayPlace,
  members: readonly KeyPair[],
): Promise<Uint8Array> {
  const [founder] = members;
  if (founder === undefined) throw new RangeError("a group has a founder");
  const groupId = new Uint8Array(randomBytes(groupIdBytes));
  const lobby = await RelayDevice.connect(relay, founder, undefined);
  const answer = await lobby.ask({
    case: "changeMembership",
    value: foundingChange(groupId, founder, members),
  });
  if (answer.body.case !== "membershipAck") throw unexpected(answer);
  lobby.close();
  return groupId;
}

function foundingChange(
  groupId: Uint8Array,
  founder: KeyPair,
  members: readonly KeyPair[],
): ChangeMembership {
  // What only devices read is noise of a plausible size.
  const controlBlob = create(ControlBlobSchema, {
    author: founder.publicKey,
    clear: toBinary(
      ControlClearSchema,
      create(ControlClearSchema, {
        epoch: 1n,
        previousHead: zeroLink,
        wraps: members.map((member) => ({
          deviceId: member.publicKey,
          sealed: randomBytes(1_192),
        })),
        keyCheck: randomBytes(32),
      }),
    ),
    sealedStatement: randomBytes(512),
    signature: randomBytes(64),
  });
  return create(ChangeMembershipSchema, {
    expected: { count: 0n, head: zeroLink },
    controlBlob: toBinary(ControlBlobSchema, controlBlob),
    members: members.map((member) => ({
      deviceId: member.publicKey,
      role: MemberRole.DEVICE,
    })),
    epoch: 1n,
    groupId,
  });
}

/** Makes one sender's chain, blob after blob. */
export class ChainMaker {
  readonly #groupId: Uint8Array;
  readonly #sender: Uint8Array;
  readonly #bodyBytes: number;
  #seq = 0;
  #link: Uint8Array = zeroLink;

  constructor(groupId: Uint8Array, sender: Uint8Array, bodyBytes: number) {
    this.#groupId = groupId;
    this.#sender = sender;
    this.#bodyBytes = bodyBytes;
  }

  /** The next blob. */
  next(): BlobParts {
    this.#seq += 1;
    const blobId = noise(16);
    const header = encodeHeader(this.#seq, this.#link, noise(linkBytes));
    this.#link = blobLink(this.#groupId, this.#sender, blobId, header);
    return {
      blobId,
      header,
      signature: noise(signatureBytes),
      epoch: 1,
      body: noise(this.#bodyBytes),
    };
  }
}

/** `BlobHeader` by hand: hundreds of thousands are made before a clock starts. The first shows that it is right. */
function encodeHeader(seq: number, previousLink: Uint8Array, entryHash: Uint8Array): Uint8Array {
  const seqBytes: number[] = [];
  for (let rest = seq; ; rest = Math.floor(rest / 128)) {
    seqBytes.push(rest < 128 ? rest : (rest % 128) + 128);
    if (rest < 128) break;
  }
  const header = new Uint8Array(1 + seqBytes.length + 4 + 2 * linkBytes);
  header[0] = 1 * 8;
  header.set(seqBytes, 1);
  let offset = 1 + seqBytes.length;
  for (const [field, bytes] of [
    [2, previousLink],
    [6, entryHash],
  ] as const) {
    header[offset] = field * 8 + 2;
    header[offset + 1] = linkBytes;
    header.set(bytes, offset + 2);
    offset += 2 + linkBytes;
  }
  if (seq === 1) {
    const generic = create(BlobHeaderSchema, { seq: BigInt(seq), previousLink, entryHash });
    assert.deepEqual(header, toBinary(BlobHeaderSchema, generic));
  }
  return header;
}

const noisePool = randomBytes(1024 * 1024);
let noiseAt = 0;

/** Bytes that look random: a view into a pool that comes round again. */
function noise(length: number): Uint8Array {
  // A step that shares no factor with the pool, so that what comes round differs from what was.
  noiseAt = (noiseAt + 7_919) % (noisePool.byteLength - length);
  return noisePool.subarray(noiseAt, noiseAt + length);
}

/** Pushes made beforehand, end to end in one buffer. */
export class PushSupply {
  readonly #bytes: Uint8Array;
  readonly #ends: Float64Array;
  #next = 0;

  /** `pushes` of `blobs` each, with request ids from `firstRequest`. */
  constructor(chain: ChainMaker, pushes: number, blobs: number, firstRequest: number) {
    this.#ends = new Float64Array(pushes);
    let bytes = new Uint8Array(0);
    let end = 0;
    for (let i = 0; i < pushes; i++) {
      const parts = Array.from({ length: blobs }, () => chain.next());
      const push = encodePush(firstRequest + i, parts, false);
      if (end + push.byteLength > bytes.byteLength) {
        // All pushes are about as long as the first; later request ids and seqs take a few bytes more.
        const grown = new Uint8Array(end + (push.byteLength + 8) * (pushes - i));
        grown.set(bytes.subarray(0, end));
        bytes = grown;
      }
      bytes.set(push, end);
      end += push.byteLength;
      this.#ends[i] = end;
    }
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#ends.length - this.#next;
  }

  /** The next push, size-delimited; undefined when none is left. */
  take(): Uint8Array | undefined {
    if (this.left === 0) return undefined;
    const start = this.#next === 0 ? 0 : (this.#ends[this.#next - 1] as number);
    const end = this.#ends[this.#next] as number;
    this.#next += 1;
    return this.#bytes.subarray(start, end);
  }
}
