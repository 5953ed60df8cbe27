import assert from "node:assert/strict";
import { test } from "node:test";
import { InviteCloseReason } from "../../gen/syncrelay/sync/v1/invite_pb.ts";
import { Mailboxes, type MailboxResult } from "../../server/mailboxes.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { bytes, ChainDevice } from "../support/devices.ts";
import { RelayWorldUnderTest, settled } from "../support/relay-world.ts";

const rendezvousId = bytes(5, 1);
const party = (session: string, device = session, address = session, group = `of ${device}`) => ({
  session,
  device,
  address,
  group,
});
const inviter = party("I");
const joiner = party("J");

class Desk {
  readonly mailboxes = new Mailboxes<string>();
  nowMs = 0;

  open(who = inviter, received = 0, id = rendezvousId) {
    return this.mailboxes.handle({ kind: "open", rendezvousId: id, received }, who, this.nowMs);
  }
  join(who = joiner, received = 0, id = rendezvousId) {
    return this.mailboxes.handle({ kind: "join", rendezvousId: id, received }, who, this.nowMs);
  }
  send(who: typeof inviter, number: number, data = bytes(10, number), id = rendezvousId) {
    return this.mailboxes.handle(
      { kind: "message", rendezvousId: id, number, data },
      who,
      this.nowMs,
    );
  }
  close(who: typeof inviter, reason = InviteCloseReason.CANCELLED) {
    return this.mailboxes.handle({ kind: "close", rendezvousId, reason }, who, this.nowMs);
  }
}

/** Who is told what, shortly. */
function told(notices: MailboxResult<string>["notices"]): string[] {
  return notices.map(({ to, body }) => {
    if (body.case === "inviteMessage") return `${to} message ${body.value.number}`;
    assert.ok(body.case === "closeInvite");
    return `${to} closed ${body.value.reason}`;
  });
}

function opened(result: MailboxResult<string>) {
  assert.ok(result.answer.case === "inviteOpened");
  return result.answer.value;
}

function refusal(run: () => unknown): SyncError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof SyncError);
    return error;
  }
  throw new assert.AssertionError({ message: "it was not refused" });
}

test("9.5 9.6 messages pass both ways, and wait for whoever is not there yet", () => {
  const desk = new Desk();
  assert.deepEqual({ ...opened(desk.open()) }, { expiresInMs: 600_000, stored: 0 });
  assert.deepEqual(told(desk.send(inviter, 1).notices), [], "nobody is there to be told");
  assert.deepEqual(told(desk.join().notices), ["J message 1"]);
  assert.deepEqual(told(desk.send(joiner, 1).notices), ["I message 1"]);
  assert.deepEqual(told(desk.send(inviter, 2).notices), ["J message 2"]);
});

test("9.6 a number that is there is answered and not stored or passed on again", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  desk.send(joiner, 1, bytes(3, 1));
  const again = desk.send(joiner, 1, bytes(3, 99));
  assert.equal(again.answer.case, "done");
  assert.deepEqual(again.notices, []);
  const [notice] = desk.open(inviter, 0).notices;
  assert.ok(notice?.body.case === "inviteMessage");
  assert.deepEqual(notice.body.value.data, bytes(3, 1), "the first one stays");
});

test("9.6 a number that is not the next is ENVELOPE_INVALID; the eighth is the last", () => {
  const desk = new Desk();
  desk.open();
  assert.equal(refusal(() => desk.send(inviter, 2)).code, ErrorCode.ENVELOPE_INVALID);
  for (let number = 1; number <= 8; number++) desk.send(inviter, number);
  assert.equal(refusal(() => desk.send(inviter, 9)).code, ErrorCode.ENVELOPE_INVALID);
});

test("9.5 9.10 either side comes back and is sent what it has not", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  desk.send(inviter, 1);
  desk.send(inviter, 2);
  desk.send(joiner, 1);
  desk.mailboxes.leave("J");
  assert.deepEqual(told(desk.send(inviter, 3).notices), [], "it is gone");
  const again = desk.join(party("J2", "J"), 1);
  assert.equal(opened(again).stored, 1);
  assert.deepEqual(told(again.notices), ["J2 message 2", "J2 message 3"]);
  desk.mailboxes.leave("I");
  const back = desk.open(party("I2", "I"), 0);
  assert.equal(opened(back).stored, 3);
  assert.deepEqual(told(back.notices), ["I2 message 1"]);
  assert.deepEqual(told(desk.send(party("J2", "J"), 2).notices), ["I2 message 2"]);
});

test("9.3 the first key that joins reserves the mailbox, across reconnects", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  assert.equal(refusal(() => desk.join(party("X"))).code, ErrorCode.INVITE_INVALID);
  desk.mailboxes.leave("J");
  assert.equal(refusal(() => desk.join(party("X"))).code, ErrorCode.INVITE_INVALID);
  assert.equal(desk.join(party("J2", "J")).answer.case, "inviteOpened");
});

test("9.4 a stranger cannot tell none, expired, closed and reserved apart", () => {
  const none = new Desk();
  const expired = new Desk();
  expired.open();
  expired.nowMs = 600_000;
  const closed = new Desk();
  closed.open();
  closed.close(inviter);
  const reserved = new Desk();
  reserved.open();
  reserved.join();
  const errors = [none, expired, closed, reserved].map((desk) =>
    refusal(() => desk.join(party("X"))),
  );
  for (const error of errors) {
    assert.equal(error.code, ErrorCode.INVITE_INVALID);
    assert.equal(error.detail, undefined);
    assert.equal(error.hint, undefined);
    assert.equal(error.retryAfterMs, 0);
  }
});

test("9.4 after three misses an address learns nothing of hits either", () => {
  const desk = new Desk();
  desk.open();
  const guesser = (i: number) => party(`X${i}`, `X${i}`, "one address");
  for (let i = 0; i < 3; i++) {
    const miss = refusal(() => desk.join(guesser(i), 0, bytes(5, 100 + i)));
    assert.equal(miss.code, ErrorCode.INVITE_INVALID);
  }
  const limited = refusal(() => desk.join(guesser(4)));
  assert.equal(limited.code, ErrorCode.RATE_LIMITED);
  assert.equal(limited.retryAfterMs, 20_000);
  assert.equal(desk.join(party("Y", "Y", "another address")).answer.case, "inviteOpened");
});

test("9.4 an address looks up ten a minute, hits too", () => {
  const desk = new Desk();
  desk.open();
  for (let i = 0; i < 10; i++) desk.join();
  assert.equal(refusal(() => desk.join()).code, ErrorCode.RATE_LIMITED);
  desk.nowMs += 6_000;
  assert.equal(desk.join().answer.case, "inviteOpened");
});

test("9.2 an id that another device has open is INVITE_INVALID", () => {
  const desk = new Desk();
  desk.open();
  assert.equal(refusal(() => desk.open(party("K"))).code, ErrorCode.INVITE_INVALID);
});

test("9.2 a device has four open at once", () => {
  const desk = new Desk();
  for (let i = 0; i < 4; i++) desk.open(inviter, 0, bytes(5, i));
  const full = refusal(() => desk.open(inviter, 0, bytes(5, 9)));
  assert.equal(full.code, ErrorCode.RATE_LIMITED);
  assert.ok(full.retryAfterMs > 0);
  assert.equal(desk.open(inviter, 0, bytes(5, 1)).answer.case, "inviteOpened", "returning is free");
});

test("9.2 a device opens five a minute; returning takes nothing", () => {
  const desk = new Desk();
  for (let i = 0; i < 5; i++) {
    desk.open();
    desk.open();
    desk.close(inviter);
  }
  assert.equal(refusal(() => desk.open()).code, ErrorCode.RATE_LIMITED);
  desk.nowMs += 12_000;
  assert.equal(desk.open().answer.case, "inviteOpened");
});

test("there are 1,024 mailboxes at most", () => {
  const desk = new Desk();
  for (let i = 0; i < 1_024; i++) desk.open(party(`I${i}`), 0, bytes(5, i));
  assert.equal(
    refusal(() => desk.open(party("one more"), 0, bytes(5, 5_000))).code,
    ErrorCode.RATE_LIMITED,
  );
});

test("9.2 a group has 64 of them at most, so that no group takes the others' room", () => {
  const desk = new Desk();
  const one = (i: number) => party(`I${i}`, `I${i}`, "an address", "one group");
  for (let i = 0; i < 64; i++) desk.open(one(i), 0, bytes(5, i));
  const full = refusal(() => desk.open(one(64), 0, bytes(5, 64)));
  assert.equal(full.code, ErrorCode.RATE_LIMITED);
  assert.ok(full.retryAfterMs > 0);
  assert.equal(desk.open(one(3), 0, bytes(5, 3)).answer.case, "inviteOpened", "returning is free");
  assert.equal(desk.open(party("another"), 0, bytes(5, 65)).answer.case, "inviteOpened");
  // Those whose time ran out count no more.
  desk.nowMs = 600_000;
  assert.equal(desk.open(one(64), 0, bytes(5, 64)).answer.case, "inviteOpened");
});

test("9.8 a close by either side ends the mailbox and tells the other its reason", () => {
  for (const [who, other] of [
    [inviter, "J"],
    [joiner, "I"],
  ] as const) {
    const desk = new Desk();
    desk.open();
    desk.join();
    const result = desk.close(who, InviteCloseReason.BURNT);
    assert.equal(result.answer.case, "done");
    assert.deepEqual(told(result.notices), [`${other} closed ${InviteCloseReason.BURNT}`]);
    assert.equal(desk.mailboxes.size, 0);
    assert.equal(refusal(() => desk.send(who, 1)).code, ErrorCode.INVITE_INVALID);
  }
});

test("9.8 one whose time ran out ends for both, and at its time", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  desk.nowMs = 100;
  desk.open(party("K"), 0, bytes(5, 2));
  assert.deepEqual(told(desk.mailboxes.expire(599_999)), []);
  assert.deepEqual(told(desk.mailboxes.expire(600_000)), ["I closed 3", "J closed 3"]);
  assert.equal(desk.mailboxes.size, 1);
});

test("9.8 9.9 one that ran out and is opened anew before anybody was told is told to its joiner", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  desk.send(joiner, 1);
  desk.nowMs = 600_000;
  const result = desk.open();
  assert.deepEqual(told(result.notices), ["J closed 3"]);
  assert.deepEqual({ ...opened(result) }, { expiresInMs: 600_000, stored: 0 });
});

test("9.9 opened anew under the same id a mailbox is empty and reserved for nobody", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  desk.send(joiner, 1);
  desk.close(inviter);
  assert.deepEqual(told(desk.open().notices), []);
  assert.equal(opened(desk.join(party("X"))).stored, 0);
});

test("9.7 whoever has no side is INVITE_INVALID", () => {
  const desk = new Desk();
  desk.open();
  desk.join();
  for (const run of [
    () => desk.send(party("X"), 1),
    () => desk.close(party("X")),
    // The right device on a session that has not come back to it.
    () => desk.send(party("J2", "J"), 1),
  ]) {
    assert.equal(refusal(run).code, ErrorCode.INVITE_INVALID);
  }
});

test("9.1 a mailbox keeps copies: a view would keep the record it came in", () => {
  const desk = new Desk();
  const record = new Uint8Array(1_000);
  const id = record.subarray(0, 5);
  desk.open(inviter, 0, id);
  desk.join(joiner, 0, id);
  const [message] = desk.send(joiner, 1, record.subarray(5, 15), id).notices;
  record.fill(7);
  const [kept] = desk.open(inviter, 0, new Uint8Array(5)).notices;
  assert.ok(kept?.body.case === "inviteMessage" && message !== undefined);
  assert.deepEqual(kept.body.value.data, new Uint8Array(10));
  assert.deepEqual(kept.body.value.rendezvousId, new Uint8Array(5));
});

test("9.5 what is left of the time is a whole number, whatever the clock says", () => {
  const desk = new Desk();
  desk.nowMs = 0.25;
  desk.open();
  desk.nowMs = 1_000.7;
  const { answer } = desk.open();
  assert.ok(encodeEnvelope(1, answer).byteLength > 0);
  assert.equal(opened(desk.open()).expiresInMs, 599_000);
});

test("9.2 through sessions: the members of one group share its part, whoever opens them", async () => {
  const world = new RelayWorldUnderTest();
  const a = new ChainDevice(1);
  await world.found(a);
  const member = await world.member(a);
  member.said();
  const { mailboxes } = world.relay;
  const groups = new Set<string>();
  const handle = mailboxes.handle.bind(mailboxes);
  mailboxes.handle = (request, of, nowMs) => {
    groups.add(of.group);
    return handle(request, of, nowMs);
  };
  member.ask({ case: "openInvite", value: { rendezvousId } });
  assert.deepEqual(member.said(), ["#1 inviteOpened"]);
  assert.equal(groups.size, 1);
  assert.ok(!groups.has(""));
  await settled();
});

test("9.2 9.3 9.8 through sessions: two devices pair, and a clock set back harms nothing", async () => {
  const world = new RelayWorldUnderTest();
  const a = new ChainDevice(1);
  await world.found(a);
  const member = await world.member(a);
  const stranger = await world.lobby(bytes(32, 5));
  member.said();
  stranger.said();
  member.ask({ case: "openInvite", value: { rendezvousId } });
  stranger.ask({ case: "joinInvite", value: { rendezvousId } });
  stranger.ask({ case: "inviteMessage", value: { rendezvousId, number: 1, data: bytes(9, 1) } });
  assert.deepEqual(member.said(), ["#1 inviteOpened", "inviteMessage"]);
  assert.deepEqual(stranger.said(), ["#1 inviteOpened", "#2 done"]);
  world.nowMs -= 10 * 365 * 86_400_000;
  member.ask({ case: "openInvite", value: { rendezvousId, received: 1 } });
  assert.deepEqual(member.said(), ["#2 inviteOpened"]);
  world.monotonicMs += 600_000;
  world.pass(0);
  assert.deepEqual(member.said(), ["closeInvite"]);
  assert.deepEqual(stranger.said(), ["closeInvite"]);
  stranger.ask({ case: "inviteMessage", value: { rendezvousId, number: 3 } });
  assert.deepEqual(stranger.said(), [`#3 error ${ErrorCode.INVITE_INVALID}`]);
  await settled();
});
