/** L3: SQLite alone, one commit after another, everything made ready beforehand. */
import { randomBytes } from "node:crypto";
import { join } from "node:path";
import { serveRole } from "../harness/role.ts";
import { fullHeaderBytes, LimitStore, place, type RowShape } from "./group-commit.ts";

const groups = 16;

serveRole({
  append: async (args: {
    folder: string;
    rowsPerCommit: number;
    rows: number;
    payloadBytes: number;
    shape: RowShape;
  }) => {
    const store = await LimitStore.create(join(args.folder, "limit.sqlite"), args.shape);
    const slotBytes = args.payloadBytes + (args.shape === "full" ? fullHeaderBytes : 0);
    const slots = randomBytes(args.rowsPerCommit * slotBytes);
    const heads = Array.from({ length: groups }, () => 0);
    let written = 0;
    const commit = (): Promise<void> => {
      const places = Array.from({ length: args.rowsPerCommit }, (_, i) => {
        const group = (written + i) % groups;
        const head = (heads[group] as number) + 1;
        heads[group] = head;
        return place(group, group, head);
      });
      written += args.rowsPerCommit;
      return new Promise((resolve, reject) => {
        store.append({ places, slots, slotBytes }, args.payloadBytes, (error) => {
          if (error === null) resolve();
          else reject(error);
        });
      });
    };
    while (written < args.rows / 5) await commit();
    const before = written;
    const startedMs = performance.now();
    while (written - before < args.rows) await commit();
    const perSecond = ((written - before) / (performance.now() - startedMs)) * 1_000;
    await store.close();
    return { perSecond };
  },
});
