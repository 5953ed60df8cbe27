import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Core } from "../../client/core.ts";
import { Disk, decodeLog, noLog } from "../../client/disk.ts";
import { Events } from "../../client/events.ts";
import { Inbox } from "../../client/inbox.ts";
import { MemoryDisk, MemoryStore } from "../../client/index.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { StoredBlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { World } from "./support/world.ts";

test("what is acknowledged while an earlier acknowledgement is written is on disk once that is settled", async () => {
  const world = new World();
  const memory = new MemoryDisk();
  let writing = (): void => undefined;
  const disk = new Disk(new MemoryStore(memory, { beforeCommit: () => writing() }));
  const core = new Core(
    world.host(),
    disk,
    new Events(world.host()),
    deriveDeviceKeys(world.random(32)),
  );
  core.log = { ...noLog, logId: new Uint8Array(16).fill(1), read: 2, position: 2 };
  const inbox = new Inbox(core, 10);
  for (const position of [1, 2]) {
    const stored = create(StoredBlobSchema, {
      cursor: BigInt(position),
      sender: new Uint8Array(32).fill(7),
    });
    inbox.add(position, [{ stored, seq: position, opened: undefined }], position);
  }
  inbox.acknowledge(1);
  writing = () => {
    writing = () => undefined;
    inbox.acknowledge(2);
  };
  await inbox.settled();
  assert.equal(inbox.count, 0);
  const { app } = decodeLog(memory.table("log").get("state") as Uint8Array);
  assert.deepEqual(app, { acknowledged: 2, applied: 2 });
});
