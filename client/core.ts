/**
 * What the parts of a client share: who the device is, what it keeps, what it knows of its group,
 * and the session it speaks on, where there is one.
 */
import { create } from "@bufbuild/protobuf";
import { FindingKind as FindingKinds } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { type DeviceState, DeviceStateSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import { type AppPlace, type Disk, type LogPlace, noChain, noLog, type OwnChain } from "./disk.ts";
import type { Events } from "./events.ts";
import { type Finding, Findings } from "./findings.ts";
import type { Host } from "./host.ts";
import type { Positions } from "./seal/history.ts";
import type { DeviceKeys } from "./seal/keys.ts";
import type { ControlChain } from "./seal/membership.ts";
import type { StateStoreError } from "./state-store.ts";

export type { Finding } from "./findings.ts";

export class Core {
  readonly host: Host;
  readonly disk: Disk;
  readonly events: Events;
  readonly keys: DeviceKeys;
  readonly deviceText: string;

  /** As on disk; replaced, never changed. */
  device: DeviceState = create(DeviceStateSchema);
  /** The group's control chain; undefined until the device is a member. */
  chain: ControlChain | undefined;
  log: LogPlace = noLog;
  own: OwnChain = noChain;
  /** Where senders stood when the log changed: up to here blobs are read once more. Empty: it never did. */
  known: Positions = new Map();
  /** What was found wrong, and is not made good. */
  readonly findings = new Findings(this);
  /** How far the app has come; may be ahead of the disk by what was acknowledged just now. */
  app: AppPlace = { acknowledged: 0, applied: 0 };

  /** The session with the group; undefined while there is none. */
  session: Connection | undefined;
  /** The newest cursor the relay spoke of; undefined until it was reached once. */
  head: number | undefined;

  /** Something that `status` shows has moved. */
  moved: () => void = () => undefined;

  constructor(host: Host, disk: Disk, events: Events, keys: DeviceKeys) {
    this.host = host;
    this.disk = disk;
    this.events = events;
    this.keys = keys;
    this.deviceText = idText(keys.deviceId);
  }

  get groupId(): Uint8Array {
    return this.device.groupId;
  }

  /** Tells the app what is wrong with the history. */
  found(finding: Finding): void {
    this.events.emit("integrity", {
      finding: FindingKinds[finding.kind] ?? "UNSPECIFIED",
      error: finding.error,
      ...(finding.sender === undefined ? {} : { sender: idText(finding.sender) }),
      ...(finding.seq === undefined ? {} : { seq: finding.seq }),
      ...(finding.cursor === undefined ? {} : { cursor: finding.cursor }),
    });
    this.moved();
  }

  /** Tells the app what went wrong in the background. */
  failed(error: SyncError | StateStoreError): void {
    this.events.emit("error", error);
    this.moved();
  }
}
