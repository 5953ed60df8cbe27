/**
 * What `verify.ts` looks at of one group's objects and snapshots: whether each object is what its id
 * says, whether the effective snapshot has its parts, and whether the counters say what is there.
 */
import { toHex } from "../../wire/bytes.ts";
import { streamingBlake2b256 } from "../../wire/hash.ts";
import type { SqliteConnection, SqlStatement } from "./sqlite-connection.ts";
import { chunksMax } from "./sqlite-life-commit.ts";

/** What an object and a manifest count beside their bytes. */
const overheadBytes = 256;
/** Chunks read at a time: a megabyte. */
const chunksAtATime = 16;

export interface LifeOfGroup {
  readonly group_key: number;
  readonly head: number;
  readonly floor: number;
  readonly bytes: number;
  readonly snapshot_bytes: number;
  readonly control_bytes: number;
  readonly replaced_through: number;
}

/** What was counted of a group elsewhere, in bytes. */
export interface CountedOfGroup {
  readonly log: number;
  readonly control: number;
}

interface ObjectColumns {
  readonly object_key: number;
  readonly object_id: Uint8Array;
  readonly size_bytes: number;
  readonly durable_bytes: number;
  readonly complete: number;
  readonly part: number;
}

/** Looks at one group; what is wrong goes to `find`. `advance` is called again and again, and may throw. */
export async function verifyLife(
  connection: SqliteConnection,
  group: LifeOfGroup,
  counted: CountedOfGroup,
  find: (text: string) => void,
  advance: () => void,
): Promise<void> {
  const objects = await connection.query<ObjectColumns>(
    `SELECT object_key, object_id, size_bytes, durable_bytes, complete, part FROM objects
      WHERE group_key = ${group.group_key}`,
  );
  const [snapshots] = await connection.query<{
    readonly bytes: number;
    readonly effective: number;
    readonly replaces: number;
  }>(
    `SELECT coalesce(sum(length(manifest) + ${overheadBytes}), 0) AS bytes,
      coalesce(sum(effective), 0) AS effective,
      coalesce(max(replaces_through) FILTER (WHERE effective = 1), 0) AS replaces
      FROM snapshots WHERE group_key = ${group.group_key}`,
  );
  const sum = (part: number): number =>
    objects.reduce((all, row) => all + (row.part === part ? row.size_bytes + overheadBytes : 0), 0);
  for (const [what, says, is] of [
    ["bytes", group.bytes, counted.log + sum(0)],
    ["bytes of snapshots", group.snapshot_bytes, (snapshots?.bytes ?? 0) + sum(1)],
    ["bytes of membership changes", group.control_bytes, counted.control],
  ] as const) {
    if (says !== is) find(`it has ${is} ${what} and says ${says}`);
  }
  if ((snapshots?.effective ?? 0) > 1 || snapshots?.replaces !== group.replaced_through) {
    find(
      `its snapshot replaces through ${snapshots?.replaces} and it says ${group.replaced_through}`,
    );
  }
  if (group.floor > group.replaced_through || group.replaced_through > group.head) {
    find(`headers went up to ${group.floor} and were replaced up to ${group.replaced_through}`);
  }
  const [missing] = await connection.query<{ readonly parts: number }>(
    `SELECT count(*) AS parts FROM snapshots s JOIN object_references r ON r.holder = -s.snapshot_key
      LEFT JOIN objects o ON o.object_key = r.object_key
      WHERE s.group_key = ${group.group_key} AND coalesce(o.complete, 0) = 0`,
  );
  if ((missing?.parts ?? 0) > 0) find(`${missing?.parts} parts of its snapshots are not there`);
  const chunks = await connection.prepare(
    "SELECT data FROM object_chunks WHERE chunk_key >= ? AND chunk_key < ? ORDER BY chunk_key",
  );
  for (const object of objects) {
    if (!(await isWhole(chunks, object, advance))) {
      find(`the object ${toHex(object.object_id).slice(0, 12)}… was altered or is not whole`);
    }
  }
}

/** Whether what lies there of an object is what its row says, and what its id says where it is complete. */
async function isWhole(
  chunks: SqlStatement,
  object: ObjectColumns,
  advance: () => void,
): Promise<boolean> {
  const hash = streamingBlake2b256();
  let bytes = 0;
  for (let number = 0; bytes < object.durable_bytes; number += chunksAtATime) {
    advance();
    const first = object.object_key * chunksMax + number;
    const rows = await chunks.all<{ readonly data: Uint8Array }>([first, first + chunksAtATime]);
    if (rows.length === 0) return false;
    for (const { data } of rows) {
      bytes += data.byteLength;
      if (object.complete !== 0) hash.update(data);
    }
  }
  if (bytes !== object.durable_bytes) return false;
  return object.complete === 0 || toHex(hash.digest()) === toHex(object.object_id);
}
