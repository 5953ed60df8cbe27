import assert from "node:assert/strict";
import { test } from "node:test";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import type { CommittedBlobs, PullUnderWay, Session, SessionOutput } from "../../server/session.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { encodeDeliver } from "../../wire/hot-encoders.ts";
import { pullWindowBytesMax } from "../../wire/limits.ts";
import { bytes, ChainDevice, pushOf } from "../support/devices.ts";
import {
  aSyncError,
  device,
  deviceKey,
  envelope,
  memberGreeting,
  outcome,
  quietNotice,
  sessionIn,
} from "./support.ts";

const pull = (id: number, after: number, until = 0, windowBytes = 1_000) =>
  envelope(id, {
    case: "pull",
    value: { after: BigInt(after), until: BigInt(until), windowBytes },
  });
const pullMore = (id: number, windowBytes: number) =>
  envelope(id, { case: "pullMore", value: { windowBytes } });

/** The pull that a step asked the relay to read for. */
function readOf(output: SessionOutput): PullUnderWay {
  const [effect] = output.effects;
  assert.ok(effect?.kind === "read", outcome(output));
  return effect.pull;
}

function page(session: Session, under: PullUnderWay, through: number, size: number, head: number) {
  return session.step(
    { kind: "page", pull: under, page: { through, fields: [], bytes: size }, head },
    0,
  );
}

/** A commit that moves the head from one cursor to another. */
function commit(after: number, through: number): CommittedBlobs & { askedFor: number[] } {
  const askedFor: number[] = [];
  return {
    after,
    through,
    askedFor,
    deliverTo: (key) => {
      askedFor.push(key);
      return [encodeDeliver(after, through, [], [])];
    },
  };
}

const committed = (session: Session, after: number, through: number, crowded = false) =>
  outcome(
    session.step(
      { kind: "committed", blobs: commit(after, through), crowded, notice: quietNotice },
      0,
    ),
  );

test("6.1 until must be above after", () => {
  assert.equal(outcome(sessionIn("member").step(pull(1, 5, 5), 0)), "error 302, ends 302");
  assert.equal(outcome(sessionIn("member").step(pull(1, 5, 4), 0)), "error 302, ends 302");
  assert.equal(outcome(sessionIn("member").step(pull(1, 5, 6), 0)), "→read");
});

test("1.12 6.1 cursors above 2^53 - 1 end the session", () => {
  const input = envelope(1, { case: "pull", value: { after: 2n ** 53n } });
  assert.equal(outcome(sessionIn("member").step(input, 0)), "error 302, ends 302");
});

test("6.2 6.3 pages go on from each other to the head, and the last says done", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 2), 0));
  assert.equal(outcome(page(session, under, 10, 100, 30)), "#3 blobs 2-10, →read");
  assert.equal(outcome(page(session, under, 20, 100, 30)), "#3 blobs 10-20, →read");
  const last = page(session, under, 30, 100, 30);
  assert.equal(outcome(last), "#3 blobs 20-30");
  assert.equal(outcome(page(session, under, 30, 100, 30)), "-", "it is over");
});

test("6.2 a page is not the last where the head moved while it was read", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0), 0));
  assert.equal(outcome(page(session, under, 10, 100, 11)), "#3 blobs 0-10, →read");
});

test("6.1 a bounded pull ends at until, or at the head below it", () => {
  for (const [until, head, through] of [
    [10, 30, 10],
    [50, 30, 30],
  ] as const) {
    const session = sessionIn("member");
    const under = readOf(session.step(pull(3, 2, until), 0));
    assert.equal(outcome(page(session, under, through, 1, head)), `#3 blobs 2-${through}`);
    assert.equal(session.state.kind === "member" && session.state.pull, undefined);
  }
});

test("6.5 a window that is used up waits for PullMore, which opens it again", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0, 0, 1_000), 0));
  assert.equal(outcome(page(session, under, 10, 999, 90)), "#3 blobs 0-10, →read", "one byte left");
  assert.equal(outcome(page(session, under, 20, 500, 90)), "#3 blobs 10-20", "used up, by 499");
  assert.equal(outcome(session.step(pullMore(3, 499), 0)), "-", "still at 0");
  assert.equal(outcome(session.step(pullMore(3, 1), 0)), "→read");
  assert.equal(outcome(session.step(pullMore(3, 1), 0)), "-", "a page is being read already");
  assert.equal(outcome(page(session, under, 30, 2, 90)), "#3 blobs 20-30");
});

test("6.5 PullMore while a page is read lets the next one follow", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0, 0, 10), 0));
  assert.equal(outcome(session.step(pullMore(3, 100), 0)), "-");
  assert.equal(outcome(page(session, under, 1, 50, 90)), "#3 blobs 0-1, →read");
});

test("6.5 a pull with a window of 0 is sent one page", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0, 0, 0), 0));
  assert.equal(outcome(page(session, under, 1, 50, 90)), "#3 blobs 0-1");
});

test("6.5 a window holds no more than its bound", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0, 0, 0xffff_ffff), 0));
  assert.equal(under.windowBytes, pullWindowBytesMax);
  session.step(pullMore(3, 0xffff_ffff), 0);
  assert.equal(under.windowBytes, pullWindowBytesMax);
});

test("6.5 PullMore for another pull, or for none, is ignored", () => {
  const session = sessionIn("member");
  assert.equal(outcome(session.step(pullMore(3, 9), 0)), "-");
  const under = readOf(session.step(pull(3, 0, 0, 0), 0));
  page(session, under, 1, 1, 90);
  assert.equal(outcome(session.step(pullMore(4, 9), 0)), "-");
  assert.equal(outcome(session.step(pullMore(3, 9), 0)), "→read");
});

test("6.9 a new pull ends the one before, whose pages come no more", () => {
  const session = sessionIn("member");
  const first = readOf(session.step(pull(3, 0), 0));
  const second = readOf(session.step(pull(4, 50), 0));
  assert.equal(outcome(page(session, first, 90, 1, 90)), "-");
  assert.equal(outcome(session.step(pullMore(3, 9), 0)), "-");
  assert.equal(outcome(page(session, second, 90, 1, 90)), "#4 blobs 50-90");
});

test("6.9 an error of a pull that was replaced leaves the new one alone", () => {
  const session = sessionIn("member");
  session.step(pull(3, 0), 0);
  const second = readOf(session.step(pull(4, 50), 0));
  session.step({ kind: "refused", requestId: 3, error: aSyncError }, 0);
  assert.equal(outcome(page(session, second, 90, 1, 90)), "#4 blobs 50-90");
});

test("6.10 a pull that fails is over, and delivery goes by what was sent", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0), 0));
  page(session, under, 5, 1, 9);
  const failed = session.step({ kind: "refused", requestId: 3, error: aSyncError }, 0);
  assert.equal(outcome(failed), "#3 error 702");
  assert.equal(committed(session, 9, 10), "notify 10");
});

test("6.6 what follows what was sent is delivered, and moves it on", () => {
  const session = sessionIn("member", { sentThrough: 7 });
  assert.equal(committed(session, 7, 9), "deliver 7-9");
  assert.equal(committed(session, 9, 10), "deliver 9-10");
});

test("6.6 6.8 a delivery is asked for by the session's own device", () => {
  const session = sessionIn("member");
  const blobs = commit(0, 1);
  session.step({ kind: "committed", blobs, crowded: false, notice: quietNotice }, 0);
  assert.deepEqual(blobs.askedFor, [deviceKey]);
});

test("6.6 a connection that is behind is told once, until it pulls", () => {
  const session = sessionIn("member", { sentThrough: 7 });
  assert.equal(committed(session, 8, 9), "notify 9");
  assert.equal(committed(session, 9, 10), "-");
  const under = readOf(session.step(pull(3, 7), 0));
  assert.equal(outcome(page(session, under, 10, 1, 10)), "#3 blobs 7-10");
  assert.equal(committed(session, 10, 11), "deliver 10-11");
});

test("6.6 a connection ahead of the log is told as well", () => {
  const session = sessionIn("member", { sentThrough: 99 });
  assert.equal(committed(session, 9, 10), "notify 10");
});

test("6.6 6.11 a crowded connection is told, and nothing is put together for it", () => {
  const session = sessionIn("member", { sentThrough: 7 });
  const blobs = commit(7, 9);
  const output = session.step({ kind: "committed", blobs, crowded: true, notice: quietNotice }, 0);
  assert.equal(outcome(output), "notify 9");
  assert.deepEqual(blobs.askedFor, []);
  assert.equal(committed(session, 9, 10), "-", "behind from then on, and told already");
});

test("6.7 nothing is delivered or told while a pull to the head is under way", () => {
  const session = sessionIn("member");
  const under = readOf(session.step(pull(3, 0), 0));
  assert.equal(committed(session, 9, 10), "-");
  assert.equal(outcome(page(session, under, 9, 1, 10)), "#3 blobs 0-9, →read");
  assert.equal(outcome(page(session, under, 10, 1, 10)), "#3 blobs 9-10");
  assert.equal(committed(session, 10, 11), "deliver 10-11");
});

test("6.1 6.7 a bounded pull moves nothing: delivery goes on beside it", () => {
  const session = sessionIn("member", { sentThrough: 9 });
  const under = readOf(session.step(pull(3, 2, 5), 0));
  assert.equal(committed(session, 9, 10), "deliver 9-10");
  assert.equal(outcome(page(session, under, 5, 1, 10)), "#3 blobs 2-5");
  assert.equal(committed(session, 10, 11), "deliver 10-11");
});

test("6.1 a bounded pull does not take back what a connection was told", () => {
  const session = sessionIn("member", { sentThrough: 2 });
  assert.equal(committed(session, 9, 10), "notify 10");
  const under = readOf(session.step(pull(3, 2, 5), 0));
  page(session, under, 5, 1, 10);
  assert.equal(committed(session, 10, 11), "-");
});

test("5.11 6.5 a push takes a token whatever it comes to; pulling takes none", () => {
  const session = sessionIn("member", { limits: { pushesBurst: 2, pushesPerS: 4 } });
  const push = (id: number) => envelope(id, { case: "push", value: pushOf([device.make()]) });
  assert.equal(outcome(session.step(push(1), 0)), "→push");
  for (let id = 10; id < 60; id++) {
    assert.equal(outcome(session.step(pull(id, 0), 0)), "→read");
  }
  assert.equal(outcome(session.step(push(2), 0)), "→push");
  const refused = session.step(push(3), 0);
  assert.equal(outcome(refused), `#3 error ${ErrorCode.RATE_LIMITED}`);
  assert.equal(outcome(session.step(push(4), 249)), `#4 error ${ErrorCode.RATE_LIMITED}`);
  assert.equal(outcome(session.step(push(5), 250)), "→push");
});

test("5.1 5.2 a push with a hole in its seqs, or of none, ends the session", () => {
  const [first, , third] = new ChainDevice(1).run(3);
  assert.ok(first && third);
  for (const blobs of [[], [first, third], [third, first], [first, first]]) {
    const input = envelope(1, { case: "push", value: pushOf(blobs) });
    assert.equal(outcome(sessionIn("member").step(input, 0)), "error 302, ends 302");
  }
});

test("5.3 a blob of the limit passes, one byte more is refused alone and says the limit", () => {
  const made = device.make({ bodyBytes: 500 });
  const header = made.blob.header as Uint8Array;
  const size = header.byteLength + 64 + 500;
  const input = envelope(1, { case: "push", value: pushOf([made]) });
  const fits = sessionIn("member", { limits: { blobBytesMax: size } });
  assert.equal(outcome(fits.step(input, 0)), "→push");
  const over = sessionIn("member", { limits: { blobBytesMax: size - 1 } });
  assert.equal(outcome(over.step(input, 0)), "#1 error 304");
  assert.equal(over.state.kind, "member");
  assert.equal(outcome(over.step(pull(2, 0), 0)), "→read", "the session goes on");
});

test("5.3 a push of 1,000 blobs passes, one of 1,001 is refused alone", () => {
  const blobs = new ChainDevice(1).run(1_001, { bodyBytes: 1 });
  const of = (count: number) => envelope(1, { case: "push", value: pushOf(blobs.slice(0, count)) });
  assert.equal(outcome(sessionIn("member").step(of(1_000), 0)), "→push");
  assert.equal(outcome(sessionIn("member").step(of(1_001), 0)), "#1 error 304");
});

test("5.2 every length and number of a blob is checked", () => {
  const made = device.make();
  const breaks: Partial<Record<keyof typeof made.blob, unknown>>[] = [
    { blobId: bytes(15, 1) },
    { blobId: bytes(17, 1) },
    { signature: bytes(63, 1) },
    { body: new Uint8Array(0) },
    { header: new Uint8Array(0) },
    { header: bytes(8_193, 1) },
    // Seq 0; a previous link of 31 bytes; an entry hash that is not there.
    { header: Uint8Array.of(0x12, 32, ...bytes(32, 1), 0x32, 32, ...bytes(32, 1)) },
    { header: Uint8Array.of(8, 1, 0x12, 31, ...bytes(31, 1), 0x32, 32, ...bytes(32, 1)) },
    { header: Uint8Array.of(8, 1, 0x12, 32, ...bytes(32, 1)) },
    // A delete of 15 bytes.
    {
      header: Uint8Array.of(
        8,
        1,
        0x12,
        32,
        ...bytes(32, 1),
        0x22,
        15,
        ...bytes(15, 1),
        0x32,
        32,
        ...bytes(32, 1),
      ),
    },
    // A seq of 2^53.
    {
      header: Uint8Array.of(
        8,
        0x80,
        0x80,
        0x80,
        0x80,
        0x80,
        0x80,
        0x80,
        0x10,
        0x12,
        32,
        ...bytes(32, 1),
        0x32,
        32,
        ...bytes(32, 1),
      ),
    },
    // No field at all.
    { header: bytes(50, 1) },
    { epoch: 2n ** 53n },
  ];
  for (const [i, broken] of breaks.entries()) {
    const input = envelope(1, {
      case: "push",
      value: { blobs: [Object.assign({}, made.blob, broken)] },
    });
    assert.equal(outcome(sessionIn("member").step(input, 0)), "error 302, ends 302", `break ${i}`);
  }
  const whole = envelope(1, { case: "push", value: pushOf([made]) });
  assert.equal(outcome(sessionIn("member").step(whole, 0)), "→push");
});

test("7.2 a witness without counter, or with a part of a wrong length, ends the session", () => {
  const witness = { counter: 1n, epoch: 1n, sealed: bytes(40, 1), signature: bytes(64, 1) };
  const ack = (changes: object) =>
    envelope(1, { case: "ack", value: { applied: 1n, witness: { ...witness, ...changes } } });
  assert.equal(outcome(sessionIn("member").step(ack({}), 0)), "→ack");
  assert.equal(outcome(sessionIn("member").step(ack({ sealed: bytes(32_768, 1) }), 0)), "→ack");
  for (const changes of [
    { counter: 0n },
    { signature: bytes(63, 1) },
    { sealed: bytes(32_769, 1) },
  ]) {
    assert.equal(outcome(sessionIn("member").step(ack(changes), 0)), "error 302, ends 302");
  }
});

test("7.5 a device says that it is online or away, and nothing else", () => {
  for (const [state, expected] of [
    [PresenceState.ONLINE, "→presence"],
    [PresenceState.AWAY, "→presence"],
    [PresenceState.OFFLINE, "error 302, ends 302"],
    [PresenceState.UNSPECIFIED, "error 302, ends 302"],
    [9 as PresenceState, "error 302, ends 302"],
  ] as const) {
    const input = envelope(1, { case: "presence", value: { state } });
    assert.equal(outcome(sessionIn("member").step(input, 0)), expected);
  }
});

test("9.1 9.6 mailbox messages beyond their bounds end the session", () => {
  const rendezvousId = bytes(5, 1);
  const message = (changes: object) =>
    envelope(1, { case: "inviteMessage", value: { rendezvousId, number: 1, ...changes } });
  for (const [changes, expected] of [
    [{}, "→mailbox"],
    [{ number: 8, data: bytes(4_096, 1) }, "→mailbox"],
    [{ number: 0 }, "error 302, ends 302"],
    [{ number: 9 }, "error 302, ends 302"],
    [{ data: bytes(4_097, 1) }, "error 302, ends 302"],
    [{ rendezvousId: bytes(4, 1) }, "error 302, ends 302"],
  ] as const) {
    assert.equal(outcome(sessionIn("lobby").step(message(changes), 0)), expected);
  }
});

test("4.6 4.10 witnesses follow the Welcome and nothing comes before it", () => {
  const session = sessionIn("greeting");
  const output = session.step(
    {
      kind: "greeted",
      greeting: {
        kind: "member",
        groupId: bytes(32, 1),
        deviceKey,
        pushes: memberGreeting.pushes,
        sentThrough: 0,
        welcome: { case: "welcome", value: {} },
        witnesses: [
          { case: "witnesses", value: {} },
          { case: "witnesses", value: {} },
        ],
      },
    },
    0,
  );
  assert.equal(outcome(output), "welcome, witnesses, witnesses");
});
