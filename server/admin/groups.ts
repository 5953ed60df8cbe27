/** `GroupService`: groups as a relay knows them, and what an operator may do to one. */
import { create } from "@bufbuild/protobuf";
import type { ServiceImpl } from "@connectrpc/connect";
import {
  type Group,
  GroupSchema,
  type GroupService,
} from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { idText } from "../../wire/ids.ts";
import type { GroupEntry } from "../group-state.ts";
import { pushRateOf } from "../rate-limit.ts";
import type { Relay } from "../relay.ts";
import type { LiveGroup } from "../session-driver.ts";
import type { GroupListing, GroupRow, StoreTotals } from "../store/contract.ts";
import { Confirmations } from "./confirmations.ts";
import { invalid, notFound, precondition } from "./errors.ts";
import { readGroupId, readPageSize, readPushRate, readQuota } from "./requests.ts";

export function groupService(relay: Relay): ServiceImpl<typeof GroupService> {
  const confirmations = new Confirmations(relay.world);
  return {
    list: async (request) => {
      const size = readPageSize(request.pageSize);
      const rows = await relay.store.listGroups(readPageToken(request.pageToken), size + 1);
      const totals = await relay.store.totals();
      const shown = rows.slice(0, size);
      return {
        groups: shown.map((row) => groupOf(relay, row, totals)),
        nextPageToken: rows.length > size ? String(shown.at(-1)?.group.groupKey ?? 0) : "",
      };
    },
    get: (request) =>
      withGroup(relay, request.groupId, async (live) => ({
        group: await describe(relay, live.entry),
      })),
    setQuota: (request) => {
      const quotaBytes = readQuota(request.quotaBytes);
      return withGroup(relay, request.groupId, async (live) => {
        await change(relay, live, { quotaBytes }, true);
        return { group: await describe(relay, live.entry) };
      });
    },
    setPushRate: (request) => {
      const rate = readPushRate(request.pushesPerS, request.pushesBurst);
      return withGroup(relay, request.groupId, async (live) => {
        await change(relay, live, rate, false);
        return { group: await describe(relay, live.entry) };
      });
    },
    suspend: (request) =>
      withGroup(relay, request.groupId, async (live) => {
        await change(relay, live, { suspended: !request.lift }, request.lift);
        return { group: await describe(relay, live.entry) };
      }),
    delete: ({ groupId, confirmation }) =>
      withGroup(relay, groupId, (live) => deleteGroup(relay, confirmations, live, confirmation)),
  };
}

async function deleteGroup(
  relay: Relay,
  confirmations: Confirmations,
  live: LiveGroup,
  confirmation: string,
) {
  const { entry } = live;
  const group = await describe(relay, entry);
  if (confirmation === "") {
    return { group, confirmation: confirmations.make(entry.row.groupId), deleted: false };
  }
  if (!confirmations.holds(entry.row.groupId, confirmation)) {
    throw precondition("the confirmation does not hold: ask for a new one");
  }
  await relay.operate(
    (draft) => {
      if (draft.gone(entry)) return false;
      draft.deleteGroup(entry);
      return true;
    },
    (deleted) => {
      if (deleted) relay.dropGroup(live);
    },
  );
  return { group, confirmation: "", deleted: true };
}

/**
 * Runs something with a group, which stays in memory meanwhile: were it forgotten
 * and loaded again, two copies of it would part.
 */
export async function withGroup<Result>(
  relay: Relay,
  groupId: string,
  run: (live: LiveGroup) => Promise<Result>,
): Promise<Result> {
  const live = await relay.group(readGroupId(groupId));
  if (live === undefined) throw notFound("group");
  live.held += 1;
  try {
    return await run(live);
  } finally {
    live.held -= 1;
  }
}

/** What of a group's row an operator changes. */
const changeable = ["quotaBytes", "pushesPerS", "pushesBurst", "suspended"] as const;
type Changeable = (typeof changeable)[number];

/** Changes a group's row. `recall`: its devices come back to learn of it. */
async function change(
  relay: Relay,
  live: LiveGroup,
  changes: Partial<Pick<GroupRow, Changeable>>,
  recall: boolean,
): Promise<void> {
  const outcome = await relay.operate(
    (draft) => {
      if (draft.gone(live.entry)) return "gone";
      const row = draft.group(live.entry);
      const changed = { ...row, ...changes };
      if (changeable.every((name) => changed[name] === row[name])) return "same";
      draft.setGroup(live.entry, changed);
      return "changed";
    },
    (came) => {
      if (came !== "changed") return;
      for (const session of live.sessions) session.takeLimits();
      if (recall) relay.recall(live);
    },
  );
  if (outcome === "gone") throw notFound("group");
}

async function describe(relay: Relay, entry: GroupEntry): Promise<Group> {
  const [rows, totals] = await Promise.all([
    relay.store.listGroups(entry.row.groupKey - 1, 1),
    relay.store.totals(),
  ]);
  const [row] = rows;
  if (row === undefined || row.group.groupKey !== entry.row.groupKey) throw notFound("group");
  return groupOf(relay, row, totals);
}

function groupOf(relay: Relay, listing: GroupListing, totals: StoreTotals): Group {
  const { group, label, activeDevices } = listing;
  const groupId = idText(group.groupId);
  const rate = pushRateOf(group, relay.options.limits);
  const live = relay.liveGroup(groupId);
  const online = new Set([...(live?.sessions ?? [])].map((session) => session.device)).size;
  // Of the whole file, what is free in it too: together the shares are the file.
  const share = totals.bytes > 0 ? group.bytes / totals.bytes : 0;
  return create(GroupSchema, {
    groupId,
    label,
    bytes: BigInt(group.bytes),
    fileBytes: BigInt(Math.round(totals.fileBytes * share)),
    quotaBytes: BigInt(
      group.quotaBytes > 0 ? group.quotaBytes : relay.options.limits.groupBytesMax,
    ),
    quotaOwn: group.quotaBytes > 0,
    pushesPerS: rate.perS,
    pushesBurst: rate.burst,
    pushRateOwn: group.pushesPerS > 0,
    blobs: BigInt(group.blobs),
    devices: activeDevices,
    devicesOnline: online,
    head: BigInt(group.head),
    floor: BigInt(group.floor),
    membershipCount: BigInt(group.membershipCount),
    epoch: BigInt(group.epoch),
    suspended: group.suspended,
    lastSeenMs: BigInt(Math.floor(lastSeenMs(relay, listing, live, online))),
  });
}

function lastSeenMs(
  relay: Relay,
  listing: GroupListing,
  live: LiveGroup | undefined,
  online: number,
): number {
  if (online > 0) return relay.world.nowMs();
  // What is in memory may be ahead of what is written.
  let newest = listing.lastSeenMs;
  for (const device of live?.entry.devices.values() ?? []) {
    newest = Math.max(newest, device.lastSeenMs);
  }
  return newest;
}

function readPageToken(token: string): number {
  if (token === "") return 0;
  if (!/^[1-9]\d{0,14}$/.test(token)) throw invalid("page_token must come from the answer before");
  return Number(token);
}
