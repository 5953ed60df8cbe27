/** Each lie, told by a real relay with a liar inside to a real device. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { parseId } from "../../wire/ids.ts";
import { type Device, founder, member } from "../client/support/devices.ts";
import { World } from "../client/support/world.ts";
import { healedBy, type LieCase, lies } from "./lies.ts";
import { LyingRelay } from "./lying-relay.ts";

interface Setting {
  readonly world: World;
  readonly relay: LyingRelay;
  readonly a: Device;
  readonly b: Device;
  readonly c: Device;
}

/** `a` and `c` have written; `b` was away. */
async function written(): Promise<Setting> {
  const world = new World();
  const relay = new LyingRelay(world);
  const a = await founder(relay.asKnown);
  const b = await member(a);
  const c = await member(a);
  // Everybody has acknowledged in this log: nothing is excused as of one that is new (PROTOCOL 13.6).
  await a.push("a0");
  await c.push("c0");
  await world.until(() => [a, b, c].every(({ client }) => client.status().readCursor === 2));
  for (const device of [a, b, c]) await device.take();
  await world.until(() => [a, b, c].every(({ inSync }) => inSync));
  await world.run(60_000);
  b.crash();
  await a.push("a1", "a2", "a3");
  await world.until(() => c.client.status().readCursor === 5);
  await c.push("c1");
  await world.until(() => a.client.status().readCursor === 6);
  return { world, relay, a, b, c };
}

/** What a device was told is wrong: findings by kind, and errors by code. */
function told({ integrity, errors, client }: Device): string[] {
  const { connection } = client.status();
  return [
    ...integrity.map(({ finding }) => finding),
    ...[...errors, ...("error" in connection ? [connection.error] : [])].map((error) =>
      error instanceof SyncError ? (ErrorCode[error.code] ?? "?") : error.name,
    ),
  ];
}

/** Takes, and acknowledges, what is there without waiting for a head that the relay may never reach. */
function taking(device: Device): { texts: string[] } {
  const texts: string[] = [];
  const run = async (): Promise<void> => {
    for await (const entry of device.client.entries()) {
      texts.push(Buffer.from(entry.data).toString());
      await entry.ack();
    }
  };
  run().catch(() => undefined);
  return { texts };
}

async function holds(lie: LieCase): Promise<void> {
  const { world, relay, a, b, c } = await written();
  if (lie.readBefore === true) {
    await b.start();
    await b.take();
    await world.until(() => b.inSync);
    b.crash();
  }
  const id = b.client.deviceId;
  relay.lies.set(
    id,
    lie.lie({
      random: (length) => world.random(length),
      other: parseId(c.client.deviceId, 32) as Uint8Array,
    }),
  );
  await b.start();
  const first = taking(b);
  const heard = new Set<string>();
  await world
    .until(() => {
      for (const each of told(b)) heard.add(each);
      return heard.has(lie.event);
    }, 30_000)
    .catch(() => undefined);
  await world.run(2_000);
  assert.ok(
    heard.has(lie.event),
    `${lie.event} was not heard, but ${[...heard, ...told(b)].join()}`,
  );
  assert.deepEqual(first.texts, lie.applied);
  assert.equal(b.inSync, lie.byItself === true);
  // The truth again.
  relay.lies.delete(id);
  world.cutAll();
  await world.run(60_000);
  await a.push("later");
  await world.run(60_000);
  const rest = first.texts.slice(lie.applied.length).filter((text) => text !== "later");
  if (lie.healed === undefined) assert.equal(b.inSync, false);
  else {
    assert.deepEqual(rest.toSorted(), [...lie.healed]);
    assert.equal(b.inSync, true);
  }
  // Nothing is ever applied twice, and nobody else noticed anything.
  assert.equal(new Set(first.texts).size, first.texts.length);
  for (const device of [a, c]) assert.deepEqual(device.integrity, []);
  assert.deepEqual(relay.defects, []);
}

/** The table of docs/SECURITY.md. */
function table(): string {
  const cell = (lie: LieCase): string =>
    [lie.name, lie.does, lie.event, lie.sees, lie.safe, healedBy(lie)].join(" | ");
  return [
    "the lie | what the relay does | event | what the user sees | what stayed safe | healed",
    ...lies.map(cell),
  ].join("\n");
}

/** Tables of a page, one row a line, without what only aligns them. */
function rowsOf(page: string): string[] {
  return page
    .split("\n")
    .filter((line) => line.startsWith("|"))
    .map((line) =>
      line
        .slice(1, -1)
        .split("|")
        .map((cell) => cell.trim())
        .join(" | "),
    );
}

test("the table of docs/SECURITY.md says what the lies say", (t) => {
  const rows = table().split("\n");
  for (const row of rows) t.diagnostic(row);
  const page = rowsOf(readFileSync(new URL("../../docs/SECURITY.md", import.meta.url), "utf8"));
  const start = page.indexOf(rows[0] ?? "");
  assert.deepEqual(page.slice(start + 2, start + 1 + rows.length), rows.slice(1));
});

describe("a relay that lies about the log", () => {
  for (const lie of lies) {
    test(`${lie.name}: ${lie.does} → ${lie.event}`, () => holds(lie));
  }
});

test("SECURITY 5.8: in a device's first log what is left out is told as a gap, and is no finding yet", async () => {
  const world = new World();
  const relay = new LyingRelay(world);
  const a = await founder(relay.asKnown);
  const b = await member(a);
  b.crash();
  await a.push("a1", "a2", "a3");
  await world.result(a.client.flush());
  relay.lies.set(b.client.deviceId, (body) => {
    if (body.case === "blobs") {
      body.value.blobs = body.value.blobs
        .filter(({ cursor }) => cursor !== 2n)
        .map((blob) => (blob.cursor > 2n ? { ...blob, cursor: blob.cursor - 1n } : blob));
      body.value.through -= 1n;
      body.value.head -= 1n;
    } else if (body.case === "welcome" && body.value.scope.case === "group") {
      body.value.scope.value.head -= 1n;
    }
    return [body];
  });
  await b.start();
  const gaps: unknown[] = [];
  b.client.on("gap", ({ from, through, sender }) => gaps.push([from, through, sender]));
  const { texts } = taking(b);
  await world.until(() => texts.length === 2);
  assert.deepEqual(texts, ["a1", "a3"]);
  assert.deepEqual(gaps, [[2, 2, a.client.deviceId]]);
  assert.deepEqual(b.integrity, []);
});
