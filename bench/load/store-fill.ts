/**
 * Makes a store of many groups and blobs, through the store itself and not through a relay: a million blobs
 * in seconds. What only devices read is noise of the right size.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { blobOverheadBytes } from "../../server/group-log.ts";
import type { BlobRow, DeviceRow, GroupRow } from "../../server/store/contract.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
import * as rows from "../../tests/store/support/rows.ts";
import { serveRole } from "../harness/role.ts";

export interface FillArgs {
  /** As the relay's role is given it. */
  readonly folder: string;
  readonly groups: number;
  /** One after another into all groups. */
  readonly blobs: number;
  readonly headerBytes: number;
  readonly bodyBytes: number;
}

const rowsPerCommit = 4_000;
const signatureBytes = 64;
const pool = randomBytes(4 * 1024 * 1024);
let poolAt = 0;

function noise(length: number): Uint8Array {
  poolAt = (poolAt + 7_919) % (pool.byteLength - length);
  return pool.subarray(poolAt, poolAt + length);
}

interface Place {
  group: GroupRow;
  device: DeviceRow;
}

function place(key: number): Place {
  // What a relay looks a group and a device up by, and what no two have alike.
  const group = rows.group(key, {
    groupId: new Uint8Array(randomBytes(32)),
    logId: noise(16),
    membershipHead: noise(32),
  });
  const device = rows.device(key, key, {
    deviceId: new Uint8Array(randomBytes(32)),
    lastSeenMs: 0,
  });
  return { group, device };
}

/** The next blob of a group, which its rows take over. */
function add(at: Place, { headerBytes, bodyBytes }: FillArgs): BlobRow {
  const cursor = at.group.head + 1;
  const row = rows.blob(at.group.groupKey, cursor, {
    link: noise(32),
    blobId: noise(16),
    header: noise(headerBytes),
    signature: noise(signatureBytes),
    body: noise(bodyBytes),
    storedAgeS: 0,
  });
  const bytes = headerBytes + signatureBytes + bodyBytes + blobOverheadBytes;
  at.group = {
    ...at.group,
    head: cursor,
    blobs: at.group.blobs + 1,
    bytes: at.group.bytes + bytes,
  };
  at.device = { ...at.device, lastSeq: cursor, lastLink: row.link, lastCursor: cursor };
  return row;
}

async function fill(args: FillArgs): Promise<void> {
  const store = await openSqliteStore({ folder: join(args.folder, "relay") });
  const places = Array.from({ length: args.groups }, (_, i) =>
    place(store.opened.nextGroupKey + i),
  );
  const none = { blobs: [], control: [], invites: [] };
  for (let at = 0; at < places.length; at += 1_000) {
    const some = places.slice(at, at + 1_000);
    await store.commit({
      ...none,
      groups: some.map(({ group }) => group),
      devices: some.map(({ device }) => device),
      control: some.map(({ group }) => ({
        groupKey: group.groupKey,
        number: 1,
        head: group.membershipHead,
        epoch: 1,
        bytes: noise(2_000),
      })),
    });
  }
  for (let done = 0; done < args.blobs; done += rowsPerCommit) {
    const touched = new Set<Place>();
    const blobs = Array.from({ length: Math.min(rowsPerCommit, args.blobs - done) }, (_, i) => {
      const at = places[(done + i) % places.length] as Place;
      touched.add(at);
      return add(at, args);
    });
    await store.commit({
      ...none,
      groups: [...touched].map(({ group }) => group),
      devices: [...touched].map(({ device }) => device),
      blobs,
    });
  }
  await store.close();
}

serveRole({ fill });
