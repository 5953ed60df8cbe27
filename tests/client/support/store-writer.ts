/** Writes transactions of a hundred rows and a counter until it is killed, and says when each resolved. */
import { openSqliteStore } from "../../../client/platform/node/sqlite-store.ts";

const store = await openSqliteStore(process.argv[2] as string);
for (let count = 1; ; count++) {
  await store.transaction((tx) => {
    for (let row = 0; row < 100; row++) tx.put("own", count * 100 + row, new Uint8Array(300));
    const counter = new Uint8Array(4);
    new DataView(counter.buffer).setUint32(0, count);
    tx.put("chain", "state", counter);
  });
  process.send?.(count);
}
