/** `verify`: everything a relay still holds, walked anew. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import type { VerificationReport } from "../../client/index.ts";
import { rename } from "../../client/seal/changes.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { type FakeBlob, FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  readonly b: Device;
}

/** Two devices that wrote three entries each, and have everything of each other. */
async function inSync(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  for (const device of [a, b]) {
    await device.push("one", "two", "three");
    await world.result(device.client.flush());
  }
  await world.until(() => [a, b].every(({ client }) => client.status().readCursor === 6));
  for (const device of [a, b]) await device.take();
  await world.until(() => a.inSync && b.inSync);
  return { relay, world, a, b };
}

/** What `verify` on the second device says of a log that is shown otherwise than it was read. */
async function verifyShown(
  { relay, world, b }: Group,
  change: (blobs: readonly FakeBlob[]) => readonly FakeBlob[],
): Promise<VerificationReport> {
  relay.meddler = { blobs: (_session, blobs) => [...change(blobs)] };
  return await world.result(b.client.verify());
}

const at = (cursor: number, change: (blob: FakeBlob) => FakeBlob) => (blobs: readonly FakeBlob[]) =>
  blobs.map((blob) => (blob.cursor === cursor ? change(blob) : blob));

const flipped = (bytes: Uint8Array): Uint8Array =>
  bytes.map((byte, i) => (i === bytes.byteLength - 1 ? byte ^ 1 : byte));

const wrong = ({ problems }: VerificationReport): (string | number | undefined)[][] =>
  problems.map(({ finding, cursor }) => [finding, cursor]);

describe("verify", () => {
  test("counts what stands in its chains, and says what is gone and why", async () => {
    const { relay, world, a, b } = await inSync();
    const { blobId } = await a.client.push(utf8("deleted"));
    await a.client.push(utf8("expired"), { ttlS: 1 });
    await a.client.delete([blobId]);
    await world.result(a.client.flush());
    await world.until(() => b.client.status().readCursor === 9);
    await b.take();
    const progress: number[] = [];
    relay.meddler = {
      blobs: (_session, blobs) =>
        blobs.map((blob) => {
          const bodyState =
            blob.cursor === 7 ? BodyState.DELETED : blob.cursor === 8 ? BodyState.EXPIRED : 0;
          return bodyState === 0 ? blob : { ...blob, body: new Uint8Array(0), bodyState };
        }),
    };
    const report = await world.result(
      b.client.verify({ onProgress: ({ done, total }) => progress.push(done, total) }),
    );
    assert.deepEqual(
      {
        ...report,
        senders: report.senders.map(({ headers, bodies, lastSeq }) => [headers, bodies, lastSeq]),
      },
      {
        after: 0,
        through: 9,
        controlBlobs: 2,
        headers: 9,
        bodies: 7,
        missing: { deleted: 1, expired: 1, trimmed: 0 },
        senders: [
          [6, 4, 6],
          [3, 3, 3],
        ],
        problems: [],
        problemCount: 0,
        ok: true,
      },
    );
    assert.deepEqual(progress, [9, 9]);
    assert.equal(b.client.status().inSync, true);
  });

  test("names an altered body, an altered header, and a body that nothing explains", async () => {
    const group = await inSync();
    assert.deepEqual(
      wrong(
        await verifyShown(
          group,
          at(2, (blob) => ({ ...blob, body: flipped(blob.body) })),
        ),
      ),
      [["ALTERED", 2]],
    );
    assert.deepEqual(
      wrong(
        await verifyShown(
          group,
          at(3, (blob) => ({ ...blob, signature: flipped(blob.signature) })),
        ),
      ),
      [["ALTERED", 3]],
    );
    assert.deepEqual(
      wrong(
        await verifyShown(
          group,
          at(5, (blob) => ({ ...blob, body: new Uint8Array(0), bodyState: BodyState.TRIMMED })),
        ),
      ),
      [["WITHHELD", 5]],
    );
    assert.equal((await verifyShown(group, (blobs) => blobs)).ok, true);
  });

  test("names one entry shown in the place of another, and a sender's history cut short", async () => {
    const group = await inSync();
    const swapped = await verifyShown(group, (blobs) =>
      blobs.map((blob, i) => {
        const other = i === 0 ? blobs[1] : i === 1 ? blobs[0] : blob;
        return { ...(other ?? blob), cursor: blob.cursor };
      }),
    );
    // Behind the second, the first counts as shown again.
    assert.deepEqual(wrong(swapped), [["REPLAYED", 2]]);
    const again = await verifyShown(group, (blobs) =>
      blobs.map((blob, i) => ({ ...(i === 2 ? (blobs[1] ?? blob) : blob), cursor: blob.cursor })),
    );
    assert.deepEqual(
      again.problems.map(({ finding }) => finding),
      ["REPLAYED", "ROLLED_BACK"],
    );
  });

  test("names a membership history that is shorter than the one gone by", async () => {
    const { relay, world, b } = await inSync();
    relay.group.control.pop();
    const report = await world.result(b.client.verify());
    assert.deepEqual(
      report.problems.map(({ finding, sender }) => [finding, sender]),
      // Without its addition the second device is no member of what is shown.
      [["MEMBERSHIP_ALTERED", undefined]],
    );
  });

  test("names a longer membership history that is not the one gone by", async () => {
    const { relay, world, a, b } = await inSync();
    await world.result(a.client.rename("renamed"));
    await world.until(() => b.client.devices().some(({ name }) => name === "renamed"));
    assert.equal((await world.result(b.client.verify())).ok, true);
    const { control, groupId } = relay.group;
    const keys = deriveDeviceKeys(a.disk.table("device").get("seed") as Uint8Array);
    control.pop();
    for (const name of ["other", "others"]) {
      const random = (length: number): Uint8Array => world.random(length);
      const chain = readChain(control, { groupId, keys });
      control.push(rename(chain, name, { keys, random, nowMs: 1 }).controlBlob);
    }
    const { problems } = await world.result(b.client.verify());
    assert.deepEqual(
      problems.map(({ finding }) => finding),
      ["MEMBERSHIP_FORKED"],
    );
  });
});
