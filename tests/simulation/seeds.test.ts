/**
 * A few seeds of the simulation; `npm run sim` runs as many as there is time for. What some of them
 * found stands in `found.test.ts`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { MadeBlob } from "../support/devices.ts";
import { memoizeXWing } from "./memoize.ts";

memoizeXWing();
const { simulate } = await import("./simulation.ts");
const { openMemoryStore } = await import("../../server/store/memory-store.ts");
const { RelayWorldUnderTest, settled } = await import("../support/relay-world.ts");
const { ChainDevice } = await import("../support/devices.ts");

async function clean(seed: number): Promise<void> {
  const { failures, story } = await simulate(seed);
  assert.deepEqual(failures, [], `seed ${seed}\n${story.join("\n")}`);
}

test("TARGETS, not losing anything: 20 seeds keep every invariant", async () => {
  for (let seed = 1; seed <= 20; seed++) await clean(seed);
});

test("a seed tells the same story each time", async () => {
  const [first, second] = [
    await simulate(7, { verbose: true }),
    await simulate(7, { verbose: true }),
  ];
  assert.deepEqual(first.story, second.story);
  assert.equal(first.events, second.events);
});

test("PROTOCOL 6: blobs committed while a page is read make no empty page that is not the last", async () => {
  let release: () => void = () => undefined;
  const store = openMemoryStore();
  const read = store.readBlobs.bind(store);
  store.readBlobs = async (...asked) => {
    const rows = await read(...asked);
    await new Promise<void>((resolve) => {
      release = resolve;
    });
    return rows;
  };
  const world = new RelayWorldUnderTest({ store });
  const [reader, writer] = [new ChainDevice(1), new ChainDevice(2)];
  await world.found(reader, writer);
  const readingPeer = await world.member(reader);
  const writingPeer = await world.member(writer);
  readingPeer.ask({ case: "pull", value: { after: 0n, windowBytes: 65_536 } });
  await settled();
  const blobs: MadeBlob[] = [writer.next()];
  writingPeer.push(blobs);
  await settled();
  // The read that began before the commit ends, then the one that follows it.
  release();
  await settled();
  release();
  await settled();
  assert.deepEqual(
    readingPeer.all("blobs").map(({ after, through, done }) => [after, through, done]),
    [[0n, 1n, true]],
  );
});
