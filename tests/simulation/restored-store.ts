/** What `restore` makes of a backup, for a store in memory: another log id, and no snapshots that wait. */
import { noLife } from "../../server/store/life.ts";
import type { MemoryStore } from "../../server/store/memory-store.ts";

/** What a manifest counts beside its bytes. */
const manifestExtraBytes = 256;

/** Takes a copy of a backup where the relay goes on from it. */
export async function becomeRestored(
  store: MemoryStore,
  newLogId: () => Uint8Array,
): Promise<void> {
  const [listing] = await store.listGroups(0, 1);
  if (listing === undefined) return;
  const loaded = await store.loadGroup(listing.group.groupId);
  if (loaded === undefined) return;
  const waiting = loaded.snapshots.filter(({ effective }) => !effective);
  const parts = await Promise.all(waiting.map(({ snapshotKey }) => store.partsOf(snapshotKey)));
  const gone = new Set(waiting.map(({ snapshotKey }) => -snapshotKey));
  const bytes = waiting.reduce((sum, row) => sum + row.manifestBytes + manifestExtraBytes, 0);
  await store.commit({
    groups: [
      {
        ...loaded.group,
        logId: newLogId(),
        snapshotBytes: loaded.group.snapshotBytes - bytes,
      },
    ],
    devices: [],
    blobs: [],
    control: [],
    invites: [],
    life: {
      ...noLife,
      droppedSnapshots: waiting.map(({ snapshotKey }) => snapshotKey),
      // Parts that nothing names any more go by their age.
      objects: parts
        .flat()
        .filter(({ object, holders }) => object.part && holders.every((each) => gone.has(each)))
        .map(({ object }) => ({ ...object, passing: true })),
    },
  });
}
