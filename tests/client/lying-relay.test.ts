/** What a relay may say, and what a device makes of it. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { encodeDeliver } from "../../wire/hot-encoders.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { type FakeBlob, FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  readonly b: Device;
}

/** Two devices, of which the second has read nothing and is away. */
async function oneAway(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const a = await founder(relay);
  const b = await member(a);
  b.crash();
  return { relay, world: relay.world, a, b };
}

/** What a device is shown of the log instead of it. */
function show(relay: FakeRelay, device: Device, change: (blob: FakeBlob) => FakeBlob): void {
  relay.meddler = {
    blobs: (session, blobs) =>
      session.device === device.client.deviceId ? blobs.map(change) : blobs,
  };
}

const without = (blob: FakeBlob, bodyState: BodyState): FakeBlob => ({
  ...blob,
  body: new Uint8Array(0),
  bodyState,
});

describe("a body that is gone", () => {
  for (const state of [
    BodyState.UNSPECIFIED,
    BodyState.EXPIRED,
    BodyState.DELETED,
    BodyState.TRIMMED,
  ]) {
    test(`the relay's word alone (${BodyState[state]}) explains nothing: withheld, and not in sync`, async () => {
      const { relay, world, a, b } = await oneAway();
      await a.push("one", "two", "three");
      await world.result(a.client.flush());
      show(relay, b, (blob) => (blob.cursor === 2 ? without(blob, state) : blob));
      await b.start();
      assert.deepEqual(await b.take(), ["one", "three"]);
      assert.deepEqual(
        b.integrity.map(({ finding, cursor }) => [finding, cursor]),
        [["WITHHELD", 2]],
      );
      const { appliedCursor, refused, inSync } = b.client.status();
      assert.deepEqual(
        { appliedCursor, refused, inSync },
        { appliedCursor: 1, refused: 1, inSync: false },
      );
    });
  }

  test("a delete that somebody signed explains it, and so does a lifetime that its sender signed", async () => {
    const { relay, world, a, b } = await oneAway();
    const { blobId } = await a.client.push(utf8("deleted"));
    await a.client.push(utf8("expired"), { ttlS: 1 });
    await a.client.delete([blobId]);
    await world.result(a.client.flush());
    show(relay, b, (blob) => {
      if (blob.cursor === 1) return without(blob, BodyState.DELETED);
      return blob.cursor === 2 ? without(blob, BodyState.EXPIRED) : blob;
    });
    await b.start();
    assert.deepEqual(await b.take(), [""]);
    await world.until(() => b.inSync);
    assert.deepEqual(b.integrity, []);
  });
});

describe("PROTOCOL 13.12: a delete with force", () => {
  for (const by of ["its sender", "another member"] as const) {
    test(`by ${by} ${by === "its sender" ? "explains" : "does not explain"} a body that is missing`, async () => {
      const { relay, world, a, b } = await oneAway();
      const c = await member(a);
      const { blobId } = await a.client.push(utf8("deleted"));
      await world.result(a.client.flush());
      const deleting = by === "its sender" ? a : c;
      await deleting.client.delete([blobId], { force: true });
      await world.result(deleting.client.flush());
      show(relay, b, (blob) => (blob.cursor === 1 ? without(blob, BodyState.DELETED) : blob));
      await b.start();
      assert.deepEqual(await b.take(), [""]);
      await world.run(10_000);
      const found = b.integrity.map(({ finding, sender, cursor }) => [finding, sender, cursor]);
      assert.deepEqual(found, by === "its sender" ? [] : [["WITHHELD", a.client.deviceId, 1]]);
      assert.equal(b.inSync, by === "its sender");
    });
  }
});

describe("devices that the group never had", () => {
  test("their entries are kept as evidence up to a bound; beyond it the session ends, and says why", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.push(...Array.from({ length: 2_500 }, (_, i) => `entry ${i}`));
    await world.result(a.client.flush());
    show(relay, b, (blob) => ({ ...blob, sender: world.random(32) }));
    await b.start();
    await world.until(() => b.integrity.length > 0);
    await world.run(10_000);
    const { connection, readCursor, refused, inSync } = b.client.status();
    assert.equal(connection.state, "waiting");
    assert.ok(refused <= 1_024, `${refused} kept`);
    assert.ok(readCursor <= 1_024);
    assert.equal(inSync, false);
    const last = b.integrity.at(-1);
    assert.deepEqual([last?.finding, last?.error.code], ["STRANGER", ErrorCode.ENVELOPE_INVALID]);
  });
});

describe("what is acknowledged", () => {
  test("stays below a refused entry, also where the process dies as that is written", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.push("one", "two");
    await world.result(a.client.flush());
    const flipped = (bytes: Uint8Array): Uint8Array =>
      bytes.map((byte, i) => (i === 40 ? byte ^ 1 : byte));
    show(relay, b, (blob) => (blob.cursor === 1 ? { ...blob, body: flipped(blob.body) } : blob));
    await b.start({
      hooks: {
        afterCommit: () => {
          if (b.disk.table("refused").range(0).length > 0) b.crash();
        },
      },
    });
    await world.run(10_000);
    const acked: number[] = [];
    relay.meddler = {
      ...relay.meddler,
      request: (session, { body }) => {
        if (body.case === "ack" && session.device === b.client.deviceId) {
          acked.push(Number(body.value.applied));
        }
        return undefined;
      },
    };
    relay.stop();
    await b.start();
    assert.equal(b.client.status().refused, 2);
    assert.equal(b.client.status().appliedCursor, 0);
    relay.start();
    await world.run(30_000);
    assert.ok(acked.length > 0);
    assert.deepEqual(new Set(acked), new Set([0]));
  });

  test("is what the app says, also where the device's state is an older copy", async () => {
    const { world, a, b } = await oneAway();
    const older = b.disk.copy();
    await a.push("one", "two", "three");
    await world.result(a.client.flush());
    await b.start();
    assert.deepEqual(await b.take(), ["one", "two", "three"]);
    b.crash();
    b.disk = older;
    await b.start({ appliedPosition: 2 });
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["three"]);
    await world.until(() => b.inSync);
    assert.equal(b.client.status().appliedCursor, 3);
  });
});

describe("presence", () => {
  test("of devices that the group does not have is let go; a newcomer's is shown once it is one", async () => {
    const { relay, world, a, b } = await oneAway();
    await b.start();
    await world.until(() => b.client.status().connection.state === "online");
    const seen = new Set<string>();
    b.client.on("presence", ({ deviceId }) => seen.add(deviceId));
    for (const session of relay.sessions) {
      if (session.device !== b.client.deviceId) continue;
      for (let i = 0; i < 1_000; i++) {
        session.tell({
          case: "presence",
          value: { deviceId: world.random(32), state: PresenceState.ONLINE, lastSeenMs: 0n },
        });
      }
    }
    await world.run(1_000);
    assert.deepEqual([...seen], []);
    world.cutAll();
    await world.run(1_000);
    await world.until(() =>
      [a, b].every(({ client }) => client.status().connection.state === "online"),
    );
    const c = await member(a);
    await world.until(() => seen.has(c.client.deviceId));
  });
});

describe("what is sent unasked", () => {
  test("PROTOCOL 6.5: pages beyond the window end the session", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.push(...Array.from({ length: 8_000 }, (_, i) => `entry ${i}`));
    await world.result(a.client.flush());
    relay.meddler = {
      request: (_, { body }) => {
        // As if a window without an end had been asked for.
        if (body.case === "pull") body.value.windowBytes = 2 ** 31 - 1;
        return undefined;
      },
    };
    await b.start({ entriesBuffered: 100 });
    await world.until(() => b.client.status().connection.state === "waiting");
    const { connection, readCursor } = b.client.status();
    assert.ok(connection.state === "waiting" && connection.error instanceof SyncError);
    assert.equal(connection.error.code, ErrorCode.ENVELOPE_INVALID);
    assert.ok(readCursor < 8_000);
  });
});

describe("a finding that nothing has made good", () => {
  test("an entry that another device saw, and the relay leaves out: not in sync, also after a restart", async () => {
    const { relay, world, a, b } = await oneAway();
    const c = await member(a);
    await b.start();
    await a.push("before");
    await world.until(() => [a, b, c].every(({ client }) => client.status().readCursor === 1));
    // Everybody has acknowledged since it joined: nothing is excused as in a first log (PROTOCOL 13.6).
    for (const device of [a, b, c]) await device.take();
    await world.run(60_000);
    b.crash();
    await a.push("unseen");
    await world.until(() => c.client.status().readCursor === 2);
    await c.push("seen");
    await world.result(c.client.flush());
    const { blobs } = relay.group;
    // As if it had never been.
    relay.group.blobs = blobs
      .filter((_, i) => i !== 1)
      .map((blob, i) => ({ ...blob, cursor: i + 1 }));
    await b.start();
    assert.deepEqual(await b.take(), ["seen"]);
    await world.run(10_000);
    assert.deepEqual(
      b.integrity.map(({ finding, sender }) => [finding, sender]),
      [["DROPPED", a.client.deviceId]],
    );
    assert.equal(b.inSync, false);
    assert.equal(b.client.status().findings, 1);
    await b.restart();
    await world.run(10_000);
    assert.equal(b.client.status().connection.state, "online");
    assert.deepEqual([b.client.status().findings, b.inSync], [1, false]);
  });

  test("a body that is withheld stays a finding where the relay then says that it was restored", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.push("one", "two");
    await world.result(a.client.flush());
    show(relay, b, (blob) => (blob.cursor === 1 ? without(blob, BodyState.TRIMMED) : blob));
    await b.start();
    assert.deepEqual(await b.take(), ["two"]);
    relay.stop();
    relay.restore(relay.backup());
    relay.start();
    await world.until(() => b.errors.length > 0 && b.client.status().readCursor === 2);
    await b.restart();
    await world.until(() => b.client.status().readCursor === 2);
    await world.run(10_000);
    assert.deepEqual([b.client.status().findings, b.inSync], [1, false]);
  });
});

describe("an entry with a lifetime that its sender signed", () => {
  test("needs no other proof where its body is gone, although it was refused as altered before", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.client.push(utf8("short"), { ttlS: 1 });
    await a.push("long");
    await world.result(a.client.flush());
    show(relay, b, (blob) =>
      blob.cursor === 1 ? { ...blob, body: blob.body.map((byte) => byte ^ 1) } : blob,
    );
    await b.start();
    await world.until(() => b.integrity.length > 0);
    assert.ok(b.client.status().refused > 0);
    show(relay, b, (blob) => (blob.cursor === 1 ? without(blob, BodyState.EXPIRED) : blob));
    world.cutAll();
    await world.until(() => b.client.status().refused === 0);
    assert.deepEqual(await b.take(), ["long"]);
    await world.until(() => b.inSync);
    assert.equal(b.client.status().appliedCursor, 2);
  });

  for (const state of [BodyState.UNSPECIFIED, BodyState.EXPIRED, BodyState.DELETED]) {
    test(`PROTOCOL 13.12: may come without its body at any time, whatever the relay says of it (${BodyState[state]})`, async () => {
      const { relay, world, a, b } = await oneAway();
      await a.client.push(utf8("short"), { ttlS: 1_000_000 });
      await a.push("long");
      await world.result(a.client.flush());
      show(relay, b, (blob) => (blob.cursor === 1 ? without(blob, state) : blob));
      await b.start();
      assert.deepEqual(await b.take(), ["long"]);
      await world.until(() => b.inSync);
      assert.deepEqual(b.integrity, []);
    });
  }
});

describe("what the relay says of the head", () => {
  test("is there when it is asked for, or was made up: the session ends, and the next goes on", async () => {
    const { relay, world, a, b } = await oneAway();
    await a.push("one");
    await b.start();
    assert.deepEqual(await b.take(), ["one"]);
    await world.until(() => b.inSync);
    for (const session of relay.sessions) {
      if (session.device !== b.client.deviceId) continue;
      session.tell({ case: "notify", value: { head: 99n, epoch: 1n } });
    }
    await world.until(() => b.client.status().connection.state === "waiting");
    await world.until(() => b.inSync);
    await a.push("two");
    await world.until(() => b.client.status().readCursor === 2);
    assert.deepEqual(await b.take(), ["two"]);
  });

  test("a delivery of more own entries than one holds is not looked up", async () => {
    const { relay, world, a } = await oneAway();
    await a.push("one");
    await world.until(() => a.client.status().readCursor === 1);
    const own = Array.from({ length: 2_001 }, (_, i) => ({
      cursor: i + 2,
      seq: i + 2,
      link: new Uint8Array(32),
    }));
    for (const session of relay.sessions) session.sendRaw(encodeDeliver(1, 2_002, [], own));
    await world.until(() => a.client.status().connection.state === "waiting");
    const { connection } = a.client.status();
    assert.ok(connection.state === "waiting" && connection.error instanceof SyncError);
    assert.equal(connection.error.code, ErrorCode.ENVELOPE_INVALID);
    await world.until(() => a.client.status().connection.state === "online");
  });
});
