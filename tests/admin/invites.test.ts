/** Every kind of caller makes, lists and revokes an invite; and what an invite then does. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { InviteKind, InviteService, InviteState } from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { toBase64url } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { blake2b256 } from "../../wire/hash.ts";
import { parseId } from "../../wire/ids.ts";
import { runRelay } from "../cli/world.ts";
import { ChainDevice, foundingOf } from "../support/devices.ts";
import { settled } from "../support/relay-world.ts";
import { type Protocol, random, SideWorld } from "./support.ts";

function isCode(code: Code): (error: unknown) => boolean {
  return (error) => error instanceof ConnectError && error.code === code;
}

/** Whether a device can found a group with a code; the error's code where it cannot. */
async function found(side: SideWorld, code: string, seed = 1): Promise<number | "founded"> {
  const device = new ChainDevice(seed, new Uint8Array(32).fill(seed));
  const lobby = await side.world.lobby(device.id);
  const invite = parseId(code, 16);
  assert(invite !== undefined);
  const { change } = foundingOf(device.id, [device.id], { groupId: device.group, invite });
  lobby.ask({ case: "changeMembership", value: change });
  await settled();
  const [error] = lobby.all("error");
  return error?.code ?? "founded";
}

test("curl: an invite is made, listed and revoked with Connect's JSON", async (t) => {
  const side = await SideWorld.open(t, { options: { founding: "invite" } });
  const post = async (method: string, body: object): Promise<Record<string, unknown>> => {
    const response = await side.fetch(`/syncrelay.admin.v1.InviteService/${method}`, {
      method: "POST",
      body: JSON.stringify(body),
    });
    assert.equal(response.status, 200, await response.clone().text());
    return (await response.json()) as Record<string, unknown>;
  };
  const made = await post("Create", { label: "curl", quotaBytes: "1048576", expiresInS: "3600" });
  const invite = made["invite"] as Record<string, unknown>;
  assert.match(String(made["code"]), /^[\w-]{22}$/);
  assert.match(String(invite["inviteId"]), /^[\w-]{12}$/);
  assert.deepEqual(await post("List", {}), {
    invites: [{ ...invite, state: "INVITE_STATE_OPEN", label: "curl", quotaBytes: "1048576" }],
  });
  const revoked = await post("Revoke", { inviteId: invite["inviteId"] });
  assert.equal((revoked["invite"] as typeof invite)["state"], "INVITE_STATE_REVOKED");
  // What changes nothing can be asked by GET as well.
  const query = new URLSearchParams({
    connect: "v1",
    encoding: "json",
    message: JSON.stringify({ inviteId: invite["inviteId"] }),
  });
  const got = await side.fetch(`/syncrelay.admin.v1.InviteService/Get?${query.toString()}`);
  assert.equal(got.status, 200);
  assert.deepEqual(await got.json(), revoked);
});

for (const protocol of ["connect", "grpc", "grpc-web"] satisfies Protocol[]) {
  test(`${protocol}: an invite is made, listed and revoked`, async (t) => {
    const side = await SideWorld.open(t);
    const client = side.client(InviteService, protocol);
    const { invite, code } = await client.create({ label: protocol });
    assert(invite !== undefined);
    assert.equal(invite.kind, InviteKind.GROUP);
    assert.match(code, /^[\w-]{22}$/);
    const { invites } = await client.list({});
    assert.deepEqual(
      invites.map((each) => [each.inviteId, each.label, each.state]),
      [[invite.inviteId, protocol, InviteState.OPEN]],
    );
    const revoked = await client.revoke({ inviteId: invite.inviteId });
    assert.equal(revoked.invite?.state, InviteState.REVOKED);
    await assert.rejects(client.get({ inviteId: "AAAAAAAAAAAA" }), isCode(Code.NotFound));
  });
}

test("sync-relay admin: an invite is made, listed and revoked, for people and for machines", async (t) => {
  const side = await SideWorld.open(t);
  const data = ["--data", side.folder];
  const made = await runRelay([
    "admin",
    "invites",
    "create",
    "--label",
    "Ada",
    "--quota",
    "2MiB",
    "--expires",
    "7d",
    ...data,
  ]);
  assert.equal(made.code, 0, made.stderr);
  assert.match(made.stdout, /^[\w-]{22}\n$/);
  const listed = await runRelay(["admin", "invites", "list", "--json", ...data]);
  assert.equal(listed.code, 0, listed.stderr);
  const invite = JSON.parse(listed.stdout) as Record<string, string>;
  assert.deepEqual(
    [invite["event"], invite["label"], invite["state"], invite["quotaBytes"]],
    ["invite", "Ada", "INVITE_STATE_OPEN", "2097152"],
  );
  const revoked = await runRelay(["admin", "invites", "revoke", invite["inviteId"] ?? "", ...data]);
  assert.equal(revoked.code, 0, revoked.stderr);
  assert.match(revoked.stdout, /^INVITE +STATE/);
  assert.match(revoked.stdout, /revoked +Ada +2\.0 MiB/);
  // The same against a relay elsewhere, by its URL and a file with its token.
  const remote = ["--url", side.url, "--token-file", `${side.folder}/read-token`];
  const shown = await runRelay(["admin", "invites", "show", invite["inviteId"] ?? "", ...remote]);
  assert.equal(shown.code, 0, shown.stderr);
  const refused = await runRelay(["admin", "invites", "create", ...remote]);
  assert.equal(refused.code, 3);
  assert.match(refused.stderr, /only look[\s\S]*admin token/);
});

test("an open invite founds one group, with its quota; then it says which", async (t) => {
  const side = await SideWorld.open(t, { options: { founding: "invite" } });
  const client = side.client(InviteService);
  const { invite, code } = await client.create({ quotaBytes: 70_000n });
  assert.equal(await found(side, code), "founded");
  assert.equal(await found(side, code, 2), ErrorCode.INVITE_INVALID);
  const used = await client.get({ inviteId: invite?.inviteId ?? "" });
  assert.equal(used.invite?.state, InviteState.USED);
  assert.equal(used.invite?.groupId, toBase64url(new Uint8Array(32).fill(1)));
  await assert.rejects(
    client.revoke({ inviteId: invite?.inviteId ?? "" }),
    isCode(Code.FailedPrecondition),
  );
});

test("a revoked invite founds nothing", async (t) => {
  const side = await SideWorld.open(t, { options: { founding: "invite" } });
  const client = side.client(InviteService);
  const { invite, code } = await client.create({});
  const inviteId = invite?.inviteId ?? "";
  await client.revoke({ inviteId });
  assert.equal(await found(side, code), ErrorCode.INVITE_INVALID);
  // Again is the same answer.
  assert.equal((await client.revoke({ inviteId })).invite?.state, InviteState.REVOKED);
});

test("revoking and founding in one commit: whichever comes first holds", async (t) => {
  const { world } = await SideWorld.open(t, { options: { founding: "invite" } });
  for (const revokedFirst of [true, false]) {
    const invite = random(16);
    await world.invite(invite);
    const device = new ChainDevice(revokedFirst ? 1 : 2, random(32));
    const lobby = await world.lobby(device.id);
    const { change } = foundingOf(device.id, [device.id], { groupId: device.group, invite });
    const revoke = () =>
      world.relay.operate(
        (draft, row) => {
          if (row !== undefined && row.usedByGroupKey === 0)
            draft.setInvite({ ...row, revokedMs: 1 });
        },
        undefined,
        blake2b256(invite),
      );
    if (revokedFirst) revoke().catch(assert.ifError);
    lobby.ask({ case: "changeMembership", value: change });
    if (!revokedFirst) revoke().catch(assert.ifError);
    await settled();
    const row = await world.store.findInvite(blake2b256(invite));
    assert.equal(row?.revokedMs, revokedFirst ? 1 : 0);
    assert.equal((row?.usedByGroupKey ?? 0) > 0, !revokedFirst);
    assert.equal(lobby.all("membershipAck").length, revokedFirst ? 0 : 1);
  }
});

test("an invite's time runs by the relay's age", async (t) => {
  const side = await SideWorld.open(t, { options: { founding: "invite" } });
  const client = side.client(InviteService);
  const { invite, code } = await client.create({ expiresInS: 60n });
  side.world.pass(59_000);
  const before = await client.get({ inviteId: invite?.inviteId ?? "" });
  assert.deepEqual([before.invite?.state, before.invite?.expiresInS], [InviteState.OPEN, 1n]);
  side.world.pass(1_000);
  const after = await client.get({ inviteId: invite?.inviteId ?? "" });
  assert.deepEqual([after.invite?.state, after.invite?.expiresInS], [InviteState.EXPIRED, 0n]);
  assert.equal(await found(side, code), ErrorCode.INVITE_INVALID);
});

test("creating with the caller's code can be repeated; another invite with that code is refused", async (t) => {
  const side = await SideWorld.open(t);
  const client = side.client(InviteService);
  const request = { code: toBase64url(random(16)), label: "once", expiresInS: 90n };
  const first = await client.create(request);
  side.world.pass(5_000);
  const again = await client.create(request);
  assert.equal(again.code, first.code);
  assert.equal(again.invite?.inviteId, first.invite?.inviteId);
  assert.equal(again.invite?.expiresInS, 85n);
  await assert.rejects(client.create({ ...request, label: "twice" }), isCode(Code.AlreadyExists));
  assert.equal((await client.list({})).invites.length, 1);
});

test("lists come page by page, complete and without repetition", async (t) => {
  const side = await SideWorld.open(t);
  const client = side.client(InviteService);
  const codes = new Set<string>();
  for (let i = 0; i < 7; i++) codes.add((await client.create({ label: `${i}` })).code);
  const labels: string[] = [];
  let pages = 0;
  for (let pageToken = ""; ; pages++) {
    const page = await client.list({ pageSize: 3, pageToken });
    labels.push(...page.invites.map((invite) => invite.label));
    pageToken = page.nextPageToken;
    if (pageToken === "") break;
  }
  assert.equal(pages, 2);
  assert.deepEqual(labels.toSorted(), ["0", "1", "2", "3", "4", "5", "6"]);
});

test("what an invite may be is checked, and a mistake names the field", async (t) => {
  const side = await SideWorld.open(t);
  const client = side.client(InviteService);
  const mistakes = [
    [{ label: "x".repeat(65) }, /label/],
    [{ label: "a\u0007b" }, /label/],
    [{ quotaBytes: 1n }, /quota_bytes/],
    [{ expiresInS: 400_000_000n }, /expires_in_s/],
    [{ code: "short" }, /code/],
  ] as const;
  for (const [request, names] of mistakes) {
    await assert.rejects(client.create(request), (error) => {
      assert(error instanceof ConnectError);
      assert.equal(error.code, Code.InvalidArgument);
      assert.match(error.rawMessage, names);
      return true;
    });
  }
  await assert.rejects(client.create({ kind: InviteKind.DEVICE }), isCode(Code.FailedPrecondition));
  await assert.rejects(client.list({ pageSize: 1_001 }), isCode(Code.InvalidArgument));
  await assert.rejects(client.list({ pageToken: "x" }), isCode(Code.InvalidArgument));
  await assert.rejects(client.revoke({ inviteId: "?" }), isCode(Code.InvalidArgument));
});

test("a store that fails is told as the table says, with the relay's own code inside", async (t) => {
  const side = await SideWorld.open(t);
  side.world.store.failCommits(1);
  const response = await side.fetch("/syncrelay.admin.v1.InviteService/Create", {
    method: "POST",
    body: "{}",
  });
  assert.equal(response.status, 503);
  const body = (await response.json()) as { code: string; details: { debug: object }[] };
  assert.equal(body.code, "unavailable");
  assert.deepEqual(body.details[0]?.debug, {
    code: "ERROR_CODE_STORE_UNAVAILABLE",
    message: "the relay cannot write to its store now",
  });
});
