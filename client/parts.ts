/** The parts of a client, and how they hear of one another. */
import { Acknowledger } from "./acknowledger.ts";
import { Additions } from "./additions.ts";
import type { Core } from "./core.ts";
import { Engine } from "./engine.ts";
import { Group } from "./group.ts";
import { Inbox } from "./inbox.ts";
import { MembershipChanges } from "./membership-changes.ts";
import { Objects } from "./objects.ts";
import { Outbox } from "./outbox.ts";
import { Reader } from "./reader.ts";
import { Refusals } from "./refusals.ts";
import type { WitnessClaims } from "./seal/witness.ts";

/** Who listens beside the parts themselves. */
export interface PartsHooks {
  /** The group's chain is another one. */
  groupChanged(): void;
  /** Another device's witness was opened. */
  witnessed(sender: string, claims: WitnessClaims): void;
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
  readonly objects: Objects;
  readonly engine: Engine;

  constructor(core: Core, entriesBuffered: number, hooks: PartsHooks) {
    this.core = core;
    this.refusals = new Refusals(core);
    this.inbox = new Inbox(core, entriesBuffered);
    this.objects = new Objects(core, this.inbox);
    this.group = new Group(core, {
      changed: () => {
        this.changes.changed();
        this.reader.chainChanged();
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
      stored: () => {
        this.outbox.read();
        this.acknowledger.check();
        this.changes.read();
      },
    });
    this.outbox = new Outbox(core, {
      settleEpoch: async (version) => {
        if (core.session !== undefined) await this.group.catchUp(core.session, version);
      },
      caughtUp: () => this.reader.caughtUp,
      ownLink: (seq) => this.reader.linkOf(core.deviceText, seq),
    });
    this.acknowledger = new Acknowledger(core, {
      caughtUp: () => this.reader.caughtUp,
      nextWitnessCounter: () => this.outbox.nextWitnessCounter(),
      witnessed: (sender, claims) => {
        hooks.witnessed(sender, claims);
        this.reader.compareWitness(sender, claims);
        core.moved();
      },
    });
    this.inbox.applied = () => this.acknowledger.check();
    this.engine = new Engine(core, {
      group: this.group,
      additions: this.additions,
      changes: this.changes,
      reader: this.reader,
      outbox: this.outbox,
      inbox: this.inbox,
      refusals: this.refusals,
      acknowledger: this.acknowledger,
    });
  }
}
