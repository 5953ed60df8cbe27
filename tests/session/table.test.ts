/**
 * The session table: every state, every input. A cell says what the session
 * sends (a request's answer behind its id, #7), what it asks of the relay (→),
 * and whether it ends; - is nothing at all. "unexpected" stands for the answer
 * of 3.9 and "over" for the end of it.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { PresenceState } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { SnapshotManifestSchema } from "../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import type { SessionInput } from "../../server/session.ts";
import type { EnvelopeBody } from "../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { bytes, changeOf, foundingOf, pushOf } from "../support/devices.ts";
import {
  aSyncError,
  device,
  envelope,
  lobbyGreeting,
  memberGreeting,
  outcome,
  quietNotice,
  type StateName,
  sessionIn,
  stateNames,
} from "./support.ts";

const table = `
input              | greeting         | member             | lobby              | draining     | closed
hello              | →greet           | over               | over               | over         | -
greeted member     | welcome          | -                  | -                  | -            | -
greeted lobby      | welcome          | -                  | -                  | -            | -
stored             | #7 pushAck 1     | #7 pushAck 1       | #7 pushAck 1       | #7 pushAck 1 | -
answer             | #7 done          | #7 done            | #7 done            | #7 done      | -
refused            | #7 error 702     | #7 error 702       | #7 error 702       | #7 error 702 | -
refused, ending    | #7 error 402, ends 402 | #7 error 402, ends 402 | #7 error 402, ends 402 | #7 error 402, ends 402 | -
page               | -                | -                  | -                  | -            | -
committed          | -                | deliver 0-1        | -                  | -            | -
tell               | -                | presence 3         | presence 3         | presence 3   | -
drain              | -                | -                  | -                  | -            | -
end                | error 504, ends 504 | error 504, ends 504 | error 504, ends 504 | error 504, ends 504 | -
nothing            | over             | unexpected         | unexpected         | draining     | -
error              | over             | over               | over               | draining     | -
done               | over             | over               | over               | draining     | -
welcome            | over             | over               | over               | draining     | -
presence           | over             | →presence          | over               | draining     | -
push               | over             | →push              | over               | draining     | -
pushAck            | over             | over               | over               | draining     | -
pull               | over             | →read              | over               | draining     | -
pullMore           | over             | -                  | over               | draining     | -
blobs              | over             | over               | over               | draining     | -
deliver            | over             | over               | over               | draining     | -
notify             | over             | over               | over               | draining     | -
ack                | over             | →ack               | over               | draining     | -
witnesses          | over             | over               | over               | draining     | -
changeMembership   | over             | →change            | over               | draining     | -
a founding         | over             | over               | →change            | draining     | -
membershipAck      | over             | over               | over               | draining     | -
pullControl        | over             | →control           | over               | draining     | -
controlBlobs       | over             | over               | over               | draining     | -
openInvite         | over             | →mailbox           | over               | draining     | -
inviteOpened       | over             | over               | over               | draining     | -
joinInvite         | over             | over               | →mailbox           | draining     | -
inviteMessage      | over             | →mailbox           | →mailbox           | draining     | -
closeInvite        | over             | →mailbox           | →mailbox           | draining     | -
putSnapshot        | over             | →life              | over               | draining     | -
confirmSnapshot    | over             | →life              | over               | draining     | -
getSnapshot        | over             | →life              | over               | draining     | -
snapshot           | over             | over               | over               | draining     | -
putObject          | over             | →life              | over               | draining     | -
statObject         | over             | →life              | over               | draining     | -
objectState        | over             | over               | over               | draining     | -
getObject          | over             | →life              | over               | draining     | -
objectData         | over             | over               | over               | draining     | -
dropObject         | over             | →life              | over               | draining     | -
getWakeUp          | over             | →wakeUp            | over               | draining     | -
setWakeUp          | over             | →wakeUp            | over               | draining     | -
wakeUp             | over             | over               | over               | draining     | -
`;

/** What a cell's short word stands for. */
const words: Readonly<Record<string, string>> = {
  unexpected: `#7 error ${ErrorCode.ENVELOPE_UNEXPECTED}`,
  over: `error ${ErrorCode.ENVELOPE_UNEXPECTED}, ends ${ErrorCode.ENVELOPE_UNEXPECTED}`,
  draining: `#7 error ${ErrorCode.DRAINING}`,
};

const version = { count: 1, head: bytes(32, 1) };
const rendezvousId = bytes(5, 1);
const change = changeOf({ author: device.id, at: version, epoch: 2, members: [device.id] });

/** A valid body of each kind; what is not here is empty. */
const bodies: Readonly<Record<string, EnvelopeBody>> = {
  presence: { case: "presence", value: { state: PresenceState.AWAY } },
  push: { case: "push", value: pushOf([device.make()]) },
  changeMembership: { case: "changeMembership", value: change.change },
  openInvite: { case: "openInvite", value: { rendezvousId } },
  joinInvite: { case: "joinInvite", value: { rendezvousId } },
  inviteMessage: { case: "inviteMessage", value: { rendezvousId, number: 1 } },
  closeInvite: { case: "closeInvite", value: { rendezvousId } },
  putObject: {
    case: "putObject",
    value: { objectId: bytes(32, 7), sizeBytes: 5n, data: bytes(5, 1) },
  },
  statObject: { case: "statObject", value: { objectId: bytes(32, 7) } },
  getObject: { case: "getObject", value: { objectId: bytes(32, 7) } },
  dropObject: { case: "dropObject", value: { objectId: bytes(32, 7) } },
  putSnapshot: {
    case: "putSnapshot",
    value: {
      manifest: toBinary(
        SnapshotManifestSchema,
        create(SnapshotManifestSchema, {
          author: device.id,
          logId: bytes(16, 3),
          replacesThrough: 1n,
          link: bytes(32, 4),
          parts: [bytes(32, 7)],
          epoch: 1n,
          sealedClaims: bytes(40, 5),
        }),
      ),
      signature: bytes(64, 6),
    },
  },
  confirmSnapshot: {
    case: "confirmSnapshot",
    value: { snapshotId: bytes(32, 7), signature: bytes(64, 6) },
  },
};

/** Every input that is no envelope, and the two envelopes that need a name of their own. */
const inputs: Readonly<Record<string, SessionInput>> = {
  hello: { kind: "hello", hello: { version: 1, groupId: undefined, read: undefined } },
  "greeted member": { kind: "greeted", greeting: memberGreeting },
  "greeted lobby": { kind: "greeted", greeting: lobbyGreeting },
  stored: { kind: "stored", requestId: 7, cursors: [1] },
  answer: { kind: "answer", requestId: 7, body: { case: "done", value: {} } },
  refused: { kind: "refused", requestId: 7, error: aSyncError },
  "refused, ending": {
    kind: "refused",
    requestId: 7,
    error: new SyncError(ErrorCode.DEVICE_REVOKED),
  },
  page: {
    kind: "page",
    pull: { requestId: 7, after: 0, until: 0, windowBytes: 1, reading: true },
    page: { through: 1, fields: [], bytes: 0 },
    head: 1,
  },
  committed: {
    kind: "committed",
    blobs: {
      after: 0,
      through: 1,
      // Envelope { deliver { through: 1 } }, size-delimited.
      deliverTo: () => [Uint8Array.of(5, 0xca, 0x01, 2, 0x10, 1)],
    },
    crowded: false,
    notice: quietNotice,
  },
  tell: {
    kind: "tell",
    body: { case: "presence", value: { state: PresenceState.OFFLINE } },
  },
  drain: { kind: "drain" },
  end: { kind: "end", error: new SyncError(ErrorCode.REPLACED) },
  nothing: envelope(7, undefined),
  "a founding": envelope(7, { case: "changeMembership", value: foundingOf(device.id).change }),
};

function inputOf(name: string): SessionInput {
  const body = bodies[name] ?? ({ case: name, value: {} } as EnvelopeBody);
  return inputs[name] ?? envelope(7, body);
}

const rows = table
  .trim()
  .split("\n")
  .map((line) => line.split("|").map((cell) => cell.trim()));
const columns = (rows[0] ?? []).slice(1);

test("4.2 the table has every state and every body of the schema", () => {
  assert.deepEqual(columns, stateNames);
  const named = rows.slice(1).map(([name]) => name ?? "");
  assert.equal(new Set(named).size, named.length, "no row twice");
  const ofSchema = EnvelopeSchema.oneofs[0]?.fields.map((field) => field.localName) ?? [];
  assert.ok(ofSchema.length > 25);
  assert.deepEqual(new Set(named), new Set([...ofSchema, ...Object.keys(inputs)]));
});

for (const [name = "", ...cells] of rows.slice(1)) {
  test(`3.9 4.2 ${name}, in every state`, () => {
    for (const [i, cell] of cells.entries()) {
      const state = columns[i] as StateName;
      const output = sessionIn(state).step(inputOf(name), 0);
      assert.equal(outcome(output), words[cell] ?? cell, `in ${state}`);
    }
  });
}

/** Bodies that must be answered, and those that need not. */
const needsId = [
  "push",
  "pull",
  "changeMembership",
  "pullControl",
  "openInvite",
  "inviteMessage",
  "closeInvite",
  "putSnapshot",
  "confirmSnapshot",
  "getSnapshot",
  "putObject",
  "statObject",
  "getObject",
  "dropObject",
  "getWakeUp",
  "setWakeUp",
];
const withoutId: Readonly<Record<string, string>> = {
  ack: "→ack",
  presence: "→presence",
  pullMore: "-",
  nothing: "-",
};

test("3.8 without a request id: what must be answered ends the session, the rest is carried out", () => {
  for (const name of needsId) {
    const body = bodies[name] ?? ({ case: name, value: {} } as EnvelopeBody);
    const output = sessionIn("member").step(envelope(0, body), 0);
    assert.equal(outcome(output), "error 302, ends 302", name);
  }
  for (const name of ["joinInvite", "inviteMessage", "closeInvite"]) {
    const output = sessionIn("lobby").step(envelope(0, bodies[name]), 0);
    assert.equal(outcome(output), "error 302, ends 302", name);
  }
  const founding = foundingOf(device.id).change;
  const output = sessionIn("lobby").step(
    envelope(0, { case: "changeMembership", value: founding }),
    0,
  );
  assert.equal(outcome(output), "error 302, ends 302");
  for (const [name, expected] of Object.entries(withoutId)) {
    const body =
      name === "nothing"
        ? undefined
        : (bodies[name] ?? ({ case: name, value: {} } as EnvelopeBody));
    assert.equal(outcome(sessionIn("member").step(envelope(0, body), 0)), expected, name);
  }
});

test("14.1 3.9 a relay that wakes nobody knows nothing of it, and ends nothing", () => {
  for (const name of ["getWakeUp", "setWakeUp"]) {
    const body = { case: name, value: {} } as EnvelopeBody;
    const session = sessionIn("member", { wakesDevices: false });
    assert.equal(outcome(session.step(envelope(7, body), 0)), words["unexpected"], name);
    assert.equal(outcome(session.step(envelope(0, body), 0)), "-", name);
  }
});

test("3.8 what was carried out without a request id is not answered", () => {
  const session = sessionIn("member");
  const done: SessionInput = { kind: "answer", requestId: 0, body: { case: "done", value: {} } };
  assert.equal(outcome(session.step(done, 0)), "-");
  assert.equal(outcome(session.step({ kind: "refused", requestId: 0, error: aSyncError }, 0)), "-");
});

test("4.15 a draining session takes nothing more and answers what it took", () => {
  const session = sessionIn("draining");
  assert.equal(outcome(session.step(inputOf("push"), 0)), `#7 error ${ErrorCode.DRAINING}`);
  assert.equal(outcome(session.step(inputOf("stored"), 0)), "#7 pushAck 1");
  assert.equal(
    outcome(session.step(envelope(0, { case: "ack", value: {} }), 0)),
    "-",
    "and says nothing where nothing was asked",
  );
});

test("4.16 a closed session takes and says nothing", () => {
  const session = sessionIn("member");
  session.step({ kind: "end", error: aSyncError }, 0);
  assert.equal(session.state.kind, "closed");
  for (const name of [...Object.keys(inputs), ...Object.keys(bodies)]) {
    assert.equal(outcome(session.step(inputOf(name), 0)), "-", name);
  }
});

test("1.12 3.7 a request id above 2^53 - 1 ends the session", () => {
  const input = envelope(7, { case: "ack", value: {} });
  assert.ok(input.kind === "envelope");
  input.envelope.requestId = 2n ** 53n;
  assert.equal(outcome(sessionIn("member").step(input, 0)), "error 302, ends 302");
});
