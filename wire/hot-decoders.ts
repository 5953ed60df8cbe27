/**
 * Decoders for the messages that carry the load, by hand: `Push`, `PushAck`,
 * `Blobs` and `Deliver`. They read the one form that encoders make (fields in
 * order, each once, none unknown) and leave everything else, right or wrong, to the generic decoder. So what a
 * message means is decided there alone; a test holds these to it for arbitrary
 * and altered input.
 */

import type { Envelope } from "../gen/syncrelay/sync/v1/envelope_pb.ts";
import type {
  Blob,
  Blobs,
  Deliver,
  OwnBlob,
  Push,
  PushAck,
  StoredBlob,
} from "../gen/syncrelay/sync/v1/log_pb.ts";
import { emptyBytes } from "./bytes.ts";
import type { ItemCounter } from "./message-shape.ts";

// Tags: field number and wire type. Those of the bodies take two bytes.
const varintTag = (field: number): number => field * 8;
const bytesTag = (field: number): number => field * 8 + 2;
const bodyTags = { push: 162, pushAck: 170, blobs: 194, deliver: 202 } as const;

type HotTag = (typeof bodyTags)[keyof typeof bodyTags];

function isHot(tag: number): tag is HotTag {
  return (
    tag === bodyTags.push ||
    tag === bodyTags.pushAck ||
    tag === bodyTags.blobs ||
    tag === bodyTags.deliver
  );
}

/** Thrown and caught here: the input is not in the form this file reads. */
const otherForm = new Error("left to the generic decoder");

/**
 * A hot message, or undefined where it is none, not in the usual form, or holds
 * more messages and list items than `items` has left: the generic walk refuses
 * that without making anything of it. What is returned was counted. It stands in
 * `bytes` from `start` to `end`.
 */
export function decodeHotEnvelope(
  bytes: Uint8Array,
  items: ItemCounter,
  start = 0,
  end = bytes.byteLength,
): Envelope | undefined {
  reader.begin(bytes, start, end, items.left);
  try {
    const envelope = reader.envelope();
    if (envelope !== undefined) items.take(reader.items);
    return envelope;
  } catch (error) {
    if (error === otherForm) return undefined;
    throw error;
  } finally {
    reader.begin(emptyBytes, 0, 0, 0);
  }
}

class Reader {
  /** Messages and list items so far, as the generic walk counts them: the envelope and its body. */
  items = 0;
  #bytes = emptyBytes;
  #itemsMax = 0;
  #offset = 0;
  #end = 0;

  begin(bytes: Uint8Array, start: number, end: number, itemsMax: number): void {
    this.items = 2;
    this.#bytes = bytes;
    this.#itemsMax = itemsMax;
    this.#offset = start;
    this.#end = end;
  }

  envelope(): Envelope | undefined {
    const requestId = this.#uint(1);
    const tag = this.#end - this.#offset < 2 ? 0 : (this.#bytes[this.#offset] as number);
    // Fields 16 to 31: the second byte of the tag is 1.
    if (this.#bytes[this.#offset + 1] !== 1) return undefined;
    if (!isHot(tag)) return undefined;
    this.#offset += 2;
    const end = this.#length();
    if (end !== this.#end) return undefined;
    const body = this.#body(tag);
    if (this.#offset !== this.#end) return undefined;
    return { $typeName: "syncrelay.sync.v1.Envelope", requestId, body };
  }

  #body(tag: HotTag): HotBody {
    switch (tag) {
      case bodyTags.push:
        return { case: "push", value: this.#push() };
      case bodyTags.pushAck:
        return { case: "pushAck", value: this.#pushAck() };
      case bodyTags.blobs:
        return { case: "blobs", value: this.#blobs() };
      case bodyTags.deliver:
        return { case: "deliver", value: this.#deliver() };
    }
  }

  #push(): Push {
    let blobs: Blob[] | undefined;
    while (this.#at(bytesTag(1))) {
      this.#count(1);
      const outer = this.#enter();
      const blob = this.#blob();
      this.#leave(outer);
      // Most pushes hold one: a list that is made with it has no room for more.
      if (blobs === undefined) blobs = [blob];
      else blobs.push(blob);
    }
    blobs ??= [];
    return { $typeName: "syncrelay.sync.v1.Push", blobs, resume: this.#bool(2) };
  }

  #pushAck(): PushAck {
    const cursors: bigint[] = [];
    if (this.#at(bytesTag(1))) {
      const outer = this.#enter();
      while (this.#offset < this.#end) {
        this.#count(1);
        cursors.push(BigInt(this.#varint()));
      }
      this.#leave(outer);
    }
    return { $typeName: "syncrelay.sync.v1.PushAck", cursors };
  }

  #blobs(): Blobs {
    const after = this.#uint(1);
    const through = this.#uint(2);
    const blobs = this.#storedBlobs();
    const done = this.#bool(4);
    return {
      $typeName: "syncrelay.sync.v1.Blobs",
      after,
      through,
      blobs,
      done,
      head: this.#uint(5),
    };
  }

  #deliver(): Deliver {
    const after = this.#uint(1);
    const through = this.#uint(2);
    const blobs = this.#storedBlobs();
    const own: OwnBlob[] = [];
    while (this.#at(bytesTag(4))) {
      this.#count(1);
      const outer = this.#enter();
      own.push(this.#ownBlob());
      this.#leave(outer);
    }
    return { $typeName: "syncrelay.sync.v1.Deliver", after, through, blobs, own };
  }

  #storedBlobs(): StoredBlob[] {
    const blobs: StoredBlob[] = [];
    while (this.#at(bytesTag(3))) {
      // Itself, and the blob inside.
      this.#count(2);
      const outer = this.#enter();
      blobs.push(this.#storedBlob());
      this.#leave(outer);
    }
    return blobs;
  }

  #storedBlob(): StoredBlob {
    const cursor = this.#uint(1);
    const sender = this.#optionalBytes(2);
    if (!this.#at(bytesTag(3))) throw otherForm;
    const outer = this.#enter();
    const blob = this.#blob();
    this.#leave(outer);
    // A body state is an enumeration, whose numbers here are small.
    const bodyState = Number(this.#uint(4));
    if (bodyState > 0x7f) throw otherForm;
    return { $typeName: "syncrelay.sync.v1.StoredBlob", cursor, sender, blob, bodyState };
  }

  #blob(): Blob {
    return {
      $typeName: "syncrelay.sync.v1.Blob",
      blobId: this.#optionalBytes(1),
      header: this.#optionalBytes(2),
      signature: this.#optionalBytes(3),
      epoch: this.#uint(4),
      body: this.#optionalBytes(5),
    };
  }

  #ownBlob(): OwnBlob {
    const cursor = this.#uint(1);
    const seq = this.#uint(2);
    return { $typeName: "syncrelay.sync.v1.OwnBlob", cursor, seq, link: this.#optionalBytes(3) };
  }

  #count(items: number): void {
    this.items += items;
    if (this.items > this.#itemsMax) throw otherForm;
  }

  /** Whether this field comes next; takes its tag where it does. */
  #at(tag: number): boolean {
    if (this.#offset >= this.#end || this.#bytes[this.#offset] !== tag) return false;
    this.#offset += 1;
    return true;
  }

  /** Reads a length; what follows ends where it says. Returns where what is around it ends. */
  #enter(): number {
    const end = this.#length();
    const outer = this.#end;
    this.#end = end;
    return outer;
  }

  /** What was inside must have been read to its end. */
  #leave(outer: number): void {
    if (this.#offset !== this.#end) throw otherForm;
    this.#end = outer;
  }

  #uint(field: number): bigint {
    return this.#at(varintTag(field)) ? BigInt(this.#varint()) : 0n;
  }

  #bool(field: number): boolean {
    if (!this.#at(varintTag(field))) return false;
    const value = this.#varint();
    if (value > 1) throw otherForm;
    return value === 1;
  }

  #optionalBytes(field: number): Uint8Array {
    if (!this.#at(bytesTag(field))) return emptyBytes;
    const end = this.#length();
    const from = this.#offset;
    this.#offset = end;
    return this.#bytes.subarray(from, end);
  }

  /** Reads a length, and returns where what it measures ends. */
  #length(): number {
    const start = this.#offset;
    const length = this.#varint();
    const end = this.#offset + length;
    // The generic walk refuses a length of more than five bytes.
    if (end > this.#end || this.#offset - start > 5) throw otherForm;
    return end;
  }

  /** A number below 2^53; larger ones are left to the generic decoder. */
  #varint(): number {
    let value = 0;
    let weight = 1;
    for (let i = 0; i < 7; i++) {
      if (this.#offset >= this.#end) throw otherForm;
      const byte = this.#bytes[this.#offset++] as number;
      if (byte < 0x80) return value + byte * weight;
      value += (byte - 0x80) * weight;
      weight *= 128;
    }
    throw otherForm;
  }
}

/** One for all: nothing is read while something else is, and it holds on to nothing. */
const reader = new Reader();

type HotBody = Extract<Envelope["body"], { case: "push" | "pushAck" | "blobs" | "deliver" }>;
