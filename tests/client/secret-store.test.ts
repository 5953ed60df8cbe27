/** The device's seed in a keychain, beside a state that does not hold it. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { MemoryDisk, MemoryStore, StateStoreError } from "../../client/index.ts";
import { keychainSecrets, strongholdSecrets } from "../../client/platform/tauri/index.ts";
import { withSecrets } from "../../client/platform/tauri/secret-store.ts";

const seed = Uint8Array.from({ length: 32 }, (_, i) => i);

function keychain(): { kept: Map<string, string>; secrets: ReturnType<typeof keychainSecrets> } {
  const kept = new Map<string, string>();
  const secrets = keychainSecrets(
    {
      getPassword: async (service, user) => kept.get(`${service}/${user}`) ?? null,
      setPassword: async (service, user, password) => void kept.set(`${service}/${user}`, password),
    },
    "app",
  );
  return { kept, secrets };
}

test("a seed is written into the keychain, read back from there, and stands nowhere else", async () => {
  const disk = new MemoryDisk();
  const { kept, secrets } = keychain();
  const store = withSecrets(new MemoryStore(disk), secrets, "device");
  await store.transaction(async (tx) => {
    assert.equal(await tx.get("device", "seed"), undefined);
    tx.put("device", "seed", seed);
    assert.deepEqual(await tx.get("device", "seed"), seed);
    tx.put("device", "state", seed.subarray(0, 1));
  });
  assert.equal(kept.size, 1);
  assert.equal(disk.table("device").get("seed"), undefined);
  const again = withSecrets(new MemoryStore(disk), secrets, "device");
  assert.deepEqual(await again.transaction((tx) => tx.get("device", "seed")), seed);
});

test("a seed that stands in the state moves into the keychain", async () => {
  const disk = new MemoryDisk();
  await new MemoryStore(disk).transaction((tx) => tx.put("device", "seed", seed));
  const { kept, secrets } = keychain();
  const store = withSecrets(new MemoryStore(disk), secrets, "device");
  assert.deepEqual(await store.transaction((tx) => tx.get("device", "seed")), seed);
  assert.equal(kept.size, 1);
  assert.equal(disk.table("device").get("seed"), undefined);
});

test("a keychain that lost it, refuses, or keeps nothing, makes no new device", async () => {
  const disk = new MemoryDisk();
  const refusal = (problem: string) => (error: unknown) =>
    error instanceof StateStoreError && error.problem === problem;
  const forgetful = { get: async () => undefined, set: async () => undefined };
  const store = withSecrets(new MemoryStore(disk), forgetful, "device");
  await assert.rejects(
    store.transaction((tx) => {
      tx.put("device", "seed", seed);
      tx.put("device", "state", seed);
    }),
    refusal("unavailable"),
  );
  assert.equal(disk.table("device").get("state"), undefined);
  await new MemoryStore(disk).transaction((tx) => tx.put("device", "state", seed));
  await assert.rejects(
    store.transaction((tx) => tx.get("device", "seed")),
    refusal("damaged"),
  );
  const locked = {
    get: () => Promise.reject(new Error("locked")),
    set: () => Promise.reject(new Error("locked")),
  };
  await assert.rejects(
    withSecrets(new MemoryStore(disk), locked, "device").transaction((tx) =>
      tx.get("device", "seed"),
    ),
    refusal("unavailable"),
  );
});

test("a stronghold keeps the seed once it has written its file, and gives it back", async () => {
  const disk = new MemoryDisk();
  const kept = new Map<string, number[]>();
  let saved = new Map<string, number[]>();
  const strongholdStore = {
    get: async (key: string) => {
      const value = kept.get(key);
      return value === undefined ? null : Uint8Array.from(value);
    },
    insert: async (key: string, value: number[]) => void kept.set(key, value),
  };
  const save = async (): Promise<void> => {
    saved = new Map(kept);
  };
  const store = withSecrets(
    new MemoryStore(disk),
    strongholdSecrets(strongholdStore, { save }),
    "device",
  );
  await store.transaction((tx) => tx.put("device", "seed", seed));
  assert.equal(saved.size, 1);
  assert.equal(disk.table("device").get("seed"), undefined);
  // Another start: what was not saved is gone.
  kept.clear();
  for (const [key, value] of saved) kept.set(key, value);
  assert.deepEqual(await store.transaction((tx) => tx.get("device", "seed")), seed);
});

test("a stronghold that cannot write its file makes no new device", async () => {
  const disk = new MemoryDisk();
  const broken = strongholdSecrets(
    { get: async () => null, insert: async () => undefined },
    { save: () => Promise.reject(new Error("the disk is full")) },
  );
  const store = withSecrets(new MemoryStore(disk), broken, "device");
  await assert.rejects(
    store.transaction((tx) => {
      tx.put("device", "seed", seed);
      tx.put("device", "state", seed);
    }),
    (error) => error instanceof StateStoreError && error.problem === "unavailable",
  );
  assert.equal(disk.table("device").get("state"), undefined);
});
