/** Who may call the side API, and what a stranger costs. */
import assert from "node:assert/strict";
import { stat, writeFile } from "node:fs/promises";
import { request as httpRequest } from "node:http";
import { connect } from "node:net";
import { join } from "node:path";
import { test } from "node:test";
import { Code, ConnectError } from "@connectrpc/connect";
import { GroupService } from "../../gen/syncrelay/admin/v1/group_pb.ts";
import { HealthService } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { InviteService } from "../../gen/syncrelay/admin/v1/invite_pb.ts";
import { readToken, Tokens } from "../../server/admin/tokens.ts";
import { startRelay } from "../../server/index.ts";
import { RelayOptionsError, readOptions } from "../../server/options.ts";
import { runRelay } from "../cli/world.ts";
import { type Protocol, random, SideWorld, testFolder } from "./support.ts";

const protocols: readonly Protocol[] = ["connect", "grpc", "grpc-web"];

function isCode(code: Code): (error: unknown) => boolean {
  return (error) => error instanceof ConnectError && error.code === code;
}

test("without a token, or with a wrong one, every protocol says no more than that", async (t) => {
  const side = await SideWorld.open(t);
  for (const protocol of protocols) {
    for (const token of [undefined, "wrong", `${side.tokens.admin}x`, side.tokens.admin.slice(1)]) {
      // Each protocol and token within the rate of failures: a minute passes.
      side.world.monotonicMs += 60_000;
      const client = side.client(InviteService, protocol, token ?? "");
      await assert.rejects(client.list({}), isCode(Code.Unauthenticated));
      await assert.rejects(client.create({}), isCode(Code.Unauthenticated));
    }
  }
  assert.equal((await side.client(InviteService).list({})).invites.length, 0);
  assert.equal(side.side.counters.unauthenticated, 24);
});

test("a refusal holds no hint: the same bytes for every cause and for paths that are not there", async (t) => {
  const side = await SideWorld.open(t);
  const answers = new Set<string>();
  for (const [path, token] of [
    ["/syncrelay.admin.v1.GroupService/List", ""],
    ["/syncrelay.admin.v1.GroupService/List", "wrong"],
    ["/syncrelay.admin.v1.GroupService/Nothing", "wrong"],
    ["/metrics", ""],
    ["/nothing", ""],
    ["/../../etc/passwd", ""],
  ] as const) {
    const response = await side.fetch(path, { token });
    answers.add(`${response.status} ${await response.text()}`);
    assert.equal(response.headers.get("www-authenticate"), "Bearer");
  }
  assert.deepEqual([...answers], ['401 {"code":"unauthenticated"}\n']);
});

test("the read token may look and change nothing, over every protocol", async (t) => {
  const side = await SideWorld.open(t);
  for (const protocol of protocols) {
    const invites = side.client(InviteService, protocol, side.tokens.read);
    assert.deepEqual((await invites.list({})).invites, []);
    await assert.rejects(invites.create({}), isCode(Code.PermissionDenied));
    await assert.rejects(
      invites.revoke({ inviteId: "AAAAAAAAAAAA" }),
      isCode(Code.PermissionDenied),
    );
    const groups = side.client(GroupService, protocol, side.tokens.read);
    await Promise.all(
      [groups.setQuota({}), groups.setPushRate({}), groups.suspend({}), groups.delete({})].map(
        (call) => assert.rejects(call, isCode(Code.PermissionDenied)),
      ),
    );
  }
  assert.equal((await side.fetch("/metrics", { token: side.tokens.read })).status, 200);
});

test("wrong tokens are answered at a bounded rate, and never lock the right one out", async (t) => {
  const side = await SideWorld.open(t);
  const statuses: number[] = [];
  for (let i = 0; i < 13; i++) {
    const response = await side.fetch("/metrics", { token: "wrong" });
    statuses.push(response.status);
    await response.arrayBuffer();
  }
  assert.deepEqual(statuses, [...Array<number>(10).fill(401), 429, 429, 429]);
  assert.equal((await side.fetch("/metrics")).status, 200);
  side.world.monotonicMs += 6_000;
  assert.equal((await side.fetch("/metrics", { token: "wrong" })).status, 401);
  assert.equal(side.side.counters.limited, 3);
});

test("nothing of a stranger's body is read: the answer comes before it, and the connection ends", async (t) => {
  const side = await SideWorld.open(t);
  const { port } = new URL(side.url);
  const status = await new Promise<number>((resolve, reject) => {
    const request = httpRequest({
      port,
      path: "/syncrelay.admin.v1.InviteService/Create",
      method: "POST",
      headers: { "content-type": "application/json", "content-length": 1 << 30 },
    });
    request.on("response", (response) => {
      resolve(response.statusCode ?? 0);
      assert.equal(response.headers.connection, "close");
      request.destroy();
    });
    request.on("error", reject);
    request.flushHeaders();
  });
  assert.equal(status, 401);
});

test("a request larger than 64 KiB is refused, whoever sends it", async (t) => {
  const side = await SideWorld.open(t);
  const response = await side.fetch("/syncrelay.admin.v1.InviteService/Create", {
    method: "POST",
    body: JSON.stringify({ label: "x".repeat(70_000) }),
  });
  assert.equal(response.status, 429);
  assert.match(await response.text(), /resource_exhausted/);
});

test("tokens are drawn at the first start into files only their owner reads, and stay", async (t) => {
  const folder = await testFolder(t);
  const options = { folder, given: { admin: "", read: "" }, random, monotonicMs: () => 0 };
  await Tokens.open(options);
  const first = [await readToken(folder, "admin"), await readToken(folder, "read")];
  for (const scope of ["admin", "read"]) {
    assert.equal((await stat(join(folder, `${scope}-token`))).mode & 0o777, 0o600);
  }
  assert.match(first[0] ?? "", /^[\w-]{43}$/);
  assert.notEqual(first[0], first[1]);
  await Tokens.open(options);
  assert.deepEqual([await readToken(folder, "admin"), await readToken(folder, "read")], first);
});

test("sync-relay admin tokens rotate: the old one ends within a second, the other scope stays", async (t) => {
  const side = await SideWorld.open(t);
  const { admin, read } = side.tokens;
  const rotated = await runRelay(["admin", "tokens", "rotate", "--data", side.folder]);
  assert.equal(rotated.code, 0, rotated.stderr);
  assert.doesNotMatch(rotated.stdout, /[\w-]{43}/);
  side.world.monotonicMs += 1_000;
  assert.equal((await side.fetch("/metrics", { token: admin })).status, 401);
  assert.equal((await side.fetch("/metrics", { token: read })).status, 200);
  const fresh = await readToken(side.folder, "admin");
  assert.equal((await side.fetch("/metrics", { token: fresh ?? "" })).status, 200);
  // A file that holds no token admits nobody.
  await writeFile(join(side.folder, "admin-token"), "\n");
  side.world.monotonicMs += 1_000;
  assert.equal((await side.fetch("/metrics", { token: fresh ?? "" })).status, 401);
});

test("tokens of the configuration are used in place of files", async (t) => {
  const folder = await testFolder(t);
  const given = { admin: "a".repeat(32), read: "" };
  const tokens = await Tokens.open({ folder, given, random, monotonicMs: () => 0 });
  assert.equal(await tokens.scopeOf(given.admin), "admin");
  assert.equal(await readToken(folder, "admin"), undefined);
  assert.equal(await tokens.scopeOf((await readToken(folder, "read")) ?? ""), "read");
  assert.equal(await tokens.scopeOf(""), undefined);
});

test("without tokens the side API is for loopback, and for names of it only", async (t) => {
  assert.throws(
    () => readOptions({ listenAdmin: "0.0.0.0:8081", adminWithoutToken: true }),
    RelayOptionsError,
  );
  for (const listenAdmin of ["127.0.0.1:8081", "[::1]:8081", "localhost:1"]) {
    readOptions({ listenAdmin, adminWithoutToken: true });
  }
  readOptions({ listenAdmin: "0.0.0.0:8081" });
  const refused = await runRelay(
    ["serve", "--listen-admin", "0.0.0.0:8081", "--set", "admin_without_token=true"],
    { env: {} },
  );
  assert.equal(refused.code, 2);
  assert.match(refused.stderr, /only for loopback/);

  const side = await SideWorld.open(t, { withoutTokens: true });
  assert.equal((await side.fetch("/metrics", { token: "" })).status, 200);
  // A page somewhere that gave itself a name that leads here.
  const { port } = new URL(side.url);
  const status = await new Promise<number | undefined>((resolve, reject) => {
    httpRequest({ port, path: "/metrics", headers: { host: `evil.example:${port}` } }, (response) =>
      resolve(response.statusCode),
    )
      .on("error", reject)
      .end();
  });
  assert.equal(status, 403);
});

test("health is for everybody: what is told is the state, not what is wrong", async (t) => {
  const side = await SideWorld.open(t);
  const response = await side.fetch("/health", { token: "" });
  assert.equal(response.status, 200);
  assert.deepEqual(Object.keys((await response.json()) as object), [
    "status",
    "version",
    "uptime_s",
    "problems",
  ]);
});

test("a connection that says nothing, half of something, or something else, ends by itself", async (t) => {
  const side = await SideWorld.open(t, { patienceMs: 200 });
  const { port } = new URL(side.url);
  const ended = async (first: string): Promise<void> => {
    await new Promise<void>((resolve) => {
      const socket = connect(Number(port), "127.0.0.1", () => socket.write(first));
      socket.on("error", () => undefined);
      socket.resume();
      socket.once("close", () => resolve());
    });
  };
  await ended("");
  await ended("P");
  await ended("GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthor");
  await ended("\u0016\u0003\u0001 not http\r\n\r\n");
  assert.equal((await side.client(HealthService).check({})).health?.version, "0.1.0");
});

test("a relay that shuts down says so, and its streams end", async (t) => {
  const data = await testFolder(t);
  const relay = await startRelay({
    data,
    listen: "127.0.0.1:0",
    listenAdmin: "127.0.0.1:0",
    logLevel: "silent",
  });
  const token = (await readToken(data, "read")) ?? "";
  assert(relay.adminUrl !== undefined);
  const health = await fetch(`${relay.adminUrl}/health`);
  assert.equal(((await health.json()) as { status: string }).status, "ok");
  const stream = await fetch(`${relay.adminUrl}/syncrelay.admin.v1.HealthService/Watch`, {
    method: "POST",
    headers: { authorization: `Bearer ${token}`, "content-type": "application/connect+json" },
    body: Buffer.from([0, 0, 0, 0, 2, 0x7b, 0x7d]),
  });
  assert.equal(stream.status, 200);
  const ended = stream.text().catch(() => "cut");
  await relay.drain();
  await ended;
  await assert.rejects(fetch(`${relay.adminUrl}/health`));
});
