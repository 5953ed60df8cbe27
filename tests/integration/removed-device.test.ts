/** A removed device with all it ever had, and the relay's own database in its hands. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type IntegrityEvent, MemoryDisk, MemoryStore, SyncClient } from "../../client/index.ts";
import { nodeHost } from "../../client/platform/node/host.ts";
import { openBody, prepareBlob, sealBlob } from "../../client/seal/blob.ts";
import { decodeControl } from "../../client/seal/control-blob.ts";
import { decodeHeader } from "../../client/seal/header.ts";
import { openPreviousSecret } from "../../client/seal/keyring.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { BlobSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { fromUtf8, utf8 } from "../../wire/bytes.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { groupIdBytes, parseId } from "../../wire/ids.ts";
import { withDatabase } from "../store/support/raw-database.ts";
import { joinDevice, pairedDevices, TestRelay, take, until } from "./support.ts";

interface BlobRow {
  readonly cursor: number;
  readonly device_key: number;
  readonly seq: number;
  readonly epoch: number;
  readonly link: Uint8Array;
  readonly blob_id: Uint8Array;
  readonly signature: Uint8Array;
  readonly header: Uint8Array;
  readonly body: Uint8Array;
  readonly sender: Uint8Array;
}

const opensNot = (run: () => unknown): void => {
  assert.throws(run, (error) => error instanceof SyncError && error.code === ErrorCode.OPEN_FAILED);
};

test("SECURITY 1.5: a removed device is cut off, opens nothing written since, and nobody applies what it writes", async (t) => {
  const relay = await TestRelay.start(t);
  const [a, c] = await pairedDevices(t, relay, 2);
  assert.ok(a !== undefined && c !== undefined);
  const disk = new MemoryDisk();
  const b = await SyncClient.open({
    store: new MemoryStore(disk),
    host: nodeHost(),
    relay: relay.address,
    name: "lost phone",
  });
  t.after(() => b.close());
  const invite = await a.client.invite({ confirm: () => true });
  await Promise.all([b.join(invite.link), invite.done]);
  const bId = b.deviceId;
  await b.push(utf8("before"));
  await b.flush();
  for (const { client } of [a, c]) await take(client, 1);
  await c.client.caughtUp();
  // Away while it is removed: it learns of it from the chain alone.
  await c.client.close();

  const askedMs = performance.now();
  const stopped = until(b, ({ connection }) => connection.state === "stopped").then(() => {
    t.diagnostic(`cut off ${Math.round(performance.now() - askedMs)} ms after it was asked for`);
  });
  await a.client.remove([bId]);
  await stopped;
  await a.client.pushMany([{ data: utf8("since 1") }, { data: utf8("since 2") }]);
  await a.client.flush();
  assert.equal(b.status().membership, "removed");
  assert.equal(b.status().readCursor, 1);
  await relay.stop();

  // What it has: its seed, so every secret up to its removal. And what the relay has.
  const groupId = parseId(a.client.groupId ?? "", groupIdBytes);
  assert.ok(groupId !== undefined);
  const keys = deriveDeviceKeys(disk.table("device").get("seed") as Uint8Array);
  const random = nodeHost().random;
  await withDatabase(relay.data, async (database) => {
    const control = (
      await database.query<{ bytes: Uint8Array }>("SELECT bytes FROM control ORDER BY number")
    ).map(({ bytes }) => Uint8Array.from(bytes));
    const blobs = await database.query<BlobRow>(
      `SELECT blobs.*, device_id AS sender FROM blobs JOIN devices USING (device_key)
       ORDER BY cursor`,
    );
    const chain = readChain(control.slice(0, 3), { groupId, keys });
    assert.equal(chain.epoch, 1);
    const secret = chain.keyring.secret(1) as Uint8Array;
    const bodyKey = chain.keyring.bodyKey(1) as Uint8Array;
    const open = (row: BlobRow, epoch: number): Uint8Array => {
      const header = Uint8Array.from(row.header);
      const blob = create(BlobSchema, {
        blobId: Uint8Array.from(row.blob_id),
        header,
        signature: Uint8Array.from(row.signature),
        body: Uint8Array.from(row.body),
        epoch: BigInt(epoch),
      });
      const sender = Uint8Array.from(row.sender);
      return openBody(blob, decodeHeader(header), { groupId, sender, bodyKey }).data;
    };
    const [before, ...since] = blobs;
    assert.ok(before !== undefined);
    assert.equal(fromUtf8(open(before, 1)), "before");
    assert.equal(since.length, 2);
    for (const row of since) {
      assert.equal(row.epoch, 2);
      for (const epoch of [1, 2]) opensNot(() => open(row, epoch));
    }
    // No secret of the new epoch comes out of the chain either, by whichever wrap.
    const { clear } = decodeControl(control[3] as Uint8Array);
    assert.equal(clear.wraps.length, 2);
    for (const { sealed } of clear.wraps) {
      for (const epoch of [1, 2]) opensNot(() => keys.openWrap(sealed, { groupId, epoch }));
    }
    const { previousSecret } = clear;
    assert.ok(previousSecret !== undefined);
    opensNot(() => openPreviousSecret(previousSecret, secret, { groupId, epoch: 2 }));

    // It goes on with its chain, once under the epoch it knows and once under the name of the new one,
    // and the relay's database has that as if it had been taken.
    let previous: { readonly seq: number; readonly link: Uint8Array } = {
      seq: before.seq,
      link: Uint8Array.from(before.link),
    };
    let prior = before.cursor;
    for (const epoch of [1, 2]) {
      const own = prepareBlob(
        { data: utf8("forged") },
        { groupId, keys, previous, witnessed: [], random },
      );
      const sealed = sealBlob(own, { groupId, sender: keys.deviceId, epoch, bodyKey, random });
      const cursor = blobs.length + epoch;
      const insert = await database.prepare(
        `INSERT INTO blobs (group_key, cursor, device_key, seq, prior_cursor, epoch, body_state,
           stored_age_s, link, blob_id, signature, header, body)
         SELECT group_key, ?, device_key, ?, ?, ?, 0, stored_age_s, ?, ?, ?, ?, ?
         FROM blobs WHERE cursor = 1`,
      );
      const bytes = [own.link, sealed.blobId, sealed.signature, sealed.header, sealed.body];
      await insert.run([cursor, own.seq, prior, epoch, ...bytes.map((each) => Buffer.from(each))]);
      const last = await database.prepare(
        "UPDATE devices SET last_seq = ?, last_link = ?, last_cursor = ? WHERE device_key = ?",
      );
      await last.run([own.seq, Buffer.from(own.link), cursor, before.device_key]);
      previous = own;
      prior = cursor;
    }
    await database.exec(
      "UPDATE groups SET head = head + 2, blobs = blobs + 2, bytes = bytes + 2000",
    );
  });

  await relay.start();
  const returned = await c.reopen();
  const found: IntegrityEvent[] = [];
  for (const { client } of [a, returned]) client.on("integrity", (event) => found.push(event));
  a.client.connect();
  for (const { client } of [a, returned]) {
    await until(client, ({ findings }) => findings > 0);
  }
  const newcomer = await joinDevice(t, a, "newcomer");
  await a.client.push(utf8("goes on"));
  await a.client.flush();
  const texts = async (client: SyncClient, count: number): Promise<(string | undefined)[]> =>
    (await take(client, count)).map(({ hex }) => fromUtf8(Buffer.from(hex, "hex")));
  assert.deepEqual(await texts(returned.client, 3), ["since 1", "since 2", "goes on"]);
  assert.deepEqual(await texts(newcomer.client, 4), ["before", "since 1", "since 2", "goes on"]);
  for (const { client } of [a, returned, newcomer]) {
    await client.caughtUp();
    assert.equal(client.status().findings > 0, true);
    assert.equal(client.status().inSync, false);
  }
  for (const { finding, sender } of found) assert.deepEqual([finding, sender], ["STRANGER", bId]);
});
