/** A log that changed: what that excuses, for how long, and what a relay cannot gain by saying so. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { excusedMs } from "../../client/log-changes.ts";
import { decodeEnvelopes, encodeEnvelope } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { passOn, witnessBy } from "./support/witness.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  readonly b: Device;
  readonly s: Device;
}

/**
 * `s` wrote an entry that `a` saw and said so, and `b` was away. The relay was then restored from a
 * backup of before, and `a` has pushed again what it lacked of `a`; `s` is away.
 */
async function restored(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  const s = await member(a);
  await a.push("before");
  await world.until(() => b.client.status().readCursor === 1);
  await b.take();
  b.crash();
  const backup = relay.backup();
  await s.push("of s");
  await world.until(() => a.client.status().readCursor === 2);
  await a.push("saw it");
  await world.result(a.client.flush());
  await s.client.close();
  relay.stop();
  relay.restore(backup);
  relay.start();
  await world.until(() => relay.group.blobs.length === 2);
  await b.start();
  await world.until(() => b.client.status().readCursor === 2);
  assert.deepEqual(await b.take(), ["saw it"]);
  return { relay, world, a, b, s };
}

const seqOf = (
  relay: FakeRelay,
  device: Device,
): Map<string, { seq: number; link: Uint8Array }> => {
  const place = relay.group.senders.get(device.client.deviceId);
  return new Map([[device.client.deviceId, place ?? { seq: 0, link: new Uint8Array(32) }]]);
};

describe("PROTOCOL 13.6: what others saw, and the log that changed does not show", () => {
  test("is held until its sender pushes it again: no finding", async () => {
    const { world, b, s } = await restored();
    assert.deepEqual(b.integrity, []);
    await b.restart();
    await s.start();
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["of s"]);
    await world.until(() => s.client.status().readCursor === 3);
    await s.take();
    await world.until(() => b.inSync && s.inSync);
    await world.run(excusedMs + 60_000);
    assert.deepEqual([b.integrity, s.integrity], [[], []]);
  });

  test("must hold once its sender has acknowledged in the new log", async () => {
    const { relay, world, b, s } = await restored();
    passOn(b, s, witnessBy(s, { positions: seqOf(relay, s) }));
    await world.run(1_000);
    assert.deepEqual(
      b.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
      [["DROPPED", s.client.deviceId, 1]],
    );
    assert.equal(b.inSync, false);
    await b.restart();
    await s.start();
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["of s"]);
    await world.until(() => b.inSync);
  });

  test("must hold after seven days of running time, which no further change extends", async () => {
    const { relay, world, b, a } = await restored();
    const spell = excusedMs / 4;
    for (let round = 0; round < 3; round++) {
      await world.run(spell);
      assert.deepEqual(b.integrity, [], `round ${round}`);
      // Not running costs nothing of the time there is.
      b.crash();
      await world.run(excusedMs);
      relay.stop();
      relay.restore(relay.backup());
      relay.start();
      await b.start();
      await world.until(
        () => b.client.status().readCursor === 2 && a.client.status().readCursor === 2,
      );
    }
    await world.run(spell + 60 * 60_000);
    await a.push("something new");
    await world.until(() => b.integrity.length > 0);
    assert.deepEqual(
      b.integrity.map(({ finding, seq }) => [finding, seq]),
      [["DROPPED", 1]],
    );
  });

  test("of a sender that has settled is a finding at once, as in a log that never changed", async () => {
    const { relay, world, a, b, s } = await restored();
    await s.start();
    await world.until(() => b.client.status().readCursor === 3);
    await b.take();
    await s.take();
    await a.take();
    await world.until(() => b.inSync && s.inSync && a.inSync);
    await world.run(60_000);
    b.crash();
    await s.push("left out");
    await world.until(() => a.client.status().readCursor === 4);
    await a.push("saw that too");
    await world.result(a.client.flush());
    relay.group.blobs = relay.group.blobs
      .filter(({ cursor }) => cursor !== 4)
      .map((blob, i) => ({ ...blob, cursor: i + 1 }));
    await b.start();
    await world.until(() => b.integrity.length > 0);
    assert.deepEqual(
      b.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
      [["DROPPED", s.client.deviceId, 2]],
    );
  });
});

/** What the relay says of its log in each `Welcome`. */
function says(relay: FakeRelay, device: Device, logChanged: boolean): void {
  relay.meddler = {
    reply: (session, bytes) => {
      const [envelope] = [...decodeEnvelopes(bytes, 1 << 24)];
      if (session.device !== device.client.deviceId || envelope?.body.case !== "welcome") {
        return bytes;
      }
      const { value } = envelope.body;
      if (value.scope.case === "group") value.scope.value.logChanged = logChanged;
      return encodeEnvelope(0, { case: "welcome", value });
    },
  };
}

async function two(): Promise<{ relay: FakeRelay; world: World; a: Device; b: Device }> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await a.push("one", "two", "three");
  await world.until(() => b.client.status().readCursor === 3);
  await b.take();
  await world.until(() => b.inSync);
  return { relay, world, a, b };
}

describe("PROTOCOL 13.5: a log that is said to be another one", () => {
  test("and shows at the read cursor what was read there: the session ends, and nothing is excused", async () => {
    const { relay, world, a, b } = await two();
    says(relay, b, true);
    world.cutAll();
    await world.until(() => {
      const { connection } = b.client.status();
      return (
        connection.state === "waiting" &&
        connection.error instanceof SyncError &&
        connection.error.code === ErrorCode.ENVELOPE_INVALID
      );
    });
    assert.deepEqual(b.errors, []);
    relay.meddler = {};
    await a.push("four");
    await world.until(() => b.client.status().readCursor === 4, 300_000);
    assert.deepEqual(await b.take(), ["four"]);
    assert.deepEqual(b.integrity, []);
  });

  test("the store's file copied back without a new log id: as after a restore, each entry once", async () => {
    const { relay, world, a, b } = await two();
    const { logId } = relay.group;
    const backup = relay.backup();
    await a.push("four");
    await b.push("five");
    await world.until(() => [a, b].every(({ client }) => client.status().readCursor === 5));
    await b.take();
    relay.stop();
    relay.restore(backup);
    relay.group.logId = logId;
    relay.start();
    await world.until(() => relay.group.blobs.length === 5);
    await world.until(() => b.client.status().readCursor === 5);
    assert.deepEqual(await b.take(), []);
    await world.until(() => b.inSync);
    assert.ok(b.errors.some((error) => (error as SyncError).code === ErrorCode.LOG_CHANGED));
    assert.deepEqual([a.integrity, b.integrity], [[], []]);
  });

  test("PROTOCOL 13.7: what is read once more is read once: a relay that repeats it then replays", async () => {
    const { relay, world, a, b } = await two();
    relay.stop();
    relay.restore(relay.backup());
    const { blobs } = relay.group;
    relay.group.blobs = [...blobs, ...blobs].map((blob, i) => ({ ...blob, cursor: i + 1 }));
    relay.start();
    await world.until(() => b.client.status().readCursor === 6);
    assert.deepEqual(
      b.integrity.map(({ finding, sender, seq }) => [finding, sender, seq]),
      [1, 2, 3].map((seq) => ["REPLAYED", a.client.deviceId, seq]),
    );
    assert.deepEqual(await b.take(), []);
  });
});

describe("PROTOCOL 13.5: a log that ends before what was read, and is said to be the same", () => {
  async function rolledBack() {
    const all = await two();
    const { relay, world, b } = all;
    const { blobs } = relay.group;
    relay.group.blobs = blobs.slice(0, 2);
    says(relay, b, false);
    world.cutAll();
    await world.until(() => b.integrity.length > 0);
    return { ...all, blobs };
  }

  test("was rolled back: named, not in sync, and good again once it is shown as far as it was read", async () => {
    const { relay, world, b, blobs } = await rolledBack();
    assert.deepEqual(
      b.integrity.map(({ finding, cursor }) => [finding, cursor]),
      [["ROLLED_BACK", 3]],
    );
    await b.restart();
    await world.run(600_000);
    const { connection, inSync, findings } = b.client.status();
    assert.ok(connection.state === "waiting" && connection.error instanceof SyncError);
    assert.equal(connection.error.code, ErrorCode.HISTORY_ALTERED);
    assert.deepEqual([inSync, findings], [false, 1]);
    relay.group.blobs = blobs;
    await world.until(() => b.client.status().findings === 0, 300_000);
    await world.until(() => b.inSync);
  });

  test("and is shown again once a snapshot stands in that place: good again, and it goes on", async () => {
    const { relay, world, a, b, blobs } = await rolledBack();
    relay.group.blobs = blobs;
    const { retention } = relay.group;
    // What was read is replaced, headers too: nothing is left at the read cursor to compare.
    Object.defineProperty(retention, "replacedThrough", { get: () => 3 });
    retention.floor = 3;
    relay.meddler = {};
    await world.until(() => b.client.status().findings === 0, 600_000);
    await a.push("later");
    await world.until(() => b.client.status().readCursor === 4, 600_000);
    assert.deepEqual(await b.take(), ["later"]);
    assert.equal(b.inSync, true);
  });

  test("and a person accepts that: the device goes on from what there is, as after a restore", async () => {
    const { relay, world, a, b } = await rolledBack();
    await world.result(b.client.acceptFinding(b.integrity[0]?.id ?? ""));
    await world.until(() => b.client.status().connection.state === "online", 300_000);
    relay.meddler = {};
    await world.until(() => b.client.status().readCursor === relay.group.blobs.length);
    await a.push("later");
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["later"]);
  });
});

test("an entry that was made good late, and waits for the app while the log changes, is handed out", async () => {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  const s = await member(a);
  relay.meddler = {
    blobs: (session, blobs) =>
      session.device !== b.client.deviceId
        ? blobs
        : blobs.map((blob) =>
            blob.cursor === 1
              ? { ...blob, body: blob.body.map((byte, i) => (i === 60 ? byte ^ 1 : byte)) }
              : blob,
          ),
  };
  await a.push("one");
  await world.result(a.client.flush());
  await s.push("two");
  await world.until(() => b.client.status().readCursor === 2 && b.client.status().refused === 1);
  const backup = relay.backup();
  relay.meddler = {};
  relay.stop();
  relay.start();
  await world.until(() => b.client.status().refused === 0);
  relay.stop();
  relay.restore(backup);
  relay.start();
  await world.until(() => b.client.status().readCursor === 2 && b.errors.length > 0);
  assert.equal(b.client.status().appliedCursor, 0);
  assert.deepEqual(await b.take(), ["two", "one"]);
  await world.until(() => b.inSync);
});

test("PROTOCOL 4.8: no device is in sync before it has seen how much of its chain a relay has", async () => {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await a.push("before");
  await world.until(() => b.client.status().readCursor === 1);
  await b.take();
  const { logId } = relay.group;
  const backup = relay.backup();
  // What it pushes is confirmed, and not shown to it yet.
  relay.meddler = {
    reply: (session, envelope) =>
      session.device === b.client.deviceId &&
      decodeEnvelopes(envelope, envelope.byteLength)[0]?.body.case === "deliver"
        ? undefined
        : envelope,
  };
  await b.push("of b");
  await world.result(b.client.flush());
  relay.stop();
  relay.meddler = {};
  // Its file, copied back: the head is where the device has read to.
  relay.restore(backup);
  relay.group.logId = logId;
  // A disk that takes longer than the relay.
  const { store } = b;
  const transaction = store.transaction.bind(store);
  store.transaction = async (run) => {
    const result = await transaction(run);
    await new Promise<void>((resolve) => void world.after(100, resolve));
    return result;
  };
  relay.start();
  let early = 0;
  b.client.on("status", ({ inSync }) => {
    if (inSync && relay.group.blobs.length === 1) early += 1;
  });
  await world.until(() => relay.group.blobs.length === 2);
  assert.equal(early, 0);
});
