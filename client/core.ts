/**
 * What the parts of a client share: who the device is, what it keeps, what it knows of its group,
 * and the session it speaks on, where there is one.
 */
import { create } from "@bufbuild/protobuf";
import { type DeviceState, DeviceStateSchema } from "../gen/syncrelay/state/v1/state_pb.ts";
import type { SyncError } from "../wire/errors.ts";
import { idText } from "../wire/ids.ts";
import { Abandoned } from "./abandoned.ts";
import { Claims } from "./claims.ts";
import type { Connection } from "./connection.ts";
import { type AppPlace, type Disk, type LogPlace, noChain, noLog, type OwnChain } from "./disk.ts";
import type { Events } from "./events.ts";
import { findingName } from "./finding-kinds.ts";
import { type Finding, Findings } from "./findings.ts";
import type { Host } from "./host.ts";
import { LogChanges } from "./log-changes.ts";
import { RunningTime } from "./running-time.ts";
import type { DeviceKeys } from "./seal/keys.ts";
import type { ControlChain } from "./seal/membership.ts";
import { StateStoreError, type StateTransaction } from "./state-store.ts";
import { TakingUp } from "./taking-up.ts";

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
  /** How long this device has run. */
  readonly time: RunningTime;
  /** What a log that changed excuses. */
  readonly changes: LogChanges;
  /** What others say they saw, while it may still come. */
  readonly claims = new Claims();
  /** Links that senders have given up. */
  readonly abandoned = new Abandoned();
  /** Senders whose chains may go on behind a gap. */
  readonly takingUp = new TakingUp();
  /** Up to which of its blobs a device says that a restored relay lacks some for good, by its text. */
  readonly lacking = new Map<string, number>();
  /** What was found wrong. */
  readonly findings: Findings;
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
    this.time = new RunningTime(host, disk);
    this.changes = new LogChanges(this.time);
    this.findings = new Findings(this);
  }

  get groupId(): Uint8Array {
    return this.device.groupId;
  }

  /** Reads what is kept about the history. */
  async loadHistory(tx: StateTransaction): Promise<void> {
    await this.time.load(tx);
    await this.changes.load(tx);
    await this.claims.load(tx);
    await this.abandoned.load(tx);
    await this.takingUp.load(tx);
    await this.findings.load(tx);
    this.keepTime();
  }

  /** Running time is kept on disk as long as anything is excused. */
  keepTime(): void {
    this.time.keep(
      () => this.changes.active,
      (error) => {
        if (!(error instanceof StateStoreError)) throw error;
        // Not written: what is excused is excused a little longer.
        if (error.problem !== "closed") this.failed(error);
      },
    );
  }

  /** Keeps and tells what is wrong with the history: for what is found while nothing is being written. */
  found(finding: Finding): void {
    this.findings.found(finding);
  }

  /** Tells the app of a finding that is on disk. */
  told(id: string, finding: Finding): void {
    this.events.emit("integrity", {
      id,
      finding: findingName(finding.kind),
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
