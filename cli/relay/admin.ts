/** `sync-relay admin`: sees and steers a running relay over its side API. */
import { randomBytes } from "node:crypto";
import { type DescMessage, type MessageShape, toJson } from "@bufbuild/protobuf";
import { type Command, Option } from "commander";
import {
  DeviceSchema,
  DeviceService,
  DeviceState,
} from "../../gen/syncrelay/admin/v1/device_pb.ts";
import { type Group, GroupSchema, GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import {
  HealthSchema,
  HealthService,
  HealthStatus,
} from "../../gen/syncrelay/admin/v1/health_pb.ts";
import {
  type Invite,
  InviteKind,
  InviteSchema,
  InviteService,
  InviteState,
} from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import {
  type Metric,
  MetricSchema,
  MetricsService,
} from "../../gen/syncrelay/admin/v1/metrics_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { rotateToken, type Scope, tokenFile } from "../../server/admin/tokens.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { type Fields, formatBytes, formatDuration, formatTable, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { readAmount, readRate, readSpan } from "./amounts.ts";
import { dataFolder, type SideOptions } from "./data-folder.ts";
import type { SideClient } from "./side-client.ts";

const json = (): Option => new Option("--json", "print JSON objects, one a line, errors too");
const sideOptions = (): readonly Option[] => [
  new Option("--data <dir>", "the folder of a relay on this machine (default: ./data)"),
  new Option("--url <url>", "a relay's side API elsewhere, as http://127.0.0.1:8081"),
  new Option(
    "--token-file <file>",
    "the file that holds the token (default: admin-token in --data)",
  ),
  json(),
];

/** Runs one command with a client of the side API. */
type Act<Options> = (
  client: SideClient,
  options: Options & SideOptions,
  ...names: string[]
) => Promise<void>;

/** Declares `admin` and everything below it. */
export function adminCommand(context: Context, program: Command): void {
  const admin = program
    .command("admin")
    .description("see and steer a running relay")
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `
Examples:
  sync-relay admin health
  sync-relay admin invites create --label "Ada's laptop" --quota 2GiB --expires 7d
  sync-relay admin groups list --json
  sync-relay admin devices refuse GROUP DEVICE
  sync-relay admin maintenance verify
  sync-relay admin tokens rotate --scope read`,
    );

  const declare = <Options>(
    parent: Command,
    words: string,
    description: string,
    options: readonly Option[],
    act: Act<Options>,
  ): void => {
    const command = parent
      .command(words)
      .description(description)
      .helpOption("-h, --help", "print this help")
      // An id may begin with a dash.
      .allowUnknownOption()
      .allowExcessArguments(false);
    for (const option of [...options, ...sideOptions()]) command.addOption(option);
    command.action(async (...given: unknown[]) => {
      const names = given.filter((each): each is string => typeof each === "string");
      const parsed = command.opts<Options & SideOptions>();
      // Loaded only here: a relay that is served with its side API off does without these libraries.
      const { explainSideError, openSideClient } = await import("./side-client.ts");
      try {
        await act(await openSideClient(context, parsed), parsed, ...names);
      } catch (error) {
        throw explainSideError(error);
      }
    });
  };
  const section = (name: string, description: string): Command =>
    admin.command(name).description(description).helpOption("-h, --help", "print this help");

  declare(admin, "health", "how the relay is", [], (client) => health(context, client));
  declare(admin, "metrics", "every figure", [], (client) => metrics(context, client));

  const invites = section("invites", "tickets that found a group on this relay");
  declare(
    invites,
    "create",
    "make an invite, and print its code",
    [
      new Option("--label <text>", "whom it is for"),
      new Option("--quota <size>", "the group's quota, as 2GiB (default: the relay's)"),
      new Option("--expires <time>", "how long it can be used, as 12h or 7d (default: for ever)"),
    ],
    (client, options: CreateOptions) => createInvite(context, client, options),
  );
  declare(invites, "list", "every invite", [], (client) => listInvites(context, client));
  declare(invites, "show <invite>", "one invite", [], async (client, _, inviteId = "") => {
    const { invite } = await client.of(InviteService).get({ inviteId });
    if (invite !== undefined) tellInvites(context, [invite]);
  });
  declare(
    invites,
    "revoke <invite>",
    "take an invite back",
    [],
    async (client, _, inviteId = "") => {
      const { invite } = await client.of(InviteService).revoke({ inviteId });
      if (invite !== undefined) tellInvites(context, [invite]);
    },
  );

  const groups = section("groups", "the groups on this relay");
  declare(groups, "list", "every group", [], (client) => listGroups(context, client));
  declare(groups, "show <group>", "one group", [], async (client, _, groupId = "") => {
    tellGroups(context, [(await client.of(GroupService).get({ groupId })).group]);
  });
  declare(
    groups,
    "quota <group> <size>",
    "give a group a quota, as 2GiB, or `default`",
    [],
    async (client, _, groupId = "", size = "") => {
      const quotaBytes = size === "default" ? 0n : BigInt(readAmount(size));
      tellGroups(context, [
        (await client.of(GroupService).setQuota({ groupId, quotaBytes })).group,
      ]);
    },
  );
  declare(
    groups,
    "rate <group> <rate>",
    "give a group's devices a push rate, as 50 or 50/500 (a second, at once), or `default`",
    [],
    async (client, _, groupId = "", rate = "") => {
      const request = { groupId, ...readRate(rate) };
      tellGroups(context, [(await client.of(GroupService).setPushRate(request)).group]);
    },
  );
  declare(
    groups,
    "suspend <group>",
    "take nothing more from a group",
    [],
    async (client, _, groupId = "") => {
      tellGroups(context, [(await client.of(GroupService).suspend({ groupId })).group]);
    },
  );
  declare(
    groups,
    "resume <group>",
    "take from a group again",
    [],
    async (client, _, groupId = "") => {
      tellGroups(context, [(await client.of(GroupService).suspend({ groupId, lift: true })).group]);
    },
  );
  declare(
    groups,
    "delete <group>",
    "delete a group and all it has here; its devices keep what they have",
    [new Option("--yes", "delete without showing first what would go")],
    (client, options: { readonly yes?: boolean }, groupId = "") =>
      deleteGroup(context, client, groupId, options.yes === true),
  );

  const devices = section("devices", "the devices of a group");
  declare(devices, "list <group>", "every device", [], (client, _, groupId = "") =>
    listDevices(context, client, groupId),
  );
  declare(
    devices,
    "disconnect <group> <device>",
    "end a device's session; it comes back",
    [],
    async (client, _, groupId = "", deviceId = "") => {
      const { sessionsEnded } = await client.of(DeviceService).disconnect({ groupId, deviceId });
      const text = sessionsEnded === 0 ? "it was not connected" : "its session was ended";
      context.output.event("disconnected", { sessionsEnded }, text);
    },
  );
  for (const [word, description, lift] of [
    ["refuse", "serve a device no more", false],
    ["accept", "serve a refused device again", true],
  ] as const) {
    declare(
      devices,
      `${word} <group> <device>`,
      description,
      [],
      async (client, _, groupId = "", deviceId = "") => {
        const { device } = await client.of(DeviceService).refuse({ groupId, deviceId, lift });
        if (device !== undefined) tellDevices(context, [device]);
      },
    );
  }

  const upkeep = section("maintenance", "what the relay does by itself in time, asked for now");
  for (const [word, description] of [
    ["trim", "trim every group as far as its snapshots and devices allow"],
    ["vacuum", "give free pages of the store's file back to the disk"],
    ["verify", "look at every row: the file, the chains, the counters"],
  ] as const) {
    declare(upkeep, word, description, [], async (client) => {
      const commands = await import("./maintenance.ts");
      await commands[word](context, client);
    });
  }

  section("tokens", "the tokens of the side API")
    .command("rotate")
    .description("draw a new token; the old one ends within a second")
    .helpOption("-h, --help", "print this help")
    .addOption(
      new Option("--scope <scope>", "which: admin may change, read may look")
        .choices(["admin", "read"])
        .default("admin"),
    )
    .addOption(new Option("--data <dir>", "the relay's folder (default: ./data)"))
    .addOption(json())
    .action((options: { readonly scope: Scope; readonly data?: string }) =>
      rotate(context, options),
    );
}

async function health({ output }: Context, client: SideClient): Promise<void> {
  const { health: told } = await client.of(HealthService).check({});
  if (told === undefined) return;
  const rows = [
    ["status", HealthStatus[told.status].toLowerCase()],
    ["version", printable(told.version)],
    ["up for", formatDuration(Number(told.uptimeS) * 1_000)],
    ["address", printable(told.address)],
    ...told.problems.map((problem) => ["problem", printable(problem.message)]),
  ];
  output.event("health", fieldsOf(HealthSchema, told), formatTable(rows));
  if (told.status !== HealthStatus.OK) {
    throw new CommandError(ExitCode.unreachable, "UNHEALTHY", "the relay is not well");
  }
}

async function metrics({ output }: Context, client: SideClient): Promise<void> {
  const { metrics: told } = await client.of(MetricsService).get({});
  if (output.json) {
    for (const metric of told) output.event("metric", fieldsOf(MetricSchema, metric));
    return;
  }
  output.event("metrics", {}, formatTable(told.flatMap(metricRows)));
}

function metricRows(metric: Metric): string[][] {
  return metric.samples.map(({ labels, value, histogram }) => {
    const about = Object.entries(labels).map(([name, text]) => `${name}=${text}`);
    const name = printable([metric.name.replace(/^sync_relay_/, ""), ...about].join(" "));
    if (histogram === undefined) return [name, number(value)];
    const times = Number(histogram.counts.reduce((sum, each) => sum + each, 0n));
    const mean = times === 0 ? 0 : histogram.sum / times;
    return [name, `${times.toLocaleString("en-US")} times, ${number(mean)} on average`];
  });
}

function number(value: number): string {
  return value.toLocaleString("en-US", {
    maximumSignificantDigits: Number.isInteger(value) ? 21 : 3,
  });
}

interface CreateOptions {
  readonly label?: string;
  readonly quota?: string;
  readonly expires?: string;
}

async function createInvite(
  { output }: Context,
  client: SideClient,
  options: CreateOptions,
): Promise<void> {
  const { invite, code } = await client.of(InviteService).create({
    kind: InviteKind.GROUP,
    label: options.label ?? "",
    quotaBytes: options.quota === undefined ? 0n : BigInt(readAmount(options.quota)),
    expiresInS: options.expires === undefined ? 0n : BigInt(readSpan(options.expires)),
    // Drawn here, so that a call whose answer was lost can be made again.
    code: toBase64url(new Uint8Array(randomBytes(16))),
  });
  if (invite === undefined) return;
  output.event("invite", { code, ...fieldsOf(InviteSchema, invite) }, code);
  output.note(
    `invite ${invite.inviteId}: works once, on any device: sync-cli init … --invite CODE`,
  );
}

async function listInvites(context: Context, client: SideClient): Promise<void> {
  const invites: Invite[] = [];
  const service = client.of(InviteService);
  for (let pageToken = ""; ; ) {
    const page = await service.list({ pageToken, pageSize: 1_000 });
    invites.push(...page.invites);
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  tellInvites(
    context,
    invites.toSorted((a, b) => Number(a.createdMs - b.createdMs)),
  );
}

function tellInvites(context: Context, invites: readonly Invite[]): void {
  tell(context, "invite", InviteSchema, invites, {
    none: "no invites",
    head: ["INVITE", "STATE", "LABEL", "QUOTA", "MADE", "LEFT", "GROUP"],
    row: (invite) => [
      invite.inviteId,
      InviteState[invite.state].toLowerCase(),
      printable(invite.label),
      invite.quotaBytes === 0n ? "default" : formatBytes(Number(invite.quotaBytes)),
      time(invite.createdMs),
      invite.expiresInS === 0n ? "" : formatDuration(Number(invite.expiresInS) * 1_000),
      invite.groupId,
    ],
  });
}

async function listGroups(context: Context, client: SideClient): Promise<void> {
  const groups: Group[] = [];
  const service = client.of(GroupService);
  for (let pageToken = ""; ; ) {
    const page = await service.list({ pageToken, pageSize: 1_000 });
    groups.push(...page.groups);
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  tellGroups(context, groups);
}

function tellGroups(context: Context, groups: readonly (Group | undefined)[]): void {
  const known = groups.filter((group) => group !== undefined);
  tell(context, "group", GroupSchema, known, {
    none: "no groups",
    head: [
      "GROUP",
      "LABEL",
      "BYTES",
      "QUOTA",
      "RATE",
      "BLOBS",
      "DEVICES",
      "ONLINE",
      "HEAD",
      "SEEN",
      "",
    ],
    row: (group) => [
      group.groupId,
      printable(group.label),
      formatBytes(Number(group.bytes)),
      `${formatBytes(Number(group.quotaBytes))}${group.quotaOwn ? "" : " (default)"}`,
      `${group.pushesPerS}/${group.pushesBurst}${group.pushRateOwn ? "" : " (default)"}`,
      group.blobs.toLocaleString("en-US"),
      String(group.devices),
      String(group.devicesOnline),
      String(group.head),
      time(group.lastSeenMs),
      group.suspended ? "suspended" : "",
    ],
  });
}

async function deleteGroup(
  { output }: Context,
  client: SideClient,
  groupId: string,
  yes: boolean,
): Promise<void> {
  const service = client.of(GroupService);
  const { group, confirmation } = await service.delete({ groupId });
  if (group === undefined) return;
  const what = `${group.blobs.toLocaleString("en-US")} blobs, ${formatBytes(Number(group.bytes))}, ${group.devices} devices`;
  if (!yes) {
    throw new CommandError(ExitCode.refused, "UNCONFIRMED", `this would delete ${what}`, {
      hint: "run it again with --yes; there is no way back but a backup",
    });
  }
  const deleted = await service.delete({ groupId, confirmation });
  output.event("deleted", fieldsOf(GroupSchema, deleted.group ?? group), `deleted: ${what}`);
}

async function listDevices(context: Context, client: SideClient, groupId: string): Promise<void> {
  const { devices } = await client.of(DeviceService).list({ groupId });
  tellDevices(context, devices);
}

function tellDevices(
  context: Context,
  devices: readonly MessageShape<typeof DeviceSchema>[],
): void {
  tell(context, "device", DeviceSchema, devices, {
    none: "no devices",
    head: ["DEVICE", "FINGERPRINT", "STATE", "ROLE", "ONLINE", "SEEN", "WRITTEN", "BEHIND"],
    row: (device) => [
      device.deviceId,
      device.fingerprint,
      DeviceState[device.state].toLowerCase(),
      MemberRole[device.role].toLowerCase(),
      device.online ? "yes" : "no",
      time(device.lastSeenMs),
      String(device.lastSeq),
      String(device.behind),
    ],
  });
}

async function rotate(
  { world, output }: Context,
  options: { readonly scope: Scope; readonly data?: string },
): Promise<void> {
  const { scope } = options;
  const folder = dataFolder(world.env, options);
  if (world.env[`SYNC_RELAY_${scope.toUpperCase()}_TOKEN`] !== undefined) {
    throw usageError("this token is set in the environment: change it there");
  }
  await rotateToken(folder, scope, (length) => new Uint8Array(randomBytes(length)));
  const file = tokenFile(folder, scope);
  output.event("rotated", { scope, file }, `new ${scope} token in ${file}`);
}

/** Messages as a table for people, or as JSON, one a line. */
function tell<Schema extends DescMessage>(
  { output }: Context,
  event: string,
  schema: Schema,
  items: readonly MessageShape<Schema>[],
  table: {
    readonly none: string;
    readonly head: readonly string[];
    readonly row: (item: MessageShape<Schema>) => readonly string[];
  },
): void {
  if (output.json) {
    for (const item of items) output.event(event, fieldsOf(schema, item));
  } else if (items.length === 0) output.note(table.none);
  else output.event(event, {}, formatTable([table.head, ...items.map(table.row)]));
}

function fieldsOf<Schema extends DescMessage>(schema: Schema, item: MessageShape<Schema>): Fields {
  return toJson(schema, item, { alwaysEmitImplicit: true }) as Fields;
}

function time(ms: bigint): string {
  return ms === 0n ? "" : `${new Date(Number(ms)).toISOString().slice(0, 16).replace("T", " ")}Z`;
}
