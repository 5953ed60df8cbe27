/** The parts of a client, and how they hear of one another. */
import { blake2b256 } from "../wire/hash.ts";
import { Acknowledger } from "./acknowledger.ts";
import { Additions } from "./additions.ts";
import type { Core } from "./core.ts";
import { Engine } from "./engine.ts";
import { Group } from "./group.ts";
import { membershipHeals } from "./healing.ts";
import { Inbox } from "./inbox.ts";
import { MembershipChanges } from "./membership-changes.ts";
import { Objects } from "./objects.ts";
import { Outbox } from "./outbox.ts";
import { Reader } from "./reader.ts";
import { Refusals } from "./refusals.ts";
import { Restarts } from "./restarts.ts";
import { type SnapshotOptions, Snapshots } from "./snapshots.ts";
import { Witnesses } from "./witnesses.ts";

/** Who listens beside the parts themselves. */
export interface PartsHooks {
  /** The group's chain is another one. */
  groupChanged(): void;
  /** Another device proved how far it has applied the log. */
  applied(device: string, cursor: number, madeMs: number): void;
}

export class Parts {
  readonly core: Core;
  readonly group: Group;
  readonly additions: Additions;
  readonly changes: MembershipChanges;
  readonly inbox: Inbox;
  readonly refusals: Refusals;
  readonly reader: Reader;
  readonly outbox: Outbox;
  readonly acknowledger: Acknowledger;
  readonly restarts: Restarts;
  readonly witnesses: Witnesses;
  readonly objects: Objects;
  readonly snapshots: Snapshots;
  readonly engine: Engine;

  constructor(
    core: Core,
    options: SnapshotOptions & {
      readonly entriesBuffered: number;
      readonly queueEntriesMax?: number;
    },
    hooks: PartsHooks,
  ) {
    const { entriesBuffered } = options;
    this.core = core;
    this.refusals = new Refusals(core);
    this.inbox = new Inbox(core, entriesBuffered);
    this.objects = new Objects(core, this.inbox);
    this.group = new Group(core, {
      changed: () => {
        this.changes.changed();
        this.reader.chainChanged();
        membershipHeals(core);
        hooks.groupChanged();
      },
    });
    this.additions = new Additions(core, this.group);
    this.changes = new MembershipChanges(core, this.group, {
      caughtUp: () => this.reader.caughtUp,
      linkOf: (device, seq) => this.reader.linkOf(device, seq),
      refusedOf: (device) => this.refusals.holding.has(device),
    });
    this.reader = new Reader(core, this.inbox, this.refusals, entriesBuffered, {
      refreshGroup: async () => {
        if (core.session !== undefined) await this.group.refresh(core.session);
      },
      wantsOwn: (seq) => this.outbox.wantsOwn(seq),
      ownRead: (tx, own) => this.outbox.keepOwn(tx, own),
      ownStored: (seq, cursor) => this.outbox.delivered(seq, cursor),
      takeSnapshot: (shown) => this.snapshots.loader.take(shown),
      atHead: (ofOwn) => {
        this.restarts.consider(ofOwn);
        this.witnesses.compare();
      },
      stored: () => {
        this.outbox.read();
        this.restarts.consider([]);
        this.acknowledger.check();
        this.changes.read();
        // At the head itself the page was still being taken, and nothing could be compared.
        this.witnesses.compare();
      },
    });
    this.outbox = new Outbox(
      core,
      {
        settleEpoch: async (version) => {
          if (core.session !== undefined) await this.group.catchUp(core.session, version);
        },
        caughtUp: () => this.reader.caughtUp,
        ownLink: (seq) => this.reader.linkOf(core.deviceText, seq),
        tellLacking: (session) => this.acknowledger.tellLacking(session),
      },
      options.queueEntriesMax,
    );
    this.acknowledger = new Acknowledger(core, {
      caughtUp: () => this.reader.caughtUp,
      nextWitnessCounter: () => this.outbox.nextWitnessCounter(),
      owes: () => this.outbox.owes,
    });
    this.restarts = new Restarts(core, {
      agreed: () => this.outbox.agreed,
      push: (items) => this.outbox.push(items),
      ownLink: (seq) => this.reader.linkOf(core.deviceText, seq),
    });
    this.witnesses = new Witnesses(core, {
      caughtUp: () => this.reader.caughtUp,
      pulls: () => this.reader.pulls,
      askAgain: () => this.reader.askAgain(),
      comparing: () => this.reader.comparing(),
      holding: () => this.refusals.holding,
      refreshGroup: async () => {
        if (core.session !== undefined) await this.group.refresh(core.session);
      },
      controlHead: async (count) => {
        const blob = await core.disk.write((tx) => tx.get("control", count));
        return blob === undefined ? undefined : blake2b256(blob);
      },
      ofOwn: (places) => this.restarts.consider(places),
      applied: (device, cursor, madeMs) => hooks.applied(device, cursor, madeMs),
    });
    this.inbox.applied = () => this.acknowledger.check();
    this.snapshots = new Snapshots(this, options);
    this.engine = new Engine(core, {
      group: this.group,
      additions: this.additions,
      changes: this.changes,
      reader: this.reader,
      outbox: this.outbox,
      inbox: this.inbox,
      refusals: this.refusals,
      acknowledger: this.acknowledger,
      snapshots: this.snapshots,
      witnesses: this.witnesses,
    });
  }
}
