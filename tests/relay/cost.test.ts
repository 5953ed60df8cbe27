/**
 * What a push costs the relay beside the disk and the socket, in what it allocates: a bound is broken by
 * a change that makes the hot path heavier, and never by a machine that is slow today.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Store } from "../../server/store/contract.ts";
import { openMemoryStore } from "../../server/store/memory-store.ts";
import { encodeEnvelope } from "../../wire/envelope.ts";
import { allocatedBy, allocationBound } from "../support/allocation.ts";
import { ChainDevice, pushOf } from "../support/devices.ts";
import { type Peer, RelayWorldUnderTest, settled } from "../support/relay-world.ts";

const pushes = 2_000;

/** Counts what is sent, and keeps none of it. */
function counted({ port }: Peer): () => number {
  let envelopes = 0;
  port.send = () => {
    envelopes += 1;
  };
  return () => envelopes;
}

/** A store that takes everything, once it is told to: its own rows are not what is measured. */
function leanStore(): { store: Store; lean: () => void } {
  const store = openMemoryStore();
  let takesAll = false;
  return {
    store: new Proxy(store, {
      get(target, name) {
        if (name === "commit" && takesAll) return () => Promise.resolve();
        const value: unknown = Reflect.get(target, name);
        return typeof value === "function" ? (value.bind(target) as unknown) : value;
      },
    }),
    lean: () => {
      takesAll = true;
    },
  };
}

test("a push, its acknowledgement and its delivery to another device allocate a bounded amount", async () => {
  const { store, lean } = leanStore();
  const world = new RelayWorldUnderTest({
    disk: store,
    limits: { pushesBurst: 100 * pushes, pushesPerS: 100 * pushes },
  });
  const writer = new ChainDevice(1);
  const reader = new ChainDevice(2);
  await world.found(writer, reader);
  const from = await world.member(writer);
  const to = await world.member(reader);
  to.ask({ case: "pull", value: { windowBytes: 16_000_000 } });
  await settled();
  lean();
  const told = counted(from);
  const delivered = counted(to);
  const rounds: number[] = [];
  let id = 100;
  // The first rounds are compiled, and grow what is kept.
  for (let round = 0; round < 14; round++) {
    const requests = Array.from({ length: pushes }, () =>
      encodeEnvelope(id++, { case: "push", value: pushOf([writer.next({ bodyBytes: 288 })]) }),
    );
    const before = delivered();
    const bytes = await allocatedBy(async () => {
      for (const request of requests) from.session.receive(request);
      await settled();
    });
    // What one turn brings is one commit, and the reader is told of it page by page.
    assert.ok(delivered() - before <= 4, `${delivered() - before} deliveries of one commit`);
    rounds.push(bytes / pushes);
  }
  assert.ok(told() >= 14, "the writer is answered");
  // 3,500, 3,650 and 4,350 were measured. One promise and one closure more for each push are seen.
  const least = Math.min(...rounds);
  assert.ok(
    least < allocationBound({ 20: 3_700, 22: 3_850, 24: 4_550 }),
    `${Math.round(least)} bytes a push`,
  );
});
