/** The handshake of a page and the library's are one and the same, and refuse the same. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex, utf8 } from "../../wire/bytes.ts";
import { checkedCurve } from "../../wire/channel.ts";
import { Noise as LibraryNoise, curve as libraryCurve } from "../../wire/noise.ts";
import { Noise as PageNoise, curve as pageCurve } from "../../wire/noise-page.ts";
import { filled, readVectors } from "./support.ts";

const kinds = {
  library: { Noise: LibraryNoise, curve: libraryCurve },
  page: { Noise: PageNoise, curve: pageCurve },
} as const;
type Kind = keyof typeof kinds;
type Handshake = InstanceType<typeof LibraryNoise> | PageNoise;

interface Side {
  readonly prologue: Uint8Array;
  readonly secret: Uint8Array;
  readonly ephemeral: Uint8Array;
  readonly psk?: Uint8Array;
}

function make(kind: Kind, initiator: boolean, side: Side): Handshake {
  const { Noise, curve } = kinds[kind];
  const noise = new Noise(
    side.psk === undefined ? "XX" : "XXpsk0",
    initiator,
    curve.generateKeyPair(side.secret.slice()),
    { curve, ...(side.psk === undefined ? {} : { psk: side.psk.slice() }) },
  );
  noise.initialise(side.prologue);
  noise.e = curve.generateKeyPair(side.ephemeral.slice());
  return noise;
}

const pairings: readonly (readonly [Kind, Kind])[] = [
  ["page", "page"],
  ["page", "library"],
  ["library", "page"],
];
const payloads = [utf8("one"), new Uint8Array(0), filled(3, 200)];

/** Runs a handshake, and compares what both sides have of it. */
function run(initiator: Handshake, responder: Handshake): void {
  for (const [i, payload] of payloads.entries()) {
    const [writer, reader] = i === 1 ? [responder, initiator] : [initiator, responder];
    // A copy: the library wipes what it was given.
    const got = reader.recv(new Uint8Array(writer.send(payload)));
    assert.deepEqual(new Uint8Array(got), payload);
  }
  assert.ok(initiator.complete && responder.complete);
  const hex = (bytes: Uint8Array | null): string => toHex(new Uint8Array(bytes ?? []));
  assert.equal(hex(initiator.tx), hex(responder.rx));
  assert.equal(hex(initiator.rx), hex(responder.tx));
  assert.notEqual(hex(initiator.rx), hex(initiator.tx));
  assert.equal(hex(initiator.hash), hex(responder.hash));
  assert.equal(hex(initiator.rs), hex(responder.s.publicKey));
  assert.equal(hex(responder.rs), hex(initiator.s.publicKey));
}

const sides = {
  initiator: { prologue: utf8("here"), secret: filled(1), ephemeral: filled(2) },
  responder: { prologue: utf8("here"), secret: filled(3), ephemeral: filled(4) },
};
const psk = filled(9);

for (const [first, second] of pairings) {
  test(`2.4 a ${first} and a ${second} shake hands, with a psk and without`, () => {
    run(make(first, true, sides.initiator), make(second, false, sides.responder));
    run(
      make(first, true, { ...sides.initiator, psk }),
      make(second, false, { ...sides.responder, psk }),
    );
  });
}

test("2.4 a page reproduces the published vectors", () => {
  interface Vector {
    readonly [name: string]: string;
  }
  const { vectors } = readVectors<{
    vectors: readonly (Vector & {
      readonly messages: readonly { readonly payload: string; readonly ciphertext: string }[];
      readonly init_psks?: readonly string[];
      readonly resp_psks?: readonly string[];
    })[];
  }>("noise.json");
  assert.equal(vectors.length, 10);
  for (const vector of vectors) {
    const side = (name: "init" | "resp"): Side => {
      const psk = vector[`${name}_psks`]?.[0];
      return {
        prologue: fromHex(vector[`${name}_prologue`] ?? ""),
        secret: fromHex(vector[`${name}_static`] ?? ""),
        ephemeral: fromHex(vector[`${name}_ephemeral`] ?? ""),
        ...(psk === undefined ? {} : { psk: fromHex(psk) }),
      };
    };
    const initiator = make("page", true, side("init"));
    const responder = make("page", false, side("resp"));
    for (const [i, message] of vector.messages.slice(0, 3).entries()) {
      const [writer, reader] = i === 1 ? [responder, initiator] : [initiator, responder];
      assert.equal(toHex(writer.send(fromHex(message.payload))), message.ciphertext);
      assert.equal(toHex(reader.recv(fromHex(message.ciphertext))), message.payload);
    }
    if (vector["handshake_hash"] !== undefined) {
      assert.equal(toHex(initiator.hash ?? new Uint8Array(0)), vector["handshake_hash"]);
    }
  }
});

test("2.4 every byte of every message altered, and every message cut short, is refused by a page", () => {
  for (const withPsk of [false, true]) {
    const extra = withPsk ? { psk } : {};
    for (let message = 0; message < 3; message++) {
      const parties = (): { writer: Handshake; reader: Handshake; wire: Uint8Array } => {
        const initiator = make("library", true, { ...sides.initiator, ...extra });
        const responder = make("page", false, { ...sides.responder, ...extra });
        // The page reads messages 0 and 2 as responder, and message 1 as initiator.
        const [a, b] =
          message === 1
            ? [
                make("page", true, { ...sides.initiator, ...extra }),
                make("library", false, { ...sides.responder, ...extra }),
              ]
            : [initiator, responder];
        for (let i = 0; i < message; i++) {
          const [writer, reader] = i === 1 ? [b, a] : [a, b];
          reader.recv(new Uint8Array(writer.send(payloads[i] ?? new Uint8Array(0))));
        }
        const [writer, reader] = message === 1 ? [b, a] : [a, b];
        const wire = new Uint8Array(writer.send(payloads[message] ?? new Uint8Array(0)));
        return { writer, reader, wire };
      };
      const { byteLength } = parties().wire;
      for (let at = 0; at < byteLength; at++) {
        // Message 0 of XX is in the clear: what was altered there shows in message 1.
        if (message === 0 && !withPsk) break;
        const { reader, wire } = parties();
        wire[at] = (wire[at] ?? 0) ^ 0x80;
        // The unused bit of an X25519 key is masked, and what it stands in is hashed all the same.
        assert.throws(() => reader.recv(wire), `message ${message}, byte ${at}`);
      }
      for (const length of [0, 31, byteLength - 1]) {
        if (message === 0 && !withPsk && length >= 32) continue;
        const { reader, wire } = parties();
        assert.throws(() => reader.recv(wire.slice(0, length)));
      }
    }
  }
});

test("2.4 a first message altered in the clear is found at the second", () => {
  const initiator = make("page", true, sides.initiator);
  const responder = make("page", false, sides.responder);
  const wire = initiator.send(utf8("one"));
  wire[32] = (wire[32] ?? 0) ^ 1;
  responder.recv(wire);
  const answer = responder.send(utf8("two"));
  assert.throws(() => initiator.recv(answer));
});

test("2.5 a page refuses keys of small order, and a handshake out of turn", () => {
  const pair = pageCurve.generateKeyPair();
  assert.notDeepEqual(pair.publicKey, pageCurve.generateKeyPair().publicKey);
  for (const key of [new Uint8Array(32), Uint8Array.of(1, ...new Uint8Array(31))]) {
    assert.throws(() => pageCurve.dh(key, pair));
  }
  assert.equal(
    toHex(checkedCurve.dh(pair.publicKey, pair)),
    toHex(pageCurve.dh(pair.publicKey, pair)),
  );
  const noise = make("page", true, sides.initiator);
  noise.send(utf8("one"));
  assert.throws(() => noise.send(utf8("again")));
});
