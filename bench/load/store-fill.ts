/**
 * Makes a store of many groups and blobs, through the store itself and not through a relay: a million blobs
 * in seconds. What only devices read is noise of the right size.
 */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import type { BlobRow, DeviceRow, GroupRow } from "../../server/store/contract.ts";
import { openSqliteStore } from "../../server/store/sqlite-store.ts";
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
/** What a blob counts beside its parts. */
const overheadBytes = 96;
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
  const group: GroupRow = {
    groupKey: key,
    groupId: new Uint8Array(randomBytes(32)),
    logId: noise(16),
    head: 0,
    floor: 0,
    replacedThrough: 0,
    trimmedThrough: 0,
    snapshotAgeS: 0,
    bytes: 0,
    snapshotBytes: 0,
    controlBytes: 0,
    blobs: 0,
    quotaBytes: 0,
    pushesPerS: 0,
    pushesBurst: 0,
    membershipCount: 1,
    membershipHead: noise(32),
    epoch: 1,
    suspended: false,
  };
  const device: DeviceRow = {
    deviceKey: key,
    groupKey: key,
    deviceId: new Uint8Array(randomBytes(32)),
    role: "device",
    state: "active",
    lastSeq: 0,
    lastLink: new Uint8Array(32),
    lastCursor: 0,
    applied: 0,
    lastSeenMs: 0,
    seenAgeS: 0,
    witnessCounter: 0,
    witness: new Uint8Array(0),
  };
  return { group, device };
}

/** The next blob of a group, which its rows take over. */
function add(at: Place, { headerBytes, bodyBytes }: FillArgs): BlobRow {
  const cursor = at.group.head + 1;
  const row: BlobRow = {
    groupKey: at.group.groupKey,
    cursor,
    deviceKey: at.device.deviceKey,
    seq: cursor,
    priorCursor: cursor - 1,
    link: noise(32),
    blobId: noise(16),
    epoch: 1,
    header: noise(headerBytes),
    signature: noise(signatureBytes),
    body: noise(bodyBytes),
    bodyState: 0,
    storedAgeS: 0,
  };
  const bytes = headerBytes + signatureBytes + bodyBytes + overheadBytes;
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
