/** The Yjs provider, on whole clients and a relay in memory. */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as Y from "yjs";
import { YjsProvider } from "../../client/yjs/index.ts";
import { itemsOf, Joiner, updateType } from "../../client/yjs/parts.ts";
import { utf8 } from "../../wire/bytes.ts";
import { pair } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";
import { CountingStore, converge, DocDevice, docDevices } from "./support.ts";

test("two devices change the same document, and both come to the same", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  a.write("from a");
  b.map.set("colour", "blue");
  await converge(world, devices);
  assert.deepEqual(b.texts, ["from a"]);
  assert.equal(a.map.get("colour"), "blue");
  a.doc.getArray("texts").delete(0);
  await converge(world, devices);
  assert.deepEqual(b.texts, []);
  assert.deepEqual([...a.problems, ...b.problems], []);
});

test("what both change while both are offline converges, and nothing of either is lost", async () => {
  const { world, relay, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  relay.stop();
  for (const day of [1, 2, 3, 4, 5, 6, 7]) {
    a.write(`a, day ${day}`);
    b.write(`b, day ${day}`);
    a.map.set("last", `a ${day}`);
    b.map.set("last", `b ${day}`);
    await world.run(60_000);
  }
  relay.start();
  await converge(world, devices);
  assert.equal(a.texts.length, 14);
  assert.deepEqual(
    a.texts.filter((text) => text.startsWith("b")),
    [1, 2, 3, 4, 5, 6, 7].map((day) => `b, day ${day}`),
  );
});

test("changes before there is a group go to it once there is", async () => {
  const world = new World();
  const relay = new FakeRelay(world);
  const [a, b] = [new DocDevice(relay), new DocDevice(relay)];
  await a.start();
  await b.start();
  a.write("written alone");
  b.write("also alone");
  await world.result(a.provider.settled());
  await a.restart();
  assert.deepEqual(a.texts, ["written alone"]);
  assert.equal(a.provider.unqueued, 1);
  await a.founds();
  await pair(a.device, b.device);
  await converge(world, [a, b]);
  assert.deepEqual(a.texts.toSorted(), ["also alone", "written alone"]);
});

test("what is changed in one turn is one entry, and what follows soon goes together", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  for (let i = 0; i < 100; i++) a.write(`at once ${i}`);
  await converge(world, devices);
  assert.equal(a.client.status().durableSeq, 1);
  for (let letter = 0; letter < 60; letter++) {
    a.write(`typed ${letter}`);
    await world.run(100);
  }
  await converge(world, devices);
  // Six seconds of typing, at most four entries each.
  const { durableSeq } = a.client.status();
  assert.ok(durableSeq > 5 && durableSeq <= 27, `${durableSeq} entries`);
  assert.equal(b.texts.length, 160);
  // The first of a run waits for nothing.
  await world.run(10_000);
  a.write("a single one");
  await world.settle();
  assert.equal(a.client.status().queued, 1);
});

test("settled waits for no gathering", async () => {
  const { world, devices } = await docDevices(1, { gatherMs: 3_600_000 });
  const [a] = devices as [DocDevice];
  a.write("goes at once");
  await world.settle();
  a.write("would be gathered");
  await world.run(60_000);
  assert.equal(a.provider.unqueued, 1);
  const startedMs = world.clockMs;
  await world.result(a.provider.settled());
  assert.equal(a.provider.unqueued, 0);
  assert.ok(world.clockMs - startedMs < 1_000);
});

test("after a crash the document is there, and entries go on behind its position", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  b.write("before");
  await converge(world, devices);
  a.write("stored and queued");
  await world.settle();
  await a.restart();
  assert.deepEqual(a.texts, ["before", "stored and queued"]);
  b.write("meanwhile");
  await converge(world, devices);
  assert.equal(a.texts.length, 3);
  const adds = a.store.added.filter(({ pending }) => pending !== true && pending === undefined);
  const positions = adds.map(({ position }) => position ?? 0);
  assert.deepEqual(
    positions,
    positions.toSorted((x, y) => x - y),
  );
});

test("a crash between storing and queuing: the change is queued by the next process", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  // It is stored, and the client never gets it.
  const stored = new Y.Doc();
  stored.getArray("texts").push(["stored only"]);
  await a.store.add({ update: Y.encodeStateAsUpdate(stored), pending: true });
  await a.restart();
  assert.deepEqual(a.texts, ["stored only"]);
  await converge(world, devices);
  assert.deepEqual(b.texts, ["stored only"]);
  assert.ok((await a.store.load()).updates.every(({ pending }) => !pending));
});

test("a crash between queuing and saying so: it is queued twice, and there once", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  a.write("twice");
  await converge(world, devices);
  // As if the process had ended before the store was told.
  for (const { update } of (await a.store.load()).updates) {
    await a.store.add({ update, pending: true });
  }
  await a.restart();
  await converge(world, devices);
  assert.ok(a.client.status().durableSeq >= 2);
  assert.deepEqual(b.texts, ["twice"]);
  assert.deepEqual(a.texts, ["twice"]);
});

test("entries that come twice change nothing, and are not stored a second time", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  const updates: Uint8Array[] = [];
  b.doc.on("update", (update: Uint8Array) => updates.push(update));
  b.write("one");
  b.write("two");
  await converge(world, devices);
  const count = (await a.store.load()).updates.length;
  const position = await a.store.position();
  await world.result(b.client.pushMany(updates.map((data) => ({ data, contentType: updateType }))));
  await converge(world, devices);
  assert.deepEqual(a.texts, ["one", "two"]);
  assert.equal((await a.store.load()).updates.length, count);
  assert.equal(await a.store.position(), position + 2);
});

test("a late device starts from the snapshot of the others, and a reload keeps it", async () => {
  const { world, relay, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  for (let i = 0; i < 30; i++) {
    a.write(`text ${i}`);
    await world.run(1_000);
  }
  await converge(world, devices);
  assert.ok((await world.result(b.client.makeSnapshot())) !== undefined);
  const { retention } = relay.group;
  await world.until(() => retention.effective !== undefined);
  retention.trim(relay.group, true);
  a.write("after it");
  const late = await new DocDevice(relay).start();
  late.write("written before it joined");
  await pair(a.device, late.device);
  await converge(world, [a, b, late]);
  assert.equal(late.texts.length, 32);
  await late.restart();
  assert.equal(late.texts.length, 32);
  await converge(world, [a, b, late]);
  assert.deepEqual(late.problems, []);
});

test("an entry that is no document is passed over and told; others' types go to the app", async () => {
  const world = new World();
  const relay = new FakeRelay(world);
  const entries: string[] = [];
  const a = await (await new DocDevice(relay).start()).founds();
  const b = await new DocDevice(relay).start({
    onEntry: ({ contentType }) => void entries.push(contentType),
  });
  await pair(a.device, b.device);
  await world.result(
    a.client.pushMany([
      { data: utf8("no update at all"), contentType: updateType },
      { data: utf8("an app's own"), contentType: "text/plain" },
    ]),
  );
  a.write("goes on");
  await converge(world, [a, b]);
  assert.deepEqual(entries, ["text/plain"]);
  assert.deepEqual(b.texts, ["goes on"]);
  assert.deepEqual(
    b.problems.map(({ what, entry }) => [what, entry?.seq]),
    [["entry", 1]],
  );
});

test("a change larger than an entry goes in parts, which a crash in the middle does not tear", async () => {
  const { world, relay, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  const long = Array.from({ length: 60_000 }, (_, i) => `line ${i} of many`).join("\n");
  a.map.set("long", long);
  await world.settle();
  assert.ok(a.client.status().queued > 3);
  let handed = 0;
  relay.meddler = {
    request: (session, { body }) => {
      if (body.case !== "push" || handed > 2) return undefined;
      handed += 1;
      session.socket.close(1006);
      return handed > 1 ? "lost" : undefined;
    },
  };
  await world.run(2_000);
  await b.restart();
  await converge(world, devices);
  assert.equal(b.map.get("long"), long);
  assert.deepEqual(b.problems, []);
});

test("parts that never become whole hold back nothing for ever", () => {
  const joiner = new Joiner();
  const update = new Uint8Array(600_000).fill(7);
  const entries = itemsOf(update).map(({ data, contentType = "" }, at) => ({
    data,
    contentType,
    sender: "a",
    position: 10 + at,
  }));
  const [first, second, third] = entries as [(typeof entries)[0], ...typeof entries];
  assert.equal(joiner.take(first), undefined);
  assert.equal(joiner.heldFrom, 10);
  assert.equal(joiner.take({ ...first, sender: "b", position: 11 }), undefined);
  assert.equal(joiner.take(second as never), undefined);
  assert.deepEqual(joiner.take(third as never), update);
  // The other sender begins anew; then it is removed.
  assert.equal(joiner.heldFrom, 11);
  joiner.take({ ...first, sender: "b", position: 20 });
  assert.equal(joiner.heldFrom, 20);
  joiner.keepOnly(new Set(["a"]));
  assert.equal(joiner.heldFrom, Number.POSITIVE_INFINITY);
  // A part without those before it is nothing.
  assert.equal(joiner.take(second as never), undefined);
  assert.equal(joiner.heldFrom, Number.POSITIVE_INFINITY);
});

test("a store that is full: told once, kept in memory, and stored once there is room", async () => {
  const { world, devices } = await docDevices(2);
  const [a, b] = devices as [DocDevice, DocDevice];
  b.store.failsWith = new Error("no space");
  b.write("b's own");
  a.write("from a");
  await world.run(60_000);
  assert.deepEqual(b.texts.toSorted(), ["b's own", "from a"]);
  assert.equal(await b.store.position(), 0);
  assert.equal(b.client.status().unacknowledged, 1);
  assert.deepEqual([...new Set(b.problems.map(({ what }) => what))], ["store"]);
  b.store.failsWith = undefined;
  b.provider.retry();
  await converge(world, devices);
  assert.equal(a.texts.length, 2);
  await b.restart();
  assert.equal(b.texts.length, 2);
});

test("many updates are put together in the store, and are all there", async () => {
  const { world, devices } = await docDevices(2, { gatherMs: 0 });
  const [a, b] = devices as [DocDevice, DocDevice];
  for (let i = 0; i < 300; i++) {
    a.write(`${i}`);
    await world.settle();
  }
  await converge(world, devices);
  for (const device of devices) {
    const { length } = (await device.store.load()).updates;
    assert.ok(length < 100, `${length} updates`);
  }
  await b.restart();
  assert.deepEqual(b.texts, a.texts);
  assert.equal(b.texts.length, 300);
});

test("a removed device's changes stay its own, and those of the others go on", async () => {
  const { world, devices } = await docDevices(3);
  const [a, b, c] = devices as [DocDevice, DocDevice, DocDevice];
  a.write("all three");
  await converge(world, devices);
  await world.result(a.client.remove([c.client.deviceId]));
  await world.until(() => c.client.status().membership === "removed");
  c.write("nobody hears it");
  b.write("two");
  await converge(world, [a, b]);
  await world.run(60_000);
  assert.deepEqual(a.texts, ["all three", "two"]);
  assert.deepEqual(c.texts, ["all three", "nobody hears it"]);
  assert.equal(c.provider.unqueued, 1);
});

test("two documents on one store, as in two tabs: each sees what the other changes", async () => {
  const store = new CountingStore();
  const listeners = new Set<(change: object) => void>();
  const tab = (mine: object) => {
    const each = Object.create(store) as CountingStore;
    return Object.assign(each, {
      load: () => store.load(),
      position: () => store.position(),
      queued: (keys: number[]) => store.queued(keys),
      replace: (keys: number[], update: Uint8Array) => store.replace(keys, update),
      add: async (change: object) => {
        const key = await store.add(change);
        for (const listener of listeners) if (listener !== mine) listener(change);
        return key;
      },
      subscribe: (listener: (change: object) => void) => {
        Object.assign(mine, { listener });
        listeners.add(listener);
        return () => void listeners.delete(listener);
      },
    });
  };
  const [one, two] = [new Y.Doc(), new Y.Doc()];
  const first = await YjsProvider.open({ doc: one, store: tab({}) });
  const second = await YjsProvider.open({ doc: two, store: tab({}) });
  one.getArray("texts").push(["from the first"]);
  await first.settled();
  two.getArray("texts").push(["from the second"]);
  await second.settled();
  assert.deepEqual(one.getArray("texts").toArray(), ["from the first", "from the second"]);
  assert.deepEqual(two.getArray("texts").toArray(), ["from the first", "from the second"]);
  assert.equal(store.added.length, 2);
  // Another tab applied entries that this one was not told of: a snapshot here has them all the same.
  const other = new Y.Doc();
  other.getArray("texts").push(["from elsewhere"]);
  await store.add({ update: Y.encodeStateAsUpdate(other), position: 5 });
  const state = await first.clientOptions.snapshot({ position: 5 });
  const read = new Y.Doc();
  Y.applyUpdate(read, state);
  assert.equal(read.getArray("texts").length, 3);
});
