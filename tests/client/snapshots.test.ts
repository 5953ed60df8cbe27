/** Snapshots through a relay in memory: made, confirmed, taken over, and forged. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { SnapshotUrgency } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { ListApp as App, type ListApp, listApps } from "./support/list-app.ts";
import { World } from "./support/world.ts";

async function group(count: number): Promise<{ relay: FakeRelay; world: World; apps: ListApp[] }> {
  const world = new World();
  const relay = new FakeRelay(world);
  return { relay, world, apps: await listApps(relay, count) };
}

function texts(prefix: string, count: number): string[] {
  return Array.from({ length: count }, (_, i) => `${prefix} ${i}`);
}

async function agreeOn(world: World, apps: readonly ListApp[], count: number): Promise<void> {
  await world.until(() => apps.every((app) => app.list.length === count && app.device.inSync));
  for (const app of apps) assert.deepEqual(app.list, apps[0]?.list);
}

test("11.37 to 11.39 a snapshot is made, another device confirms it, the log is trimmed, and a late joiner has the state", async () => {
  const { relay, world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  await a.device.push(...texts("a", 40));
  await b.device.push(...texts("b", 20));
  await agreeOn(world, apps, 60);
  const made = await world.result(a.client.makeSnapshot());
  assert.equal(made?.replacesThrough, 60);
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  assert.equal(retention.effective?.author, a.client.deviceId);
  retention.trim(relay.group, true);
  await a.device.push("later");
  await agreeOn(world, apps, 61);
  const c = await new App(relay).start({ name: "late" });
  await c.joins(a);
  await agreeOn(world, [...apps, c], 61);
  assert.equal(c.restored.length, 1);
  assert.deepEqual(c.gaps, []);
  // What comes is an entry again, and positions only rise.
  assert.ok(c.position > (c.restored[0]?.position ?? 0));
  for (const app of [...apps, c]) assert.deepEqual(app.device.integrity, []);
});

test("a device away for the whole time comes back through the snapshot, its unsent queue included", async () => {
  const { relay, world, apps } = await group(3);
  const [a, b, c] = apps as [ListApp, ListApp, ListApp];
  await a.device.push("first");
  await c.device.push("before it left");
  await agreeOn(world, apps, 2);
  await world.result(c.client.close());
  await a.device.push(...texts("a", 30));
  await agreeOn(world, [a, b], 32);
  await world.result(b.client.makeSnapshot());
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  retention.trim(relay.group, true);
  await a.device.push("after");
  await agreeOn(world, [a, b], 33);
  // It wrote while it was away.
  relay.stop();
  await c.start({ appliedPosition: c.position });
  await c.device.push("while away 1", "while away 2");
  relay.start();
  await agreeOn(world, apps, 35);
  assert.equal(c.restored.length, 1);
  assert.deepEqual(c.device.integrity, []);
  assert.deepEqual(c.gaps, []);
  assert.ok(c.list.includes("while away 2"));
});

test("the relay asks, one device makes it, one other confirms it, and nobody makes a second", async () => {
  const { relay, world, apps } = await group(4);
  const [a] = apps as [ListApp];
  await a.device.push(...texts("a", 30));
  await agreeOn(world, apps, 30);
  const { retention } = relay.group;
  for (const urgency of [SnapshotUrgency.LOW, SnapshotUrgency.HIGH]) {
    const before = retention.replacedThrough;
    retention.urgency = urgency;
    const asked = () => apps.reduce((sum, app) => sum + app.asked.length, 0);
    const [askedBefore, confirmedBefore] = [asked(), relay.count("confirmSnapshot")];
    for (const session of relay.sessionsOf(relay.group)) session.tellRetention();
    await world.until(() => retention.replacedThrough > before, 15 * 60_000);
    await world.run(30 * 60_000);
    assert.equal(asked(), askedBefore + 1);
    assert.equal(relay.count("confirmSnapshot"), confirmedBefore + 1);
    await a.device.push(...texts(`after ${urgency}`, 3));
    await agreeOn(world, apps, (urgency + 1) * 3 + 27);
  }
});

test("11.37 an app that has not applied everything is not asked; it is once it has", async () => {
  const { world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  a.paused = true;
  await b.device.push("one", "two");
  await world.until(() => a.client.status().unacknowledged === 2);
  const making = a.client.makeSnapshot();
  await world.run(60_000);
  assert.deepEqual(a.asked, []);
  a.paused = false;
  const made = await world.result(making);
  assert.deepEqual(a.asked, [{ position: 2 }]);
  assert.equal(made?.replacesThrough, 2);
});

test("no entry is handed out while the app gives its state, and what is pushed then comes behind it", async () => {
  const { relay, world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  await b.device.push("one");
  await agreeOn(world, apps, 1);
  let release: () => void = () => undefined;
  const gate = new Promise<void>((resolve) => {
    release = resolve;
  });
  await world.result(a.client.close());
  const other = new App(relay);
  other.device.disk = a.device.disk;
  other.list = a.list;
  await other.start({
    snapshot: async () => {
      await gate;
      return new TextEncoder().encode(JSON.stringify(other.list));
    },
  });
  const making = other.client.makeSnapshot();
  await world.run(5_000);
  await b.device.push("two");
  await world.run(5_000);
  assert.deepEqual(other.list, ["one"]);
  release();
  const made = await world.result(making);
  assert.equal(made?.replacesThrough, 1);
  await agreeOn(world, [other, b], 2);
});

test("a device that has read nothing, or whose app offers nothing, makes no snapshot", async () => {
  const { relay, world, apps } = await group(1);
  const [a] = apps as [ListApp];
  const stop = new AbortController();
  const making = a.client.makeSnapshot({ signal: stop.signal });
  await world.run(60_000);
  stop.abort(new Error("enough"));
  await assert.rejects(world.result(making), /enough/);
  assert.deepEqual(a.asked, []);
  const bare = await new App(relay).start({ snapshot: undefined as never });
  await bare.joins(a);
  await assert.rejects(bare.client.makeSnapshot(), /snapshot/);
});

test("a cut in the middle of making, confirming and taking over costs nothing but time", async () => {
  const { relay, world, apps } = await group(2);
  const [a] = apps as [ListApp];
  await a.device.push(...texts("a", 10));
  await agreeOn(world, apps, 10);
  const list = JSON.stringify(a.list);
  const wide = new TextEncoder().encode(list + " ".repeat(9_000_000));
  a.give = () => wide;
  let requests = 0;
  relay.meddler = {
    request: (session, { body }) => {
      if (body.case !== "putObject" && body.case !== "getObject") return undefined;
      requests += 1;
      if (requests % 4 !== 0) return undefined;
      session.socket.close(1006);
      return "lost";
    },
  };
  const made = await world.result(a.client.makeSnapshot());
  assert.equal(made?.parts, 3);
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined, 3_600_000);
  retention.trim(relay.group, true);
  const c = await new App(relay).start({ name: "late" });
  await c.joins(a);
  await agreeOn(world, [...apps, c], 10);
  assert.equal(c.restored.length, 1);
  assert.deepEqual(c.device.integrity, []);
  const sent = retention.stored.map(({ objectId, offset }) => `${objectId} ${offset}`);
  assert.equal(new Set(sent).size, sent.length);
});

test("11.40 a sender forgets what an effective snapshot holds, and a relay that was restored gets the rest", async () => {
  const { relay, world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  const own = (app: ListApp) => app.device.disk.table("own").range(0).length;
  await a.device.push(...texts("a", 5));
  await b.device.push("b");
  await agreeOn(world, apps, 6);
  const early = relay.backup();
  await a.device.push("six");
  await agreeOn(world, apps, 7);
  assert.equal(own(a), 6);
  await world.result(b.client.makeSnapshot());
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined && own(a) === 0 && own(b) === 0);
  await a.device.push("seven", "eight");
  await agreeOn(world, apps, 9);
  assert.equal(own(a), 2);
  const late = relay.backup();
  await a.device.push("nine");
  await agreeOn(world, apps, 10);
  // Restored to behind the snapshot: what is missing is pushed again, and nothing comes twice.
  relay.stop();
  relay.restore(late);
  relay.start();
  await agreeOn(world, apps, 10);
  await world.until(() => relay.group.blobs.length === 10);
  // Restored to before it: what only the snapshot held is no longer pushed again, but the apps have it.
  relay.stop();
  relay.restore(early);
  relay.start();
  await world.until(() =>
    apps.every(({ client }) => client.status().connection.state === "online"),
  );
  await world.until(() => a.client.status().queued === 0);
  await world.until(() => relay.group.senders.get(a.client.deviceId)?.seq === 9);
  assert.deepEqual(
    relay.group.blobs.map(({ seq }) => seq).filter((seq) => seq > 5),
    [7, 8, 9],
  );
  await b.device.push("ten");
  await world.until(() => apps.every(({ list }) => list.length === 11));
  // One device makes a snapshot, and whoever joins later has it all.
  await world.result(a.client.makeSnapshot());
  await world.until(() => relay.group.retention.effective !== undefined);
  const c = await new App(relay).start({ name: "late" });
  await c.joins(b);
  await world.until(() => c.list.length === 11);
  assert.deepEqual(c.list, a.list);
});

test("13.8 13.16 what only a snapshot held that a restored relay lacks comes with another one, and who joins meanwhile waits for it", async () => {
  const { relay, world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  await b.device.push("b");
  await agreeOn(world, apps, 1);
  const early = relay.backup();
  await a.device.push("one", "two");
  await agreeOn(world, apps, 3);
  await world.result(b.client.makeSnapshot());
  const own = (app: ListApp) => app.device.disk.table("own").range(0).length;
  await world.until(() => relay.group.retention.effective !== undefined && own(a) === 0);
  await a.device.push("three");
  await agreeOn(world, apps, 4);
  relay.stop();
  relay.restore(early);
  relay.start();
  await world.until(() => relay.group.senders.get(a.client.deviceId)?.seq === 3);
  await world.until(() => a.client.status().queued === 0 && a.client.status().unacknowledged === 0);
  assert.equal(a.device.inSync, false, "its first two are in no log and in no snapshot");
  const c = await new App(relay).start({ name: "late" });
  await c.joins(b);
  await world.until(() => c.client.status().readCursor === relay.group.blobs.length);
  assert.equal(relay.group.retention.effective, undefined);
  assert.deepEqual(c.list, ["b"], "nothing is applied behind what is missing");
  assert.equal(c.device.inSync, false);
  // Nobody asks for it: the device that lacks something makes one.
  await world.until(() => relay.group.retention.effective !== undefined);
  await agreeOn(world, [a, b, c], 4);
  for (const app of [a, b, c]) {
    assert.deepEqual(app.device.integrity, []);
    assert.deepEqual(app.gaps, []);
  }
});

test("a full group can be made smaller: what cannot be pushed is not lost, and comes once there is room", async () => {
  const { relay, world, apps } = await group(2);
  const [a, b] = apps as [ListApp, ListApp];
  await a.device.push(...texts("a", 20));
  await agreeOn(world, apps, 20);
  relay.limits.groupBytesMax = 1;
  await a.device.push("held 1", "held 2");
  await world.until(() => a.client.status().pushHeld !== undefined);
  const made = await world.result(a.client.makeSnapshot());
  assert.equal(made?.replacesThrough, 20);
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  retention.trim(relay.group);
  relay.limits.groupBytesMax = 1_000_000;
  await agreeOn(world, apps, 22);
  const c = await new App(relay).start({ name: "late" });
  await c.joins(b);
  await agreeOn(world, [...apps, c], 22);
});

test("11.40 what a device refused is healed by a confirmed snapshot of the others, and nothing is applied twice", async () => {
  const { relay, world, apps } = await group(3);
  const [a, b, c] = apps as [ListApp, ListApp, ListApp];
  relay.meddler = {
    // One device alone is shown an entry that was altered.
    blobs: (session, blobs) =>
      session.device !== c.client.deviceId
        ? blobs
        : blobs.map((blob) =>
            blob.cursor === 3 && blob.body.byteLength > 0
              ? {
                  ...blob,
                  body: Uint8Array.from(blob.body, (byte, i) => (i === 60 ? byte ^ 1 : byte)),
                }
              : blob,
          ),
  };
  await a.device.push(...texts("a", 6));
  await b.device.push("b");
  await world.until(() => [a, b].every(({ list, device }) => list.length === 7 && device.inSync));
  await world.until(() => c.client.status().refused > 0);
  await assert.rejects(world.result(c.client.makeSnapshot()), { code: ErrorCode.HISTORY_ALTERED });
  await world.result(a.client.makeSnapshot());
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  // It was not the device that holds refused entries that confirmed it.
  assert.equal(retention.effective?.confirmedBy?.join(), idBytes(b).join());
  await world.until(() => c.list.length === 7 && c.client.status().refused === 0);
  assert.deepEqual(c.list, a.list);
  await b.device.push("later");
  await world.until(() => apps.every(({ list }) => list.length === 8));
  assert.deepEqual(c.list, a.list);
});

function idBytes(app: ListApp): Uint8Array {
  return Uint8Array.from(Buffer.from(app.client.deviceId, "base64url"));
}

test("looking back meets what is left: below the floor nothing, and what was trimmed without its body", async () => {
  const { relay, world, apps } = await group(2);
  const [a] = apps as [ListApp];
  await a.device.push(...texts("a", 12));
  await agreeOn(world, apps, 12);
  await world.result(a.client.makeSnapshot());
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  retention.trim(relay.group);
  await a.device.push("after");
  await agreeOn(world, apps, 13);
  const look = async (): Promise<number[]> => {
    const cursors: number[] = [];
    for await (const entry of a.client.history({ after: 0 })) cursors.push(entry.cursor);
    return cursors;
  };
  assert.deepEqual(await world.result(look()), [13]);
  retention.floor = 7;
  assert.deepEqual(await world.result(look()), [13]);
  assert.equal(a.client.status().connection.state, "online");
});
