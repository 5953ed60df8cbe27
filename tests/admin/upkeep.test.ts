/** Backups and maintenance of a relay that runs, over its side API. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  type Interceptor,
} from "@connectrpc/connect";
import {
  createConnectTransport,
  createGrpcTransport,
  Http2SessionManager,
} from "@connectrpc/connect-node";
import { BackupService } from "../../gen/syncrelay/admin/v1/backup_pb.ts";
import {
  MaintenanceService,
  type Verification,
} from "../../gen/syncrelay/admin/v1/maintenance_pb.ts";
import { readToken, type Scope } from "../../server/admin/tokens.ts";
import { restoreBackup } from "../../server/store/restore.ts";
import { verifyStore } from "../../server/store/verify.ts";
import { content, openDevice, TestRelay, testFolder } from "../integration/support.ts";
import { SideWorld } from "./support.ts";

interface SideOfRelay {
  readonly relay: TestRelay;
  readonly backups: Client<typeof BackupService>;
  readonly maintenance: Client<typeof MaintenanceService>;
}

/** A real relay with one group of a few blobs. */
async function sideOfRelay(
  t: TestContext,
  protocol: "connect" | "grpc" = "connect",
  scope: Scope = "admin",
): Promise<SideOfRelay> {
  const relay = await TestRelay.start(t, { listenAdmin: "127.0.0.1:0", founding: "open" });
  const device = await openDevice(t, { relay: relay.address });
  await device.client.createGroup();
  await device.client.pushMany(Array.from({ length: 50 }, () => ({ data: content(20_000) })));
  await device.client.flush();
  await device.client.close();
  const token = await readToken(relay.data, scope);
  const authorize: Interceptor = (next) => (request) => {
    request.header.set("authorization", `Bearer ${token ?? ""}`);
    return next(request);
  };
  const baseUrl = relay.running.adminUrl ?? "";
  const interceptors = [authorize];
  if (protocol === "connect") {
    const transport = createConnectTransport({ baseUrl, httpVersion: "1.1", interceptors });
    return {
      relay,
      backups: createClient(BackupService, transport),
      maintenance: createClient(MaintenanceService, transport),
    };
  }
  const sessionManager = new Http2SessionManager(baseUrl);
  t.after(() => sessionManager.abort());
  const transport = createGrpcTransport({ baseUrl, interceptors, sessionManager });
  return {
    relay,
    backups: createClient(BackupService, transport),
    maintenance: createClient(MaintenanceService, transport),
  };
}

const coded =
  (code: Code) =>
  (error: unknown): boolean =>
    error instanceof ConnectError && error.code === code;

async function leftInFolder(relay: TestRelay): Promise<string[]> {
  return (await readdir(relay.data)).filter((name) => name.startsWith("backup-"));
}

for (const protocol of ["connect", "grpc"] as const) {
  test(`a backup over ${protocol} arrives whole, restores, and leaves nothing behind`, async (t) => {
    const { relay, backups } = await sideOfRelay(t, protocol);
    const chunks: Uint8Array[] = [];
    let told = false;
    for await (const { part } of backups.create({ withIdentity: true })) {
      if (part.case === "chunk") {
        assert.ok(part.value.byteLength <= 256 * 1024);
        chunks.push(part.value);
      } else if (part.case === "copying") {
        assert.equal(chunks.length, 0);
        assert.ok(part.value.doneBytes <= part.value.totalBytes);
      } else if (part.case === "backup") {
        told = true;
        const bytes = Buffer.concat(chunks);
        assert.equal(part.value.bytes, BigInt(bytes.byteLength));
        assert.deepEqual(
          Buffer.from(part.value.sha256),
          createHash("sha256").update(bytes).digest(),
        );
        assert.equal(part.value.withIdentity, true);
      }
    }
    assert.ok(told);
    assert.ok(chunks.length > 3);
    assert.deepEqual(await leftInFolder(relay), []);
    const folder = await testFolder(t);
    const backup = join(folder, "backup");
    await writeFile(backup, Buffer.concat(chunks), { mode: 0o600 });
    assert.deepEqual((await verifyStore(backup, { readOnly: true })).findings, []);
    const data = join(folder, "data");
    await restoreBackup({ backup, folder: data, nowMs: 0 });
    assert.deepEqual(
      await readFile(join(data, "relay.key")),
      await readFile(join(relay.data, "relay.key")),
    );
  });
}

test("one backup at a time; one that nobody takes is given up and removed", async (t) => {
  const { relay, backups } = await sideOfRelay(t);
  const stopping = new AbortController();
  const first = backups.create({}, { signal: stopping.signal })[Symbol.asyncIterator]();
  await first.next();
  await assert.rejects(async () => {
    for await (const part of backups.create({})) assert.ok(part);
  }, coded(Code.ResourceExhausted));
  stopping.abort();
  await assert.rejects(async () => {
    for (let part = await first.next(); part.done !== true; part = await first.next());
  }, coded(Code.Canceled));
  // The next one is served as soon as the relay has seen that the first has gone.
  for (;;) {
    try {
      let whole = false;
      for await (const { part } of backups.create({})) whole = part.case === "backup";
      assert.ok(whole);
      break;
    } catch (error) {
      assert.ok(coded(Code.ResourceExhausted)(error), String(error));
    }
  }
  assert.deepEqual(await leftInFolder(relay), []);
});

test("the read token makes no backup and starts no maintenance", async (t) => {
  const { backups, maintenance } = await sideOfRelay(t, "connect", "read");
  for (const call of [
    () => backups.create({}),
    () => maintenance.verify({}),
    () => maintenance.vacuum({}),
  ]) {
    await assert.rejects(async () => {
      for await (const part of call()) assert.ok(part);
    }, coded(Code.PermissionDenied));
  }
  await assert.rejects(maintenance.trim({}), coded(Code.PermissionDenied));
});

test("a running relay is verified and its free pages are given back", async (t) => {
  const { maintenance } = await sideOfRelay(t);
  let found: Verification | undefined;
  for await (const { part } of maintenance.verify({})) {
    if (part.case === "verification") found = part.value;
  }
  assert.deepEqual(
    [found?.groups, found?.devices, found?.blobs, found?.controlBlobs, found?.findings],
    [1n, 1n, 50n, 1n, []],
  );
  let left: bigint | undefined;
  for await (const { leftBytes } of maintenance.vacuum({})) left = leftBytes;
  assert.equal(left, 0n);
});

test("a store in memory has no backup: the call says so", async (t) => {
  const side = await SideWorld.open(t);
  await assert.rejects(async () => {
    for await (const part of side.client(BackupService).create({})) assert.ok(part);
  }, coded(Code.FailedPrecondition));
});
