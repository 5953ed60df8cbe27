import assert from "node:assert/strict";
import { describe, test } from "node:test";
import {
  create,
  type DescMessage,
  fromBinary,
  type MessageInitShape,
  toBinary,
} from "@bufbuild/protobuf";
import { comparisonWords } from "../../client/seal/comparison.ts";
import {
  deviceMessage,
  type InviterOptions,
  InviterPairing,
  type JoinerOptions,
  JoinerPairing,
  type PairingEvent,
  type PairingStep,
} from "../../client/seal/index.ts";
import { frameOf, handshakeOf, pskOfLink } from "../../client/seal/pairing-frames.ts";
import {
  type PairingAdmission,
  PairingAdmissionSchema,
  PairingCommitmentSchema,
  PairingFrameSchema,
  PairingIntroductionSchema,
  PairingMeans,
  PairingReceiptSchema,
  PairingRevealSchema,
} from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { concatBytes, emptyBytes } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { inviteMessageBytesMax } from "../../wire/limits.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { device, flipped, seeded } from "./support.ts";

const setup = seeded("pairing");
const rendezvousId = setup(5);
const relayKey = setup(32);
const linkSecret = setup(32);
const codePsk = setup(32);
const relayAddress = formatRelayAddress("wss://relay.example.com", relayKey);
const admission = create(PairingAdmissionSchema, {
  groupId: setup(32),
  relayAddress,
  controlHead: setup(32),
  inviter: deviceMessage(device("a"), "a"),
});

function inviterOptions(change: Partial<InviterOptions> = {}): InviterOptions {
  return {
    rendezvousId,
    relayKey,
    keys: device("a"),
    linkSecret,
    codePsk,
    random: seeded("inviter"),
    ...change,
  };
}

function joinerOptions(change: Partial<JoinerOptions> = {}): JoinerOptions {
  return {
    rendezvousId,
    relayKey,
    keys: device("b"),
    name: "b",
    means: "link",
    secret: linkSecret,
    random: seeded("joiner"),
    ...change,
  };
}

const inviterOf = (change: Partial<InviterOptions> = {}) =>
  new InviterPairing(inviterOptions(change));
const joinerOf = (change: Partial<JoinerOptions> = {}) => new JoinerPairing(joinerOptions(change));

function only(step: PairingStep): Uint8Array {
  assert.equal(step.send.length, 1);
  const frame = step.send[0];
  assert.ok(frame !== undefined);
  assert.ok(frame.byteLength <= inviteMessageBytesMax);
  return frame;
}

function event<Kind extends PairingEvent["kind"]>(
  step: PairingStep,
  kind: Kind,
): Extract<PairingEvent, { kind: Kind }> {
  assert.equal(step.event?.kind, kind);
  return step.event as Extract<PairingEvent, { kind: Kind }>;
}

function failed(step: PairingStep, code: ErrorCode): void {
  assert.equal(event(step, "failed").error.code, code);
  assert.deepEqual(step.send, []);
}

/** Both machines up to where a person is asked. */
function introduced(change: Partial<JoinerOptions> = {}) {
  const inviter = inviterOf();
  const joiner = joinerOf(change);
  const two = only(inviter.receive(only(joiner.start())));
  const three = only(joiner.receive(two));
  const asked = inviter.receive(three);
  return { inviter, joiner, asked, reveal: only(asked) };
}

describe("SECURITY Pairing: both machines", () => {
  for (const [means, secret] of [
    ["link", linkSecret],
    ["code", codePsk],
  ] as const) {
    test(`by ${means}: introduced, compared, admitted, receipted`, () => {
      const { inviter, joiner, asked, reveal } = introduced({ means, secret });
      const { device: joined, comparison, means: told } = event(asked, "introduced");
      assert.equal(told, means);
      assert.deepEqual(joined, deviceMessage(device("b"), "b"));
      const shown = event(joiner.receive(reveal), "comparison");
      assert.deepEqual(shown.comparison, comparison);
      assert.equal(comparison.length, 3);
      const got = event(joiner.receive(only(inviter.admit(admission))), "admitted");
      assert.deepEqual(got.admission, admission);
      event(inviter.receive(only(joiner.receipt())), "receipted");
      // What comes behind the end is nobody's any more.
      assert.deepEqual(inviter.receive(reveal), { send: [] });
      assert.deepEqual(joiner.receive(reveal), { send: [] });
    });
  }

  test("two pairings show different words", () => {
    const one = event(introduced().asked, "introduced").comparison;
    const two = event(introduced().asked, "introduced").comparison;
    // The ephemeral keys differ, so the handshake hash does.
    assert.notDeepEqual(one, two);
  });

  test("a wrong secret, mailbox or relay key fails at the first frame", () => {
    for (const change of [
      { secret: flipped(linkSecret) },
      { means: "code" as const, secret: flipped(codePsk) },
      { rendezvousId: flipped(rendezvousId) },
      { relayKey: flipped(relayKey) },
    ]) {
      failed(inviterOf().receive(only(joinerOf(change).start())), ErrorCode.HANDSHAKE_FAILED);
    }
  });

  test("the psk of one means does not open the other", () => {
    const frame = fromBinary(PairingFrameSchema, only(joinerOf().start()));
    frame.means = PairingMeans.CODE;
    const swapped = toBinary(PairingFrameSchema, frame);
    failed(inviterOf().receive(swapped), ErrorCode.HANDSHAKE_FAILED);
    frame.means = PairingMeans.UNSPECIFIED;
    failed(inviterOf().receive(toBinary(PairingFrameSchema, frame)), ErrorCode.ENVELOPE_INVALID);
    frame.means = 9 as PairingMeans;
    failed(inviterOf().receive(toBinary(PairingFrameSchema, frame)), ErrorCode.ENVELOPE_INVALID);
  });

  test("a psk of another length is refused where the machine is made", () => {
    assert.throws(() => joinerOf({ secret: linkSecret.subarray(1) }), RangeError);
    assert.throws(() => joinerOf({ means: "code", secret: codePsk.subarray(1) }), RangeError);
    assert.throws(() => inviterOf({ linkSecret: linkSecret.subarray(1) }), RangeError);
    assert.throws(() => joinerOf({ name: "" }), RangeError);
  });

  test("the inviting device answers nothing to whoever does not hold the secret", () => {
    const inviter = inviterOf();
    failed(inviter.receive(frameOf(setup(48), PairingMeans.LINK)), ErrorCode.HANDSHAKE_FAILED);
    // And a machine that failed is of no more use, also for the right joiner.
    failed(inviter.receive(only(joinerOf().start())), ErrorCode.HANDSHAKE_FAILED);
  });

  test("what is called out of turn is a defect of the caller", () => {
    const { inviter, joiner, reveal } = introduced();
    assert.throws(() => joiner.start());
    assert.throws(() => joiner.receipt());
    joiner.receive(reveal);
    assert.throws(() => joiner.receipt());
    inviter.admit(admission);
    assert.throws(() => inviter.admit(admission));
    assert.throws(() => inviterOf().admit(admission));
  });

  test("what is sent out of turn is not taken", () => {
    const { inviter, reveal } = introduced();
    failed(inviter.receive(reveal), ErrorCode.ENVELOPE_UNEXPECTED);
    failed(joinerOf().receive(reveal), ErrorCode.ENVELOPE_UNEXPECTED);
  });

  test("a closed machine takes nothing more", () => {
    const { inviter, joiner, reveal } = introduced();
    joiner.close();
    failed(joiner.receive(reveal), ErrorCode.INVITE_INVALID);
    inviter.close();
    assert.throws(() => inviter.admit(admission));
    const unused = inviterOf();
    unused.close();
    failed(unused.receive(only(joinerOf().start())), ErrorCode.INVITE_INVALID);
  });

  test("every byte of every Noise message altered once ends it on one side or the other", () => {
    const complete = (alter: (index: number, frame: Uint8Array) => Uint8Array): boolean => {
      const inviter = inviterOf();
      const joiner = joinerOf();
      let step = inviter.receive(alter(1, only(joiner.start())));
      if (step.event?.kind === "failed") return false;
      step = joiner.receive(alter(2, only(step)));
      if (step.event?.kind === "failed") return false;
      const asked = inviter.receive(alter(3, only(step)));
      if (asked.event?.kind === "failed") return false;
      step = joiner.receive(alter(4, only(asked)));
      if (step.event?.kind === "failed") return false;
      step = joiner.receive(alter(5, only(inviter.admit(admission))));
      if (step.event?.kind === "failed") return false;
      step = inviter.receive(alter(6, only(joiner.receipt())));
      return step.event?.kind === "receipted";
    };
    const lengths: number[] = [];
    const starts: number[] = [];
    assert.ok(
      complete((index, frame) => {
        lengths[index] = frame.byteLength;
        starts[index] = frame.byteLength - fromBinary(PairingFrameSchema, frame).noise.byteLength;
        return frame;
      }),
    );
    for (let index = 1; index <= 6; index++) {
      const length = lengths[index] as number;
      const start = starts[index] as number;
      // The long ones by every thirteenth byte, and both their ends whole.
      for (let i = start; i < length; i += i < start + 40 || i > length - 20 ? 1 : 13) {
        const altered = complete((at, frame) => (at === index ? flipped(frame, i) : frame));
        assert.ok(!altered, `frame ${index}, byte ${i}`);
      }
    }
  });
});

describe("SECURITY Pairing: the other side does as it likes", () => {
  const message = <Desc extends DescMessage>(schema: Desc, init: MessageInitShape<Desc>) =>
    toBinary(schema, create(schema, init));

  /** A joiner that holds the secret and says what it wants. */
  function badJoiner(introduction: Uint8Array, first: Uint8Array = emptyBytes) {
    const inviter = inviterOf();
    const handshake = handshakeOf("initiator", pskOfLink(linkSecret), joinerOptions());
    const step = inviter.receive(frameOf(handshake.write(first), PairingMeans.LINK));
    if (step.event !== undefined) return { inviter, step, handshake };
    handshake.read(fromBinary(PairingFrameSchema, only(step)).noise);
    return { inviter, handshake, step: inviter.receive(frameOf(handshake.write(introduction))) };
  }

  const b = device("b");
  const introduction = { ...deviceMessage(b, "b"), nonce: setup(16) };
  const introduce = (change: object) => {
    const { signingKey, sealingKey, name, nonce } = { ...introduction, ...change };
    return message(PairingIntroductionSchema, { signingKey, sealingKey, name, nonce });
  };

  test("an introduction beyond its bounds is refused, each for that alone", () => {
    event(badJoiner(introduce({})).step, "introduced");
    for (const change of [
      { signingKey: b.signingKey.subarray(1) },
      { sealingKey: b.sealingKey.subarray(1) },
      { sealingKey: new Uint8Array(1216).fill(255) },
      { name: "" },
      { name: "x".repeat(65) },
      { nonce: setup(15) },
      { nonce: setup(17) },
    ]) {
      failed(badJoiner(introduce(change)).step, ErrorCode.ENVELOPE_INVALID);
    }
    failed(badJoiner(new Uint8Array([255, 255])).step, ErrorCode.ENVELOPE_INVALID);
  });

  test("the first message carries nothing", () => {
    failed(badJoiner(introduce({}), new Uint8Array(1)).step, ErrorCode.ENVELOPE_INVALID);
  });

  test("a receipt is asked for as one", () => {
    const { inviter, handshake } = badJoiner(introduce({}));
    const transport = handshake.finish();
    inviter.admit(admission);
    failed(
      inviter.receive(frameOf(transport.encrypt(new Uint8Array([255])))),
      ErrorCode.ENVELOPE_INVALID,
    );
  });

  /** An inviting device that holds the secret and says what it wants, up to the handshake's end. */
  function badInviter(commitment: Uint8Array) {
    const joiner = joinerOf();
    const handshake = handshakeOf("responder", pskOfLink(linkSecret), inviterOptions());
    handshake.read(fromBinary(PairingFrameSchema, only(joiner.start())).noise);
    const step = joiner.receive(
      frameOf(handshake.write(message(PairingCommitmentSchema, { commitment }))),
    );
    if (step.event !== undefined) return { joiner, step };
    handshake.read(fromBinary(PairingFrameSchema, only(step)).noise);
    return { joiner, step, transport: handshake.finish() };
  }
  const nonce = setup(16);

  test("a commitment of another length", () => {
    failed(badInviter(setup(31)).step, ErrorCode.ENVELOPE_INVALID);
  });

  test("a nonce that is not the one committed to: nobody can choose it later", () => {
    for (const [revealed, code] of [
      [nonce, undefined],
      [flipped(nonce), ErrorCode.HANDSHAKE_FAILED],
    ] as const) {
      const { joiner, transport } = badInviter(blake2b256(nonce));
      assert.ok(transport !== undefined);
      const reveal = message(PairingRevealSchema, { nonce: revealed });
      const step = joiner.receive(frameOf(transport.encrypt(reveal)));
      if (code === undefined) event(step, "comparison");
      else failed(step, code);
    }
    // One of another length, though it is what was committed to.
    const { joiner, transport } = badInviter(blake2b256(emptyBytes));
    assert.ok(transport !== undefined);
    const reveal = message(PairingRevealSchema, {});
    failed(joiner.receive(frameOf(transport.encrypt(reveal))), ErrorCode.HANDSHAKE_FAILED);
  });

  function admitWith(change: object): PairingStep {
    const { joiner, transport } = badInviter(blake2b256(nonce));
    assert.ok(transport !== undefined);
    joiner.receive(frameOf(transport.encrypt(message(PairingRevealSchema, { nonce }))));
    const bytes = message(PairingAdmissionSchema, { ...admission, ...change });
    return joiner.receive(frameOf(transport.encrypt(bytes)));
  }

  test("an admission beyond its bounds is refused, each for that alone", () => {
    event(admitWith({}), "admitted");
    const inviter = admission.inviter as NonNullable<PairingAdmission["inviter"]>;
    for (const change of [
      { groupId: setup(31) },
      { controlHead: setup(31) },
      { controlHead: emptyBytes },
      { relayAddress: "https://relay.example.com" },
      { relayAddress: formatRelayAddress("wss://relay.example.com", flipped(relayKey)) },
      { inviter: undefined },
      { inviter: deviceMessage(device("c"), "c") },
      { inviter: { ...inviter, name: "" } },
    ]) {
      failed(admitWith(change), ErrorCode.ENVELOPE_INVALID);
    }
  });

  test("a frame above its bound, in whole or in its Noise message", () => {
    failed(
      inviterOf().receive(new Uint8Array(inviteMessageBytesMax + 1)),
      ErrorCode.ENVELOPE_INVALID,
    );
    const long = frameOf(new Uint8Array(3_969), PairingMeans.LINK);
    failed(inviterOf().receive(long), ErrorCode.ENVELOPE_INVALID);
    const within = frameOf(new Uint8Array(3_968), PairingMeans.LINK);
    failed(inviterOf().receive(within), ErrorCode.HANDSHAKE_FAILED);
  });
});

describe("SECURITY Pairing: the comparison string", () => {
  test("depends on the handshake and both nonces", () => {
    const [hash, c, j] = [setup(64), setup(16), setup(16)];
    const words = comparisonWords(hash, c, j);
    assert.equal(words.length, 3);
    for (const other of [
      comparisonWords(flipped(hash), c, j),
      comparisonWords(hash, flipped(c), j),
      comparisonWords(hash, c, flipped(j)),
      comparisonWords(hash, j, c),
    ]) {
      assert.notDeepEqual(other, words);
    }
  });

  test("uses all 33 bits: every word of the list comes, in every place", () => {
    const seen = [new Set<string>(), new Set<string>(), new Set<string>()];
    const nonce = new Uint8Array(16);
    const random = seeded("words");
    for (let i = 0; i < 6_000; i++) {
      for (const [place, word] of comparisonWords(random(32), nonce, nonce).entries()) {
        seen[place]?.add(word);
      }
    }
    // Of 2,048 words about 1,938 come in 6,000 draws.
    for (const words of seen) assert.ok(words.size > 1_850, String(words.size));
  });

  test("a receipt has nothing in it that could be altered unseen", () => {
    assert.deepEqual(toBinary(PairingReceiptSchema, create(PairingReceiptSchema)), emptyBytes);
    assert.deepEqual(concatBytes(), emptyBytes);
  });
});
