/** Two entries that one device signed for one place, each shown to another member. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareBlob, sealBlob } from "../../client/seal/blob.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { type Device, founder, member } from "../client/support/devices.ts";
import { FakeRelay } from "../client/support/fake-relay.ts";
import { World } from "../client/support/world.ts";
import { taking } from "./setting.ts";

/** `a` was copied: what one copy wrote is shown to `b`, and what the other wrote, to `c`. */
async function twoBranches() {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  const c = await member(a);
  const devices: readonly Device[] = [a, b, c];
  await a.push("before");
  await world.until(() => devices.every(({ client }) => client.status().readCursor === 1));
  const { group } = relay;
  const previous = group.senders.get(a.client.deviceId);
  assert.ok(previous !== undefined);
  const keys = deriveDeviceKeys(a.disk.table("device").get("seed") as Uint8Array);
  const { groupId } = group;
  const bodyKey = readChain(group.control, { groupId, keys }).keyring.bodyKey(1) as Uint8Array;
  const random = (n: number): Uint8Array => world.random(n);
  const own = prepareBlob(
    { data: utf8("to c") },
    { groupId, keys, previous: { ...previous }, witnessed: [], random },
  );
  const sealed = sealBlob(own, { groupId, sender: keys.deviceId, epoch: 1, bodyKey, random });
  const { seq, link } = own;
  const bodyState = BodyState.UNSPECIFIED;
  const other = { ...sealed, cursor: 2, sender: keys.deviceId, seq, link, bodyState };
  relay.meddler.blobs = (session, blobs) =>
    session.device === c.client.deviceId
      ? blobs.map((blob) => (blob.cursor === other.cursor ? other : blob))
      : blobs;
  const read = { b: taking(b), c: taking(c) };
  await a.push("to b");
  await world.until(() => devices.every(({ client }) => client.status().readCursor === 2));
  await world.until(() => read.b.texts.length === 2 && read.c.texts.length === 2);
  assert.deepEqual(read.b.texts, ["before", "to b"]);
  assert.deepEqual(read.c.texts, ["before", "to c"]);
  assert.deepEqual(c.integrity, []);
  return { world, a, b, c, read };
}

const namesFork = ({ c, a }: { readonly c: Device; readonly a: Device }): boolean =>
  c.integrity.some(({ finding, sender }) => finding === "FORKED" && sender === a.client.deviceId);

test("PROTOCOL 13.4: an entry of a member that was shown the one names the branch to the member that was shown the other", async () => {
  const branches = await twoBranches();
  const { world, a, b, c, read } = branches;
  await b.push("meets");
  await world.until(() => namesFork(branches));
  assert.equal(c.inSync, false);
  // Nothing more of the device that has two histories is applied; everybody else goes on.
  await a.push("behind it");
  await b.push("goes on");
  await world.until(() => read.c.texts.includes("goes on"));
  assert.deepEqual(read.c.texts, ["before", "to c", "meets", "goes on"]);
});

test("PROTOCOL 13.9: so does its witness, where it writes nothing", async () => {
  const branches = await twoBranches();
  await branches.world.until(() => namesFork(branches), 48 * 60 * 60 * 1000);
  assert.equal(branches.c.inSync, false);
});
