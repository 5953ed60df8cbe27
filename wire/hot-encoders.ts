/**
 * Encoders for the messages that carry the load, written by hand: the generic
 * encoder costs several times as much, and a fan-out wants its blobs encoded
 * once for all. Their bytes equal the generic encoder's; a test holds them to
 * that for arbitrary input, so the schema stays the only source of the shapes.
 *
 * A blob on its way through the relay is encoded once as the field it will be in
 * `Blobs` and `Deliver` alike (field 3 of both), and copied from there.
 */

/** A blob as it is pushed. Byte arrays are not copied. */
export interface BlobParts {
  /** 16 bytes. */
  readonly blobId: Uint8Array;
  /** `BlobHeader`, encoded. */
  readonly header: Uint8Array;
  /** 64 bytes. */
  readonly signature: Uint8Array;
  /** The epoch that the body is sealed under, from 1. */
  readonly epoch: number;
  /** Empty where it was dropped. */
  readonly body: Uint8Array;
}

/** A blob at its place in the log. */
export interface StoredBlobParts extends BlobParts {
  /** Its place in the log. */
  readonly cursor: number;
  /** Its sender's device id, 32 bytes. */
  readonly sender: Uint8Array;
  /** A `BodyState`; 0 where the body is there. */
  readonly bodyState: number;
}

/** A session's own blob inside a `Deliver`. */
export interface OwnBlobParts {
  /** Its place in the log. */
  readonly cursor: number;
  /** Its number in the receiver's chain. */
  readonly seq: number;
  /** Its link, 32 bytes. */
  readonly link: Uint8Array;
}

// Wire types (protobuf encoding): 0 varint, 2 length-delimited.
const varintField = (field: number): number => field * 8;
const bytesField = (field: number): number => field * 8 + 2;

function varintBytes(value: number): number {
  let bytes = 1;
  while (value >= 0x80) {
    value = Math.floor(value / 128);
    bytes += 1;
  }
  return bytes;
}

/** Bytes of a varint field below 16; 0 where the value is the default. */
function varintFieldBytes(value: number): number {
  return value === 0 ? 0 : 1 + varintBytes(value);
}

/** Bytes of a length-delimited field below 16; 0 where it is empty. */
function bytesFieldBytes(length: number): number {
  return length === 0 ? 0 : 1 + varintBytes(length) + length;
}

class Writer {
  readonly bytes: Uint8Array;
  #offset = 0;

  constructor(length: number) {
    this.bytes = new Uint8Array(length);
  }

  varint(value: number): void {
    const bytes = this.bytes;
    let offset = this.#offset;
    // Shifts are 32-bit, so what is above is taken off by division first.
    while (value > 0x7fffffff) {
      bytes[offset++] = (value % 128) | 0x80;
      value = Math.floor(value / 128);
    }
    while (value >= 0x80) {
      bytes[offset++] = (value & 0x7f) | 0x80;
      value >>>= 7;
    }
    bytes[offset++] = value;
    this.#offset = offset;
  }

  varintField(field: number, value: number): void {
    if (value === 0) return;
    this.varint(varintField(field));
    this.varint(value);
  }

  bytesField(field: number, value: Uint8Array): void {
    if (value.byteLength === 0) return;
    this.open(field, value.byteLength);
    this.raw(value);
  }

  /** A tag and length; what is inside follows. */
  open(field: number, length: number): void {
    this.varint(bytesField(field));
    this.varint(length);
  }

  raw(value: Uint8Array): void {
    this.bytes.set(value, this.#offset);
    this.#offset += value.byteLength;
  }
}

function blobBytes(blob: BlobParts): number {
  return (
    bytesFieldBytes(blob.blobId.byteLength) +
    bytesFieldBytes(blob.header.byteLength) +
    bytesFieldBytes(blob.signature.byteLength) +
    varintFieldBytes(blob.epoch) +
    bytesFieldBytes(blob.body.byteLength)
  );
}

function writeBlob(writer: Writer, blob: BlobParts): void {
  writer.bytesField(1, blob.blobId);
  writer.bytesField(2, blob.header);
  writer.bytesField(3, blob.signature);
  writer.varintField(4, blob.epoch);
  writer.bytesField(5, blob.body);
}

/** The envelope's frame: size, request id, and the tag and size of its body. */
function envelopeWriter(requestId: number, field: number, bodyBytes: number): Writer {
  // Body fields are all above 15, whose tags take two bytes.
  const envelopeBytes = varintFieldBytes(requestId) + 2 + varintBytes(bodyBytes) + bodyBytes;
  const writer = new Writer(varintBytes(envelopeBytes) + envelopeBytes);
  writer.varint(envelopeBytes);
  writer.varintField(1, requestId);
  writer.open(field, bodyBytes);
  return writer;
}

/** `Envelope { push }`, size-delimited. */
export function encodePush(
  requestId: number,
  blobs: readonly BlobParts[],
  resume: boolean,
): Uint8Array {
  let length = resume ? 2 : 0;
  const sizes = blobs.map(blobBytes);
  for (const size of sizes) length += 1 + varintBytes(size) + size;
  const writer = envelopeWriter(requestId, 20, length);
  for (const [i, blob] of blobs.entries()) {
    writer.open(1, sizes[i] as number);
    writeBlob(writer, blob);
  }
  if (resume) writer.varintField(2, 1);
  return writer.bytes;
}

/** `Envelope { push_ack }`, size-delimited. */
export function encodePushAck(requestId: number, cursors: readonly number[]): Uint8Array {
  let packed = 0;
  for (const cursor of cursors) packed += varintBytes(cursor);
  const writer = envelopeWriter(requestId, 21, bytesFieldBytes(packed));
  if (packed > 0) {
    writer.open(1, packed);
    for (const cursor of cursors) writer.varint(cursor);
  }
  return writer.bytes;
}

/** A stored blob as field 3 of `Blobs` or `Deliver`, tag and size with it. */
export function encodeStoredBlobField(blob: StoredBlobParts): Uint8Array {
  const inner = blobBytes(blob);
  const length =
    varintFieldBytes(blob.cursor) +
    bytesFieldBytes(blob.sender.byteLength) +
    (1 + varintBytes(inner) + inner) +
    varintFieldBytes(blob.bodyState);
  const writer = new Writer(1 + varintBytes(length) + length);
  writer.open(3, length);
  writer.varintField(1, blob.cursor);
  writer.bytesField(2, blob.sender);
  writer.open(3, inner);
  writeBlob(writer, blob);
  writer.varintField(4, blob.bodyState);
  return writer.bytes;
}

/** What a `Blobs` says beside its blobs. */
export interface BlobsFrame {
  /** The cursor that the page begins behind. */
  readonly after: number;
  /** The cursor that it reaches. */
  readonly through: number;
  /** Whether it is the last of its pull. */
  readonly done: boolean;
  /** The highest cursor of the log. */
  readonly head: number;
}

/** `Envelope { blobs }`, size-delimited, around blobs encoded by `encodeStoredBlobField`. */
export function encodeBlobs(
  requestId: number,
  frame: BlobsFrame,
  blobFields: readonly Uint8Array[],
): Uint8Array {
  let length =
    varintFieldBytes(frame.after) +
    varintFieldBytes(frame.through) +
    (frame.done ? 2 : 0) +
    varintFieldBytes(frame.head);
  for (const field of blobFields) length += field.byteLength;
  const writer = envelopeWriter(requestId, 24, length);
  writer.varintField(1, frame.after);
  writer.varintField(2, frame.through);
  for (const field of blobFields) writer.raw(field);
  if (frame.done) writer.varintField(4, 1);
  writer.varintField(5, frame.head);
  return writer.bytes;
}

/** `Envelope { deliver }`, size-delimited, around blobs encoded by `encodeStoredBlobField`. */
export function encodeDeliver(
  after: number,
  through: number,
  blobFields: readonly Uint8Array[],
  own: readonly OwnBlobParts[],
): Uint8Array {
  const ownBytes = own.map(
    (blob) =>
      varintFieldBytes(blob.cursor) +
      varintFieldBytes(blob.seq) +
      bytesFieldBytes(blob.link.byteLength),
  );
  let length = varintFieldBytes(after) + varintFieldBytes(through);
  for (const field of blobFields) length += field.byteLength;
  for (const size of ownBytes) length += 1 + varintBytes(size) + size;
  const writer = envelopeWriter(0, 25, length);
  writer.varintField(1, after);
  writer.varintField(2, through);
  for (const field of blobFields) writer.raw(field);
  for (const [i, blob] of own.entries()) {
    writer.open(4, ownBytes[i] as number);
    writer.varintField(1, blob.cursor);
    writer.varintField(2, blob.seq);
    writer.bytesField(3, blob.link);
  }
  return writer.bytes;
}
