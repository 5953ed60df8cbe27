/** What a device wrote itself and finds again: each row as bytes, and whole stores with one row changed. */
import { create, type DescMessage, fromBinary } from "@bufbuild/protobuf";
import {
  decode,
  decodeChain,
  decodeDevice,
  decodeLog,
  decodeOwn,
  encodeChain,
  encodeDevice,
  encodeLog,
  encodeOwn,
  noChain,
  noLog,
} from "../../client/disk.ts";
import { MemoryDisk, MemoryStore, StateStoreError, SyncClient } from "../../client/index.ts";
import { numberTables, type TableName, textTables } from "../../client/state-store.ts";
import { file_syncrelay_state_v1_history } from "../../gen/syncrelay/state/v1/history_pb.ts";
import {
  DeviceStateSchema,
  file_syncrelay_state_v1_state,
} from "../../gen/syncrelay/state/v1/state_pb.ts";
import { SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { Device, founder, pair } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";
import { group, seeded, Writer } from "../seal/support.ts";
import type { Target } from "./engine.ts";

const random = seeded("fuzz state");

const own = (() => {
  const writer = new Writer(group("a", "b"), "a");
  writer.write();
  return writer.own;
})();

/** The first byte says which decoder. */
const decoders: readonly ((bytes: Uint8Array) => unknown)[] = [
  decodeDevice,
  decodeLog,
  decodeChain,
  decodeOwn,
  ...[...file_syncrelay_state_v1_history.messages, ...file_syncrelay_state_v1_state.messages].map(
    (schema: DescMessage) => (bytes: Uint8Array) => decode(() => fromBinary(schema, bytes)),
  ),
];

function damaged(error: unknown): string {
  if (error instanceof StateStoreError) return error.problem;
  throw error;
}

const state: Target = {
  name: "state-rows",
  weight: 15,
  seeds: () => {
    const made = [
      encodeDevice(create(DeviceStateSchema, { name: "device", groupId: random(32) })),
      encodeLog(
        {
          ...noLog,
          logId: random(16),
          senders: new Map([[idText(random(32)), { seq: 1, link: random(32) }]]),
        },
        { applied: 1, acknowledged: 1 },
      ),
      encodeChain(noChain),
      ...own.map(encodeOwn),
    ];
    return decoders.flatMap((_, i) => made.map((bytes) => Uint8Array.of(i, ...bytes)));
  },
  run: (input) => {
    const which = (input[0] ?? 0) % decoders.length;
    try {
      decoders[which]?.(input.subarray(1));
      return `read ${which}`;
    } catch (error) {
      return `${which} ${damaged(error)}`;
    }
  },
};

export interface SavedRow {
  readonly table: TableName;
  readonly key: string | number;
  readonly value: Uint8Array;
}

let saved: Promise<{ rows: SavedRow[]; disk: MemoryDisk }> | undefined;

/** The store of a device that has founded a group, paired, written and read. */
export function savedDevice(): Promise<{ rows: SavedRow[]; disk: MemoryDisk }> {
  saved ??= (async () => {
    const relay = new FakeRelay(new World(3));
    const first = await founder(relay);
    const second = await new Device(relay).start({ name: "second" });
    await pair(first, second);
    await first.push("one", "two");
    await second.push("three");
    await relay.world.run(5_000);
    await first.take();
    await first.push("four");
    const pushed = first.client.push(Uint8Array.of(1));
    pushed.catch(() => undefined);
    await relay.world.run(1);
    first.crash();
    const found: SavedRow[] = [];
    const store = new MemoryStore(first.disk.copy());
    await store.transaction(async (tx) => {
      for (const table of numberTables) {
        for (const { key, value } of await tx.range(table, 0)) found.push({ table, key, value });
      }
      for (const table of textTables) {
        for (const { key, value } of await tx.range(table, "")) found.push({ table, key, value });
      }
    });
    await store.close();
    return { rows: found, disk: first.disk };
  })();
  return saved;
}

let savedRows: SavedRow[] = [];
let savedDisk = new MemoryDisk();
await savedDevice().then(({ rows: found, disk }) => {
  savedRows = found.filter(({ key }) => key !== "seed");
  savedDisk = disk;
});

/** Errors that a device tells its app while it runs on a damaged store. */
const wholeStore: Target = {
  name: "state-stores",
  weight: 0.2,
  seeds: () => savedRows.map(({ value }, i) => Uint8Array.of(i, ...value)),
  run: async (input) => {
    const which = (input[0] ?? 0) % savedRows.length;
    const { table, key } = savedRows[which] as SavedRow;
    const disk = savedDisk.copy();
    const store = new MemoryStore(disk);
    await store.transaction((tx) => {
      tx.put(table, key, input.slice(1));
    });
    const world = new World(1);
    const host = world.host();
    const heard: Error[] = [];
    try {
      const client = await SyncClient.open({ store, host });
      client.on("error", (error) => heard.push(error));
      await world.run(300);
      client.status();
      await client.close();
    } catch (error) {
      if (error instanceof SyncError) return `${table} ${error.codeName}`;
      return `${table} ${damaged(error)}`;
    } finally {
      host.kill();
    }
    for (const error of heard) {
      if (!(error instanceof SyncError)) damaged(error);
    }
    return `${table} opens${heard.length > 0 ? `, ${heard[0]?.name}` : ""}`;
  },
};

export const stateTargets: readonly Target[] = [state, wholeStore];
