/** Acknowledgements that a relay refuses, or does not answer. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

interface Setting {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  readonly b: Device;
  /** When `b` said how far it is. */
  readonly atMs: number[];
  /** What becomes of that. */
  answer: SyncError | "lost" | undefined;
}

/** `b` has something to acknowledge, and what the relay makes of it is the test's. */
async function setting(answer: Setting["answer"]): Promise<Setting> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await world.until(() => b.inSync);
  await world.run(60_000);
  const at: Setting = { relay, world, a, b, atMs: [], answer };
  relay.meddler = {
    request: (session, { body }) => {
      if (session.device !== b.client.deviceId || body.case !== "ack") return undefined;
      at.atMs.push(world.clockMs);
      return at.answer;
    },
  };
  await a.push("one");
  await world.until(() => b.client.status().readCursor === 1);
  await b.take();
  return at;
}

const appliedOf = ({ relay, b }: Setting): number =>
  relay.group.applied.get(b.client.deviceId) ?? 0;

const waitsOf = (atMs: readonly number[]): number[] =>
  atMs.slice(1).map((ms, i) => ms - (atMs[i] as number));

describe("PROTOCOL 7.1: an acknowledgement", () => {
  test("that is refused is said again, less and less often, whatever more there is to say", async () => {
    const at = await setting(new SyncError(ErrorCode.STORE_UNAVAILABLE));
    const { world, a, b, atMs } = at;
    for (let i = 0; i < 100; i++) {
      await a.push(`more ${i}`);
      await world.until(() => b.client.status().readCursor === i + 2);
      await b.take();
      await world.run(10_000);
    }
    const waits = waitsOf(atMs);
    assert.ok(
      waits.slice(0, 5).every((ms, i) => ms >= 1_000 * 2 ** i),
      waits.join(),
    );
    assert.ok(
      waits.slice(8).every((ms) => ms >= 60_000),
      waits.join(),
    );
    assert.equal(b.client.status().connection.state, "online");
    assert.equal(appliedOf(at), 0);
    at.answer = undefined;
    await world.until(() => appliedOf(at) === 101);
    // It went well: the next one is told as ever.
    await a.push("last");
    await world.until(() => b.client.status().readCursor === 102);
    await b.take();
    await world.until(() => appliedOf(at) === 102, 10_000);
  });

  test("waits as long as the relay advises", async () => {
    const { world, atMs } = await setting(
      new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs: 90_000 }),
    );
    await world.until(() => atMs.length === 5, 3_600_000);
    assert.ok(
      waitsOf(atMs).every((ms) => ms >= 90_000),
      waitsOf(atMs).join(),
    );
  });

  test("that is not answered ends the session, and the next one says it", async () => {
    const at = await setting("lost");
    const { world, b, atMs } = at;
    await world.until(() => b.client.status().connection.state === "waiting", 600_000);
    const { connection } = b.client.status();
    assert.ok(connection.state === "waiting" && connection.error instanceof SyncError);
    assert.equal(connection.error.code, ErrorCode.TIMED_OUT);
    await world.run(3_600_000);
    // A minute is waited for each answer: no session asks twice.
    assert.ok(atMs.length > 1 && waitsOf(atMs).every((ms) => ms >= 60_000), waitsOf(atMs).join());
    at.answer = undefined;
    await world.until(() => appliedOf(at) === 1);
    await world.until(() => b.inSync);
  });
});
