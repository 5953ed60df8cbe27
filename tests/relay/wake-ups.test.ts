/** Devices that are not connected are woken: whom, when, how often, and what a push service's answer comes to. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Draft } from "../../server/draft.ts";
import type { WakeUpPlace } from "../../server/wake-up-requests.ts";
import {
  type WakeUpOutcome,
  type WakeUpSender,
  WakeUps,
  wakeUpDelayMs,
  wakeUpIntervalMs,
  wakeUpRetryMs,
  wakeUpRetryMsMax,
  wakeUpsInFlightMax,
  wakeUpsKnownMax,
  wakeUpTriesMax,
} from "../../server/wake-ups.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { idText } from "../../wire/ids.ts";
import { bytes, ChainDevice, groupId, removalOf } from "../support/devices.ts";
import { gatedStore, type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";
import { asked, rest } from "./life-support.ts";

/** A push service that notes whom it is to wake, and answers as it is told. */
class FakePushService implements WakeUpSender {
  readonly applicationServerKey = Uint8Array.of(4, ...bytes(64, 40));
  readonly woken: string[] = [];
  answer: WakeUpOutcome = { kind: "sent" };

  accepts(endpoint: string): boolean {
    return endpoint.startsWith("https://");
  }

  async send({ endpoint }: WakeUpPlace): Promise<WakeUpOutcome> {
    this.woken.push(endpoint);
    return this.answer;
  }
}

function placeOf(name: string): WakeUpPlace {
  return {
    endpoint: `https://push.example/${name}`,
    p256dh: Uint8Array.of(4, ...bytes(64, name.length)),
    auth: bytes(16, 1),
  };
}

/** What the relay says then: whether the device is woken, and whether it refused. */
async function register(peer: Peer, place: WakeUpPlace | undefined): Promise<string> {
  await asked(peer, { case: "setWakeUp", value: place ?? {} });
  const { registered, refused } = peer.last("wakeUp");
  return `${registered ? "registered" : "none"}${refused ? ", refused" : ""}`;
}

/** A group of two: the first stays connected and writes, the second is registered and goes. */
async function asleep() {
  const service = new FakePushService();
  const world = new RelayWorldUnderTest({ wakeUps: service });
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b);
  const first = await world.member(a);
  const second = await world.member(b);
  assert.equal(await register(second, placeOf("b")), "registered");
  second.cut();
  /** The first writes an entry; then so much time passes. */
  const write = async (afterMs: number): Promise<void> => {
    first.push(a.run(1));
    await rest();
    world.pass(afterMs);
    await rest();
  };
  return { service, world, a, b, first, version, write };
}

test("14.1 14.3 what is registered is told with the relay's key, replaced, and ended", async () => {
  const service = new FakePushService();
  const world = new RelayWorldUnderTest({ wakeUps: service });
  const a = new ChainDevice(1);
  await world.found(a);
  const peer = await world.member(a);
  assert.deepEqual(peer.last("welcome").capabilities, [1, 2, 3]);
  await asked(peer, { case: "getWakeUp", value: {} });
  assert.equal(peer.last("wakeUp").registered, false);
  assert.deepEqual(peer.last("wakeUp").relayKey, service.applicationServerKey);
  assert.equal(await register(peer, placeOf("one")), "registered");
  const stored = async (): Promise<string[]> =>
    ((await world.store.loadGroup(groupId))?.wakeUps ?? []).map(({ endpoint }) => endpoint);
  assert.deepEqual(await stored(), ["https://push.example/one"]);
  assert.equal(await register(peer, placeOf("two")), "registered");
  assert.deepEqual(await stored(), ["https://push.example/two"]);
  assert.equal(await register(peer, undefined), "none");
  assert.deepEqual(await stored(), []);
});

test("14.1 a relay that wakes nobody does not announce it, and refuses the request alone", async () => {
  const world = new RelayWorldUnderTest();
  const a = new ChainDevice(1);
  await world.found(a);
  const peer = await world.member(a);
  assert.deepEqual(peer.last("welcome").capabilities, [1, 2]);
  const said = await asked(peer, { case: "setWakeUp", value: placeOf("a") });
  assert.match(said, new RegExp(`error ${ErrorCode.ENVELOPE_UNEXPECTED}$`));
  assert.equal(peer.endedWith, undefined);
});

test("14.2 SECURITY 10.2: an endpoint that the relay does not send to is refused, and what was registered stays", async () => {
  const world = new RelayWorldUnderTest({ wakeUps: new FakePushService() });
  const a = new ChainDevice(1);
  await world.found(a);
  const peer = await world.member(a);
  await register(peer, placeOf("one"));
  const refused = { ...placeOf("one"), endpoint: "http://push.example/two" };
  assert.equal(await register(peer, refused), "registered, refused");
  const kept = (await world.store.loadGroup(groupId))?.wakeUps;
  assert.deepEqual(
    kept?.map(({ endpoint }) => endpoint),
    ["https://push.example/one"],
  );
});

test("14.2 a subscription that cannot be one ends the session", async () => {
  const place = placeOf("a");
  const wrong: readonly [string, WakeUpPlace][] = [
    ["an endpoint over the bound", { ...place, endpoint: `https://${"a".repeat(1_017)}` }],
    ["a key that is short", { ...place, p256dh: place.p256dh.subarray(1) }],
    ["a key that is no uncompressed point", { ...place, p256dh: bytes(65, 3).fill(2, 0, 1) }],
    ["a secret that is long", { ...place, auth: bytes(17, 1) }],
  ];
  for (const [what, subscription] of wrong) {
    const world = new RelayWorldUnderTest({ wakeUps: new FakePushService() });
    const a = new ChainDevice(1);
    await world.found(a);
    const peer = await world.member(a);
    peer.ask({ case: "setWakeUp", value: subscription });
    await rest();
    assert.equal(peer.endedWith, ErrorCode.ENVELOPE_INVALID, what);
  }
});

test("14.4 a device that is away is woken once, and again only once it was there, or the interval is over", async () => {
  const { service, world, b, write } = await asleep();
  await write(wakeUpDelayMs - 1);
  assert.deepEqual(service.woken, [], "one that only changes networks is back by then");
  await write(1);
  assert.deepEqual(service.woken, ["https://push.example/b"]);
  for (let i = 0; i < 10; i++) await write(wakeUpDelayMs);
  assert.equal(service.woken.length, 1, "it has been told");
  world.pass(wakeUpIntervalMs);
  await write(wakeUpDelayMs);
  assert.equal(service.woken.length, 2, "after the interval it is told again");
  const back = await world.member(b);
  back.cut();
  await write(wakeUpDelayMs);
  assert.equal(service.woken.length, 3, "and once it was there, at once");
  assert.equal(world.relay.counters.wakeUpsSent, 3);
});

test("14.4 who is connected, was back in time, or is not registered, is not woken", async () => {
  const { service, world, a, b, first, write } = await asleep();
  await write(wakeUpDelayMs - 1);
  const back = await world.member(b);
  world.pass(wakeUpDelayMs);
  await write(wakeUpDelayMs);
  assert.deepEqual(service.woken, []);
  await register(back, undefined);
  back.cut();
  await write(wakeUpDelayMs);
  first.cut();
  const other = await world.member(b);
  other.push(b.run(1));
  await rest();
  world.pass(wakeUpDelayMs);
  await rest();
  assert.deepEqual(service.woken, [], `${a.id.length}`);
});

test("14.4 a device's own blobs are no reason to wake it", async () => {
  const { service, world, b } = await asleep();
  const back = await world.member(b);
  back.push(b.run(1));
  back.cut();
  await rest();
  world.pass(wakeUpDelayMs);
  await rest();
  assert.deepEqual(service.woken, []);
});

test("14.4 what came while a connection was dead and was not acknowledged counts when that shows", async () => {
  const { service, world, b, write } = await asleep();
  const dead = await world.member(b);
  await write(wakeUpDelayMs);
  assert.deepEqual(service.woken, []);
  dead.cut();
  world.pass(wakeUpDelayMs);
  await rest();
  assert.equal(service.woken.length, 1);
  // Woken, it connects and goes without acknowledging: nothing new came, and it is not woken for ever.
  const back = await world.member(b);
  back.cut();
  world.pass(wakeUpDelayMs);
  await rest();
  assert.equal(service.woken.length, 1);
  const third = await world.member(b);
  await write(0);
  third.ask({ case: "ack", value: { applied: 2n } });
  third.cut();
  world.pass(wakeUpDelayMs);
  await rest();
  assert.equal(service.woken.length, 1, "what was acknowledged was there");
});

test("14.3 a subscription that the push service no longer knows is forgotten", async () => {
  const { service, world, write } = await asleep();
  service.answer = { kind: "gone" };
  await write(wakeUpDelayMs);
  assert.equal(service.woken.length, 1);
  assert.equal((await world.store.loadGroup(groupId))?.wakeUps, undefined);
  assert.equal(world.relay.counters.wakeUpsGone, 1);
  world.pass(wakeUpIntervalMs);
  await write(wakeUpDelayMs);
  assert.equal(service.woken.length, 1);
});

test("14.3 one that was registered anew meanwhile is not", async () => {
  const { service, world, b, write } = await asleep();
  let answer: (outcome: WakeUpOutcome) => void = () => undefined;
  service.send = async () =>
    await new Promise((resolve) => {
      answer = resolve;
    });
  await write(wakeUpDelayMs);
  const back = await world.member(b);
  await register(back, placeOf("b again"));
  answer({ kind: "gone" });
  await rest();
  const kept = (await world.store.loadGroup(groupId))?.wakeUps;
  assert.deepEqual(
    kept?.map(({ endpoint }) => endpoint),
    ["https://push.example/b again"],
  );
});

test("14.3 it goes with its device's removal, and with the group", async () => {
  const { world, a, b, first, version } = await asleep();
  const removal = removalOf(a, b, version);
  first.ask({ case: "changeMembership", value: removal.change });
  await rest();
  assert.equal((await world.store.loadGroup(groupId))?.wakeUps, undefined);
  await register(first, placeOf("a"));
  const live = world.relay.liveGroup((await world.relay.group(groupId))?.entry.idText ?? "");
  assert.ok(live !== undefined);
  await world.relay.operate((draft) => draft.deleteGroup(live.entry));
  assert.equal(await world.store.loadGroup(groupId), undefined);
});

test("14.3 what a device asks in the commit that removes it is refused, and leaves nothing", async () => {
  const gate = gatedStore();
  const world = new RelayWorldUnderTest({
    disk: gate.store,
    wakeUps: new FakePushService(),
  });
  gate.open();
  const a = new ChainDevice(1);
  const b = new ChainDevice(2);
  const version = await world.found(a, b);
  const first = await world.member(a);
  const second = await world.member(b);
  const { change } = removalOf(a, b, version);
  // In one commit: what is asked before the removal goes with it, what is asked behind it is refused.
  second.ask({ case: "setWakeUp", value: placeOf("before") });
  first.ask({ case: "changeMembership", value: change });
  second.ask({ case: "setWakeUp", value: placeOf("behind") });
  await rest();
  assert.equal(second.endedWith, ErrorCode.DEVICE_REVOKED);
  const lost = world.relay.wakeUps?.answer(
    (await world.relay.group(groupId))?.entry as never,
    (await world.relay.group(groupId))?.entry.devices.get(idText(b.id)) as never,
    { kind: "set", place: placeOf("late") },
  );
  await assert.rejects(lost ?? Promise.resolve(), (error) => error instanceof SyncError);
  assert.equal((await gate.store.loadGroup(groupId))?.wakeUps, undefined);
});

test("14.3 what is registered in the commit that deletes its group is not written behind it", async () => {
  const { world, a } = await asleep();
  const live = await world.relay.group(groupId);
  const device = live?.entry.devices.get(idText(a.id));
  assert.ok(live !== undefined && device !== undefined);
  const draft = new Draft(0);
  const { deviceKey } = device.row;
  draft.life.setWakeUp(device, { deviceKey, ...placeOf("a") });
  draft.deleteGroup(live.entry);
  const { life } = draft.batch(0, 0);
  assert.deepEqual(life?.wakeUps, []);
  assert.ok(life?.wakeUpsEnded.includes(deviceKey));
});

test("14.3 it goes with its device's refusal, and does not come back with it", async () => {
  const { service, world, b, write } = await asleep();
  const live = await world.relay.group(groupId);
  const device = live?.entry.devices.get(idText(b.id));
  assert.ok(device !== undefined);
  const become = async (state: "refused" | "active"): Promise<void> => {
    await world.relay.operate((draft) => draft.setDevice(device, { ...device.row, state }));
  };
  await become("refused");
  assert.equal((await world.store.loadGroup(groupId))?.wakeUps, undefined);
  await become("active");
  await write(wakeUpDelayMs);
  assert.deepEqual(service.woken, []);
});

test("14.3 a registration is read again with its group, after a restart", async () => {
  const { service, world, a, first } = await asleep();
  first.cut();
  await world.relay.settle();
  const again = new RelayWorldUnderTest({ store: world.store.reopen(), wakeUps: service });
  const peer = await again.member(a);
  peer.push(a.run(1));
  await rest();
  again.pass(wakeUpDelayMs);
  await rest();
  assert.deepEqual(service.woken, ["https://push.example/b"]);
});

test("14.4 a relay that shuts down wakes nobody any more", async () => {
  const { service, world, write } = await asleep();
  await write(0);
  await world.relay.settle();
  world.pass(wakeUpDelayMs);
  world.relay.wakeUps?.tick();
  await settled();
  assert.deepEqual(service.woken, []);
});

test("14.6 an attempt that is put off is made again, later each time, and given up in the end", () => {
  const wakeUps = new WakeUps<string>();
  let nowMs = 1_000;
  wakeUps.came(1, "a", nowMs);
  const waits: number[] = [];
  const later: WakeUpOutcome = { kind: "later", retryAfterMs: undefined };
  let over: unknown;
  for (let tries = 0; over === undefined; tries++) {
    assert.ok(tries < wakeUpTriesMax);
    const beganMs = nowMs;
    while (nowMs - beganMs < wakeUpRetryMsMax) {
      const [one] = wakeUps.take(nowMs);
      if (one !== undefined) {
        waits.push(nowMs - beganMs);
        over = wakeUps.settled(one, later, nowMs, 0.5);
        break;
      }
      nowMs += 500;
    }
  }
  assert.equal(over, "unreachable");
  assert.deepEqual(waits, [
    wakeUpDelayMs,
    1.5 * wakeUpRetryMs,
    3 * wakeUpRetryMs,
    6 * wakeUpRetryMs,
  ]);
  assert.ok(wakeUps.came(1, "a", nowMs));
  assert.deepEqual(wakeUps.take(nowMs + wakeUpIntervalMs - 1), [], "and then it rests");
  assert.deepEqual(wakeUps.take(nowMs + wakeUpIntervalMs), []);
  assert.equal(wakeUps.size, 0);
});

test("14.6 a push service's Retry-After is honoured, up to an hour", () => {
  for (const [retryAfterMs, waitMs] of [
    [600_000, 600_000],
    [1, wakeUpRetryMs],
    [1e12, wakeUpRetryMsMax],
  ] as const) {
    const wakeUps = new WakeUps<string>();
    wakeUps.came(1, "a", 0);
    const [one] = wakeUps.take(wakeUpDelayMs);
    assert.ok(one !== undefined);
    wakeUps.settled(one, { kind: "later", retryAfterMs }, 10_000, 0);
    assert.deepEqual(wakeUps.take(10_000 + waitMs - 1), []);
    assert.equal(wakeUps.take(10_000 + waitMs).length, 1);
  }
});

test("14.6 what is on its way at once, and who is known of, are bounded", () => {
  const wakeUps = new WakeUps<number>();
  for (let key = 0; key < wakeUpsKnownMax; key++) assert.ok(wakeUps.came(key, key, 0));
  assert.equal(wakeUps.came(wakeUpsKnownMax, 0, 0), false);
  assert.equal(wakeUps.came(5, 5, 0), true, "who is known already takes no room");
  const taken = wakeUps.take(wakeUpDelayMs);
  assert.equal(taken.length, wakeUpsInFlightMax);
  assert.deepEqual(wakeUps.take(wakeUpDelayMs), []);
  wakeUps.forget(taken[0]?.key ?? -1);
  assert.deepEqual(
    wakeUps.take(wakeUpDelayMs),
    [],
    "one that is forgotten is on its way all the same",
  );
  assert.equal(wakeUps.settled(taken[0] as never, { kind: "sent" }, 0, 0), "sent");
  assert.equal(wakeUps.take(wakeUpDelayMs).length, 1);
});

test("14.6 where no more are taken, that is counted", async () => {
  const { world, write } = await asleep();
  const wakeUps = world.relay.wakeUps;
  assert.ok(wakeUps !== undefined);
  const live = await world.relay.group(groupId);
  assert.ok(live !== undefined);
  const [one] = [...live.entry.devices.values()].filter(({ wakeUp }) => wakeUp !== undefined);
  const row = one?.wakeUp;
  assert.ok(one !== undefined && row !== undefined);
  for (let key = 1; key <= wakeUpsKnownMax; key++) {
    one.wakeUp = { ...row, deviceKey: 1_000 + key };
    wakeUps.left(live.entry, one, -1);
  }
  assert.equal(wakeUps.waiting, 0, "nothing was written yet that anybody would be woken for");
  await write(0);
  for (let key = 1; key <= wakeUpsKnownMax + 1; key++) {
    one.wakeUp = { ...row, deviceKey: 1_000 + key };
    wakeUps.left(live.entry, one, -1);
  }
  assert.equal(wakeUps.waiting, wakeUpsKnownMax);
  assert.equal(world.relay.counters.wakeUpsDropped, 1);
});
