/** What a removed device can still sign, shown to an app that looks back. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareBlob, sealBlob } from "../../client/seal/blob.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { readChain } from "../../client/seal/membership.ts";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { fromUtf8, utf8 } from "../../wire/bytes.ts";
import { zeroLink } from "../../wire/ids.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

interface Place {
  readonly seq: number;
  readonly link: Uint8Array;
}

async function withRemoved() {
  const relay = new FakeRelay(new World());
  const { world } = relay;
  const a = await founder(relay);
  const b = await member(a);
  await b.push("one");
  await world.result(b.client.flush());
  await a.push("of the remover");
  await world.result(a.client.flush());
  await b.push("two");
  await world.result(b.client.flush());
  await world.until(() => a.client.status().readCursor === 3);
  await a.take();
  const { group } = relay;
  const keys = deriveDeviceKeys(b.disk.table("device").get("seed") as Uint8Array);
  const chain = readChain(group.control, { groupId: group.groupId, keys });
  await world.result(a.client.remove([b.client.deviceId]));
  /** An entry that the removed device signs, of the epoch that it still knows. */
  const forged = (previous: Place, cursor: number) => {
    const { groupId } = group;
    const random = (n: number): Uint8Array => world.random(n);
    const own = prepareBlob(
      { data: utf8("forged") },
      { groupId, keys, previous, witnessed: [], random },
    );
    const bodyKey = chain.keyring.bodyKey(1) as Uint8Array;
    const sealed = sealBlob(own, { groupId, sender: keys.deviceId, epoch: 1, bodyKey, random });
    const { seq, link } = own;
    const bodyState = BodyState.UNSPECIFIED;
    return { ...sealed, cursor, sender: keys.deviceId, seq, link, bodyState };
  };
  return { relay, world, a, forged };
}

async function historyOf(device: Device): Promise<string[]> {
  await device.world.until(() => device.client.status().connection.state === "online");
  const texts: string[] = [];
  const read = async (): Promise<void> => {
    for await (const { data } of device.client.history({ after: 0 })) {
      texts.push(fromUtf8(data) ?? "?");
    }
  };
  await device.world.result(read());
  return texts;
}

const told = ["one", "of the remover", "two"];

test("PROTOCOL 13.2: an app that looks back sees a removed device's entries that lead up to its closing", async () => {
  const { a } = await withRemoved();
  assert.deepEqual(await historyOf(a), told);
  await a.restart();
  assert.deepEqual(await historyOf(a), told);
});

test("PROTOCOL 13.2: and none that it signed since, in their place or behind them", async () => {
  const { relay, a, forged } = await withRemoved();
  const [one, , two] = relay.group.blobs;
  assert.ok(one !== undefined && two !== undefined);
  const first = forged({ seq: 0, link: zeroLink }, 1);
  const branches = [
    [first, forged(first, 3)],
    // The one that it follows leads up to nothing then.
    [one, forged(one, 3)],
  ];
  for (const branch of branches) {
    relay.meddler.blobs = (_session, blobs) =>
      blobs.map((blob) => branch.find(({ cursor }) => cursor === blob.cursor) ?? blob);
    await a.restart();
    assert.deepEqual(await historyOf(a), ["of the remover"]);
  }
  delete relay.meddler.blobs;
  relay.group.blobs.push(forged(two, 4));
  await a.restart();
  await a.world.until(() => a.client.status().readCursor === 4);
  assert.deepEqual(await historyOf(a), told);
});
