/** The two stores agree: any run of commits, good and bad, leaves both with the same answers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { CommitBatch, Store } from "../../server/store/contract.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import { SyncError } from "../../wire/errors.ts";
import { temporaryFolder } from "./support/folders.ts";
import { batch, blob, bytes, control, device, group, invite, range } from "./support/rows.ts";

const key = fc.integer({ min: 1, max: 3 });
const small = fc.integer({ min: 0, max: 9 });
const content = fc.uint8Array({ maxLength: 40 });

const commits = fc.record({
  // A new group's first row comes with its devices, so that a device always has its group.
  groups: fc.uniqueArray(
    fc
      .tuple(key, small, small)
      .map(([k, head, blobs]) => group(k, { head, blobs, bytes: blobs * 7 })),
    { selector: (row) => row.groupKey },
  ),
  blobs: fc.array(
    fc
      .tuple(key, fc.integer({ min: 1, max: 30 }), small, content, content)
      .map(([k, cursor, prior, header, body]) =>
        blob(k, cursor, { header, body, priorCursor: Math.min(prior, cursor - 1) }),
      ),
    { maxLength: 4 },
  ),
  control: fc.array(
    fc
      .tuple(key, small, content)
      .map(([k, number, text]) => control(k, number + 1, { bytes: text })),
    { maxLength: 2 },
  ),
  invites: fc.array(
    fc
      .tuple(key, fc.string(), small)
      .map(([k, label, used]) => invite(k, { label, usedByGroupKey: used })),
    { maxLength: 2 },
  ),
  witnessCounter: small,
});

async function answers(store: Store): Promise<unknown> {
  const bounds = { rowsMax: 7, bytesMax: 400 };
  const { groups, blobs, bytes: counted } = await store.totals();
  return {
    totals: { groups, blobs, counted },
    groups: await Promise.all([1, 2, 3].map((k) => store.loadGroup(group(k).groupId))),
    devices: await Promise.all([1, 2, 3].map((k) => store.groupsOfDevice(device(k, k).deviceId))),
    pages: await Promise.all([1, 2, 3].map((k) => store.readBlobs(k, 2, 28, bounds))),
    links: await Promise.all(range(1, 30).map((cursor) => store.linkAt(1, cursor))),
    places: await Promise.all(range(1, 30).map((cursor) => store.senderPlaces(2, cursor, 3))),
    control: await Promise.all([1, 2, 3].map((k) => store.readControl(k, 1, 50))),
    heads: await Promise.all(range(1, 10).map((n) => store.controlByHead(1, control(1, n).head))),
    invites: await Promise.all([1, 2, 3].map((k) => store.findInvite(invite(k).inviteHash))),
  };
}

async function outcome(store: Store, commit: CommitBatch): Promise<string> {
  try {
    await store.commit(commit);
    return "committed";
  } catch (error) {
    assert.ok(error instanceof SyncError);
    return error.codeName;
  }
}

test("memory and SQLite give the same answers after any run of commits", async (t) => {
  const folder = await temporaryFolder(t);
  let run = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(commits, { maxLength: 8 }), async (steps) => {
      const memory = openMemoryStore();
      const sqlite = await openSqliteStore({ folder: `${folder}/${run++}` });
      try {
        for (const { witnessCounter, ...step } of steps) {
          const devices = step.groups.map((row) =>
            device(row.groupKey, row.groupKey, {
              lastSeq: row.head,
              witnessCounter,
              witness: bytes(witnessCounter, 1),
            }),
          );
          const commit = batch({ ...step, devices });
          assert.equal(await outcome(sqlite, commit), await outcome(memory, commit));
          assert.deepEqual(await answers(sqlite), await answers(memory));
        }
      } finally {
        await sqlite.close();
      }
    }),
    { numRuns: 15 },
  );
});
