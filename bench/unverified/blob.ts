/** Bodies are opened; that what is in them is what the signed header fixes is not looked at. */
import type { openBody as verified } from "../../client/seal/blob.ts";
import { decodeEntry } from "../../client/seal/blob.ts";
import { unpad } from "../../client/seal/padding.ts";
import { aeadOpen } from "../../client/seal/primitives.ts";
import { ErrorCode, SyncError } from "../../wire/errors.ts";
import { Fields } from "../../wire/fields.ts";
import { headerBytesMax } from "../../wire/limits.ts";

export * from "../../client/seal/blob.ts";

// As the client itself does it: one array for all.
const context = new Uint8Array(88 + headerBytesMax);
const contextView = new DataView(context.buffer);

export const openBody: typeof verified = (blob, _header, at) => {
  context.set(at.groupId, 0);
  context.set(at.sender, 32);
  context.set(blob.blobId, 64);
  contextView.setBigUint64(80, blob.epoch);
  context.set(blob.header, 88);
  const associated = context.subarray(0, 88 + blob.header.byteLength);
  const padded = aeadOpen(at.bodyKey, blob.body, associated);
  const content = padded === undefined ? undefined : unpad(padded);
  if (content === undefined) throw new SyncError(ErrorCode.OPEN_FAILED);
  const fields = new Fields(content, ErrorCode.OPEN_FAILED);
  // `Padded.content`.
  fields.next();
  return decodeEntry(fields.bytes());
};
