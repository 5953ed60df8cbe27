/**
 * A process of its own that trims a log until it is killed: ten blobs a commit, bodies of one half and
 * headers of the other, with the counters in the same commit. It adds as many, so that it never ends.
 */
import { writeSync } from "node:fs";
import { noLife } from "../../../server/store/life.ts";
import { openSqliteStore } from "../../../server/store/sqlite-store.ts";
import { batch, blob, device, group, range } from "./rows.ts";

/** What a blob of `rows.ts` counts: its header and signature, and its body. */
const [headBytes, bodyBytes] = [124, 276];

async function trimForever(folder: string): Promise<never> {
  const store = await openSqliteStore({ folder });
  const loaded = await store.loadGroup(group(1).groupId);
  let head = loaded?.group.head ?? 0;
  let floor = loaded?.group.floor ?? 0;
  writeSync(1, `${floor}\n`);
  for (;;) {
    const cursors = range(head + 1, head + 20);
    head += 20;
    const trims =
      head < 100
        ? []
        : [
            { groupKey: 1, after: floor, through: floor + 20, headers: true },
            { groupKey: 1, after: floor + 20, through: floor + 40, headers: false },
          ];
    if (trims.length > 0) floor += 20;
    const bare = floor === 0 ? 0 : 20;
    const blobs = head - floor;
    await store.commit(
      batch({
        groups: [
          group(1, {
            head,
            floor,
            replacedThrough: floor + bare,
            trimmedThrough: floor + bare,
            blobs,
            bytes: blobs * headBytes + (blobs - bare) * bodyBytes,
          }),
        ],
        devices: [device(1, 1, { lastSeq: head, lastCursor: head })],
        blobs: cursors.map((cursor) => blob(1, cursor)),
        ...(trims.length === 0 ? {} : { life: { ...noLife, trims } }),
      }),
    );
    await store.sweep(100);
    writeSync(1, `${floor}\n`);
  }
}

await trimForever(process.argv[2] ?? "");
