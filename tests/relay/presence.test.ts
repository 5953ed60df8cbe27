/** Who is there: told at once while there is little of it, and in its turn where there is much. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { bytes, ChainDevice, groupId } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

/** What a relay tells at once, in sessions, and what it tells a second. */
const burst = 4_000;
const perS = 2_000;

/** A group of two devices that are both there. */
async function pair(world: RelayWorldUnderTest, seed: number) {
  const groupOf = bytes(groupId.byteLength, seed);
  const a = new ChainDevice(seed, groupOf);
  const b = new ChainDevice(seed + 1, groupOf);
  await world.found(a, b);
  const first = await world.member(a, undefined, groupOf);
  const second = await world.member(b, undefined, groupOf);
  await settled();
  first.said();
  second.said();
  return { a, b, first, second, groupOf };
}

function say(peer: Peer, state: PresenceState): void {
  peer.ask({ case: "presence", value: { state } });
}

/** Changes until nothing more is told at once. */
function exhaust(first: Peer, second: Peer): void {
  for (let i = 0; i <= burst; i++) {
    say(first, i % 2 === 0 ? PresenceState.AWAY : PresenceState.ONLINE);
    if (second.said().length === 0) return;
  }
  assert.fail("everything is told at once");
}

test("7.5 beyond what is told at once a device is told in its turn, once, as it then stands", async () => {
  const world = new RelayWorldUnderTest();
  const { first, second } = await pair(world, 1);
  exhaust(first, second);
  for (let i = 0; i < 100; i++) say(first, PresenceState.ONLINE);
  say(first, PresenceState.AWAY);
  say(second, PresenceState.AWAY);
  first.said();
  assert.deepEqual(
    second.said().filter((line) => line.startsWith("presence")),
    [],
  );
  world.pass(1_000);
  assert.deepEqual(second.said(), [`presence ${PresenceState.AWAY}`]);
  assert.deepEqual(first.said(), [`presence ${PresenceState.AWAY}`]);
  // What waited is told; the next is told at once again.
  say(first, PresenceState.ONLINE);
  assert.deepEqual(second.said(), [`presence ${PresenceState.ONLINE}`]);
});

test("7.5 who waits is told before what came later of another group, and a group that is gone is told to nobody", async () => {
  const world = new RelayWorldUnderTest();
  const busy = await pair(world, 1);
  const quiet = await pair(world, 11);
  exhaust(busy.first, busy.second);
  // There would be tokens for this one soon; it waits behind the other all the same.
  world.monotonicMs += 10;
  say(quiet.first, PresenceState.AWAY);
  assert.deepEqual(quiet.second.said(), []);
  busy.first.cut();
  busy.second.cut();
  world.pass((4 / perS) * 1_000);
  assert.deepEqual(quiet.second.said(), [`presence ${PresenceState.AWAY}`]);
});

test("7.5 a device that went while it waited to be told is told gone", async () => {
  const world = new RelayWorldUnderTest();
  const { a, first, second } = await pair(world, 1);
  exhaust(first, second);
  say(first, PresenceState.ONLINE);
  first.cut();
  assert.deepEqual(second.said(), []);
  world.pass(1_000);
  assert.deepEqual(second.said(), [`presence ${PresenceState.OFFLINE}`]);
  assert.deepEqual(second.last("presence").deviceId, a.id);
});
