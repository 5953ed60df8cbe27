/** What a relay keeps beside the log of a group: objects and snapshots. In memory, by PROTOCOL.md 11. */
import { fromBinary } from "@bufbuild/protobuf";
import type { Envelope } from "../../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { BodyState } from "../../../gen/syncrelay/sync/v1/log_pb.ts";
import { SnapshotUrgency } from "../../../gen/syncrelay/sync/v1/session_pb.ts";
import { SnapshotManifestSchema } from "../../../gen/syncrelay/sync/v1/snapshot_pb.ts";
import { concatBytes, emptyBytes, equalBytes } from "../../../wire/bytes.ts";
import type { EnvelopeBody } from "../../../wire/envelope.ts";
import { ErrorCode, SyncError } from "../../../wire/errors.ts";
import { blake2b256 } from "../../../wire/hash.ts";
import { idText } from "../../../wire/ids.ts";

/** What a snapshot is held against. */
interface FakeLog {
  readonly logId: Uint8Array;
  readonly blobs: { link: Uint8Array; body: Uint8Array; bodyState: BodyState }[];
  readonly applied: ReadonlyMap<string, number>;
}

export interface FakeObject {
  readonly sizeBytes: number;
  pieces: Uint8Array[];
  durableBytes: number;
  complete: boolean;
}

export interface FakeSnapshot {
  readonly id: Uint8Array;
  readonly author: string;
  manifest: Uint8Array;
  signature: Uint8Array;
  readonly replacesThrough: number;
  effective: boolean;
  confirmedBy?: Uint8Array;
  confirmation?: Uint8Array;
}

/** Bytes of one `ObjectData`: so small that a range comes in several. */
const pieceBytes = 300_000;

export class FakeRetention {
  objects = new Map<string, FakeObject>();
  snapshots: FakeSnapshot[] = [];
  urgency: SnapshotUrgency = SnapshotUrgency.UNSPECIFIED;
  /** The headers up to here are gone. */
  floor = 0;
  /** Ranges that were stored, by their offsets. */
  readonly stored: {
    readonly objectId: string;
    readonly offset: number;
    readonly bytes: number;
  }[] = [];
  objectBytesMax = Number.MAX_SAFE_INTEGER;

  copy(): FakeRetention {
    const other = new FakeRetention();
    other.objects = new Map([...this.objects].map(([id, object]) => [id, { ...object }]));
    other.snapshots = this.snapshots.map((snapshot) => ({ ...snapshot }));
    other.floor = this.floor;
    return other;
  }

  get replacedThrough(): number {
    return this.effective?.replacesThrough ?? 0;
  }

  /** Whether one waits that this device could confirm. */
  waitsFor(device: string): boolean {
    return this.snapshots.some((each) => !each.effective && each.author !== device);
  }

  /** The effective one, as a pull that begins below it is answered. */
  get shown(): EnvelopeBody {
    return this.#shown(this.effective);
  }

  #shown(found: FakeSnapshot | undefined): EnvelopeBody {
    return {
      case: "snapshot",
      value: {
        manifest: found?.manifest ?? emptyBytes,
        signature: found?.signature ?? emptyBytes,
        effective: found?.effective ?? false,
        urgency: this.urgency,
        confirmedBy: found?.confirmedBy ?? emptyBytes,
        confirmation: found?.confirmation ?? emptyBytes,
      },
    };
  }

  /** The newest one that trims. */
  get effective(): FakeSnapshot | undefined {
    return this.snapshots.filter(({ effective }) => effective).at(-1);
  }

  /** Drops the bodies that an effective snapshot replaced, and with `headers` the headers too. */
  trim<B extends FakeLog["blobs"][number]>(group: { readonly blobs: B[] }, headers = false): void {
    const through = this.effective?.replacesThrough ?? 0;
    for (let i = 0; i < through; i++) {
      const blob = group.blobs[i];
      if (blob === undefined) continue;
      group.blobs[i] = { ...blob, body: emptyBytes, bodyState: BodyState.TRIMMED };
    }
    if (headers) this.floor = through;
  }

  /** Answers a request; undefined where it is none of these. */
  answer(
    group: FakeLog,
    session: { readonly device: string; readonly deviceId: Uint8Array },
    body: Envelope["body"],
  ): EnvelopeBody[] | undefined {
    const { device } = session;
    switch (body.case) {
      case "statObject":
        return [this.#state(body.value.objectId)];
      case "putObject":
        return [this.#put(body.value)];
      case "getObject":
        return this.#get(body.value);
      case "dropObject":
        this.objects.delete(idText(body.value.objectId));
        return [{ case: "done", value: {} }];
      case "putSnapshot":
        this.#putSnapshot(group, device, body.value);
        return [{ case: "done", value: {} }];
      case "confirmSnapshot":
        this.#confirm(session, body.value);
        return [{ case: "done", value: {} }];
      case "getSnapshot": {
        if (!body.value.unconfirmed) return [this.shown];
        const { before } = body.value;
        const end = this.snapshots.findIndex(({ id }) => equalBytes(id, before));
        const waiting = this.snapshots
          .slice(0, end < 0 ? undefined : end)
          .filter((each) => !each.effective && each.author !== device);
        return [this.#shown(waiting.at(-1))];
      }
      default:
        return undefined;
    }
  }

  #state(objectId: Uint8Array): EnvelopeBody {
    const object = this.objects.get(idText(objectId));
    return {
      case: "objectState",
      value: {
        sizeBytes: BigInt(object?.sizeBytes ?? 0),
        durableBytes: BigInt(object?.durableBytes ?? 0),
        complete: object?.complete ?? false,
      },
    };
  }

  #put(range: {
    readonly objectId: Uint8Array;
    readonly sizeBytes: bigint;
    readonly offset: bigint;
    readonly data: Uint8Array;
  }): EnvelopeBody {
    const id = idText(range.objectId);
    const sizeBytes = Number(range.sizeBytes);
    if (sizeBytes > this.objectBytesMax) throw new SyncError(ErrorCode.QUOTA_EXCEEDED);
    const { byteLength } = range.data;
    const offset = Number(range.offset);
    if (
      (offset % 65_536 !== 0 && offset !== sizeBytes) ||
      byteLength > 1_048_576 ||
      (byteLength % 65_536 !== 0 && offset + byteLength !== sizeBytes) ||
      (byteLength === 0 && offset !== sizeBytes)
    ) {
      throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    }
    let object = this.objects.get(id);
    if (object === undefined) {
      object = { sizeBytes, pieces: [], durableBytes: 0, complete: false };
      this.objects.set(id, object);
    }
    if (!object.complete && Number(range.offset) === object.durableBytes) {
      object.pieces.push(Uint8Array.from(range.data));
      object.durableBytes += range.data.byteLength;
      this.stored.push({
        objectId: id,
        offset: Number(range.offset),
        bytes: range.data.byteLength,
      });
      if (object.durableBytes === sizeBytes) {
        if (!equalBytes(blake2b256(...object.pieces), range.objectId)) {
          this.objects.delete(id);
          throw new SyncError(ErrorCode.ENVELOPE_INVALID);
        }
        object.complete = true;
      }
    }
    return this.#state(range.objectId);
  }

  #get(range: {
    readonly objectId: Uint8Array;
    readonly offset: bigint;
    readonly length: bigint;
  }): EnvelopeBody[] {
    const object = this.objects.get(idText(range.objectId));
    if (object?.complete !== true) {
      return [
        { case: "objectData", value: { offset: 0n, data: emptyBytes, done: true, sizeBytes: 0n } },
      ];
    }
    const whole = concatBytes(...object.pieces);
    const offset = Number(range.offset);
    const wanted = Number(range.length) === 0 ? whole.byteLength - offset : Number(range.length);
    const data = whole.subarray(offset, offset + Math.min(wanted, 1_048_576));
    const answers: EnvelopeBody[] = [];
    for (let at = 0; at < data.byteLength || at === 0; at += pieceBytes) {
      answers.push({
        case: "objectData",
        value: {
          offset: BigInt(offset + at),
          data: data.subarray(at, at + pieceBytes),
          done: at + pieceBytes >= data.byteLength,
          sizeBytes: BigInt(object.sizeBytes),
        },
      });
    }
    return answers;
  }

  #putSnapshot(
    group: FakeLog,
    device: string,
    put: { readonly manifest: Uint8Array; readonly signature: Uint8Array },
  ): void {
    const id = blake2b256(put.manifest);
    if (this.snapshots.some((each) => equalBytes(each.id, id))) return;
    const { logId, replacesThrough, link, parts } = fromBinary(
      SnapshotManifestSchema,
      put.manifest,
    );
    const at = group.blobs[Number(replacesThrough) - 1];
    if (
      !equalBytes(logId, group.logId) ||
      Number(replacesThrough) <= this.replacedThrough ||
      !equalBytes(at?.link ?? emptyBytes, link)
    ) {
      throw new SyncError(ErrorCode.LINK_CONFLICT);
    }
    if (
      Number(replacesThrough) > (group.applied.get(device) ?? 0) ||
      !parts.every((part) => this.objects.get(idText(part))?.complete === true)
    ) {
      throw new SyncError(ErrorCode.OUT_OF_ORDER);
    }
    this.snapshots = this.snapshots.filter((each) => each.effective || each.author !== device);
    this.snapshots.push({
      id,
      author: device,
      manifest: Uint8Array.from(put.manifest),
      signature: Uint8Array.from(put.signature),
      replacesThrough: Number(replacesThrough),
      effective: false,
    });
  }

  #confirm(
    by: { readonly device: string; readonly deviceId: Uint8Array },
    confirm: { readonly snapshotId: Uint8Array; readonly signature: Uint8Array },
  ): void {
    const found = this.snapshots.find(({ id }) => equalBytes(id, confirm.snapshotId));
    if (found === undefined) throw new SyncError(ErrorCode.LINK_CONFLICT);
    if (found.author === by.device) throw new SyncError(ErrorCode.ENVELOPE_INVALID);
    found.effective = true;
    found.confirmedBy = by.deviceId;
    found.confirmation = Uint8Array.from(confirm.signature);
    this.snapshots = this.snapshots.filter(
      (each) => each === found || each.replacesThrough > found.replacesThrough,
    );
    this.urgency = SnapshotUrgency.UNSPECIFIED;
  }
}
