/** The contract of `client/state-store.ts`, held by every implementation. */
import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { chmodSync, mkdtempSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import sqlite3 from "sqlite3";
import { MemoryDisk, MemoryStore } from "../../client/memory-store.ts";
import { openSqliteStore } from "../../client/platform/node/sqlite-store.ts";
import { type StateStore, StateStoreError } from "../../client/state-store.ts";

const folders: string[] = [];

function newFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "syncrelay-state-"));
  folders.push(folder);
  return join(folder, "state");
}

after(() => {
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
});

/** A store that can be closed and opened again on what it wrote. */
interface Made {
  open(): Promise<StateStore>;
}

const implementations: Readonly<Record<string, () => Made>> = {
  memory: () => {
    const disk = new MemoryDisk();
    return { open: async () => new MemoryStore(disk) };
  },
  sqlite: () => {
    const folder = newFolder();
    return { open: () => openSqliteStore(folder) };
  },
};

const bytes = (...values: number[]): Uint8Array => Uint8Array.from(values);

for (const [name, make] of Object.entries(implementations)) {
  describe(`state store: ${name}`, () => {
    test("what a transaction wrote is there for the next one, and after reopening", async () => {
      const made = make();
      const store = await made.open();
      await store.transaction((tx) => {
        tx.put("device", "seed", bytes(1, 2, 3));
        tx.put("own", 1, new Uint8Array(0));
        tx.put("own", Number.MAX_SAFE_INTEGER, bytes(9));
      });
      const read = async (from: StateStore): Promise<unknown> =>
        await from.transaction(async (tx) => [
          await tx.get("device", "seed"),
          await tx.get("own", 1),
          await tx.get("own", Number.MAX_SAFE_INTEGER),
          await tx.get("own", 2),
          await tx.get("device", "other"),
        ]);
      const expected = [bytes(1, 2, 3), bytes(), bytes(9), undefined, undefined];
      assert.deepEqual(await read(store), expected);
      await store.close();
      const again = await made.open();
      assert.deepEqual(await read(again), expected);
      await again.close();
    });

    test("reads see what the same transaction wrote and deleted", async () => {
      const store = await make().open();
      await store.transaction((tx) => {
        for (let key = 1; key <= 5; key++) tx.put("inbox", key, bytes(key));
      });
      await store.transaction(async (tx) => {
        tx.put("inbox", 3, bytes(33));
        tx.delete("inbox", 4);
        tx.put("inbox", 6, bytes(6));
        tx.deleteRange("inbox", 1, 3);
        tx.put("inbox", 2, bytes(22));
        assert.deepEqual(await tx.get("inbox", 1), undefined);
        assert.deepEqual(await tx.range("inbox", 0), [
          { key: 2, value: bytes(22) },
          { key: 3, value: bytes(33) },
          { key: 5, value: bytes(5) },
          { key: 6, value: bytes(6) },
        ]);
        tx.put("inbox", 2, bytes(23));
        tx.delete("inbox", 2);
        tx.put("inbox", 7, bytes(7));
        tx.deleteRange("inbox", 7);
        assert.deepEqual(await tx.last("inbox"), { key: 6, value: bytes(6) });
      });
      const left = await store.transaction((tx) => tx.range("inbox", 0));
      assert.deepEqual(
        left.map(({ key }) => key),
        [3, 5, 6],
      );
      await store.close();
    });

    test("ranges are ascending, from inclusive, to exclusive, and bounded", async () => {
      const store = await make().open();
      await store.transaction((tx) => {
        for (const key of [1_000, 2, 10, 1, 100]) tx.put("control", key, bytes(1));
        for (const key of ["b", "a", "é", "aa", "z"]) tx.put("additions", key, bytes(1));
      });
      await store.transaction(async (tx) => {
        const keys = async (rows: Promise<{ key: unknown }[]>): Promise<unknown[]> =>
          (await rows).map(({ key }) => key);
        assert.deepEqual(await keys(tx.range("control", 2, 100)), [2, 10]);
        assert.deepEqual(await keys(tx.range("control", 0, undefined, 2)), [1, 2]);
        assert.deepEqual(await keys(tx.range("control", 1_001)), []);
        assert.deepEqual(await keys(tx.range("additions", "")), ["a", "aa", "b", "z", "é"]);
        assert.deepEqual(await keys(tx.range("additions", "aa", "z")), ["aa", "b"]);
        assert.equal((await tx.last("control"))?.key, 1_000);
        assert.equal(await tx.last("refused"), undefined);
      });
      await store.close();
    });

    test("a transaction that throws has written nothing, and the next one is served", async () => {
      const store = await make().open();
      await store.transaction((tx) => tx.put("log", "state", bytes(1)));
      const failed = store.transaction(async (tx) => {
        tx.put("log", "state", bytes(2));
        tx.put("own", 1, bytes(1));
        await tx.get("own", 1);
        tx.deleteRange("log", "");
        throw new RangeError("no");
      });
      const next = store.transaction(async (tx) => [
        await tx.get("log", "state"),
        await tx.get("own", 1),
      ]);
      await assert.rejects(failed, RangeError);
      assert.deepEqual(await next, [bytes(1), undefined]);
      await store.close();
    });

    test("transactions run one after another, in the order they were asked for", async () => {
      const store = await make().open();
      await Promise.all(
        Array.from({ length: 50 }, () =>
          store.transaction(async (tx) => {
            const before = (await tx.get("chain", "state")) ?? bytes(0);
            await Promise.resolve();
            tx.put("chain", "state", bytes((before[0] as number) + 1));
          }),
        ),
      );
      assert.deepEqual(await store.transaction((tx) => tx.get("chain", "state")), bytes(50));
      await store.close();
    });

    test("many rows in one transaction, and large ones", async () => {
      const store = await make().open();
      const large = new Uint8Array(3_000_000).fill(7);
      await store.transaction((tx) => {
        for (let key = 1; key <= 1_003; key++) tx.put("own", key, bytes(key % 256, 1));
        tx.put("own", 2_000, large);
      });
      const rows = await store.transaction((tx) => tx.range("own", 1, 2_000));
      assert.equal(rows.length, 1_003);
      assert.deepEqual(rows[1_002], { key: 1_003, value: bytes(1_003 % 256, 1) });
      const back = await store.transaction((tx) => tx.get("own", 2_000));
      assert.ok(back !== undefined && Buffer.from(large).equals(Buffer.from(back)));
      await store.close();
    });

    test("closing waits for what was asked for; later calls are refused", async () => {
      const made = make();
      const store = await made.open();
      const written = store.transaction(async (tx) => {
        await Promise.resolve();
        tx.put("log", "state", bytes(5));
      });
      await store.close();
      await written;
      await assert.rejects(
        store.transaction(() => undefined),
        (error: unknown) => error instanceof StateStoreError && error.problem === "closed",
      );
      const again = await made.open();
      assert.deepEqual(await again.transaction((tx) => tx.get("log", "state")), bytes(5));
      await again.close();
    });
  });
}

const refusedAs = (problem: string, folder: string) => (error: unknown) =>
  error instanceof StateStoreError && error.problem === problem && error.message.includes(folder);

describe("state store: sqlite on a disk", () => {
  test("the folder and the file are this user's alone", async () => {
    const folder = newFolder();
    const store = await openSqliteStore(folder);
    await store.transaction((tx) => tx.put("device", "seed", bytes(1)));
    assert.equal(statSync(folder).mode & 0o777, 0o700);
    assert.equal(statSync(join(folder, "device.sqlite")).mode & 0o777, 0o600);
    assert.equal(statSync(join(folder, "device.sqlite-wal")).mode & 0o777, 0o600);
    await store.close();
    chmodSync(join(folder, "device.sqlite"), 0o644);
    await (await openSqliteStore(folder)).close();
    assert.equal(statSync(join(folder, "device.sqlite")).mode & 0o777, 0o600);
  });

  test("a state in use is refused, by name, and served again once it is free", async () => {
    const folder = newFolder();
    const store = await openSqliteStore(folder);
    await assert.rejects(openSqliteStore(folder), refusedAs("locked", folder));
    await store.transaction((tx) => tx.put("log", "state", bytes(1)));
    await store.close();
    await (await openSqliteStore(folder)).close();
  });

  test("a full disk writes nothing by halves, and what was there stays usable", async () => {
    const folder = newFolder();
    const store = await openSqliteStore(folder, { pagesMax: 40 });
    await store.transaction((tx) => tx.put("own", 1, bytes(1)));
    const filling = store.transaction((tx) => {
      tx.put("own", 2, bytes(2));
      for (let key = 3; key < 200; key++) tx.put("own", key, new Uint8Array(4_096));
    });
    await assert.rejects(filling, refusedAs("full", folder));
    const rows = await store.transaction((tx) => tx.range("own", 0));
    assert.deepEqual(rows, [{ key: 1, value: bytes(1) }]);
    await store.transaction((tx) => tx.put("own", 2, bytes(2)));
    await store.close();
  });

  test("a newer schema is refused, and left alone", async () => {
    const folder = newFolder();
    await (await openSqliteStore(folder)).close();
    const file = join(folder, "device.sqlite");
    const run = (sql: string): Promise<unknown> =>
      new Promise((resolve, reject) => {
        const database = new sqlite3.Database(file, () => {
          database.get(sql, (error: Error | null, row: unknown) => {
            database.close(() => (error === null ? resolve(row) : reject(error)));
          });
        });
      });
    await run("PRAGMA user_version=2");
    await assert.rejects(openSqliteStore(folder), refusedAs("newer", folder));
    assert.deepEqual(await run("PRAGMA user_version"), { user_version: 2 });
  });

  test("a file that is no state is called damaged", async () => {
    const folder = newFolder();
    await (await openSqliteStore(folder)).close();
    writeFileSync(join(folder, "device.sqlite"), "no database at all, whatever it is".repeat(200));
    await assert.rejects(openSqliteStore(folder), refusedAs("damaged", folder));
  });

  test("a process killed while it writes leaves whole transactions, and all that resolved", async () => {
    for (let round = 0; round < 3; round++) {
      const folder = newFolder();
      const child = fork(join(import.meta.dirname, "support", "store-writer.ts"), [folder], {
        execArgv: ["--import", "tsx"],
      });
      const resolved = await new Promise<number>((resolve, reject) => {
        let last = 0;
        child.on("message", (message) => {
          last = Number(message);
          if (last === 20 + 7 * round) child.kill("SIGKILL");
        });
        child.on("error", reject);
        child.on("exit", () => resolve(last));
      });
      const store = await openSqliteStore(folder);
      await store.transaction(async (tx) => {
        const counter = await tx.get("chain", "state");
        const count = new DataView(Uint8Array.from(counter ?? []).buffer).getUint32(0);
        assert.ok(count >= resolved, `${count} transactions are there, ${resolved} had resolved`);
        const rows = await tx.range("own", 0);
        assert.equal(rows.length, 100 * count);
      });
      await store.close();
    }
  });
});

describe("state store: memory that crashes", () => {
  test("a crash before the commit loses the transaction, one after it keeps it", async () => {
    for (const when of ["beforeCommit", "afterCommit"] as const) {
      const disk = new MemoryDisk();
      const store = new MemoryStore(disk, {
        [when]: (commits: number, it: MemoryStore) => {
          if (commits === 1) it.crash();
        },
      });
      await store.transaction((tx) => tx.put("log", "state", bytes(1)));
      let heard = false;
      const hear = (): void => {
        heard = true;
      };
      store.transaction((tx) => tx.put("log", "state", bytes(2))).then(hear, hear);
      await new Promise((resolve) => setImmediate(resolve));
      assert.equal(heard, false);
      const again = new MemoryStore(disk);
      const found = await again.transaction((tx) => tx.get("log", "state"));
      assert.deepEqual(found, bytes(when === "beforeCommit" ? 1 : 2));
    }
  });
});
