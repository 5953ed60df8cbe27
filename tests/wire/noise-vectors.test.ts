import assert from "node:assert/strict";
import { test } from "node:test";
import { fromHex, toHex } from "../../wire/bytes.ts";
import { Handshake, keyPairOf } from "../../wire/channel.ts";
import { readVectors } from "./support.ts";

interface NoiseVector {
  readonly source: string;
  readonly protocol_name: string;
  readonly init_prologue: string;
  readonly init_static: string;
  readonly init_ephemeral: string;
  readonly init_psks?: readonly string[];
  readonly resp_prologue: string;
  readonly resp_static: string;
  readonly resp_ephemeral: string;
  readonly resp_psks?: readonly string[];
  readonly handshake_hash?: string;
  readonly messages: readonly { readonly payload: string; readonly ciphertext: string }[];
}

const { vectors } = readVectors<{ vectors: readonly NoiseVector[] }>("noise.json");

function sideOf(vector: NoiseVector, role: "initiator" | "responder"): Handshake {
  const side = role === "initiator" ? "init" : "resp";
  const psk = vector[`${side}_psks`]?.[0];
  return new Handshake({
    role,
    keyPair: keyPairOf(fromHex(vector[`${side}_static`])),
    ephemeralSecret: fromHex(vector[`${side}_ephemeral`]),
    prologue: fromHex(vector[`${side}_prologue`]),
    ...(psk === undefined ? {} : { psk: fromHex(psk) }),
  });
}

test("2.4 the file holds vectors of both handshakes", () => {
  assert.deepEqual([...new Set(vectors.map((vector) => vector.protocol_name))].toSorted(), [
    "Noise_XX_25519_ChaChaPoly_BLAKE2b",
    "Noise_XXpsk0_25519_ChaChaPoly_BLAKE2b",
  ]);
  assert.equal(vectors.length, 10);
});

for (const [index, vector] of vectors.entries()) {
  const title = `${vector.source}, vector ${index + 1}, ${vector.protocol_name}`;

  test(`2.4 both sides reproduce the published handshake and transport: ${title}`, () => {
    assert.equal(vector.init_psks !== undefined, vector.protocol_name.includes("psk0"));
    const initiator = sideOf(vector, "initiator");
    const responder = sideOf(vector, "responder");
    for (const [i, message] of vector.messages.slice(0, 3).entries()) {
      const [writer, reader] = i === 1 ? [responder, initiator] : [initiator, responder];
      assert.equal(toHex(writer.write(fromHex(message.payload))), message.ciphertext);
      assert.equal(toHex(reader.read(fromHex(message.ciphertext))), message.payload);
    }
    const a = initiator.finish();
    const b = responder.finish();
    assert.deepEqual(a.handshakeHash, b.handshakeHash);
    if (vector.handshake_hash !== undefined) {
      assert.equal(toHex(a.handshakeHash), vector.handshake_hash);
    }
    assert.deepEqual(a.remoteKey, keyPairOf(fromHex(vector.resp_static)).publicKey);
    assert.deepEqual(b.remoteKey, keyPairOf(fromHex(vector.init_static)).publicKey);

    let initiatorWrites = vector.source === "flynn/noise";
    const transport = vector.messages.slice(3);
    assert.ok(transport.length >= 2);
    for (const message of transport) {
      const [writer, reader] = initiatorWrites ? [a, b] : [b, a];
      assert.equal(toHex(writer.encrypt(fromHex(message.payload))), message.ciphertext);
      assert.equal(toHex(reader.decrypt(fromHex(message.ciphertext))), message.payload);
      initiatorWrites = !initiatorWrites;
    }
  });
}
