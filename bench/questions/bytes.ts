/** What a blob takes beside what is in it, on the wire and on the disk; and what a change of one byte takes. */
import { statSync } from "node:fs";
import { join } from "node:path";
import { prepareBlob, sealBlob } from "../../client/seal/blob.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { encodePush } from "../../wire/hot-encoders.ts";
import { noiseTagBytes } from "../../wire/limits.ts";
import { inDataFolder } from "../harness/build.ts";
import { alone, amount, type Question, type Settings, within } from "../harness/measure.ts";
import { fillStore } from "./start-up.ts";

const changeBytesMax = 640;
/** A WebSocket frame's header with a mask and a length of two bytes. */
const frameBytes = 8;

/** A blob as a device seals it, late in its life and with a lifetime. */
function sealed(dataBytes: number) {
  const random = (length: number): Uint8Array => new Uint8Array(length).fill(7);
  const groupId = random(32);
  const keys = deriveDeviceKeys(random(32));
  const own = prepareBlob(
    { data: random(dataBytes), ttlS: 90 * 86_400 },
    { groupId, keys, previous: { seq: 1_000_000, link: random(32) }, witnessed: [], random },
  );
  return sealBlob(own, { groupId, sender: random(32), epoch: 3, bodyKey: random(32), random });
}

/** Bytes of the database for each blob. */
function onDisk(settings: Settings, blob: ReturnType<typeof sealed>): Promise<number> {
  return inDataFolder(async (folder) => {
    const blobs = amount(settings, 100_000);
    await fillStore(folder, {
      groups: 16,
      blobs,
      headerBytes: blob.header.byteLength,
      bodyBytes: blob.body.byteLength,
    });
    return statSync(join(folder, "relay", "relay.db")).size / blobs;
  });
}

export const bytes: Question = {
  name: "bytes",
  what: "bytes for each blob beside the app's 256, on the wire and on the disk; and of a change of one byte",
  ask: async (settings) => {
    const blob = sealed(256);
    const pushed =
      encodePush(1_000_000, [blob], false).byteLength + noiseTagBytes + frameBytes - 256;
    return [
      alone(
        {
          question: "bytes/wire",
          what: "beside 256 B of an app, in a push of one blob: padding, header, signature, envelope, tag, WebSocket frame",
          unit: "B/blob",
          sides: { ours: "a frame from a device; TCP and IP are not counted" },
        },
        [pushed],
      ),
      alone(
        {
          question: "bytes/disk",
          what: "beside 256 B of an app, in the database: the same, link, row and index",
          unit: "B/blob",
          sides: { ours: "size of the database with 100,000 blobs of 16 groups, for each" },
        },
        [(await onDisk(settings, blob)) - 256],
      ),
      within(
        {
          question: "bytes/one-byte",
          what: "a change of one byte, in the database",
          unit: "B/blob",
          target: 1,
          wanted: "at most",
          sides: { ours: "size of the database with 100,000 such, for each", limit: "640 B" },
        },
        [await onDisk(settings, sealed(1))],
        changeBytesMax,
      ),
    ];
  },
};
