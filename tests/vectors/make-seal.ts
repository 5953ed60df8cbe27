/**
 * Writes tests/vectors/seal.json:
 *
 *     node --import tsx tests/vectors/make-seal.ts
 *
 * For adding cases. Bytes that were published do not change within version 1 of
 * the protocol, so look at the difference before it is committed.
 */
import { writeFileSync } from "node:fs";
import { create, toBinary } from "@bufbuild/protobuf";
import { comparisonWords } from "../../client/seal/comparison.ts";
import {
  addDevice,
  deriveDeviceKeys,
  deviceMessage,
  extendChain,
  formatCode,
  formatPairingLink,
  foundGroup,
  InviterPairing,
  JoinerPairing,
  Keyring,
  keyCheckOf,
  type PairingStep,
  prepareBlob,
  pskOfCode,
  type Random,
  readChain,
  removeDevices,
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
import { StoredBlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { concatBytes, fromUtf8, toHex, u64be, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { idText, zeroLink } from "../../wire/ids.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { codeOf } from "./code-of.ts";
import { objectVectors, snapshotVectors } from "./retention-cases.ts";
import { fingerprintVectors, recoveryVectors, refusedWitnessVectors } from "./trust-cases.ts";

/** The random bytes of these vectors: BLAKE2b-256 of a name and a counter, block after block. */
function drawn(name: string): Random {
  let counter = 0;
  return (length) => {
    const blocks: Uint8Array[] = [];
    for (let have = 0; have < length; have += 32) {
      blocks.push(blake2b256(utf8(`vectors ${name}`), u64be(counter++)));
    }
    return concatBytes(...blocks).subarray(0, length);
  };
}

/** Keeps what was drawn, so that it can stand in the vectors. */
function recorded(random: Random): { random: Random; drawn: string[] } {
  const kept: string[] = [];
  return {
    random: (length) => {
      const bytes = new Uint8Array(random(length));
      kept.push(toHex(bytes));
      return bytes;
    },
    drawn: kept,
  };
}

function flipped(bytes: Uint8Array, index: number): Uint8Array {
  const copy = new Uint8Array(bytes);
  const at = index < 0 ? bytes.byteLength + index : index;
  copy[at] = (copy[at] as number) ^ 1;
  return copy;
}

const seeds = { a: drawn("seed a")(32), b: drawn("seed b")(32), c: drawn("seed c")(32) };
const a = deriveDeviceKeys(seeds.a);
const b = deriveDeviceKeys(seeds.b);
const groupId = drawn("group")(32);
const secret = drawn("secret")(32);
const keyring = new Keyring();
keyring.add(7, secret);
const bodyKey = keyring.bodyKey(7) as Uint8Array;
const witnessKey = keyring.witnessKey(7) as Uint8Array;

const devices = Object.entries(seeds).map(([name, seed]) => {
  const keys = deriveDeviceKeys(seed);
  return {
    name,
    seed: toHex(seed),
    device_id: toHex(keys.deviceId),
    signing_key: toHex(keys.signingKey),
    sealing_key: toHex(keys.sealingKey),
  };
});

function blobs() {
  const witnessed = [
    create(SenderLinkSchema, { deviceId: b.deviceId, seq: 5n, link: drawn("witnessed")(32) }),
  ];
  const inputs = [
    { data: utf8("hello"), contentType: "text/plain" },
    { data: new Uint8Array(0), ttlS: 3_600, deletes: [drawn("deleted")(16)], force: true },
    { data: drawn("large")(700) },
  ];
  let previous = { seq: 0, link: zeroLink };
  return inputs.map((input, i) => {
    const making = recorded(drawn(`blob ${i}`));
    const own = prepareBlob(input, {
      groupId,
      keys: a,
      previous,
      witnessed: i === 0 ? [] : witnessed,
      random: making.random,
    });
    previous = own;
    const sealing = recorded(drawn(`body ${i}`));
    const { body } = sealBlob(own, {
      groupId,
      sender: a.deviceId,
      epoch: 7,
      bodyKey,
      random: sealing.random,
    });
    return {
      seq: own.seq,
      blob_id: making.drawn[0],
      random: making.drawn[1],
      data: toHex(input.data),
      content_type: input.contentType ?? "",
      ttl_s: input.ttlS ?? 0,
      deletes: (input.deletes ?? []).map(toHex),
      force: input.force ?? false,
      witnessed: (i === 0 ? [] : witnessed).map(({ deviceId, seq, link }) => ({
        device_id: toHex(deviceId),
        seq: Number(seq),
        link: toHex(link),
      })),
      entry: toHex(own.entry),
      header: toHex(own.header),
      link: toHex(own.link),
      signature: toHex(own.signature),
      nonce: sealing.drawn[0],
      body: toHex(body),
    };
  });
}

/** What a reader makes of windows of the three blobs, some of them altered. */
function windows(made: ReturnType<typeof blobs>) {
  const roster = new Map([
    [idText(a.deviceId), { ...a, name: "a", role: 1 }],
    [idText(b.deviceId), { ...b, name: "b", role: 1 }],
  ]);
  const bytes = (text: string | undefined) => Uint8Array.from(Buffer.from(text ?? "", "hex"));
  const stored = made.map(({ blob_id, header, signature, body }) =>
    create(StoredBlobSchema, {
      sender: a.deviceId,
      blob: {
        blobId: bytes(blob_id),
        header: bytes(header),
        signature: bytes(signature),
        epoch: 7n,
        body: bytes(body),
      },
    }),
  );
  const [one, two, three] = stored as [(typeof stored)[0], (typeof stored)[0], (typeof stored)[0]];
  const altered = (part: "header" | "signature" | "blobId") =>
    create(StoredBlobSchema, {
      ...two,
      blob: {
        ...(two.blob as NonNullable<typeof two.blob>),
        [part]: flipped(two.blob?.[part] as Uint8Array, 3),
      },
    });
  const cases: [string, (typeof stored)[0][]][] = [
    ["all three", [one, two, three]],
    ["the second left out", [one, three]],
    ["the second and third changed round", [one, three, two]],
    ["the first twice", [one, one, two]],
    ["the second's header altered", [one, altered("header"), three]],
    ["the second's signature altered, covered by the third", [one, altered("signature"), three]],
    ["the second's signature altered, newest", [one, altered("signature")]],
    ["the second's blob id altered", [one, altered("blobId"), three]],
    [
      "the second under another member's name",
      [one, create(StoredBlobSchema, { ...two, sender: b.deviceId })],
    ],
    [
      "the second under a stranger's name",
      [one, create(StoredBlobSchema, { ...two, sender: drawn("stranger")(32) })],
    ],
  ];
  return cases.map(([what, list]) => ({
    what,
    stored: list.map((blob) => toHex(toBinary(StoredBlobSchema, blob))),
    verdicts: verifyWindow(list, { groupId, roster, positions: new Map() }).verdicts.map(
      (verdict) =>
        verdict.kind === "refused"
          ? `refused ${ErrorCode[verdict.code]} ${verdict.finding}`
          : verdict.kind,
    ),
  }));
}

function keys() {
  const previous = drawn("previous secret")(32);
  const sealing = recorded(drawn("sealed previous"));
  const sealedPrevious = sealPreviousSecret(previous, secret, {
    groupId,
    epoch: 7,
    random: sealing.random,
  });
  const wrapping = recorded(drawn("wrap"));
  const wrap = sealWrap(secret, a, { groupId, epoch: 7, random: wrapping.random });
  if (wrap === undefined) throw new Error("no wrap");
  const bad = [
    ["an altered X-Wing ciphertext", flipped(wrap, 0), 7],
    ["an altered tag", flipped(wrap, -1), 7],
    ["another epoch", wrap, 8],
    ["one byte short", wrap.subarray(1), 7],
  ] as const;
  return {
    epoch: 7,
    secret: toHex(secret),
    body_key: toHex(bodyKey),
    statement_key: toHex(keyring.statementKey(7) as Uint8Array),
    witness_key: toHex(witnessKey),
    key_check: toHex(keyCheckOf(secret, { groupId, epoch: 7 })),
    previous_secret: toHex(previous),
    previous_secret_nonce: sealing.drawn[0],
    sealed_previous_secret: toHex(sealedPrevious),
    wrap: {
      device: "a",
      encapsulation_random: wrapping.drawn[0],
      nonce: wrapping.drawn[1],
      sealed: toHex(wrap),
    },
    refused_wraps: bad.map(([what, sealed, epoch]) => ({
      what,
      epoch,
      sealed: toHex(sealed),
      code: codeOf(() => a.openWrap(sealed, { groupId, epoch })),
    })),
  };
}

function chain() {
  const founding = foundGroup({
    keys: a,
    random: drawn("founding"),
    nowMs: 1_700_000_000_000,
    groupId,
    name: "a",
  });
  const adding = addDevice(founding.chain, deviceMessage(b, "b"), {
    keys: a,
    random: drawn("adding"),
    nowMs: 1_700_000_001_000,
  });
  const two = extendChain(founding.chain, adding.controlBlob, { keys: a });
  const removing = removeDevices(
    two,
    [{ deviceId: b.deviceId, place: { seq: 2, link: drawn("closing")(32) } }],
    { keys: a, random: drawn("removing"), nowMs: 1_700_000_002_000 },
  );
  const blobs = [founding.change.controlBlob, adding.controlBlob];
  const [first, second] = blobs as [Uint8Array, Uint8Array];
  const bad: [string, string, Uint8Array[]][] = [
    ["the founding left out", "b", [second]],
    ["the addition twice", "b", [first, second, second]],
    ["the founding altered in its clear part", "b", [flipped(first, 100), second]],
    ["the addition's signature altered", "b", [first, flipped(second, -1)]],
    ["the addition's statement altered", "b", [first, flipped(second, -100)]],
    ["a field that nobody signed", "b", [first, concatBytes(second, new Uint8Array([0x78, 1]))]],
    ["read by a device that was never added", "c", blobs],
    ["read by a device after its removal", "b", [...blobs, removing.controlBlob]],
  ];
  return {
    control_blobs: [...blobs, removing.controlBlob].map(toHex),
    control_heads: [...blobs, removing.controlBlob].map((blob) => toHex(blake2b256(blob))),
    epoch_secrets: [1, 2].map((epoch) =>
      toHex(
        extendChain(two, removing.controlBlob, { keys: a }).keyring.secret(epoch) as Uint8Array,
      ),
    ),
    closing: { device: "b", seq: 2, link: toHex(drawn("closing")(32)) },
    refused: bad.map(([what, device, list]) => ({
      what,
      device,
      control_blobs: list.map(toHex),
      code: codeOf(() =>
        readChain(list, { groupId, keys: deriveDeviceKeys(seeds[device as "a"]) }),
      ),
    })),
  };
}

function witness() {
  const sealing = recorded(drawn("witness"));
  const claims = {
    counter: 3,
    madeMs: 1_700_000_003_000,
    logId: drawn("log")(16),
    applied: 41,
    positions: new Map([[idText(b.deviceId), { seq: 5, link: drawn("witnessed")(32) }]]),
    membership: { count: 2, head: drawn("head")(32) },
    lackingSeq: 0,
  };
  const sealed = sealWitness(claims, {
    groupId,
    keys: a,
    epoch: 7,
    witnessKey,
    random: sealing.random,
  });
  return {
    device: "a",
    counter: claims.counter,
    made_ms: claims.madeMs,
    log_id: toHex(claims.logId),
    applied: claims.applied,
    positions: [{ device_id: toHex(b.deviceId), seq: 5, link: toHex(drawn("witnessed")(32)) }],
    membership: { count: 2, head: toHex(claims.membership.head) },
    epoch: 7,
    nonce: sealing.drawn[0],
    sealed: toHex(sealed.sealed),
    signature: toHex(sealed.signature),
  };
}

async function pairing() {
  const rendezvousId = drawn("rendezvous")(5);
  const codeSecret = drawn("code")(5);
  const relayKey = drawn("relay")(32);
  const linkSecret = drawn("link secret")(32);
  const relayAddress = formatRelayAddress("wss://sync.example.com", relayKey);
  const cost = { memoryKiB: 64, passes: 2 };
  const code = { rendezvousId, secret: codeSecret };
  const codePsk = await pskOfCode(code, relayKey, cost);
  const text = formatCode(code);
  const inviterEphemeral = drawn("inviter ephemeral")(32);
  const joinerEphemeral = drawn("joiner ephemeral")(32);
  const inviterRandom = recorded(drawn("inviter nonce"));
  const joinerRandom = recorded(drawn("joiner nonce"));
  const inviter = new InviterPairing({
    rendezvousId,
    relayKey,
    keys: a,
    linkSecret,
    codePsk,
    random: inviterRandom.random,
    ephemeralSecret: inviterEphemeral,
  });
  const joiner = new JoinerPairing({
    rendezvousId,
    relayKey,
    keys: b,
    name: "b",
    means: "code",
    secret: codePsk,
    random: joinerRandom.random,
    ephemeralSecret: joinerEphemeral,
  });
  const admission = create(PairingAdmissionSchema, {
    groupId,
    relayAddress,
    controlHead: drawn("control head")(32),
    inviter: deviceMessage(a, "a"),
  });
  const frames: Uint8Array[] = [];
  const pass = (step: PairingStep): Uint8Array => {
    const frame = step.send[0];
    if (frame === undefined) throw new Error("nothing sent");
    frames.push(frame);
    return frame;
  };
  const two = inviter.receive(pass(joiner.start()));
  const asked = inviter.receive(pass(joiner.receive(pass(two))));
  joiner.receive(pass(asked));
  joiner.receive(pass(inviter.admit(admission)));
  inviter.receive(pass(joiner.receipt()));
  if (asked.event?.kind !== "introduced") throw new Error("not introduced");
  const handshakeHash = drawn("handshake hash")(64);
  return {
    rendezvous_id: toHex(rendezvousId),
    relay_key: toHex(relayKey),
    code_secret: toHex(codeSecret),
    code: text,
    accepted_codes: [
      text.toLowerCase(),
      text.replaceAll("-", ""),
      ` ${text.replaceAll("-", " ")} `,
      text.replaceAll("0", "o").replaceAll("1", "l"),
    ],
    refused_codes: ["", text.slice(1), `${text}0`, text.replace(/.$/, "U"), text.replace("-", "_")],
    cost: { memory_kib: cost.memoryKiB, passes: cost.passes },
    code_psk: toHex(codePsk),
    link_secret: toHex(linkSecret),
    relay_address: relayAddress,
    link: formatPairingLink({ rendezvousId, relayAddress, secret: linkSecret }),
    refused_links: [
      "",
      "syncrelay:pair#",
      relayAddress,
      formatPairingLink({ rendezvousId, relayAddress, secret: linkSecret }).slice(0, -4),
      formatPairingLink({ rendezvousId, relayAddress, secret: linkSecret }).replace(
        "syncrelay:pair",
        "https://sync.example.com/",
      ),
    ],
    link_psk: toHex(pskOfLink(linkSecret)),
    comparison: {
      handshake_hash: toHex(handshakeHash),
      inviter_nonce: toHex(drawn("n c")(16)),
      joiner_nonce: toHex(drawn("n j")(16)),
      words: comparisonWords(handshakeHash, drawn("n c")(16), drawn("n j")(16)),
    },
    transcript: {
      means: "code",
      inviter: "a",
      joiner: "b",
      joiner_name: "b",
      inviter_ephemeral: toHex(inviterEphemeral),
      joiner_ephemeral: toHex(joinerEphemeral),
      inviter_nonce: inviterRandom.drawn[0],
      joiner_nonce: joinerRandom.drawn[0],
      admission: toHex(toBinary(PairingAdmissionSchema, admission)),
      frames: frames.map(toHex),
      words: asked.event.comparison,
    },
  };
}

const made = blobs();
const vectors = {
  about: [
    "What devices sign, seal and accept in version 1 of the sync protocol, for implementations in any language. Values are hex where nothing else is said; codes are those of ErrorCode.",
    "devices: X25519, Ed25519 and X-Wing keys of a seed, by HKDF-SHA-256 without salt, with device_noise, device_signing and device_sealing of labels as info.",
    "keys: what is derived from an epoch's secret; the wrap is X-Wing with encapsulation_random (64 bytes: ML-KEM, then X25519), then nonce, sealed secret and tag.",
    "blobs: three of device a, each linked to the one before, from 32 zeros; the bodies under epoch 7 of keys.",
    "windows: stored blobs as a relay hands them out, and what a reader of the group with members a and b makes of each; the number after a code is a FindingKind.",
    "control: founding by a, addition of b, removal of b; refused: chains that a device reads from the beginning, and the code that says why not.",
    "objects: byte i of a content is 31 i + floor(i / 256), modulo 256; a long object stands there by its id and the tag of its last chunk.",
    "snapshot: of device a in a group that a founded and b joined, confirmed by b; refused: what a device of that group makes of others.",
    "refused_witnesses: told as those of a device; fingerprints: of each device, short and in full.",
    "recovery: a phrase admitted by a, which founded the group; refused: chains that whoever holds the phrase must not believe.",
    "pairing: short codes, links, psks, comparison words, and one pairing whole: the frames in the order of pairing.proto.",
  ],
  labels: Object.fromEntries(
    Object.entries(labels).map(([name, label]) => [
      name.replace(/Label$/, "").replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`),
      fromUtf8(label),
    ]),
  ),
  group_id: toHex(groupId),
  devices,
  padme: [0, 1, 256, 257, 272, 273, 1_000, 1_025, 65_537, 1_048_577].map((length) => ({
    length,
    padded: padmeBytes(length),
  })),
  keys: keys(),
  blobs: made,
  windows: windows(made),
  control: chain(),
  witness: witness(),
  refused_witnesses: refusedWitnessVectors({ groupId, a, b, witnessKey }, drawn),
  fingerprints: fingerprintVectors(seeds),
  recovery: recoveryVectors(drawn, groupId, seeds),
  objects: await objectVectors(drawn, groupId),
  snapshot: snapshotVectors(drawn, groupId, seeds),
  pairing: await pairing(),
};

writeFileSync(new URL("seal.json", import.meta.url), `${JSON.stringify(vectors, null, 1)}\n`);
