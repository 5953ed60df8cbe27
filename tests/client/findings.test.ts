/** What is found wrong: kept with its evidence, made good by what is shown later, or accepted by a person. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { toBinary } from "@bufbuild/protobuf";
import { verifyLink } from "../../client/seal/blob.ts";
import { EvidenceBundleSchema } from "../../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { BodyState } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { blobLink, idText } from "../../wire/ids.ts";
import { type Device, founder, member } from "./support/devices.ts";
import { type FakeBlob, FakeRelay } from "./support/fake-relay.ts";
import { World } from "./support/world.ts";

interface Group {
  readonly relay: FakeRelay;
  readonly world: World;
  readonly a: Device;
  readonly b: Device;
  readonly c: Device;
}

/** Three devices, of which `b` has read nothing and is away. */
async function group(): Promise<Group> {
  const relay = new FakeRelay(new World());
  const a = await founder(relay);
  const b = await member(a);
  const c = await member(a);
  b.crash();
  return { relay, world: relay.world, a, b, c };
}

function show(relay: FakeRelay, device: Device, change: (blob: FakeBlob) => FakeBlob): void {
  relay.meddler = {
    blobs: (session, blobs) =>
      session.device === device.client.deviceId ? blobs.map(change) : blobs,
  };
}

const flipped = (blob: FakeBlob): FakeBlob => ({
  ...blob,
  body: blob.body.map((byte, i) => (i === 40 ? byte ^ 1 : byte)),
});
const without = (blob: FakeBlob): FakeBlob => ({
  ...blob,
  body: new Uint8Array(0),
  bodyState: BodyState.DELETED,
});

/** `a` wrote three entries and `c` one; `b` is shown the second of `a` altered. */
async function altered(): Promise<Group> {
  const all = await group();
  const { relay, world, a, b, c } = all;
  await a.push("one", "two", "three");
  await world.result(a.client.flush());
  await c.push("other");
  await world.result(c.client.flush());
  show(relay, b, (blob) => (blob.cursor === 2 ? flipped(blob) : blob));
  await b.start();
  await world.until(() => b.client.status().readCursor === 4);
  return all;
}

describe("PROTOCOL 13.10: after a finding", () => {
  test("its sender is held, others go on, and the finding outlasts a restart, with its evidence", async () => {
    const { world, a, b } = await altered();
    assert.deepEqual(await b.take(), ["one", "other"]);
    const told = b.integrity.map(({ finding, sender, seq, cursor }) => [
      finding,
      sender,
      seq,
      cursor,
    ]);
    assert.deepEqual(told, [["ALTERED", a.client.deviceId, 2, 2]]);
    await b.restart();
    await world.until(() => b.client.status().connection.state === "online");
    const [finding, ...more] = b.client.findings();
    assert.deepEqual(more, []);
    assert.equal(finding?.id, b.integrity[0]?.id);
    assert.deepEqual(
      [finding?.state, finding?.holds, finding?.sender, finding?.seq],
      ["open", true, a.client.deviceId, 2],
    );
    assert.equal(b.inSync, false);
  });

  test("the intact entry makes it good: what was held is applied, in order, and the finding is healed", async () => {
    const { relay, world, b } = await altered();
    await b.take();
    relay.meddler = {};
    world.cutAll();
    await world.until(() => b.client.status().refused === 0);
    assert.deepEqual(await b.take(), ["two", "three"]);
    await world.until(() => b.inSync);
    assert.deepEqual(
      b.client.findings().map(({ finding, state }) => [finding, state]),
      [["ALTERED", "healed"]],
    );
  });

  test("a relay that then says that its log changed does not make it forgotten", async () => {
    const { relay, world, b } = await altered();
    await b.take();
    relay.stop();
    relay.restore(relay.backup());
    relay.start();
    await world.until(() => b.errors.length > 0 && b.client.status().readCursor === 4);
    await world.run(1_000);
    assert.equal(b.client.status().findings, 1);
    relay.meddler = {};
    relay.stop();
    relay.restore(relay.backup());
    relay.start();
    await world.until(() => b.client.status().findings === 0);
    assert.deepEqual(await b.take(), ["two", "three"]);
    await world.until(() => b.inSync);
  });
});

describe("PROTOCOL 13.11: a person accepts", () => {
  test("an altered entry: the sender's chain goes on behind it, and the app is told of the gap", async () => {
    const { world, a, b } = await altered();
    await b.take();
    const gaps: unknown[] = [];
    b.client.on("gap", (gap) => gaps.push(gap));
    const id = b.client.findings()[0]?.id ?? "";
    await world.result(b.client.acceptFinding(id));
    await world.until(() => b.client.status().refused === 0);
    assert.deepEqual(await b.take(), ["three"]);
    assert.deepEqual(gaps, [{ from: 2, through: 2, sender: a.client.deviceId }]);
    await world.until(() => b.inSync);
    await a.push("four");
    await world.until(() => b.client.status().readCursor === 5);
    assert.deepEqual(await b.take(), ["four"]);
    await b.restart();
    await world.until(() => b.inSync);
    assert.deepEqual(
      b.client.findings().map(({ finding, state }) => [finding, state]),
      [["ALTERED", "accepted"]],
    );
  });

  test("the last entry of a sender: its next one is taken, and only one gap is", async () => {
    const { relay, world, a, b } = await group();
    await a.push("one", "two");
    await world.result(a.client.flush());
    show(relay, b, (blob) => (blob.cursor === 2 ? flipped(blob) : blob));
    await b.start();
    await world.until(() => b.integrity.length > 0);
    await world.result(b.client.acceptFinding(b.integrity[0]?.id ?? ""));
    assert.deepEqual(await b.take(), ["one"]);
    await world.until(() => b.inSync);
    await b.restart();
    await a.push("three");
    await world.until(() => b.client.status().readCursor === 3);
    assert.deepEqual(await b.take(), ["three"]);
    show(relay, b, (blob) => (blob.cursor === 4 ? flipped(blob) : blob));
    await a.push("four", "five");
    await world.until(() => b.client.status().readCursor === 5);
    assert.deepEqual(await b.take(), []);
    assert.equal(b.client.status().findings, 1);
  });

  test("a body that is withheld: it is let go, and nothing else changes", async () => {
    const { relay, world, a, b } = await group();
    await a.push("one", "two");
    await world.result(a.client.flush());
    show(relay, b, (blob) => (blob.cursor === 1 ? without(blob) : blob));
    await b.start();
    await world.until(() => b.integrity.length > 0);
    assert.deepEqual(await b.take(), ["two"]);
    assert.equal(b.client.findings()[0]?.holds, false);
    await world.result(b.client.acceptFinding(b.integrity[0]?.id ?? ""));
    await world.until(() => b.inSync);
    assert.equal(b.client.status().appliedCursor, 2);
  });

  test("no finding of that id, and one that is closed already", async () => {
    const { world, b } = await altered();
    await assert.rejects(b.client.acceptFinding("none"), /no finding/);
    const id = b.client.findings()[0]?.id ?? "";
    await world.result(b.client.acceptFinding(id));
    await world.result(b.client.acceptFinding(id));
    assert.equal(b.client.findings()[0]?.state, "accepted");
  });
});

describe("PROTOCOL 13.10: evidence", () => {
  test("holds what the relay sent and the keys to check it, and nothing that is secret", async () => {
    const { a, b } = await altered();
    const id = b.client.findings()[0]?.id ?? "";
    const bundle = await b.client.evidence(id);
    const [finding] = bundle.findings;
    const [received] = finding?.received ?? [];
    assert.equal(idText(received?.sender ?? new Uint8Array(0)), a.client.deviceId);
    const device = bundle.devices.find(({ deviceId }) => idText(deviceId) === a.client.deviceId);
    const { blob } = received ?? {};
    assert.ok(blob !== undefined && device !== undefined && received !== undefined);
    // The header is signed; the body beside it is not what it fixes.
    const link = blobLink(bundle.groupId, received.sender, blob.blobId, blob.header);
    assert.ok(verifyLink(device.signingKey, link, blob.signature));
    assert.equal(Number(bundle.membership?.count), 3);
    const bytes = Buffer.from(toBinary(EvidenceBundleSchema, bundle));
    for (const secret of ["one", "two", "three", "founder", "member"]) {
      assert.equal(bytes.includes(secret), false, secret);
    }
    assert.deepEqual((await b.client.evidence()).findings.length, 1);
    await assert.rejects(b.client.evidence("none"), /no finding/);
  });
});

describe("what a relay may make a device keep", () => {
  test("entries that do not hold are bounded: beyond that the session ends", async () => {
    const { relay, world, a, b } = await group();
    await a.push(...Array.from({ length: 100 }, (_, i) => `entry ${i}`));
    await world.result(a.client.flush());
    const big = new Uint8Array(8_000);
    const { blobs } = relay.group;
    const all = Array.from({ length: 9_000 }, (_, i) => ({
      ...(blobs[i % blobs.length] as FakeBlob),
      cursor: i + 1,
      header: big,
    }));
    relay.group.blobs = all;
    await b.start();
    await world.until(() => b.client.status().connection.state === "waiting", 600_000);
    assert.ok(b.client.status().refused < 9_000);
    assert.equal(b.inSync, false);
  });
});
