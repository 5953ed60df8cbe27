/**
 * Nothing a peer sends throws anything but a `SyncError`: arbitrary bytes, and
 * valid ones with something changed, into every decoder and both pairing
 * machines.
 */
import { describe, test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  decodeEntry,
  decodeHeader,
  deviceMessage,
  extendChain,
  InviterPairing,
  JoinerPairing,
  openBody,
  openWitness,
  type PairingStep,
  parseCode,
  parsePairingLink,
  readChain,
  rename,
  rotate,
  sealWitness,
  verifyWindow,
} from "../../client/seal/index.ts";
import { unpad } from "../../client/seal/padding.ts";
import { RotationReason } from "../../gen/syncrelay/sealed/v1/membership_pb.ts";
import { PairingAdmissionSchema } from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { SealedWitnessSchema, StoredBlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { device, group, seeded, syncErrorOrNothing, Writer } from "./support.ts";

const random = seeded("fuzz");

/** Valid bytes with one to four changes: a byte set, a piece cut, repeated or put in. */
function mutated(valid: Uint8Array): fc.Arbitrary<Uint8Array> {
  const change = fc.record({
    kind: fc.constantFrom("set", "cut", "repeat", "insert"),
    at: fc.nat({ max: Math.max(0, valid.byteLength - 1) }),
    length: fc.nat({ max: 40 }),
    byte: fc.oneof(fc.constantFrom(0, 1, 127, 128, 255), fc.nat({ max: 255 })),
  });
  return fc.array(change, { minLength: 1, maxLength: 4 }).map((changes) => {
    let bytes = Array.from(valid);
    for (const { kind, at, length, byte } of changes) {
      const piece = bytes.slice(at, at + length);
      if (kind === "set") bytes[at] = byte;
      else if (kind === "cut") bytes.splice(at, length);
      else if (kind === "repeat") bytes.splice(at, 0, ...piece);
      else bytes.splice(at, 0, ...Array<number>(length).fill(byte));
      bytes = bytes.map((value) => value ?? 0);
    }
    return new Uint8Array(bytes);
  });
}

function never(valid: Uint8Array, run: (bytes: Uint8Array) => unknown, numRuns = 400): void {
  const input = fc.oneof(mutated(valid), fc.uint8Array({ maxLength: 300 }));
  fc.assert(
    fc.property(input, (bytes) => {
      syncErrorOrNothing(() => run(bytes));
    }),
    { numRuns },
  );
}

const of = group("a", "b");
const { groupId, chain } = of;
const writer = new Writer(of, "a");
const stored = writer.write({ contentType: "text/plain", deletes: [random(16)], ttlS: 9 });
const own = writer.own[0];
const bodyKey = chain.keyring.bodyKey(1);
const witnessKey = chain.keyring.witnessKey(1);
if (own === undefined || bodyKey === undefined || witnessKey === undefined)
  throw new Error("setup");

describe("bad input to the decoders", () => {
  test("headers, entries and padding", () => {
    never(own.header, decodeHeader, 3_000);
    never(own.entry, decodeEntry, 3_000);
    never(own.entry, unpad, 3_000);
  });

  test("stored blobs, alone and among good ones", () => {
    const second = writer.write();
    const at = { groupId, roster: chain.devices, positions: new Map() };
    never(
      toBinary(StoredBlobSchema, stored),
      (bytes) => {
        let bad = create(StoredBlobSchema);
        try {
          bad = fromBinary(StoredBlobSchema, bytes);
        } catch {
          // The envelope's decoder refuses it before it comes here.
          return;
        }
        verifyWindow([bad], at);
        const { verdicts } = verifyWindow([stored, bad, second], at);
        for (const verdict of verdicts) {
          const { blob, sender } = verdict.stored;
          if (verdict.kind !== "entry" || blob === undefined) continue;
          syncErrorOrNothing(() => openBody(blob, verdict.header, { groupId, sender, bodyKey }));
        }
      },
      1_500,
    );
  });

  test("control blobs, at the end of a chain and within one", () => {
    const at = { keys: device("a"), random, nowMs: 1 };
    const renamed = rename(chain, "x", at).controlBlob;
    never(renamed, (bytes) => extendChain(chain, bytes, at), 1_500);
    const rotated = rotate(chain, RotationReason.BY_HAND, at).controlBlob;
    never(rotated, (bytes) => extendChain(chain, bytes, at), 300);
    const [founding, adding] = of.blobs as [Uint8Array, Uint8Array];
    never(adding, (bytes) => readChain([founding, bytes], { groupId, keys: at.keys }), 60);
    never(founding, (bytes) => readChain([bytes, adding], { groupId, keys: at.keys }), 60);
  });

  test("witnesses", () => {
    const keys = device("a");
    const sealed = sealWitness(
      {
        counter: 1,
        madeMs: 1,
        logId: random(16),
        applied: 1,
        positions: new Map(),
        membership: { count: 2, head: chain.version.head },
        lackingSeq: 3,
      },
      { groupId, keys, epoch: 1, witnessKey, random },
    );
    const { deviceId, signingKey } = keys;
    never(
      toBinary(SealedWitnessSchema, sealed),
      (bytes) => {
        let bad = sealed;
        try {
          bad = fromBinary(SealedWitnessSchema, bytes);
        } catch {
          return;
        }
        openWitness(bad, { groupId, deviceId, signingKey, witnessKey });
      },
      1_500,
    );
  });

  test("codes and links", () => {
    const text = fc.oneof(
      fc.string({ unit: "binary", maxLength: 60 }),
      fc.string({ maxLength: 60 }).map((rest) => `syncrelay:pair#${rest}`),
      fc.base64String().map((rest) => `syncrelay:pair#${rest}`),
    );
    fc.assert(
      fc.property(text, (input) => {
        syncErrorOrNothing(() => parseCode(input));
        syncErrorOrNothing(() => parsePairingLink(input));
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("bad input to the pairing machines", () => {
  const rendezvousId = random(5);
  const relayKey = random(32);
  const secret = random(32);
  const machines = () => ({
    inviter: new InviterPairing({
      rendezvousId,
      relayKey,
      keys: device("a"),
      linkSecret: secret,
      codePsk: secret,
      random,
    }),
    joiner: new JoinerPairing({
      rendezvousId,
      relayKey,
      keys: device("b"),
      name: "b",
      means: "link",
      secret,
      random,
    }),
  });
  const admission = create(PairingAdmissionSchema, {
    groupId,
    relayAddress: formatRelayAddress("wss://relay.example.com", relayKey),
    controlHead: chain.version.head,
    inviter: deviceMessage(device("a"), "a"),
  });

  test("at every step: frames changed, and frames of other steps", () => {
    // Which frame is replaced, by what, and how it is changed.
    const plan = fc.record({
      at: fc.nat({ max: 5 }),
      from: fc.nat({ max: 5 }),
      set: fc.array(fc.tuple(fc.nat({ max: 1_500 }), fc.nat({ max: 255 })), { maxLength: 3 }),
      garbage: fc.option(fc.uint8Array({ maxLength: 200 })),
    });
    fc.assert(
      fc.property(plan, ({ at, from, set, garbage }) => {
        const { inviter, joiner } = machines();
        const sent: Uint8Array[] = [];
        const pass = (step: PairingStep): Uint8Array => {
          const frame = step.send[0] ?? utf8("nothing");
          sent.push(frame);
          if (sent.length - 1 !== at) return frame;
          const bytes = new Uint8Array(garbage ?? sent[Math.min(from, sent.length - 1)] ?? frame);
          for (const [index, value] of set) if (index < bytes.byteLength) bytes[index] = value;
          return bytes;
        };
        const two = inviter.receive(pass(joiner.start()));
        const three = joiner.receive(pass(two));
        const asked = inviter.receive(pass(three));
        joiner.receive(pass(asked));
        if (asked.event?.kind !== "introduced") return;
        const told = joiner.receive(pass(inviter.admit(admission)));
        if (told.event?.kind === "admitted") inviter.receive(pass(joiner.receipt()));
      }),
      { numRuns: 200 },
    );
  });

  test("at every step: arbitrary frames", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.nat({ max: 3 }), (garbage, at) => {
        const { inviter, joiner } = machines();
        let step = joiner.start();
        for (let i = 0; i < at; i++) {
          const machine = i % 2 === 0 ? inviter : joiner;
          step = machine.receive(step.send[0] ?? garbage);
        }
        inviter.receive(garbage);
        joiner.receive(garbage);
        inviter.receive(garbage);
      }),
      { numRuns: 200 },
    );
  });
});
