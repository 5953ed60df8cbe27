/** Removal, rotation, recovery and admission over real sockets, the real relay and its database. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { MemoryDisk, MemoryStore, PhraseError, SyncClient } from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { openBody } from "../../client/seal/blob.ts";
import { decodeControl } from "../../client/seal/control-blob.ts";
import { decodeHeader } from "../../client/seal/header.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { type ControlChain, readChain } from "../../client/seal/membership.ts";
import { BlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { SqliteConnection } from "../../server/store/sqlite-connection.ts";
import { databaseName } from "../../server/store/sqlite-store.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { blobLink } from "../../wire/ids.ts";
import {
  content,
  joinDevice,
  openDevice,
  pairedDevices,
  type TestDevice,
  TestRelay,
  take,
  until,
} from "./support.ts";

const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const names = (client: SyncClient): string[] => client.devices().map(({ name }) => name);

/** Everybody has the control chain of the newest epoch. */
const atEpoch = (devices: readonly TestDevice[], epoch: number): Promise<unknown> =>
  Promise.all(devices.map(({ client }) => until(client, (status) => status.epoch === epoch)));

/** A device on a disk in memory, for looking at what it holds. */
async function onDisk(
  t: TestContext,
  relay: string,
): Promise<{ readonly client: SyncClient; readonly disk: MemoryDisk }> {
  const disk = new MemoryDisk();
  const client = await SyncClient.open({
    store: new MemoryStore(disk),
    relay,
    host: nodeHost(),
    codeCost: { memoryKiB: 8, passes: 1 },
  });
  t.after(() => client.close());
  return { client, disk };
}

/** The rows of the relay's database that hold what devices sealed. */
async function relayRows(relay: TestRelay) {
  const connection = await SqliteConnection.open(join(relay.data, databaseName));
  try {
    const blobs = await connection.query<{
      cursor: number;
      epoch: number;
      device_id: Uint8Array;
      blob_id: Uint8Array;
      header: Uint8Array;
      body: Uint8Array;
      link: Uint8Array;
    }>(
      "SELECT cursor, epoch, device_id, blob_id, header, body, link FROM blobs JOIN devices USING (group_key, device_key) ORDER BY cursor",
    );
    const control = await connection.query<{ bytes: Uint8Array }>(
      "SELECT bytes FROM control ORDER BY number",
    );
    return { blobs, control: control.map(({ bytes }) => new Uint8Array(bytes)) };
  } finally {
    await connection.close();
  }
}

test("SECURITY Membership: a removed device is cut off, and its old keyring opens nothing committed afterwards", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, c] = await pairedDevices(t, relay, 2);
  assert.ok(a && c);
  const b = await onDisk(t, relay.address);
  const invite = await a.client.invite({ confirm: () => true });
  await Promise.all([b.client.join(invite.link), invite.done]);
  const before = [content(), content()];
  await a.client.pushMany(before.map((data) => ({ data })));
  await a.client.flush();
  await b.client.caughtUp();

  await a.client.remove([b.client.deviceId]);
  await until(b.client, ({ membership }) => membership === "removed");
  assert.equal(b.client.status().connection.state, "stopped");
  await assert.rejects(b.client.push(content()), { code: ErrorCode.DEVICE_REVOKED });

  await atEpoch([a, c], 2);
  await a.client.push(content());
  await c.client.push(content());
  await a.client.rotate();
  await atEpoch([a, c], 3);
  await c.client.push(content());
  await Promise.all([a.client.flush(), c.client.flush()]);

  // All that the stolen device held, and all that the relay has.
  const rows = await relayRows(relay);
  const seed = b.disk.table("device").get("seed") as Uint8Array;
  const keys = deriveDeviceKeys(seed);
  const groupId = Buffer.from(a.client.groupId ?? "", "base64url");
  const count = b.disk.table("control").range(0).length;
  const held = readChain(rows.control.slice(0, count), { groupId, keys });
  const opens = (row: (typeof rows.blobs)[number], chain: ControlChain): boolean => {
    for (let epoch = 1; epoch <= chain.keyring.newest; epoch++) {
      const bodyKey = chain.keyring.bodyKey(epoch) as Uint8Array;
      const [blobId, header, sender] = [row.blob_id, row.header, row.device_id].map(
        (bytes) => new Uint8Array(bytes),
      ) as [Uint8Array, Uint8Array, Uint8Array];
      assert.deepEqual(blobLink(groupId, sender, blobId, header), new Uint8Array(row.link));
      for (const claimed of [row.epoch, epoch]) {
        const blob = create(BlobSchema, {
          blobId,
          header,
          epoch: BigInt(claimed),
          body: new Uint8Array(row.body),
        });
        try {
          openBody(blob, decodeHeader(header), { groupId, sender, bodyKey });
          return true;
        } catch (error) {
          assert.ok(error instanceof SyncError && error.code === ErrorCode.OPEN_FAILED);
        }
      }
    }
    return false;
  };
  assert.deepEqual(
    rows.blobs.map((row) => [row.cursor, opens(row, held)]),
    [
      [1, true],
      [2, true],
      [3, false],
      [4, false],
      [5, false],
    ],
  );
  for (const bytes of rows.control.slice(count)) {
    const { clear } = decodeControl(bytes);
    for (const { sealed } of clear.wraps) {
      assert.throws(() => keys.openWrap(sealed, { groupId, epoch: clear.epoch }), SyncError);
    }
  }
});

test("SECURITY Membership: a device offline through three rotations and a removal, with 1,000 queued entries, delivers each once", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b, c] = await pairedDevices(t, relay, 3);
  assert.ok(a && b && c);
  const last = await b.client.push(content(10));
  await last.durable;
  await relay.stop();
  const queued = Array.from({ length: 1_000 }, () => content(40));
  const receipts = await b.client.pushMany(queued.map((data) => ({ data })));
  await b.client.close();
  await relay.start();

  await a.client.rotate();
  await a.client.remove([c.client.deviceId]);
  await a.client.rotate();
  const d = await joinDevice(t, a, "device 4");
  await a.client.rotate();
  await until(c.client, ({ membership }) => membership === "removed");
  assert.equal(a.client.status().epoch, 5);

  const again = await openDevice(t, { folder: b.folder });
  assert.equal(again.client.status().epoch, 1);
  await again.client.flush();
  assert.equal(again.client.status().epoch, 5);
  for (const { client } of [a, d, again]) {
    const taken = await take(client, 1_001);
    await client.caughtUp();
    assert.deepEqual(
      taken.slice(1).map(({ hex }) => hex),
      queued.map(hexOf),
    );
    // Resealed, not written anew: the names and numbers of when they were queued.
    assert.deepEqual(
      taken.slice(1).map(({ blobId }) => blobId),
      receipts.map(({ blobId }) => blobId),
    );
    assert.equal(client.status().refused, 0);
    assert.equal(client.status().head, 1_001);
  }
  const { blobs } = await relayRows(relay);
  assert.ok(blobs.slice(1).every(({ epoch }) => epoch === 5));
});

test("SECURITY Membership: the remover lacks the removed device's last entries: it reads them, then closes there", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b, c] = await pairedDevices(t, relay, 3);
  assert.ok(a && b && c);
  const pushing = (async () => {
    for (let i = 0; i < 2_000; i++) {
      try {
        await b.client.push(content(20));
      } catch (error) {
        assert.ok(error instanceof SyncError && error.code === ErrorCode.DEVICE_REVOKED);
        return;
      }
    }
  })();
  await until(c.client, ({ readCursor }) => readCursor > 20);
  await a.client.remove([b.client.deviceId]);
  await pushing;
  await Promise.all([a.client.push(content()), c.client.push(content())]);
  await Promise.all([a.client.flush(), c.client.flush()]);
  await Promise.all([a.client.caughtUp(), c.client.caughtUp()]);
  const { blobs } = await relayRows(relay);
  const counts = await Promise.all([a, c].map(({ client }) => take(client, blobs.length)));
  assert.deepEqual(
    counts[0],
    counts[1]?.map((entry, i) => ({ ...entry, own: counts[0]?.[i]?.own })),
  );
  for (const { client } of [a, c]) assert.equal(client.status().refused, 0);
});

test("SECURITY Recovery phrase: everything lost; the phrase and the relay's address bring back the group and all its data", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, b] = await pairedDevices(t, relay, 2);
  assert.ok(a && b);
  const data = [content(), content(5_000), content(1)];
  await a.client.pushMany(data.slice(0, 2).map((each) => ({ data: each })));
  await a.client.flush();
  const phrase = await a.client.createRecoveryPhrase();
  assert.equal(phrase.words.length, 24);
  await until(b.client, ({ devices }) => devices === 3);
  assert.equal(await b.client.verifyRecoveryPhrase(phrase.words), "active");
  // Sealed to at every rotation.
  await b.client.rotate();
  await b.client.push(data[2] as Uint8Array);
  await b.client.flush();
  await a.client.rotate();
  await Promise.all([a.client.close(), b.client.close()]);

  const fresh = await openDevice(t, { relay: relay.address, name: "fresh" });
  const wrong = [...phrase.words.slice(1), phrase.words[0]] as string[];
  await assert.rejects(fresh.client.recover(wrong), PhraseError);
  await fresh.client.recover(phrase.words);
  assert.equal(fresh.client.status().membership, "member");
  assert.equal(fresh.client.status().epoch, 3);
  assert.deepEqual(
    (await take(fresh.client, 3)).map(({ hex }) => hex),
    data.map(hexOf),
  );
  assert.deepEqual(names(fresh.client).sort(), [
    "device 1",
    "device 2",
    "fresh",
    "recovery phrase",
  ]);
  // A full member: it writes, removes what was lost, and replaces the phrase.
  await fresh.client.remove(
    fresh.client
      .devices()
      .filter(({ name }) => name.startsWith("device"))
      .map(({ deviceId }) => deviceId),
  );
  await fresh.client.push(content());
  await fresh.client.flush();
  const { control } = await relayRows(relay);
  assert.equal(control.length, 7);
});

test("SECURITY Recovery phrase: replaced and revoked ones bring nothing back", async (t) => {
  const relay = await TestRelay.start(t);
  const [a] = await pairedDevices(t, relay, 1);
  assert.ok(a);
  const first = await a.client.createRecoveryPhrase();
  await assert.rejects(a.client.createRecoveryPhrase(), /already/);
  const second = await a.client.createRecoveryPhrase({ replace: true });
  await second.replaced;
  assert.equal(await a.client.verifyRecoveryPhrase(first.words), "revoked");
  assert.equal(await a.client.verifyRecoveryPhrase(second.words.join(" ")), "active");
  assert.deepEqual(
    a.client.devices().map(({ role }) => role),
    ["device", "paper"],
  );
  const recovering = await openDevice(t, { relay: relay.address, name: "new" });
  await assert.rejects(recovering.client.recover(first.words), { code: ErrorCode.NOT_A_MEMBER });
  assert.equal(recovering.client.status().membership, "none");
  await recovering.client.recover(second.words);
  assert.equal(await recovering.client.revokeRecoveryPhrase(), 1);
  await until(a.client, ({ epoch }) => epoch === 3);
  assert.equal(await a.client.verifyRecoveryPhrase(second.words), "revoked");
  const late = await openDevice(t, { relay: relay.address, name: "late" });
  await assert.rejects(late.client.recover(second.words), { code: ErrorCode.NOT_A_MEMBER });
  assert.equal(await a.client.verifyRecoveryPhrase("zoo ".repeat(23).concat("vote")), "unknown");
});

test("SECURITY Recovery phrase: it grants no reading of anybody else's, and a relay that offers another group is refused", async (t) => {
  const relay = await TestRelay.start(t, { founding: "open" });
  const one = await openDevice(t, { relay: relay.address, name: "one" });
  await one.client.createGroup({});
  const two = await openDevice(t, { relay: relay.address, name: "two" });
  await two.client.createGroup({});
  const phrase = await one.client.createRecoveryPhrase();
  assert.equal(await two.client.verifyRecoveryPhrase(phrase.words), "unknown");
  const fresh = await openDevice(t, { relay: relay.address, name: "fresh" });
  await assert.rejects(fresh.client.recover(phrase.words, { groupId: two.client.groupId ?? "" }), {
    code: ErrorCode.NOT_A_MEMBER,
  });
  await fresh.client.recover(phrase.words, { groupId: one.client.groupId ?? "" });
  assert.equal(fresh.client.groupId, one.client.groupId);
});
