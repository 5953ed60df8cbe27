/** Limits that change while the relay runs: nobody is dropped, and the new ones hold. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Admission } from "../../server/admission.ts";
import { defaultLimits, type RelayLimits, readOptions } from "../../server/options.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { ChainDevice, foundingOf } from "../support/devices.ts";
import { RelayWorldUnderTest, settled } from "../support/relay-world.ts";

function reconfigure(
  world: RelayWorldUnderTest,
  limits: Partial<RelayLimits>,
  founding: "open" | "invite" | "closed" = "open",
): void {
  world.relay.reconfigure(readOptions({ founding, limits }));
}

test("pushes per second hold for sessions that are there already", async () => {
  const world = new RelayWorldUnderTest({ limits: { pushesPerS: 1, pushesBurst: 1 } });
  const ada = new ChainDevice(1);
  await world.found(ada);
  const peer = await world.member(ada);
  peer.push(ada.run(1));
  peer.push([ada.make()]);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.RATE_LIMITED);
  reconfigure(world, { pushesPerS: 100, pushesBurst: 100 });
  world.pass(1_000);
  for (let i = 0; i < 20; i++) peer.push(ada.run(1));
  await settled();
  assert.equal(peer.all("pushAck").length, 21);
  assert.equal(peer.endedWith, undefined);
});

test("quotas of groups and store hold from the next commit on", async () => {
  const world = new RelayWorldUnderTest();
  const ada = new ChainDevice(1);
  await world.found(ada);
  const peer = await world.member(ada);
  reconfigure(world, { groupBytesMax: 500 });
  peer.push([ada.make({ bodyBytes: 1_000 })]);
  await settled();
  assert.equal(peer.last("error").code, ErrorCode.QUOTA_EXCEEDED);
  reconfigure(world, { storeBytesMax: 500 });
  peer.push([ada.make({ bodyBytes: 1_000 })]);
  await settled();
  assert.equal(peer.all("error").length, 2);
  reconfigure(world, {});
  peer.push([ada.next({ bodyBytes: 1_000 })]);
  await settled();
  assert.equal(peer.all("pushAck").length, 1);
});

test("a session keeps the sizes it was welcomed with; the next one is told the new ones", async () => {
  const world = new RelayWorldUnderTest({ limits: { blobBytesMax: 4_000 } });
  const ada = new ChainDevice(1);
  await world.found(ada);
  const peer = await world.member(ada);
  reconfigure(world, { blobBytesMax: 1_024 });
  peer.push([ada.next({ bodyBytes: 2_000 })]);
  await settled();
  assert.equal(peer.all("pushAck").length, 1);
  const back = await world.member(ada);
  assert.equal(back.last("welcome").limits?.blobBytesMax, 1_024);
  back.push([ada.make({ bodyBytes: 2_000 })]);
  await settled();
  assert.equal(back.last("error").code, ErrorCode.TOO_LARGE);
});

test("who may found a group holds for lobbies that are there already", async () => {
  const world = new RelayWorldUnderTest();
  const ada = new ChainDevice(1);
  const lobby = await world.lobby(ada.id);
  reconfigure(world, {}, "closed");
  lobby.ask({ case: "changeMembership", value: foundingOf(ada.id).change });
  await settled();
  assert.equal(lobby.last("error").code, ErrorCode.REGISTRATION_CLOSED);
});

test("admission: fewer sessions turn new ones away and leave those inside alone", () => {
  const admission = new Admission(defaultLimits);
  assert.equal(admission.begin("192.0.2.1", false, 0), undefined);
  admission.finish("192.0.2.1", "finished");
  admission.takeLimits({ ...defaultLimits, sessionsMax: 1 });
  assert.equal(admission.begin("192.0.2.2", false, 0), "sessions");
  assert.equal(admission.sessions, 1);
  admission.takeLimits(defaultLimits);
  assert.equal(admission.begin("192.0.2.2", false, 0), undefined);
});
