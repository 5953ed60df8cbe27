import assert from "node:assert/strict";
import type { IncomingMessage } from "node:http";
import { test } from "node:test";
import fc from "fast-check";
import { Admission } from "../../server/admission.ts";
import { limitKey, peerAddress, TrustedProxies } from "../../server/net/addresses.ts";
import { defaultLimits } from "../../server/options.ts";
import { TokenBucket } from "../../server/rate-limit.ts";

const rate = { perS: 2, burst: 4 };

test("5.11 a bucket begins full, empties by one, and says exactly when there is a token", () => {
  const bucket = new TokenBucket(rate, 0);
  for (let i = 0; i < 4; i++) assert.equal(bucket.take(rate, 0), 0);
  assert.equal(bucket.take(rate, 0), 500);
  assert.equal(bucket.take(rate, 250), 250);
  assert.equal(bucket.take(rate, 500), 0);
  assert.equal(bucket.take(rate, 500), 500);
});

test("5.11 asking how long takes nothing; a full bucket can be forgotten", () => {
  const bucket = new TokenBucket(rate, 0);
  assert.equal(bucket.full(rate, 0), true);
  bucket.take(rate, 0);
  assert.equal(bucket.waitMs(rate, 0), 0);
  assert.equal(bucket.full(rate, 499), false);
  assert.equal(bucket.full(rate, 500), true);
  bucket.giveBack(rate);
  for (let i = 0; i < 4; i++) assert.equal(bucket.take(rate, 500), 0);
  assert.equal(bucket.take(rate, 500), 500, "it never holds more than its burst");
});

test("5.11 whatever the times, a bucket gives no more than its burst and its rate", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: -5_000, max: 5_000 }), { maxLength: 200 }), (steps) => {
      const bucket = new TokenBucket(rate, 0);
      let nowMs = 0;
      let forwardMs = 0;
      let taken = 0;
      for (const step of steps) {
        nowMs += step;
        forwardMs += Math.max(0, step);
        const waitMs = bucket.take(rate, nowMs);
        assert.ok(Number.isInteger(waitMs) && waitMs >= 0 && waitMs <= 500);
        if (waitMs === 0) taken += 1;
      }
      assert.ok(taken <= rate.burst + (forwardMs / 1_000) * rate.perS + 1e-6);
    }),
  );
});

const limits = {
  ...defaultLimits,
  sessionsMax: 6,
  handshakesMax: 4,
  addressHandshakesMax: 2,
  addressConnectionsPerMin: 3,
};

test("2.12 handshakes of one address and in all are bounded, and come back when they end", () => {
  const admission = new Admission(limits);
  assert.equal(admission.begin("a", false, 0), undefined);
  assert.equal(admission.begin("a", false, 0), undefined);
  assert.equal(admission.begin("a", false, 0), "addressHandshakes");
  assert.equal(admission.begin("b", false, 0), undefined);
  assert.equal(admission.begin("c", false, 0), undefined);
  assert.equal(admission.begin("d", false, 0), "handshakes");
  admission.finish("a", "failed");
  assert.equal(admission.handshakes, 3);
  assert.equal(admission.begin("d", false, 0), undefined);
});

test("2.12 sessions and handshakes together never exceed the sessions there may be", () => {
  const admission = new Admission({ ...limits, handshakesMax: 100 });
  for (let i = 0; i < 6; i++) {
    assert.equal(admission.begin(`a${i}`, false, 0), undefined);
    if (i < 4) admission.finish(`a${i}`, "finished");
  }
  assert.equal(admission.sessions, 4);
  assert.equal(admission.begin("b", false, 0), "sessions");
  admission.leave();
  assert.equal(admission.begin("b", false, 0), undefined);
});

test("2.12 an address has so many connections a minute; a member's gives its token back", () => {
  const admission = new Admission({ ...limits, sessionsMax: 100 });
  const attempt = (nowMs: number, member: boolean) => {
    const refusal = admission.begin("a", false, nowMs);
    if (refusal !== undefined) return refusal;
    admission.finish("a", "finished");
    if (member) admission.welcome("a");
    return undefined;
  };
  for (let i = 0; i < 20; i++) assert.equal(attempt(0, true), undefined);
  for (let i = 0; i < 3; i++) assert.equal(attempt(0, false), undefined);
  assert.equal(attempt(0, false), "addressRate");
  assert.equal(attempt(19_999, false), "addressRate");
  assert.equal(attempt(20_000, false), undefined);
});

test("2.12 an address that many share has 20 times as much", () => {
  const admission = new Admission({ ...limits, sessionsMax: 1_000, handshakesMax: 1_000 });
  for (let i = 0; i < 40; i++) assert.equal(admission.begin("a", true, 0), undefined);
  assert.equal(admission.begin("a", true, 0), "addressHandshakes");
  for (let i = 0; i < 40; i++) admission.finish("a", "failed");
  for (let i = 0; i < 20; i++) assert.equal(admission.begin("a", true, 0), undefined);
  for (let i = 0; i < 20; i++) admission.finish("a", "failed");
  assert.equal(admission.begin("a", true, 0), "addressRate");
});

test("2.12 forgetting addresses at rest gives the others nothing", () => {
  const admission = new Admission({ ...limits, sessionsMax: 1e6, handshakesMax: 1e6 });
  for (let i = 0; i < 3; i++) {
    assert.equal(admission.begin("busy", false, 0), undefined);
    admission.finish("busy", "failed");
  }
  for (let i = 0; i < 9_999; i++) {
    assert.equal(admission.begin(`x${i}`, false, 0), undefined);
    admission.finish(`x${i}`, "failed");
  }
  assert.equal(admission.begin("one more", false, 0), "addressRate", "none is at rest yet");
  // A shared address asks, whose bucket is 20 times as large: each counts by its own.
  assert.equal(admission.begin("shared", true, 20_000), undefined);
  assert.equal(admission.begin("busy", false, 20_000), undefined);
  admission.finish("busy", "failed");
  assert.equal(admission.begin("busy", false, 20_000), "addressRate");
});

function request(remoteAddress: string, headers: IncomingMessage["headers"] = {}): IncomingMessage {
  return { socket: { remoteAddress }, headers } as IncomingMessage;
}

test("2.12 forwarded addresses are believed from named proxies alone", () => {
  const proxies = new TrustedProxies(["10.0.0.0/8", "2001:db8::/32"]);
  const forged = { "x-forwarded-for": "198.51.100.7", "cf-connecting-ip": "198.51.100.7" };
  const cases: [string, IncomingMessage["headers"], string, boolean][] = [
    ["203.0.113.5", forged, "203.0.113.5", false],
    ["10.0.0.2", forged, "198.51.100.7", false],
    ["::ffff:10.0.0.2", forged, "198.51.100.7", false],
    ["2001:db8::1", forged, "198.51.100.7", false],
    // The last that is no proxy of ours: what stands before it, anybody may have written.
    ["10.0.0.2", { "x-forwarded-for": "1.1.1.1, 198.51.100.7, 10.0.0.9" }, "198.51.100.7", false],
    ["10.0.0.2", { "x-forwarded-for": "1.1.1.1,::ffff:198.51.100.7" }, "198.51.100.7", false],
    // A client's own header behind a proxy that writes a list.
    [
      "10.0.0.2",
      { "cf-connecting-ip": "6.6.6.6", "x-forwarded-for": "198.51.100.7" },
      "198.51.100.7",
      false,
    ],
    ["10.0.0.2", { "cf-connecting-ip": "198.51.100.7" }, "198.51.100.7", false],
    ["10.0.0.2", { "cf-connecting-ip": "nonsense" }, "10.0.0.2", true],
    ["10.0.0.2", { "x-forwarded-for": "nonsense" }, "10.0.0.2", true],
    ["10.0.0.2", { "x-forwarded-for": "198.51.100.7, nonsense" }, "10.0.0.2", true],
    ["10.0.0.2", { "x-forwarded-for": "10.0.0.3" }, "10.0.0.2", true],
    ["10.0.0.2", {}, "10.0.0.2", true],
    ["10.0.0.2", { "x-forwarded-for": "2001:db9:1:2:3::4" }, "2001:db9:1:2", false],
    ["127.0.0.1", forged, "127.0.0.1", true],
    ["::1", {}, "0:0:0:0", true],
    ["::ffff:127.0.0.1", {}, "127.0.0.1", true],
  ];
  for (const [direct, headers, key, shared] of cases) {
    assert.deepEqual(peerAddress(request(direct, headers), proxies), { key, shared }, direct);
  }
});

test("2.12 an IPv6 address counts by its /64, however it is written", () => {
  const one = ["2001:db8:0:5::1", "2001:DB8::5:9:8:7:6", "2001:0db8:0000:0005:ffff::"];
  assert.deepEqual(new Set(one.map(limitKey)), new Set(["2001:db8:0:5"]));
  assert.notEqual(limitKey("2001:db8:0:6::1"), limitKey("2001:db8:0:5::1"));
  assert.equal(limitKey("192.0.2.1"), "192.0.2.1");
  fc.assert(
    fc.property(fc.ipV6(), fc.ipV6(), (a, b) => {
      const key = limitKey(a);
      assert.match(key, /^([0-9a-f]{1,4}:){3}[0-9a-f]{1,4}$/);
      // Everything of the same first half has the same key.
      assert.equal(limitKey(`${key}:1:2:3:4`), key);
      assert.equal(typeof limitKey(b), "string");
    }),
  );
});

test("2.12 a proxy that is no address or CIDR is refused with its text", () => {
  for (const text of [
    "nonsense",
    "10.0.0.0/33",
    "2001:db8::/129",
    "10.0.0.0/-1",
    "10.0.0.0/1.5",
    "",
  ]) {
    assert.throws(() => new TrustedProxies([text]), RangeError);
  }
  assert.equal(new TrustedProxies(["10.0.0.1"]).has("10.0.0.1"), true);
  assert.equal(new TrustedProxies(["10.0.0.1"]).has("10.0.0.2"), false);
});
