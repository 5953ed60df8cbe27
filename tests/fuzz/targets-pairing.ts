/** What is typed, scanned or sent before anybody is known: codes, links, and both pairing machines. */
import assert from "node:assert/strict";
import { create, toBinary } from "@bufbuild/protobuf";
import {
  deviceMessage,
  formatCode,
  formatPairingLink,
  InviterPairing,
  JoinerPairing,
  type PairingStep,
  parseCode,
  parsePairingLink,
} from "../../client/seal/index.ts";
import { pairingPrologueLabel } from "../../client/seal/labels.ts";
import { openFrame, pskOfLink } from "../../client/seal/pairing-frames.ts";
import {
  PairingAdmissionSchema,
  PairingCommitmentSchema,
  PairingFrameSchema,
  PairingIntroductionSchema,
  PairingLinkSchema,
  PairingMeans,
  PairingRevealSchema,
} from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { concatBytes, emptyBytes, fromBase64url, toBase64url, utf8 } from "../../wire/bytes.ts";
import { Handshake } from "../../wire/channel.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { device, group, seeded } from "../seal/support.ts";
import type { Target } from "./engine.ts";
import { encodeScript, readScript } from "./script.ts";

const random = seeded("fuzz pairing");
const rendezvousId = random(5);
const relayKey = random(32);
const secret = random(32);
const relayAddress = formatRelayAddress("wss://relay.example.com", relayKey);
const linkText = formatPairingLink({ rendezvousId, relayAddress, secret });
const text = (input: Uint8Array): string => new TextDecoder().decode(input);

const codes: Target = {
  name: "codes",
  weight: 4,
  seeds: () => {
    const code = formatCode({ rendezvousId, secret: random(5) });
    return [code, code.toLowerCase(), code.replaceAll("-", " "), ` ${code} `].map(utf8);
  },
  run: (input) => {
    const read = parseCode(text(input));
    assert.equal(parseCode(formatCode(read)).secret.join(), read.secret.join());
    return "read";
  },
};

/** As it is typed or scanned: a QR code holds this text. */
const links: Target = {
  name: "links",
  weight: 4,
  seeds: () => [utf8(linkText)],
  run: (input) => {
    const read = parsePairingLink(text(input));
    assert.deepEqual(parsePairingLink(formatPairingLink(read)), read);
    return "read";
  },
};

/** What stands in a link's fragment. */
const fragments: Target = {
  name: "link-fragments",
  weight: 4,
  seeds: () => [
    fromBase64url(linkText.slice(linkText.indexOf("#") + 1)) ?? emptyBytes,
    toBinary(PairingLinkSchema, create(PairingLinkSchema, { rendezvousId, relayAddress, secret })),
  ],
  run: (input) => {
    const read = parsePairingLink(`syncrelay:pair#${toBase64url(input)}`);
    assert.deepEqual(parsePairingLink(formatPairingLink(read)), read);
    return "read";
  },
};

const inviterOptions = () => ({
  rendezvousId,
  relayKey,
  keys: device("a"),
  linkSecret: secret,
  codePsk: secret,
  random,
});
const joinerOptions = () => ({
  rendezvousId,
  relayKey,
  keys: device("b"),
  name: "b",
  means: "link" as const,
  secret,
  random,
});
const { groupId, chain } = group("a", "b");
const admission = create(PairingAdmissionSchema, {
  groupId,
  relayAddress,
  controlHead: chain.version.head,
  inviter: deviceMessage(device("a"), "a"),
});

/** What a machine came to. A frame that fails ends it: it says so, and throws nothing. */
function said(step: PairingStep): string {
  const { event } = step;
  if (event?.kind === "failed") throw event.error;
  return event?.kind ?? `${step.send.length} sent`;
}

/** Frames as they come out of a mailbox, to either machine: the script's parts, in order. */
const frames: Target = {
  name: "pairing-frames",
  weight: 0.3,
  structured: true,
  seeds: () => {
    const inviter = new InviterPairing(inviterOptions());
    const joiner = new JoinerPairing(joinerOptions());
    const one = joiner.start().send[0] as Uint8Array;
    const two = inviter.receive(one).send[0] as Uint8Array;
    const three = joiner.receive(two).send[0] as Uint8Array;
    const delimited = [one, two, three].map((frame) => frameDelimited(frame));
    return [encodeScript(0, delimited), encodeScript(1, delimited), encodeScript(2, delimited)];
  },
  run: (input) => {
    const { head, parts } = readScript(input);
    const machine =
      head % 2 === 0 ? new InviterPairing(inviterOptions()) : new JoinerPairing(joinerOptions());
    if (machine instanceof JoinerPairing) machine.start();
    let last = "nothing";
    for (const { envelope } of parts) {
      const length = envelope[0] !== undefined && envelope[0] < 128 ? 1 : 2;
      last = said(machine.receive(envelope.subarray(length)));
    }
    return last;
  },
};

function frameDelimited(frame: Uint8Array): Uint8Array {
  const length = frame.byteLength;
  const prefix = length < 128 ? [length] : [(length & 127) | 128, length >> 7];
  return concatBytes(Uint8Array.from(prefix), frame);
}

function shake(role: "initiator" | "responder"): Handshake {
  return new Handshake({
    role,
    keyPair: device(role === "initiator" ? "b" : "a").noise,
    prologue: concatBytes(pairingPrologueLabel, rendezvousId, relayKey),
    psk: pskOfLink(secret),
  });
}

function frameOf(noise: Uint8Array, means = PairingMeans.UNSPECIFIED): Uint8Array {
  return toBinary(PairingFrameSchema, create(PairingFrameSchema, { means, noise }));
}

/** Somebody who holds the secret introduces itself as whatever the input says. */
const introductions: Target = {
  name: "introductions",
  weight: 0.3,
  seeds: () => [
    toBinary(
      PairingIntroductionSchema,
      create(PairingIntroductionSchema, {
        signingKey: device("b").signingKey,
        sealingKey: device("b").sealingKey,
        name: "b",
        nonce: random(16),
      }),
    ),
  ],
  run: (input) => {
    const inviter = new InviterPairing(inviterOptions());
    const peer = shake("initiator");
    const first = inviter.receive(frameOf(peer.write(emptyBytes), PairingMeans.LINK));
    peer.read(openFrame(first.send[0] as Uint8Array).noise);
    return said(inviter.receive(frameOf(peer.write(input))));
  },
};

/** The inviting device's three messages: the script's parts are what it says in them. */
const admissions: Target = {
  name: "admissions",
  weight: 0.3,
  structured: true,
  seeds: () => {
    const nonce = random(16);
    const commitment = create(PairingCommitmentSchema, { commitment: blake2b256(nonce) });
    const messages = [
      toBinary(PairingCommitmentSchema, commitment),
      toBinary(PairingRevealSchema, create(PairingRevealSchema, { nonce })),
      toBinary(PairingAdmissionSchema, admission),
    ].map(frameDelimited);
    return [encodeScript(0, messages)];
  },
  run: (input) => {
    const { parts } = readScript(input);
    const [first, ...rest] = parts.map(({ envelope }) =>
      envelope.subarray((envelope[0] ?? 0) < 128 ? 1 : 2),
    );
    if (first === undefined || first.byteLength > 3_000) throw new SyncError(ErrorCode.TOO_LARGE);
    const joiner = new JoinerPairing(joinerOptions());
    const peer = shake("responder");
    peer.read(openFrame(joiner.start().send[0] as Uint8Array).noise);
    const three = joiner.receive(frameOf(peer.write(first)));
    said(three);
    peer.read(openFrame(three.send[0] as Uint8Array).noise);
    const transport = peer.finish();
    let last = "introduced";
    for (const message of rest) last = said(joiner.receive(frameOf(transport.encrypt(message))));
    if (last === "admitted") joiner.receipt();
    return last;
  },
};

export const pairingTargets: readonly Target[] = [
  codes,
  links,
  fragments,
  frames,
  introductions,
  admissions,
];
