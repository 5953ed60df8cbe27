/**
 * A process of its own that commits to a data folder until it is killed. Each
 * commit writes ten blobs and moves the group and its device along; when one has
 * resolved, its head is printed on a line.
 */
import { writeSync } from "node:fs";
import { openSqliteStore } from "../../../server/store/sqlite-store.ts";
import { batch, blob, device, group, range } from "./rows.ts";

const blobsPerCommit = 10;

async function commitForever(folder: string): Promise<never> {
  const store = await openSqliteStore({ folder });
  let head = (await store.loadGroup(group(1).groupId))?.group.head ?? 0;
  writeSync(1, `${head}\n`);
  for (;;) {
    const cursors = range(head + 1, head + blobsPerCommit);
    head += blobsPerCommit;
    await store.commit(
      batch({
        groups: [group(1, { head, blobs: head, bytes: head * 400 })],
        devices: [device(1, 1, { lastSeq: head, lastCursor: head })],
        blobs: cursors.map((cursor) => blob(1, cursor)),
        ageS: head,
      }),
    );
    writeSync(1, `${head}\n`);
  }
}

await commitForever(process.argv[2] ?? "");
