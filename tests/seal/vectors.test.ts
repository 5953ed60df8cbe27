/**
 * tests/vectors/seal.json, checked and never made again here. What another
 * library can compute is computed by another library.
 */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { create, fromBinary } from "@bufbuild/protobuf";
import { xchacha20poly1305 } from "@noble/ciphers/chacha.js";
import { ed25519, x25519 } from "@noble/curves/ed25519.js";
import { blake2b } from "@noble/hashes/blake2.js";
import { hkdf } from "@noble/hashes/hkdf.js";
import { sha256 } from "@noble/hashes/sha2.js";
import { ml_kem768_x25519 as xWing } from "@noble/post-quantum/hybrid.js";
import { comparisonWords } from "../../client/seal/comparison.ts";
import {
  decodeEntry,
  decodeHeader,
  deriveDeviceKeys,
  formatCode,
  formatPairingLink,
  InviterPairing,
  JoinerPairing,
  Keyring,
  keyCheckOf,
  openBody,
  openPreviousSecret,
  openWitness,
  type PairingStep,
  parseCode,
  parsePairingLink,
  prepareBlob,
  pskOfCode,
  type Random,
  readChain,
  sealBlob,
  sealPreviousSecret,
  sealWitness,
  sealWrap,
  verifyWindow,
} from "../../client/seal/index.ts";
import * as labels from "../../client/seal/labels.ts";
import { padmeBytes } from "../../client/seal/padding.ts";
import { pskOfLink } from "../../client/seal/pairing-frames.ts";
import { SenderLinkSchema } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import { PairingAdmissionSchema } from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { WitnessSchema } from "../../gen/syncrelay/sealed/v1/witness_pb.ts";
import {
  BlobSchema,
  SealedWitnessSchema,
  StoredBlobSchema,
} from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, fromHex, fromUtf8, toHex, u64be, utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText, zeroLink } from "../../wire/ids.ts";

interface Place {
  device_id: string;
  seq: number;
  link: string;
}
interface SealVectors {
  labels: Record<string, string>;
  group_id: string;
  devices: {
    name: string;
    seed: string;
    device_id: string;
    signing_key: string;
    sealing_key: string;
  }[];
  padme: { length: number; padded: number }[];
  keys: {
    epoch: number;
    secret: string;
    body_key: string;
    statement_key: string;
    witness_key: string;
    key_check: string;
    previous_secret: string;
    previous_secret_nonce: string;
    sealed_previous_secret: string;
    wrap: { device: string; encapsulation_random: string; nonce: string; sealed: string };
    refused_wraps: { what: string; epoch: number; sealed: string; code: string }[];
  };
  blobs: {
    seq: number;
    blob_id: string;
    random: string;
    data: string;
    content_type: string;
    ttl_s: number;
    deletes: string[];
    force: boolean;
    witnessed: Place[];
    entry: string;
    header: string;
    link: string;
    signature: string;
    nonce: string;
    body: string;
  }[];
  windows: { what: string; stored: string[]; verdicts: string[] }[];
  control: {
    control_blobs: string[];
    control_heads: string[];
    epoch_secrets: string[];
    closing: { device: string; seq: number; link: string };
    refused: { what: string; device: string; control_blobs: string[]; code: string }[];
  };
  witness: {
    device: string;
    counter: number;
    made_ms: number;
    log_id: string;
    applied: number;
    positions: Place[];
    membership: { count: number; head: string };
    epoch: number;
    nonce: string;
    sealed: string;
    signature: string;
  };
  pairing: {
    rendezvous_id: string;
    relay_key: string;
    code_secret: string;
    code: string;
    accepted_codes: string[];
    refused_codes: string[];
    cost: { memory_kib: number; passes: number };
    code_psk: string;
    link_secret: string;
    relay_address: string;
    link: string;
    refused_links: string[];
    link_psk: string;
    comparison: {
      handshake_hash: string;
      inviter_nonce: string;
      joiner_nonce: string;
      words: string[];
    };
    transcript: {
      means: "link" | "code";
      inviter: string;
      joiner: string;
      joiner_name: string;
      inviter_ephemeral: string;
      joiner_ephemeral: string;
      inviter_nonce: string;
      joiner_nonce: string;
      admission: string;
      frames: string[];
      words: string[];
    };
  };
}

const file = new URL("../vectors/seal.json", import.meta.url);
const vectors = JSON.parse(readFileSync(file, "utf8")) as SealVectors;
const groupId = fromHex(vectors.group_id);

function keysOf(name: string) {
  const found = vectors.devices.find((device) => device.name === name);
  assert.ok(found !== undefined);
  return deriveDeviceKeys(fromHex(found.seed));
}
const a = keysOf("a");

/** Randomness that is exactly the given values, one after another. */
function given(...values: readonly string[]): Random {
  let next = 0;
  return (length) => {
    const bytes = fromHex(values[next++] ?? "");
    assert.equal(bytes.byteLength, length);
    return bytes;
  };
}

function codeOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof SyncError, String(error));
    return ErrorCode[error.code];
  }
  return "accepted";
}

const derive = (secret: string, label: string, context: Uint8Array = new Uint8Array(0)): string =>
  toHex(
    hkdf(
      sha256,
      fromHex(secret),
      undefined,
      concatBytes(utf8(vectors.labels[label] as string), context),
      32,
    ),
  );
const blake = (...parts: Uint8Array[]): Uint8Array => blake2b(concatBytes(...parts), { dkLen: 32 });

describe("vectors: keys", () => {
  test("labels are these", () => {
    const ours = Object.entries(labels).map(([name, label]) => [
      name.replace(/Label$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      fromUtf8(label),
    ]);
    assert.deepEqual(Object.fromEntries(ours), vectors.labels);
  });

  test("devices have these keys, by another library too", () => {
    for (const device of vectors.devices) {
      const keys = deriveDeviceKeys(fromHex(device.seed));
      assert.equal(toHex(keys.deviceId), device.device_id);
      assert.equal(toHex(keys.signingKey), device.signing_key);
      assert.equal(toHex(keys.sealingKey), device.sealing_key);
      const noise = fromHex(derive(device.seed, "device_noise"));
      const signing = fromHex(derive(device.seed, "device_signing"));
      const sealing = fromHex(derive(device.seed, "device_sealing"));
      assert.equal(toHex(x25519.getPublicKey(noise)), device.device_id);
      assert.equal(toHex(ed25519.getPublicKey(signing)), device.signing_key);
      assert.equal(toHex(xWing.keygen(sealing).publicKey), device.sealing_key);
    }
  });

  test("an epoch's keys and its check value follow from its secret", () => {
    const { keys } = vectors;
    const keyring = new Keyring();
    keyring.add(keys.epoch, fromHex(keys.secret));
    assert.equal(toHex(keyring.bodyKey(keys.epoch) as Uint8Array), keys.body_key);
    assert.equal(toHex(keyring.statementKey(keys.epoch) as Uint8Array), keys.statement_key);
    assert.equal(toHex(keyring.witnessKey(keys.epoch) as Uint8Array), keys.witness_key);
    assert.equal(derive(keys.secret, "body_key"), keys.body_key);
    assert.equal(derive(keys.secret, "statement_key"), keys.statement_key);
    assert.equal(derive(keys.secret, "witness_key"), keys.witness_key);
    const place = { groupId, epoch: keys.epoch };
    assert.equal(toHex(keyCheckOf(fromHex(keys.secret), place)), keys.key_check);
    const context = concatBytes(groupId, u64be(keys.epoch));
    assert.equal(derive(keys.secret, "key_check", context), keys.key_check);
  });

  test("a previous secret is sealed to these bytes and opens", () => {
    const { keys } = vectors;
    const at = { groupId, epoch: keys.epoch };
    const [secret, previous] = [fromHex(keys.secret), fromHex(keys.previous_secret)];
    const sealed = sealPreviousSecret(previous, secret, {
      ...at,
      random: given(keys.previous_secret_nonce),
    });
    assert.equal(toHex(sealed), keys.sealed_previous_secret);
    assert.deepEqual(openPreviousSecret(sealed, secret, at), previous);
  });

  test("a wrap is made of these bytes and opens; altered ones do not", () => {
    const { wrap, secret, epoch, refused_wraps } = vectors.keys;
    const sealed = sealWrap(fromHex(secret), keysOf(wrap.device), {
      groupId,
      epoch,
      random: given(wrap.encapsulation_random, wrap.nonce),
    });
    assert.equal(toHex(sealed as Uint8Array), wrap.sealed);
    const opened = keysOf(wrap.device).openWrap(fromHex(wrap.sealed), { groupId, epoch });
    assert.equal(toHex(opened), secret);
    for (const bad of refused_wraps) {
      const at = { groupId, epoch: bad.epoch };
      assert.equal(
        codeOf(() => a.openWrap(fromHex(bad.sealed), at)),
        bad.code,
        bad.what,
      );
    }
  });
});

describe("vectors: blobs", () => {
  const bodyKey = fromHex(vectors.keys.body_key);
  const { epoch } = vectors.keys;

  test("padded lengths are these", () => {
    for (const { length, padded } of vectors.padme) assert.equal(padmeBytes(length), padded);
  });

  test("are made of these bytes, and open to what went in", () => {
    let previous = { seq: 0, link: zeroLink };
    for (const blob of vectors.blobs) {
      const own = prepareBlob(
        {
          data: fromHex(blob.data),
          contentType: blob.content_type,
          ttlS: blob.ttl_s,
          deletes: blob.deletes.map(fromHex),
          force: blob.force,
        },
        {
          groupId,
          keys: a,
          previous,
          witnessed: blob.witnessed.map(({ device_id, seq, link }) =>
            create(SenderLinkSchema, {
              deviceId: fromHex(device_id),
              seq: BigInt(seq),
              link: fromHex(link),
            }),
          ),
          random: given(blob.blob_id, blob.random),
        },
      );
      previous = own;
      assert.equal(own.seq, blob.seq);
      assert.equal(toHex(own.entry), blob.entry);
      assert.equal(toHex(own.header), blob.header);
      assert.equal(toHex(own.link), blob.link);
      assert.equal(toHex(own.signature), blob.signature);
      const at = { groupId, sender: a.deviceId, bodyKey };
      const sealed = sealBlob(own, { ...at, epoch, random: given(blob.nonce) });
      assert.equal(toHex(sealed.body), blob.body);
      const message = create(BlobSchema, { ...sealed, epoch: BigInt(epoch) });
      const entry = openBody(message, decodeHeader(own.header), at);
      assert.equal(toHex(entry.data), blob.data);
      assert.equal(entry.contentType, blob.content_type);
      assert.deepEqual(decodeEntry(fromHex(blob.entry)), entry);
    }
  });

  test("hashes, links, signatures and seals are what other libraries make of the same bytes", () => {
    for (const blob of vectors.blobs) {
      const header = fromHex(blob.header);
      const blobId = fromHex(blob.blob_id);
      assert.deepEqual(decodeHeader(header).entryHash, blake(fromHex(blob.entry)));
      const link = blake(utf8("syncrelay/1 link"), groupId, a.deviceId, blobId, header);
      assert.equal(toHex(link), blob.link);
      const signed = concatBytes(utf8(vectors.labels["blob_signature"] as string), link);
      assert.ok(ed25519.verify(fromHex(blob.signature), signed, a.signingKey));
      const body = fromHex(blob.body);
      assert.equal(toHex(body.subarray(0, 24)), blob.nonce);
      const context = concatBytes(groupId, a.deviceId, blobId, u64be(epoch), header);
      const cipher = xchacha20poly1305(bodyKey, body.subarray(0, 24), context);
      const padded = cipher.decrypt(body.subarray(24));
      assert.ok(toHex(padded).includes(blob.entry));
      assert.equal(padded.byteLength, padmeBytes(padded.byteLength));
    }
  });

  test("windows of them are judged so", () => {
    const roster = new Map(
      ["a", "b"].map((name) => {
        const keys = keysOf(name);
        return [idText(keys.deviceId), { ...keys, name, role: 1 }] as const;
      }),
    );
    for (const window of vectors.windows) {
      const stored = window.stored.map((bytes) => fromBinary(StoredBlobSchema, fromHex(bytes)));
      const { verdicts } = verifyWindow(stored, { groupId, roster, positions: new Map() });
      const words = verdicts.map((verdict) =>
        verdict.kind === "refused"
          ? `refused ${ErrorCode[verdict.code]} ${verdict.finding}`
          : verdict.kind,
      );
      assert.deepEqual(words, window.verdicts, window.what);
    }
  });
});

describe("vectors: the control chain", () => {
  const { control } = vectors;
  const blobs = control.control_blobs.map(fromHex);

  test("is read by its members to these heads and secrets", () => {
    for (const [i, blob] of blobs.entries()) {
      assert.equal(toHex(blake(blob)), control.control_heads[i]);
    }
    const joined = readChain(blobs.slice(0, 2), {
      groupId,
      keys: keysOf("b"),
      mustContain: fromHex(control.control_heads[0] as string),
    });
    assert.equal(toHex(joined.version.head), control.control_heads[1]);
    assert.equal(joined.version.count, 2);
    assert.deepEqual(
      Array.from(joined.devices.values(), ({ name }) => name),
      ["a", "b"],
    );
    const whole = readChain(blobs, { groupId, keys: a });
    for (const [i, secret] of control.epoch_secrets.entries()) {
      assert.equal(toHex(whole.keyring.secret(i + 1) as Uint8Array), secret);
    }
    const closed = whole.devices.get(idText(keysOf(control.closing.device).deviceId))?.closing;
    assert.deepEqual(closed, { seq: control.closing.seq, link: fromHex(control.closing.link) });
  });

  test("is refused where it is altered, and by whoever is no member", () => {
    for (const bad of control.refused) {
      const list = bad.control_blobs.map(fromHex);
      const code = codeOf(() => readChain(list, { groupId, keys: keysOf(bad.device) }));
      assert.equal(code, bad.code, bad.what);
    }
  });
});

test("vectors: a witness is made of these bytes and opens", () => {
  const { witness } = vectors;
  const keys = keysOf(witness.device);
  const witnessKey = fromHex(vectors.keys.witness_key);
  const claims = {
    counter: witness.counter,
    madeMs: witness.made_ms,
    logId: fromHex(witness.log_id),
    applied: witness.applied,
    positions: new Map(
      witness.positions.map(({ device_id, seq, link }) => [
        idText(fromHex(device_id)),
        { seq, link: fromHex(link) },
      ]),
    ),
    membership: { count: witness.membership.count, head: fromHex(witness.membership.head) },
    lackingSeq: 0,
  };
  const { epoch } = witness;
  const sealed = sealWitness(claims, {
    groupId,
    keys,
    epoch,
    witnessKey,
    random: given(witness.nonce),
  });
  assert.equal(toHex(sealed.sealed), witness.sealed);
  assert.equal(toHex(sealed.signature), witness.signature);
  const received = create(SealedWitnessSchema, {
    counter: BigInt(witness.counter),
    epoch: BigInt(epoch),
    sealed: fromHex(witness.sealed),
    signature: fromHex(witness.signature),
  });
  const { deviceId, signingKey } = keys;
  const { bytes, ...opened } = openWitness(received, {
    groupId,
    deviceId,
    signingKey,
    witnessKey,
  });
  assert.deepEqual(opened, claims);
  assert.equal(Number(fromBinary(WitnessSchema, bytes).counter), witness.counter);
});

describe("vectors: pairing", () => {
  const { pairing } = vectors;
  const code = {
    rendezvousId: fromHex(pairing.rendezvous_id),
    secret: fromHex(pairing.code_secret),
  };
  const relayKey = fromHex(pairing.relay_key);
  const linkSecret = fromHex(pairing.link_secret);

  test("codes are written and read so, and these are none", () => {
    assert.equal(formatCode(code), pairing.code);
    for (const text of pairing.accepted_codes) assert.deepEqual(parseCode(text), code, text);
    for (const text of pairing.refused_codes) {
      assert.equal(
        codeOf(() => parseCode(text)),
        "INVITE_INVALID",
        text,
      );
    }
  });

  test("links are written and read so, and these are none", () => {
    const link = {
      rendezvousId: code.rendezvousId,
      relayAddress: pairing.relay_address,
      secret: linkSecret,
    };
    assert.equal(formatPairingLink(link), pairing.link);
    assert.deepEqual(parsePairingLink(pairing.link), link);
    for (const text of pairing.refused_links) {
      assert.equal(
        codeOf(() => parsePairingLink(text)),
        "INVITE_INVALID",
        text,
      );
    }
  });

  test("psks and comparison words are these", async () => {
    const cost = { memoryKiB: pairing.cost.memory_kib, passes: pairing.cost.passes };
    assert.equal(toHex(await pskOfCode(code, relayKey, cost)), pairing.code_psk);
    assert.equal(toHex(pskOfLink(linkSecret)), pairing.link_psk);
    assert.equal(derive(pairing.link_secret, "pairing_link"), pairing.link_psk);
    const { handshake_hash, inviter_nonce, joiner_nonce, words } = pairing.comparison;
    assert.deepEqual(
      comparisonWords(fromHex(handshake_hash), fromHex(inviter_nonce), fromHex(joiner_nonce)),
      words,
    );
  });

  test("a whole pairing with fixed keys has these frames and shows these words", () => {
    const { transcript } = pairing;
    const inviter = new InviterPairing({
      rendezvousId: code.rendezvousId,
      relayKey,
      keys: keysOf(transcript.inviter),
      linkSecret,
      codePsk: fromHex(pairing.code_psk),
      random: given(transcript.inviter_nonce),
      ephemeralSecret: fromHex(transcript.inviter_ephemeral),
    });
    const joiner = new JoinerPairing({
      rendezvousId: code.rendezvousId,
      relayKey,
      keys: keysOf(transcript.joiner),
      name: transcript.joiner_name,
      means: transcript.means,
      secret: fromHex(pairing.code_psk),
      random: given(transcript.joiner_nonce),
      ephemeralSecret: fromHex(transcript.joiner_ephemeral),
    });
    const admission = fromBinary(PairingAdmissionSchema, fromHex(transcript.admission));
    let index = 0;
    // Each side gets the frame of the vectors, which is also what the other sent.
    const pass = (step: PairingStep): Uint8Array => {
      const frame = transcript.frames[index++] as string;
      assert.deepEqual(step.send.map(toHex), [frame]);
      return fromHex(frame);
    };
    const two = inviter.receive(pass(joiner.start()));
    const asked = inviter.receive(pass(joiner.receive(pass(two))));
    const shown = joiner.receive(pass(asked));
    const admitted = joiner.receive(pass(inviter.admit(admission)));
    const receipted = inviter.receive(pass(joiner.receipt()));
    assert.deepEqual(
      asked.event?.kind === "introduced" && asked.event.comparison,
      transcript.words,
    );
    assert.deepEqual(
      shown.event?.kind === "comparison" && shown.event.comparison,
      transcript.words,
    );
    assert.deepEqual(admitted.event?.kind === "admitted" && admitted.event.admission, admission);
    assert.equal(receipted.event?.kind, "receipted");
    assert.equal(index, transcript.frames.length);
  });
});
