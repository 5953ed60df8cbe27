/**
 * Whatever a device says: readers refuse with a `SyncError` or read, and a whole
 * relay goes on, answers no closed connection, and holds no more than it may.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BlobHeaderSchema, PushSchema } from "../../gen/syncrelay/sync/v1/log_pb.ts";
import {
  ChangeMembershipSchema,
  ControlBlobSchema,
  ControlClearSchema,
} from "../../gen/syncrelay/sync/v1/membership_pb.ts";
import { HelloSchema } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { readChange, readHello, readPush } from "../../server/requests.ts";
import { concatBytes } from "../../wire/bytes.ts";
import { type EnvelopeBody, encodeEnvelope, sizeDelimited } from "../../wire/envelope.ts";
import { SyncError } from "../../wire/errors.ts";
import { bytes, ChainDevice, changeOf, groupId, pushOf, type Version } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";
import { arbitraryMessage } from "../wire/arbitrary.ts";

/** A length that is right, nearly right, or anything. */
const sized = (length: number): fc.Arbitrary<Uint8Array> =>
  fc.oneof(
    { weight: 40, arbitrary: fc.uint8Array({ minLength: length, maxLength: length }) },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: length + 2 }) },
  );
const number: fc.Arbitrary<bigint> = fc.oneof(
  { weight: 20, arbitrary: fc.bigInt({ min: 0n, max: 5n }) },
  { weight: 1, arbitrary: fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }) },
);

const header = fc
  .record({
    seq: number,
    previousLink: sized(32),
    entryHash: sized(32),
    deletes: fc.array(sized(16), { maxLength: 3 }),
  })
  .map((value) => toBinary(BlobHeaderSchema, create(BlobHeaderSchema, value)));
const blob = fc.record({
  blobId: sized(16),
  header: fc.oneof(
    { weight: 9, arbitrary: header },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }) },
  ),
  signature: sized(64),
  epoch: number,
  body: fc.uint8Array({ maxLength: 80 }),
});
const push = fc.record({ blobs: fc.array(blob, { maxLength: 3 }), resume: fc.boolean() });

const controlBlob = fc
  .record({
    author: sized(32),
    clear: fc.oneof(
      fc
        .record({ epoch: number, previousHead: sized(32) })
        .map((value) => toBinary(ControlClearSchema, create(ControlClearSchema, value))),
      fc.uint8Array({ maxLength: 40 }),
    ),
    signature: sized(64),
  })
  .map((value) => toBinary(ControlBlobSchema, create(ControlBlobSchema, value)));
const change = fc.record({
  expected: fc.option(fc.record({ count: number, head: sized(32) }), { nil: undefined }),
  controlBlob: fc.oneof(
    { weight: 9, arbitrary: controlBlob },
    { weight: 1, arbitrary: fc.uint8Array({ maxLength: 60 }) },
  ),
  members: fc.array(
    fc.record({ deviceId: sized(32), role: fc.constantFrom<number>(1, 1, 1, 1, 2, 2, 0, 3, -1) }),
    {
      maxLength: 4,
    },
  ),
  epoch: number,
  groupId: fc.oneof(fc.constant(new Uint8Array(0)), sized(32)),
  groupInvite: fc.oneof(fc.constant(new Uint8Array(0)), sized(16)),
  closings: fc.array(
    fc.record({
      deviceId: sized(32),
      position: fc.option(fc.record({ seq: number, link: sized(32) }), { nil: undefined }),
    }),
    { maxLength: 3 },
  ),
});

/** Runs what may only refuse with a `SyncError`; true where it read something. */
function reads(run: () => unknown): boolean {
  try {
    run();
    return true;
  } catch (error) {
    if (!(error instanceof SyncError)) throw error;
    return false;
  }
}

test("5.2 whatever a push holds, it is read or refused", () => {
  let read = 0;
  fc.assert(
    fc.property(push, fc.nat(400), (value, blobBytesMax) => {
      const message = create(PushSchema, value);
      if (reads(() => readPush(message, groupId, bytes(32, 1), blobBytesMax))) read += 1;
    }),
    { numRuns: 2_000 },
  );
  assert.ok(read > 20, `${read} were whole`);
});

test("8.1 whatever a membership change holds, it is read or refused", () => {
  let read = 0;
  fc.assert(
    fc.property(change, (value) => {
      if (reads(() => readChange(create(ChangeMembershipSchema, value)))) read += 1;
    }),
    { numRuns: 2_000 },
  );
  assert.ok(read > 20, `${read} were whole`);
});

test("4.4 whatever a Hello holds, it is read or refused", () => {
  let read = 0;
  const versions = fc.record({ min: fc.nat(3), max: fc.nat(3) });
  const hello = fc
    .record({
      versions: fc.option(versions, { nil: undefined }),
      groupId: fc.oneof(fc.constant(new Uint8Array(0)), sized(32)),
      read: fc.option(fc.record({ logId: sized(16), cursor: number, link: sized(32) }), {
        nil: undefined,
      }),
      groupInvite: fc.oneof(fc.constant(new Uint8Array(0)), sized(16)),
      client: fc.string(),
    })
    .map((value) => toBinary(HelloSchema, create(HelloSchema, value)));
  fc.assert(
    fc.property(fc.oneof(hello, fc.uint8Array({ maxLength: 3_000 })), (payload) => {
      if (reads(() => readHello(payload))) read += 1;
    }),
    { numRuns: 2_000 },
  );
  assert.ok(read > 20, `${read} were whole`);
});

/** What may happen, as data: devices are numbers, and what is valid is made when it happens. */
const action = fc.oneof(
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("connect" as const),
      who: fc.nat(3),
      lobby: fc.boolean(),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("cut" as const), who: fc.nat(3) }) },
  {
    weight: 6,
    arbitrary: fc.record({
      kind: fc.constant("push" as const),
      who: fc.nat(3),
      count: fc.integer({ min: 1, max: 4 }),
      again: fc.boolean(),
      sync: fc.constantFrom(true, true, false),
    }),
  },
  {
    weight: 4,
    arbitrary: fc.record({
      kind: fc.constant("pull" as const),
      who: fc.nat(3),
      after: fc.nat(12),
      until: fc.nat(14),
      windowBytes: fc.constantFrom(0, 1, 300, 1_000_000),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("more" as const), who: fc.nat(3), id: fc.nat(30) }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("rotate" as const), who: fc.nat(3) }) },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("mailbox" as const),
      who: fc.nat(3),
      what: fc.nat(4),
      number: fc.nat(3),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("any" as const),
      who: fc.nat(3),
      envelope: arbitraryMessage(EnvelopeSchema),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({ kind: fc.constant("odd" as const), who: fc.nat(3), push, change }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("bytes" as const),
      who: fc.nat(3),
      data: fc.uint8Array({ maxLength: 40 }),
    }),
  },
  { weight: 1, arbitrary: fc.record({ kind: fc.constant("fail" as const), who: fc.nat(3) }) },
  {
    weight: 1,
    arbitrary: fc.record({
      kind: fc.constant("stuck" as const),
      who: fc.nat(3),
      stuck: fc.boolean(),
    }),
  },
  {
    weight: 2,
    arbitrary: fc.record({
      kind: fc.constant("pass" as const),
      who: fc.nat(3),
      ms: fc.constantFrom(1, 1_000, 40_000, 700_000),
    }),
  },
  { weight: 4, arbitrary: fc.record({ kind: fc.constant("settle" as const), who: fc.nat(3) }) },
);

test("arbitrary requests in arbitrary order: the relay goes on, and its log has no hole", async () => {
  let pushed = 0;
  await fc.assert(
    fc.asyncProperty(fc.array(action, { minLength: 10, maxLength: 60 }), async (actions) => {
      const outboundBytesMax = 20_000;
      const world = new RelayWorldUnderTest({ limits: { outboundBytesMax } });
      const devices = [1, 2, 3].map((seed) => new ChainDevice(seed));
      let version: Version = await world.found(...devices);
      let epoch = 1;
      const outsider = new ChainDevice(9);
      const peers = new Map<number, Peer>();
      const lastPush = new Map<number, EnvelopeBody>();
      const all: Peer[] = [];
      for (const [who, device] of devices.entries()) {
        const member = await world.member(device);
        peers.set(who, member);
        all.push(member);
      }
      for (const step of actions) {
        const device = devices[step.who] ?? outsider;
        if (step.kind === "connect") {
          // Not welcomed yet: what follows may come before that.
          const made = world.attach(device.id, step.lobby ? {} : { groupId });
          peers.set(step.who, made);
          all.push(made);
          continue;
        }
        const before = peers.get(step.who);
        if (before?.endedWith !== undefined) {
          const again = await world.member(device);
          peers.set(step.who, again);
          all.push(again);
        }
        const peer = peers.get(step.who);
        if (step.kind === "pass") world.pass(step.ms);
        if (step.kind === "settle") await settled();
        if (step.kind === "fail") world.store.failCommits();
        if (peer === undefined) continue;
        switch (step.kind) {
          case "cut":
            peer.cut();
            peers.delete(step.who);
            break;
          case "push": {
            if (step.sync) {
              await settled();
              const { devices: rows = [] } = (await world.store.loadGroup(groupId)) ?? {};
              const row = rows[step.who];
              if (row !== undefined)
                Object.assign(device, { seq: row.lastSeq, link: row.lastLink });
            }
            const again = step.again ? lastPush.get(step.who) : undefined;
            const body = again ?? {
              case: "push",
              value: pushOf(device.run(step.count, { epoch })),
            };
            lastPush.set(step.who, body);
            peer.ask(body);
            break;
          }
          case "pull":
            peer.ask({
              case: "pull",
              value: {
                after: BigInt(step.after),
                until: BigInt(step.until),
                windowBytes: step.windowBytes,
              },
            });
            break;
          case "more":
            peer.record({ id: step.id, body: { case: "pullMore", value: { windowBytes: 500 } } });
            break;
          case "rotate": {
            const members = devices.map(({ id }) => id);
            const made = changeOf({ author: device.id, at: version, epoch: epoch + 1, members });
            const id = peer.ask({ case: "changeMembership", value: made.change });
            await settled();
            const acked = peer.port.sent.some(
              ({ requestId, body }) => requestId === BigInt(id) && body.case === "membershipAck",
            );
            if (acked) {
              version = made.after;
              epoch += 1;
            }
            break;
          }
          case "mailbox": {
            const rendezvousId = bytes(5, 1);
            const bodies: EnvelopeBody[] = [
              { case: "openInvite", value: { rendezvousId } },
              { case: "joinInvite", value: { rendezvousId } },
              { case: "inviteMessage", value: { rendezvousId, number: step.number } },
              { case: "closeInvite", value: { rendezvousId } },
              { case: "ack", value: { applied: BigInt(step.number) } },
            ];
            peer.ask(bodies[step.what] as EnvelopeBody);
            break;
          }
          case "any":
            peer.session.receive(
              sizeDelimited(toBinary(EnvelopeSchema, create(EnvelopeSchema, step.envelope))),
            );
            break;
          case "odd":
            peer.session.receive(
              concatBytes(
                encodeEnvelope(5, { case: "push", value: step.push }),
                encodeEnvelope(6, { case: "changeMembership", value: step.change }),
              ),
            );
            break;
          case "bytes":
            peer.session.receive(step.data);
            break;
          case "stuck":
            if (step.stuck) peer.port.stuck = true;
            else peer.port.drain();
            break;
          default:
            break;
        }
        for (const { port } of all) {
          // What waits: the bound, twice over for answers, and one step's worth.
          assert.ok(port.stuckBytes < 3 * outboundBytesMax + 20_000, `${port.stuckBytes} wait`);
        }
      }
      for (const { port } of all) port.drain();
      await settled();
      await settled();
      assert.deepEqual(world.defects, []);
      assert.equal(world.relay.queuedBytes, 0);
      for (const { port } of all) {
        if (port.closed === undefined) assert.equal(port.pauses, port.resumes);
      }
      const {
        head = 0,
        blobs,
        bytes: counted,
      } = (await world.store.loadGroup(groupId))?.group ?? {};
      const rows = await world.store.readBlobs(1, 0, 1e9, { rowsMax: 1e6, bytesMax: 1e9 });
      assert.deepEqual(
        rows.map((row) => row.cursor),
        Array.from({ length: head }, (_, i) => i + 1),
      );
      assert.equal(blobs, rows.length);
      assert.equal(world.relay.storeBytes, (await world.store.totals()).bytes);
      assert.ok((counted ?? 0) >= 0);
      const seqs = new Map<number, number>();
      for (const row of rows) {
        assert.ok(row.seq > (seqs.get(row.deviceKey) ?? 0), "each sender's seqs rise");
        seqs.set(row.deviceKey, row.seq);
      }
      pushed += head;
      // Every page and delivery that anybody was sent is dense.
      for (const peer of all) {
        for (const body of [...peer.all("blobs"), ...peer.all("deliver")]) {
          const cursors = [
            ...body.blobs.map((one) => one.cursor),
            ...("own" in body ? body.own.map((one) => one.cursor) : []),
          ].sort((x, y) => Number(x - y));
          let after = body.after;
          for (const cursor of cursors) assert.equal(cursor, ++after, "6.3");
          if (cursors.length > 0) assert.equal(after, body.through);
        }
      }
    }),
    { numRuns: 60 },
  );
  assert.ok(pushed > 50, `${pushed} blobs were stored in all`);
});
