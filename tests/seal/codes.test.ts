import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import {
  formatCode,
  formatPairingLink,
  looksLikeLink,
  parseCode,
  parsePairingLink,
  pskOfCode,
} from "../../client/seal/index.ts";
import { stretch, stretchPortably } from "../../client/seal/primitives.ts";
import { PairingLinkSchema } from "../../gen/syncrelay/sealed/v1/pairing_pb.ts";
import { toBase64url, toHex } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { formatRelayAddress } from "../../wire/relay-address.ts";
import { fails, flipped, seeded } from "./support.ts";

const random = seeded("codes");
const rendezvousId = random(5);
const secret = random(5);
const relayKey = random(32);
const least = { memoryKiB: 8, passes: 1 };

describe("SECURITY Pairing: short codes", () => {
  test("any code is read as it was written", () => {
    const half = fc.uint8Array({ minLength: 5, maxLength: 5 });
    fc.assert(
      fc.property(half, half, (left, right) => {
        const text = formatCode({ rendezvousId: left, secret: right });
        assert.match(text, /^([0-9A-HJKMNP-TV-Z]{4}-){3}[0-9A-HJKMNP-TV-Z]{4}$/);
        assert.deepEqual(parseCode(text), { rendezvousId: left, secret: right });
      }),
    );
  });

  test("o is 0, i and l are 1, in any case, with spaces and dashes anywhere", () => {
    const code = parseCode("0011-2345-6789-ABCD");
    for (const text of [
      "OOIL-2345-6789-ABCD",
      "ooil 2345 6789 abcd",
      "  o0l123456789abcd\n",
      "0-0-1-1-2-3-4-5-6-7-8-9-A-B-C-D",
    ]) {
      assert.deepEqual(parseCode(text), code);
    }
  });

  test("anything else is no code, said once for all", () => {
    for (const text of [
      "",
      "0011-2345-6789-ABC",
      "0011-2345-6789-ABCDE",
      "0011-2345-6789-ABCU",
      "0011-2345-6789-ABC!",
      "0011_2345_6789_ABCD",
      "0".repeat(1_000_000),
      `0011-2345-6789-ABCD${" ".repeat(100)}`,
    ]) {
      fails(ErrorCode.INVITE_INVALID, () => parseCode(text));
    }
  });

  test("what a person typed does not stand in the error", () => {
    try {
      parseCode("SECRET-CODE");
      assert.fail();
    } catch (error) {
      assert.ok(error instanceof SyncError);
      assert.ok(!`${error.message} ${error.hint}`.includes("SECRET"));
    }
  });

  test("the psk depends on secret, mailbox, relay and cost", async () => {
    const code = { rendezvousId, secret };
    const psk = await pskOfCode(code, relayKey, least);
    assert.equal(psk.byteLength, 32);
    assert.deepEqual(await pskOfCode(code, relayKey, least), psk);
    const others = [
      await pskOfCode({ ...code, secret: flipped(secret) }, relayKey, least),
      await pskOfCode({ ...code, rendezvousId: flipped(rendezvousId) }, relayKey, least),
      await pskOfCode(code, flipped(relayKey), least),
      await pskOfCode(code, relayKey, { ...least, passes: 2 }),
      await pskOfCode(code, relayKey, { ...least, memoryKiB: 16 }),
    ];
    for (const other of others) assert.notDeepEqual(other, psk);
  });

  test("libsodium and JavaScript stretch a code to the same bytes", async () => {
    const [code, salt] = [random(5), random(16)];
    for (const cost of [least, { memoryKiB: 64, passes: 2 }]) {
      assert.deepEqual(await stretch(code, salt, cost), await stretchPortably(code, salt, cost));
    }
  });

  test("the full cost: 64 MiB, 3 passes", async () => {
    const code = { rendezvousId: new Uint8Array(5), secret: new Uint8Array(5).fill(1) };
    assert.equal(
      toHex(await pskOfCode(code, new Uint8Array(32))),
      "b6464b024506d2f0cbaba7713b93d5c761ce4238098493e19d06dfe06d8168bc",
    );
  });
});

describe("SECURITY Pairing: links", () => {
  const relayAddress = formatRelayAddress("wss://sync.example.com", relayKey);
  const link = { rendezvousId, relayAddress, secret: random(32) };

  test("are read as they were written", () => {
    const text = formatPairingLink(link);
    assert.match(text, /^syncrelay:pair#[\w-]+$/);
    assert.deepEqual(parsePairingLink(` ${text}\n`), link);
    const origin = "https://app.example.com/pair";
    assert.deepEqual(parsePairingLink(formatPairingLink(link, origin), origin), link);
    assert.deepEqual(parsePairingLink(text, origin), link);
  });

  test("are never of the relay's host", () => {
    assert.throws(() => formatPairingLink(link, "https://sync.example.com/pair"), RangeError);
    assert.throws(() => formatPairingLink(link, "https://app.example.com/#x"), RangeError);
    formatPairingLink(link, "https://example.com/pair");
  });

  test("are not made of parts of another length", () => {
    assert.throws(() => formatPairingLink({ ...link, secret: random(31) }), RangeError);
    assert.throws(() => formatPairingLink({ ...link, rendezvousId: random(4) }), RangeError);
  });

  test("anything else is no link, said once for all", () => {
    const text = formatPairingLink(link);
    const of = (change: object) =>
      `syncrelay:pair#${toBase64url(
        toBinary(PairingLinkSchema, create(PairingLinkSchema, { ...link, ...change })),
      )}`;
    assert.deepEqual(parsePairingLink(of({})), link);
    for (const bad of [
      "",
      "#",
      "syncrelay:pair",
      text.slice(0, -3),
      `${text}!`,
      text.replace("syncrelay:pair", "https://evil.example.com/"),
      text.replace("syncrelay:pair", ""),
      relayAddress,
      of({ secret: random(31) }),
      of({ rendezvousId: random(6) }),
      of({ relayAddress: "https://sync.example.com" }),
      of({ relayAddress: "" }),
      "x".repeat(1_000_000),
      `${text}${" ".repeat(3_000)}`,
    ]) {
      fails(ErrorCode.INVITE_INVALID, () => parsePairingLink(bad));
    }
  });

  test("are told from codes", () => {
    assert.ok(looksLikeLink(formatPairingLink(link)));
    assert.ok(!looksLikeLink(formatCode({ rendezvousId, secret })));
  });
});
