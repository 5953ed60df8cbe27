import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { Core } from "../../client/core.ts";
import { Disk } from "../../client/disk.ts";
import { Events } from "../../client/events.ts";
import { MemoryDisk, MemoryStore } from "../../client/index.ts";
import { Refusals } from "../../client/refusals.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import {
  BlobSchema,
  type StoredBlob,
  StoredBlobSchema,
} from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { World } from "./support/world.ts";

function refusals(): { core: Core; kept: Refusals } {
  const world = new World();
  const disk = new Disk(new MemoryStore(new MemoryDisk()));
  const core = new Core(
    world.host(),
    disk,
    new Events(world.host()),
    deriveDeviceKeys(world.random(32)),
  );
  return { core, kept: new Refusals(core) };
}

function blobAt(cursor: number): StoredBlob {
  const blobId = new Uint8Array(16);
  new DataView(blobId.buffer).setUint32(0, cursor);
  return create(StoredBlobSchema, {
    cursor: BigInt(cursor),
    sender: new Uint8Array(32).fill(7),
    blob: create(BlobSchema, { blobId }),
  });
}

describe("refusals", () => {
  test("hundreds of thousands of them still have a first and a last", async () => {
    const { core, kept } = refusals();
    const blobs = Array.from({ length: 200_000 }, (_, i) => blobAt(i + 1));
    await core.disk.write(
      (tx) =>
        kept.write(
          tx,
          blobs.map((stored) => ({ stored, code: ErrorCode.HISTORY_ALTERED })),
          [],
        ),
      (written) => written(),
    );
    assert.deepEqual([kept.count, kept.first, kept.last], [200_000, 1, 200_000]);
    await core.disk.write(
      (tx) => kept.write(tx, [], [1, 2, 200_000]),
      (written) => written(),
    );
    assert.deepEqual([kept.count, kept.first, kept.last], [199_997, 3, 199_999]);
    const again = new Refusals(core);
    await core.disk.write((tx) => again.load(tx));
    assert.deepEqual([again.count, again.first, again.last], [199_997, 3, 199_999]);
    assert.equal(again.holding.size, 1);
  });

  test("a missing body is found by its blob id and its link, until it is explained", async () => {
    const { core, kept } = refusals();
    const stored = blobAt(5);
    const write = (explained: number[]): Promise<unknown> =>
      core.disk.write(
        (tx) =>
          kept.write(
            tx,
            explained.length > 0 ? [] : [{ stored, code: ErrorCode.UNSPECIFIED }],
            explained,
          ),
        (written) => written(),
      );
    await write([]);
    assert.deepEqual(kept.missing(stored.blob?.blobId as Uint8Array), {
      cursor: 5,
      sender: stored.sender,
    });
    assert.equal(kept.missingLink(5n)?.byteLength, 32);
    assert.equal(kept.holding.size, 0, "what follows it does not wait");
    await write([5]);
    assert.equal(kept.missing(stored.blob?.blobId as Uint8Array), undefined);
    assert.deepEqual([kept.count, kept.first, kept.last], [0, undefined, undefined]);
  });

  test("PROTOCOL 13.12: a missing body counts among them once the head was reached", async () => {
    const { core, kept } = refusals();
    const written = (refused: readonly [number, ErrorCode][]): Promise<unknown> =>
      core.disk.write(
        (tx) =>
          kept.write(
            tx,
            refused.map(([cursor, code]) => ({ stored: blobAt(cursor), code })),
            [],
          ),
        (taken) => taken(),
      );
    await written([
      [5, ErrorCode.UNSPECIFIED],
      [6, ErrorCode.HISTORY_ALTERED],
    ]);
    assert.deepEqual([kept.count, kept.certain], [2, 1]);
    kept.atHead();
    await written([[7, ErrorCode.UNSPECIFIED]]);
    assert.deepEqual([kept.count, kept.certain], [3, 2]);
  });
});
