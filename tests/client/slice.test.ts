/** A page verifies as much at once as its time allows, and as little as it must. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { type ReceivedPage, splitPage } from "../../client/pages.ts";
import { nodeHost } from "../../client/platform/node/index.ts";
import { Slice } from "../../client/slice.ts";
import { windowBlobsMax } from "../../wire/limits.ts";

test("a slice grows while it is fast and shrinks to what fits", () => {
  let nowMs = 0;
  const slice = new Slice({ ...nodeHost(), monotonicMs: () => nowMs, sliceMs: 16 });
  const first = slice.blobs;
  const spend = (ms: number) => slice.time(slice.blobs, () => void (nowMs += ms));
  spend(1);
  assert.equal(slice.blobs, 2 * first);
  // A short one says nothing about a long one.
  slice.time(1, () => undefined);
  assert.equal(slice.blobs, 2 * first);
  spend(10);
  assert.equal(slice.blobs, 2 * first);
  for (let i = 0; i < 20; i++) spend(1);
  assert.equal(slice.blobs, windowBlobsMax);
  spend(160);
  assert.equal(slice.blobs, windowBlobsMax / 10);
  spend(100_000);
  assert.equal(slice.blobs, first);
});

test("without a bound a slice is a window, whatever it takes", () => {
  let nowMs = 0;
  const slice = new Slice({ ...nodeHost(), monotonicMs: () => nowMs });
  slice.time(10, () => void (nowMs += 100_000));
  assert.equal(slice.blobs, windowBlobsMax);
});

test("the parts of a page are the page", () => {
  const blobs = [5n, 6n, 7n].map((cursor) => ({ cursor }));
  const page = { blobs, through: 7, bytes: 100 } as unknown as ReceivedPage;
  const [first, rest] = splitPage(page, 2);
  assert.deepEqual(first, { blobs: blobs.slice(0, 2), through: 6, bytes: 66 });
  assert.deepEqual(rest, { blobs: blobs.slice(2), through: 7, bytes: 34 });
});
