/**
 * The log of a session: the one that was read, a first one, the one of a restored relay, or one that
 * ends before what was read and no reason given.
 *
 * A relay says that its log changed; a device checks that as far as it can. A log that has another id,
 * or another blob at the read cursor, or ends before it, is another one. One that kept its id and shows
 * the same blob there is not, whatever is said of it. And a log that ends before what was read, while
 * the relay says that it is the same one, was rolled back.
 */
import { FindingKind } from "../gen/syncrelay/sealed/v1/bundle_pb.ts";
import type { GroupWelcome } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { equalBytes } from "../wire/bytes.ts";
import { toNumber } from "../wire/envelope.ts";
import { ErrorCode, SyncError } from "../wire/errors.ts";
import { zeroLink } from "../wire/ids.ts";
import type { Connection } from "./connection.ts";
import type { Core } from "./core.ts";
import { encodeLog, type LogPlace } from "./disk.ts";
import type { Inbox } from "./inbox.ts";
import { linkOf, pullOnce } from "./pages.ts";
import type { Refusals } from "./refusals.ts";

/** What depends on which log it is. */
export interface LogParts {
  readonly core: Core;
  readonly inbox: Inbox;
  readonly refusals: Refusals;
}

/**
 * Goes on with the log of a session, or begins anew with it. `told`: up to where the relay was told that
 * this device has read. Throws where it cannot be gone on with.
 */
export async function meetLog(
  parts: LogParts,
  session: Connection,
  welcome: GroupWelcome,
  told: number,
): Promise<void> {
  const { core } = parts;
  const before = core.log;
  const head = toNumber(welcome.head);
  const gone = toNumber(welcome.replacedThrough);
  if (before.logId.byteLength === 0) {
    await begin(parts, welcome);
    return;
  }
  const sameId = equalBytes(before.logId, welcome.logId);
  if (sameId && !welcome.logChanged) {
    if (head >= before.read) {
      await healRollBack(core, session, gone);
      return;
    }
    // A person has seen it, and lets this device go on from what there is.
    if (!core.findings.accepted(FindingKind.ROLLED_BACK, before.read)) {
      // An earlier session's last page reached the disk behind the hello: the relay answered to less.
      throw head < told ? await rolledBack(core, head) : new SyncError(ErrorCode.CONNECTION_LOST);
    }
  } else if (sameId && head >= before.read && (await showsPlace(core, session, gone))) {
    throw new SyncError(ErrorCode.ENVELOPE_INVALID, {
      hint: "the relay says that its log is another one, and shows the one it was",
    });
  }
  await change(parts, welcome, sameId);
  core.failed(
    new SyncError(ErrorCode.LOG_CHANGED, {
      hint: "the relay was restored from a backup; what it lacks is pushed again",
    }),
  );
}

/** The first log of this device. */
async function begin({ core }: LogParts, welcome: GroupWelcome): Promise<void> {
  const log: LogPlace = { ...core.log, logId: welcome.logId, read: 0, link: zeroLink };
  await core.disk.write(
    (tx) => {
      tx.put("log", "state", encodeLog(log, { ...core.app, applied: 0 }));
      return core.changes.changed(tx, {
        head: toNumber(welcome.head),
        sameId: false,
        joined: true,
        // One that was removed pushes nothing again.
        devices: [...(core.chain?.devices ?? [])].flatMap(([id, { closing }]) =>
          closing === undefined ? [id] : [],
        ),
        senders: new Map(),
      });
    },
    (begun) => {
      core.log = log;
      core.app = { ...core.app, applied: 0 };
      begun();
    },
  );
  core.keepTime();
}

/** Another log: it is read from its beginning, and what was verified stays verified. */
async function change(
  { core, inbox, refusals }: LogParts,
  welcome: GroupWelcome,
  sameId: boolean,
): Promise<void> {
  const before = core.log;
  const log: LogPlace = { ...before, logId: welcome.logId, read: 0, link: zeroLink };
  await core.disk.write(
    (tx) => {
      tx.put("log", "state", encodeLog(log, { ...core.app, applied: 0 }));
      const changed = core.changes.changed(tx, {
        head: toNumber(welcome.head),
        sameId,
        devices: new Set([...(core.chain?.devices.keys() ?? []), ...before.senders.keys()]),
        senders: before.senders,
      });
      const refused = refusals.clear(tx);
      const pages = inbox.forgetCursors(tx);
      return () => {
        changed();
        refused();
        pages();
      };
    },
    (taken) => {
      core.log = log;
      core.app = { ...core.app, applied: 0 };
      taken();
    },
  );
  core.keepTime();
}

/**
 * Whether the log has, at the read cursor, what was read there: its link covers its header. Where a
 * snapshot stands in its place, that is what must hold every place that was read.
 */
async function showsPlace(core: Core, session: Connection, gone: number): Promise<boolean> {
  const { read, link } = core.log;
  if (read === 0) return true;
  const [blob] = await pullOnce(session, read - 1, read, gone);
  return blob === undefined ? read <= gone : equalBytes(linkOf(blob, core.groupId), link);
}

/** A log that was rolled back and is shown again as far as it was read. */
async function healRollBack(core: Core, session: Connection, gone: number): Promise<void> {
  const { findings, log } = core;
  const open = findings
    .open()
    .some(({ kind, logId }) => kind === FindingKind.ROLLED_BACK && equalBytes(logId, log.logId));
  if (!open || !(await showsPlace(core, session, gone))) return;
  findings.healed(
    ({ kind, logId }) => kind === FindingKind.ROLLED_BACK && equalBytes(logId, log.logId),
  );
}

async function rolledBack(core: Core, head: number): Promise<SyncError> {
  const error = new SyncError(ErrorCode.HISTORY_ALTERED, {
    hint: `the relay's log ends at ${head}, and this device has read it up to ${core.log.read}`,
  });
  const finding = { kind: FindingKind.ROLLED_BACK, error, cursor: core.log.read };
  await core.disk.write(
    (tx) => core.findings.write(tx, [finding]),
    (written) => written(),
  );
  return error;
}
