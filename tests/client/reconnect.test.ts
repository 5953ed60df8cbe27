import assert from "node:assert/strict";
import { describe, test } from "node:test";
import fc from "fast-check";
import {
  Backoff,
  reconnectFirstMs,
  reconnectMostMs,
  reconnectStableMs,
} from "../../client/reconnect.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";

const lost = { error: new SyncError(ErrorCode.CONNECTION_LOST), certain: false };
const certain = (code: ErrorCode, retryAfterMs = 0) => ({
  error: new SyncError(code, { retryAfterMs }),
  certain: true,
});

describe("back-off", () => {
  test("is drawn evenly below a ceiling that doubles up to a bound", () => {
    const backoff = new Backoff();
    for (let failures = 0; failures < 40; failures++) {
      const ceiling = Math.min(reconnectMostMs, reconnectFirstMs * 2 ** failures);
      assert.equal(backoff.ended(lost, 0, 0.5), ceiling / 2);
    }
  });

  test("never waits less than the relay advises, nor much more than the bound", () => {
    fc.assert(
      fc.property(
        fc.array(
          fc.record({
            advised: fc.nat(120_000),
            uniform: fc.double({ min: 0, max: 0.999, noNaN: true }),
          }),
        ),
        (ends) => {
          const backoff = new Backoff();
          for (const { advised, uniform } of ends) {
            const wait = backoff.ended(certain(ErrorCode.DRAINING, advised), 0, uniform);
            assert.ok(wait !== undefined && wait >= advised);
            assert.ok(wait <= Math.max(reconnectMostMs, advised + 1_000));
          }
        },
      ),
    );
  });

  test("begins anew after a connection that held, not after one that did not", () => {
    const backoff = new Backoff();
    for (let i = 0; i < 5; i++) backoff.ended(lost, 0, 1);
    backoff.opened(0);
    assert.equal(backoff.ended(lost, reconnectStableMs - 1, 1), reconnectFirstMs * 32);
    backoff.opened(0);
    assert.equal(backoff.ended(lost, reconnectStableMs, 1), reconnectFirstMs);
  });

  test("a channel that needs new keys comes back at once", () => {
    assert.equal(new Backoff().ended({ ...lost, renew: true }, 0, 0.9), 0);
  });

  test("PROTOCOL 4.11, 4.5, 2.6: replaced, revoked and another key end it, where that is certain", () => {
    for (const code of [
      ErrorCode.REPLACED,
      ErrorCode.DEVICE_REVOKED,
      ErrorCode.RELAY_KEY_MISMATCH,
    ]) {
      assert.equal(new Backoff().ended(certain(code), 0, 0.5), undefined);
      // Anybody on the way can close a socket with any code.
      assert.notEqual(new Backoff().ended({ ...certain(code), certain: false }, 0, 0.5), undefined);
    }
  });

  test("PROTOCOL 10.1: what helps only once something differs is asked for seldom", () => {
    const wait = new Backoff().ended(certain(ErrorCode.NOT_A_MEMBER), 0, 0);
    assert.ok(wait !== undefined && wait >= reconnectMostMs / 2);
  });
});
