/** The status page's files over HTTP: what is served, to whom, and what cannot be reached. */
import assert from "node:assert/strict";
import { readdirSync } from "node:fs";
import { type ClientHttp2Session, connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { gunzipSync } from "node:zlib";
import { HealthService, Scope } from "../../gen/syncrelay/admin/v1/health_pb.ts";
import { contentSecurityPolicy, StatusPage } from "../../server/status-page/status-page.ts";
import { SideWorld } from "../admin/support.ts";

const page = new StatusPage({ tokens: true });
const targets = [...page.targets];
const plain = { method: "GET", acceptEncoding: undefined, ifNoneMatch: undefined };

/** What came back for bytes written as they are: nothing tidies the target on its way. */
function raw(url: string, text: string): Promise<string> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect({ host: hostname, port: Number(port) });
    let answer = "";
    socket.on("data", (chunk) => {
      answer += chunk.toString("latin1");
    });
    socket.on("error", reject);
    socket.on("close", () => resolve(answer));
    socket.write(text);
  });
}

test("the page needs no token, and holds nothing of the relay", async (t) => {
  const side = await SideWorld.open(t);
  for (const target of targets) {
    const response = await side.fetch(target, { token: "" });
    const text = await response.text();
    assert.equal(response.status, 200, target);
    for (const secret of [side.tokens.admin, side.tokens.read, "relay.example", side.folder]) {
      assert.ok(!text.includes(secret), target);
    }
  }
  assert.equal(side.side.counters.unauthenticated, 0);
});

test("every answer holds the browser to this listener, and to the type it is told", async (t) => {
  const side = await SideWorld.open(t);
  for (const target of targets) {
    const { headers } = await side.fetch(target, { token: "" });
    assert.equal(headers.get("content-security-policy"), contentSecurityPolicy);
    assert.equal(headers.get("x-content-type-options"), "nosniff");
    assert.equal(headers.get("referrer-policy"), "no-referrer");
    assert.equal(headers.get("x-frame-options"), "DENY");
    assert.equal(headers.get("cross-origin-opener-policy"), "same-origin");
    assert.equal(headers.get("cross-origin-resource-policy"), "same-origin");
    assert.equal(headers.get("cache-control"), "no-cache");
    const type = headers.get("content-type") ?? "";
    if (target.endsWith(".js")) assert.match(type, /^text\/javascript/);
    if (target.endsWith(".css")) assert.match(type, /^text\/css/);
  }
});

test("the policy allows nothing inline and nothing from elsewhere", () => {
  assert.match(contentSecurityPolicy, /^default-src 'none';/);
  assert.doesNotMatch(contentSecurityPolicy, /unsafe|https?:|\*|data:|blob:/);
  const html = Buffer.from(page.answer({ ...plain, target: "/" })?.body ?? []).toString();
  assert.doesNotMatch(html, /<style|\sstyle=|<script>|\son\w+=|javascript:|https?:\/\//);
});

test("every file of the page is in the table, and every file the page names", () => {
  const folder = fileURLToPath(new URL("../../server/status-page/page", import.meta.url));
  const served = new Set(targets.map((target) => target.split("/").at(-1)));
  for (const name of readdirSync(folder)) {
    if (name === "index.html" || name.endsWith(".d.ts")) continue;
    assert.ok(served.has(name), `${name} is served`);
  }
  for (const target of targets) {
    const text = Buffer.from(page.answer({ ...plain, target })?.body ?? []).toString();
    if (!/^\/$|status\/(?!uplot|uqr)\w+\.js$/.test(target)) continue;
    const named = text.matchAll(/(?:href|src)="(\/[^"]+)"|^import .*?from "\.(\/[^"]+)"/gms);
    for (const [, absolute, beside] of named) {
      const wanted = absolute ?? `/status${beside}`;
      assert.ok(targets.includes(wanted), `${target} names ${wanted}`);
    }
  }
});

test("no way of writing a path leads out of the table", async (t) => {
  const side = await SideWorld.open(t);
  const tricks = [
    "/status/../../../etc/passwd",
    "/status/../main.js",
    "/status/%2e%2e/%2e%2e/package.json",
    "/status/..%2f..%2fstatus-page.ts",
    "/status/..\\..\\status-page.ts",
    "/status/main.js%00",
    "/status/main.js/",
    "/status//main.js",
    "//status/main.js",
    "/status/./main.js",
    "/status/MAIN.js",
    "/status/main%2ejs",
    "/status/index.html",
    "/status/status-page.ts",
    "/status/__proto__",
    "/status/constructor",
    "/__proto__",
    "/status",
    "/status/",
    "",
    "*",
    "/status/main.js;x",
    "/status/main.js#x",
    "file:///etc/passwd",
    "http://other.example/status/main.js",
  ];
  for (const target of tricks) {
    assert.equal(page.answer({ ...plain, target }), undefined, target);
    const answer = await raw(side.url, `GET ${target} HTTP/1.1\r\nhost: x\r\n\r\n`);
    assert.match(answer, /^HTTP\/1\.1 (400|401|429) /, target);
    side.world.monotonicMs += 60_000;
  }
  // With a query it is another target: a token in an address would help nobody.
  for (const target of ["/?token=x", "/status/main.js?v=1"]) {
    assert.equal(page.answer({ ...plain, target }), undefined);
    assert.equal((await side.fetch(target, { token: "" })).status, 404);
  }
});

test("HEAD tells the same as GET without the body; other methods are not for files", async (t) => {
  const side = await SideWorld.open(t);
  const got = await side.fetch("/", { token: "" });
  const head = await side.fetch("/", { token: "", method: "HEAD" });
  assert.equal(head.status, 200);
  assert.equal(await head.text(), "");
  for (const name of ["content-type", "content-length", "etag", "content-security-policy"]) {
    assert.equal(head.headers.get(name), got.headers.get(name), name);
  }
  for (const method of ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"]) {
    const response = await side.fetch("/status/main.js", { token: "", method });
    assert.equal(response.status, 405, method);
    assert.equal(response.headers.get("allow"), "GET, HEAD");
    assert.equal(await response.text(), "");
  }
});

test("a body that comes with a request for a file is never read", async (t) => {
  const side = await SideWorld.open(t);
  for (const method of ["GET", "POST"]) {
    const answer = await raw(
      side.url,
      `${method} /status/icon.svg HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000000\r\n\r\n`,
    );
    assert.match(answer, /^HTTP\/1\.1 (200|405) /);
    assert.match(answer, /\r\nconnection: close\r\n/i);
  }
});

test("a file the browser has is not sent again, in whatever encoding it came", async (t) => {
  const side = await SideWorld.open(t);
  const first = await side.fetch("/status/main.js", { token: "" });
  const etag = first.headers.get("etag") ?? "";
  await first.arrayBuffer();
  for (const match of [etag, `"other", ${etag}`]) {
    const again = await side.fetch("/status/main.js", {
      token: "",
      headers: { "if-none-match": match },
    });
    assert.equal(again.status, 304);
    assert.equal(await again.text(), "");
  }
  const other = await side.fetch("/status/main.js", {
    token: "",
    headers: { "if-none-match": '"other"' },
  });
  assert.equal(other.status, 200);
});

test("a browser that takes gzip gets it, one that does not gets the file itself", () => {
  for (const target of targets) {
    const whole = page.answer({ ...plain, target });
    const small = page.answer({ ...plain, target, acceptEncoding: "br, gzip, deflate" });
    assert.equal(small?.headers["content-encoding"], "gzip");
    assert.equal(whole?.headers["content-encoding"], undefined);
    assert.equal(small?.headers["content-length"], String(small?.body.byteLength));
    assert.deepEqual(gunzipSync(small?.body ?? new Uint8Array()), Buffer.from(whole?.body ?? []));
    const refused = page.answer({ ...plain, target, acceptEncoding: "gzip;q=0" });
    assert.equal(refused?.headers["content-encoding"], undefined);
  }
});

test("HTTP/2 serves the page too", async (t) => {
  const side = await SideWorld.open(t);
  const session: ClientHttp2Session = connectHttp2(side.url);
  t.after(() => session.close());
  const [status, text] = await new Promise<[number, string]>((resolve, reject) => {
    const stream = session.request({ ":path": "/" });
    let status = 0;
    let text = "";
    stream.setEncoding("utf8");
    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
    });
    stream.on("data", (chunk: string) => {
      text += chunk;
    });
    stream.on("error", reject);
    stream.on("end", () => resolve([status, text]));
  });
  assert.equal(status, 200);
  assert.match(text, /<title>Sync Relay<\/title>/);
});

test("whoever does not read what it asked for loses its connection", async (t) => {
  const side = await SideWorld.open(t, { patienceMs: 20 });
  const { hostname, port } = new URL(side.url);
  const socket = connect({ host: hostname, port: Number(port) });
  t.after(() => socket.destroy());
  // Far more than the buffers between the two hold.
  socket.write("GET /status/uplot.js HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200));
  socket.pause();
  await new Promise<void>((resolve) => {
    socket.on("error", () => resolve());
    socket.on("close", () => resolve());
    // What never reads learns of the end by writing.
    const write = (): void => {
      if (!socket.destroyed) socket.write("\r\n", () => setImmediate(write));
    };
    write();
  });
});

test("the page asks for a token exactly where the relay does", async (t) => {
  const withTokens = await SideWorld.open(t);
  assert.match(await (await withTokens.fetch("/", { token: "" })).text(), /data-login="token"/);
  const without = await SideWorld.open(t, { withoutTokens: true });
  assert.match(await (await without.fetch("/", { token: "" })).text(), /data-login="none"/);
});

test("HealthService/Check tells what the caller may do", async (t) => {
  const side = await SideWorld.open(t);
  for (const protocol of ["connect", "grpc", "grpc-web"] as const) {
    const scopeOf = async (token: string): Promise<Scope> =>
      (await side.client(HealthService, protocol, token).check({})).scope;
    assert.equal(await scopeOf(side.tokens.read), Scope.READ);
    assert.equal(await scopeOf(side.tokens.admin), Scope.ADMIN);
  }
  const open = await SideWorld.open(t, { withoutTokens: true });
  assert.equal((await open.client(HealthService, "connect", "").check({})).scope, Scope.ADMIN);
});
