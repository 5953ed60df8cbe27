/**
 * The client's side of a session: one connection in each of its states, and a whole device that a
 * relay tells whatever the input says, in answer to whatever it asks.
 */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import { Connection } from "../../client/connection.ts";
import type { Host, SocketHandlers } from "../../client/host.ts";
import { type MemoryDisk, MemoryStore, StateStoreError, SyncClient } from "../../client/index.ts";
import { type Envelope, EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { concatBytes, emptyBytes } from "../../wire/bytes.ts";
import { Handshake, keyPairOf, type Transport } from "../../wire/channel.ts";
import { decodeEnvelopes, encodeEnvelope, sizeDelimited } from "../../wire/envelope.ts";
import { SyncError } from "../../wire/errors.ts";
import { prologue } from "../../wire/protocol.ts";
import { openRecord, sealRecord } from "../../wire/records.ts";
import { formatRelayAddress, parseRelayAddress } from "../../wire/relay-address.ts";
import { Device, founder, pair } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";
import { bytes } from "../support/devices.ts";
import type { Target } from "./engine.ts";
import { encodeScript, readScript } from "./script.ts";
import { vectorEnvelopes } from "./valid.ts";

const envelopeBytesMax = 1 << 22;
const recordBytes = 1 << 23;

/** A run of a device against a relay that tells the truth: what its disk was before, and all it was told. */
interface Story {
  readonly disk: MemoryDisk;
  readonly told: readonly Uint8Array[];
}

const identity = keyPairOf(bytes(32, 9));
const origin = "ws://relay.test/";

async function recordStories(): Promise<Story[]> {
  const stories: Story[] = [];
  const relay = new FakeRelay(new World(5), origin, identity.secretKey);
  const listen = (told: Uint8Array[]): void => {
    relay.meddler = {
      reply: (_, envelope) => {
        told.push(envelope);
        return envelope;
      },
    };
  };
  const story = async (device: Device, what: () => Promise<unknown>): Promise<void> => {
    device.crash();
    const disk = device.disk.copy();
    const told: Uint8Array[] = [];
    listen(told);
    await device.start();
    await relay.world.until(() => device.client.status().connection.state === "online");
    await what();
    relay.meddler = {};
    stories.push({ disk, told });
  };
  const first = await founder(relay);
  const second = await new Device(relay).start({ name: "second" });
  await pair(first, second);
  await relay.world.run(1_000);
  second.crash();
  await first.push("one", "two");
  await relay.world.run(1_000);
  await story(first, () => first.push("three"));
  first.crash();
  await second.start();
  await relay.world.run(5_000);
  await second.push("four", "five");
  await relay.world.run(5_000);
  second.crash();
  await first.start();
  await story(first, () => first.take());
  return stories;
}

const stories = await recordStories();

/** The relay's end of one connection: shakes hands, then says what it is given. */
class Liar {
  readonly #handshake = new Handshake({ role: "responder", keyPair: identity, prologue });
  #transport: Transport | undefined;

  /** Takes a message; returns what to answer, and the envelopes that it held. */
  take(message: Uint8Array): { send?: Uint8Array; greeted?: boolean; asked?: Envelope[] } {
    const transport = this.#transport;
    if (transport !== undefined) {
      const plaintext = openRecord(transport, message, recordBytes);
      return { asked: decodeEnvelopes(plaintext, envelopeBytesMax) };
    }
    this.#handshake.read(new Uint8Array(message));
    if (this.#handshake.next === "write") return { send: this.#handshake.write(emptyBytes) };
    this.#transport = this.#handshake.finish();
    return { greeted: true };
  }

  seal(plaintext: Uint8Array): Uint8Array {
    assert(this.#transport !== undefined);
    return sealRecord(this.#transport, plaintext);
  }
}

const address = parseRelayAddress(formatRelayAddress(origin, identity.publicKey));
const question = encodeEnvelope(1, { case: "pullControl", value: {} });
const clientKeys = keyPairOf(bytes(32, 8));

/** The head: 1 asks three things before anything comes; the records begin with `Welcome` or whatever. */
const connection: Target = {
  name: "client-connection",
  structured: true,
  weight: 2,
  seeds: () => [
    ...stories.flatMap(({ told }) => [encodeScript(0, told), encodeScript(1, told)]),
    ...vectorEnvelopes().map((one) =>
      encodeScript(1, [stories[0]?.told[0] ?? emptyBytes, one, one]),
    ),
  ],
  run: (input) => {
    const { head, parts } = readScript(input);
    let handlers: SocketHandlers | undefined;
    let ended: SyncError | undefined;
    let told = 0;
    let answers = 0;
    const liar = new Liar();
    const record = (plaintext: Uint8Array): void => {
      if (plaintext.byteLength > 0) handlers?.message(liar.seal(plaintext));
    };
    const host: Host = {
      nowMs: () => 1,
      monotonicMs: () => 1,
      uniform: () => 0.5,
      random: (length) => new Uint8Array(length),
      setTimer: () => () => undefined,
      connect: (_, made) => {
        handlers = made;
        return {
          send: (message) => {
            const { send } = liar.take(message);
            if (send !== undefined) handlers?.message(send);
          },
          close: () => undefined,
          bufferedBytes: 0,
        };
      },
    };
    const made = new Connection(
      { host, address, keyPair: clientKeys, hello: emptyBytes },
      {
        welcome: () => {
          const answer = { take: () => ++answers % 2 === 0, lost: () => undefined };
          if ((head & 1) === 1)
            for (let i = 0; i < 3; i++) made.post(made.nextId(), question, answer);
        },
        told: () => {
          told += 1;
        },
        closed: ({ error }) => {
          assert(ended === undefined, "it ends once");
          ended = error;
        },
      },
    );
    handlers?.open();
    if ((head & 2) === 2) record(concatBytes(...parts.map(({ envelope }) => envelope)));
    else for (const { envelope } of parts) if (ended === undefined) record(envelope);
    return `${ended?.codeName ?? "open"}${told > 0 ? " told" : ""}${answers > 0 ? " answered" : ""}`;
  },
};

const lost: unknown[] = [];
process.on("unhandledRejection", (error) => lost.push(error));

/**
 * The head chooses the device. The first envelope greets it; each further one that carries a request
 * id answers the next thing it asks, and the others are told by themselves.
 */
const device: Target = {
  name: "client-device",
  structured: true,
  weight: 0.2,
  seeds: () =>
    stories.flatMap(({ told }, i) => [
      encodeScript(i, told),
      ...told.slice(1).map((one) => encodeScript(i, [told[0] ?? emptyBytes, one])),
    ]),
  run: async (input) => {
    const { head, parts } = readScript(input);
    const { disk } = stories[head % stories.length] as Story;
    const world = new World(1);
    const script = parts.map(({ envelope }) => envelope);
    let connections = 0;
    world.listeners.set(address.url, (socket) => {
      connections += 1;
      const liar = new Liar();
      const say = (ids: number[]): void => {
        for (;;) {
          const next = script[0];
          if (next === undefined) return;
          const read = readOne(next);
          const id = read !== undefined && read.requestId !== 0n ? ids.shift() : undefined;
          if (read !== undefined && read.requestId !== 0n && id === undefined) return;
          script.shift();
          socket.send(liar.seal(id === undefined ? next : renumbered(read as Envelope, id)));
        }
      };
      return {
        message: (message) => {
          const { send, greeted, asked } = liar.take(message);
          if (send !== undefined) socket.send(send);
          if (greeted === true) say([]);
          if (asked !== undefined) say(asked.map(({ requestId }) => Number(requestId)));
        },
        closed: () => undefined,
      };
    });
    const host = world.host();
    const store = new MemoryStore(disk.copy());
    const client = await SyncClient.open({ store, host });
    const kinds = new Set<string>();
    client.on("error", (error) => kinds.add(errorName(error)));
    client.on("integrity", (event) => kinds.add(event.error.codeName));
    client.on("gap", () => kinds.add("gap"));
    const reading = (async () => {
      for await (const entry of client.entries({ untilCaughtUp: true })) await entry.ack();
    })();
    reading.catch((error: unknown) => kinds.add(errorName(error)));
    await world.run(400);
    const { state } = client.status().connection;
    await client.close();
    host.kill();
    await world.settle();
    const [error] = lost.splice(0);
    if (error !== undefined) throw new Error("not documented", { cause: error });
    return `${state} ${[...kinds].toSorted().slice(0, 3).join(" ")}`;
  },
};

/** What a device may tell its app. */
function errorName(error: unknown): string {
  if (error instanceof SyncError) return error.codeName;
  if (error instanceof StateStoreError) return error.problem;
  lost.push(error);
  return "undocumented";
}

function readOne(envelope: Uint8Array): Envelope | undefined {
  try {
    return decodeEnvelopes(envelope, envelopeBytesMax)[0];
  } catch {
    return undefined;
  }
}

function renumbered(read: Envelope, id: number): Uint8Array {
  return sizeDelimited(
    toBinary(EnvelopeSchema, create(EnvelopeSchema, { ...read, requestId: BigInt(id) })),
  );
}

export const clientTargets: readonly Target[] = [connection, device];
