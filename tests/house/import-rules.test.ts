/**
 * Proves that the linter refuses what the house forbids.
 *
 * A rule nobody has seen fail is a hope. This writes one small file for each thing that is
 * forbidden, and one for each that is allowed, into an empty checkout with our own configuration,
 * runs the linter once over all of them, and compares what it says with what it should say.
 */

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  realpathSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";

interface Case {
  /** Where the snippet stands; the rules go by that. */
  readonly file: string;
  readonly source: string;
  /** The rule that must refuse it, or nothing where it is allowed. */
  readonly refusedBy?: string;
}

const imports = "no-restricted-imports";
const globals = "no-restricted-globals";
const properties = "no-restricted-properties";

const importOf = (specifier: string): string =>
  `import * as other from "${specifier}";\nexport { other };\n`;
const cycleOf = (specifier: string): string =>
  `import { a } from "${specifier}";\nexport const b = a;\nexport { b as a };\n`;
const typeCycleOf = (specifier: string): string =>
  `import type { A } from "${specifier}";\nexport type B = A | 1;\nexport type { B as A };\n`;
const valueOf = (expression: string): string => `export const value = () => ${expression};\n`;

/** What no pure file may do. */
function impure(file: string): Case[] {
  const refused = (sources: readonly string[], refusedBy: string): Case[] =>
    sources.map((source) => ({ file, source, refusedBy }));
  return [
    ...refused(
      ["node:fs", "node:crypto", "node:events", "ws", "sqlite3", "pino"].map(importOf),
      imports,
    ),
    ...refused(['export { randomBytes } from "@noble/hashes/utils.js";\n'], imports),
    ...refused(
      [
        "setTimeout(() => {}, 1)",
        "setInterval(() => {}, 1)",
        "setImmediate(() => {})",
        "globalThis.setTimeout(() => {}, 1)",
        "queueMicrotask(() => {})",
        "Date.now()",
        "new Date()",
        "performance.now()",
        "crypto.getRandomValues(new Uint8Array(1))",
        'console.log("x")',
        "process.env",
        "Buffer.alloc(1)",
        'fetch("x")',
        'new WebSocket("ws://x")',
        "document.title",
        "localStorage.length",
        "indexedDB.databases()",
      ].map(valueOf),
      globals,
    ),
    ...refused(["Math.random()"].map(valueOf), properties),
  ];
}

/** The way from a file up to the checkout. */
const upFrom = (file: string): string =>
  file
    .split("/")
    .slice(1)
    .map(() => "..")
    .join("/");

const pureServerFiles = [
  "session",
  "group-log",
  "group-state",
  "fan-out",
  "mailboxes",
  "requests",
  "admission",
  "rate-limit",
].map((name) => `server/${name}.ts`);

const cases: readonly Case[] = [
  // gen <- wire
  { file: "wire/a.ts", source: importOf("../gen/x.ts") },
  { file: "wire/a.ts", source: importOf("./b.ts") },
  { file: "wire/a.ts", source: 'export { ed25519 } from "@noble/curves/ed25519.js";\n' },
  { file: "wire/a.ts", source: importOf("../server/relay.ts"), refusedBy: imports },
  { file: "wire/a.ts", source: importOf("../client/index.ts"), refusedBy: imports },
  { file: "wire/deep/a.ts", source: importOf("../../client/seal/keys.ts"), refusedBy: imports },
  { file: "wire/a.ts", source: importOf("../cli/output.ts"), refusedBy: imports },
  { file: "wire/a.ts", source: importOf("../tests/support/clock.ts"), refusedBy: imports },
  ...impure("wire/a.ts"),
  ...impure("wire/deep/a.ts"),

  // wire <- server, and never the client
  { file: "server/relay.ts", source: importOf("../wire/index.ts") },
  { file: "server/relay.ts", source: importOf("./session.ts") },
  { file: "server/relay.ts", source: importOf("node:crypto") },
  { file: "server/relay.ts", source: valueOf("Date.now()") },
  ...[
    "server/relay.ts",
    "server/session.ts",
    "server/main.ts",
    "server/identity.ts",
    "server/net/listener.ts",
    "server/store/sqlite.ts",
    "server/admin/service.ts",
    "server/observe/metrics.ts",
  ].flatMap((file) => {
    const up = upFrom(file);
    return [
      { file, source: importOf(`${up}/client/seal/keys.ts`), refusedBy: imports },
      { file, source: `export * from "${up}/client/seal/keys.ts";\n`, refusedBy: imports },
      {
        file,
        source: `import type { K } from "${up}/client/seal/keys.ts";\nexport type L = K;\n`,
        refusedBy: imports,
      },
      { file, source: valueOf(`import("${up}/client/seal/keys.ts")`), refusedBy: imports },
      { file, source: importOf(`${up}/client/index.ts`), refusedBy: imports },
      { file, source: importOf("sync-relay/client"), refusedBy: imports },
      { file, source: importOf(`${up}/cli/output.ts`), refusedBy: imports },
      { file, source: importOf(`${up}/tests/support/clock.ts`), refusedBy: imports },
    ];
  }),

  // only the named rooms of the server touch the outside
  ...[
    "node:fs",
    "node:fs/promises",
    "node:net",
    "node:http",
    "node:child_process",
    "ws",
    "sqlite3",
  ].map((specifier) => ({
    file: "server/retention.ts",
    source: importOf(specifier),
    refusedBy: imports,
  })),
  ...[
    "net/listener.ts",
    "store/sqlite.ts",
    "admin/service.ts",
    "observe/log.ts",
    "status-page/status-page.ts",
    "main.ts",
    "identity.ts",
  ].map((file) => ({ file: `server/${file}`, source: importOf("node:fs") })),

  // the status page's own code runs in a browser, and has only what is served beside it
  { file: "server/status-page/page/a.js", source: importOf("./uplot.js") },
  { file: "server/status-page/page/a.js", source: valueOf("sessionStorage.length") },
  ...["node:fs", "uplot", "../status-page.ts", "./deep/a.js", "https://example.com/a.js"].map(
    (specifier) => ({
      file: "server/status-page/page/a.js",
      source: importOf(specifier),
      refusedBy: imports,
    }),
  ),
  ...["process.env", "localStorage.length", "globalThis.localStorage"].map((expression) => ({
    file: "server/status-page/page/a.js",
    source: valueOf(expression),
    refusedBy: globals,
  })),
  { file: "server/net/listener.ts", source: importOf("ws") },
  { file: "server/store/sqlite.ts", source: importOf("sqlite3") },
  ...pureServerFiles.flatMap(impure),
  ...pureServerFiles.map((file) => ({ file, source: importOf("../wire/index.ts") })),

  // wire <- client: a core for every platform
  { file: "client/sync-client.ts", source: importOf("../wire/index.ts") },
  { file: "client/sync-client.ts", source: importOf("./seal/keys.ts") },
  { file: "client/sync-client.ts", source: valueOf("Date.now()") },
  ...["client/sync-client.ts", "client/seal/history.ts"].flatMap((file) => {
    const up = upFrom(file);
    return [
      ...[
        "node:fs",
        "node:crypto",
        "ws",
        "sqlite3",
        "pino",
        `${up}/server/relay.ts`,
        `${up}/cli/output.ts`,
      ].map((specifier) => ({ file, source: importOf(specifier), refusedBy: imports })),
      ...[
        "process.env",
        "Buffer.alloc(1)",
        'new WebSocket("ws://x")',
        "indexedDB.databases()",
        "document.title",
        'console.log("x")',
      ].map((expression) => ({ file, source: valueOf(expression), refusedBy: globals })),
    ];
  }),
  { file: "client/index.ts", source: importOf("./platform/node/index.ts"), refusedBy: imports },
  { file: "client/platform/node/index.ts", source: importOf("node:fs") },
  { file: "client/platform/node/index.ts", source: importOf("ws") },
  {
    file: "client/platform/node/index.ts",
    source: importOf("../../../server/relay.ts"),
    refusedBy: imports,
  },
  { file: "client/platform/browser/index.ts", source: valueOf("indexedDB.databases()") },
  { file: "client/platform/browser/index.ts", source: importOf("node:fs"), refusedBy: imports },
  { file: "client/platform/browser/index.ts", source: importOf("ws"), refusedBy: imports },
  {
    file: "client/platform/tauri/index.ts",
    source: importOf("../node/index.ts"),
    refusedBy: imports,
  },

  // client <- cli
  { file: "cli/device/main.ts", source: importOf("../../client/index.ts") },
  { file: "cli/relay/main.ts", source: importOf("../../server/main.ts") },
  { file: "cli/relay/main.ts", source: importOf("node:fs") },
  {
    file: "cli/relay/main.ts",
    source: importOf("../../tests/support/clock.ts"),
    refusedBy: imports,
  },

  // promises, everywhere
  ...[
    "wire/a.ts",
    "server/relay.ts",
    "client/outbox.ts",
    "cli/output.ts",
    "scripts/a.ts",
    "tests/a.test.ts",
    "bench/main.ts",
  ].flatMap((file) => [
    { file, source: "export const f = async () => {};\nf();\n", refusedBy: "no-floating-promises" },
    {
      file,
      source: "export const f = async () => {};\n[1].forEach(f);\n",
      refusedBy: "no-misused-promises",
    },
    { file, source: "export const f = async () => {};\nawait f();\n" },
  ]),
  {
    file: "tests/a.test.ts",
    source:
      'import { describe, test } from "node:test";\ndescribe("a", () => {\n  test("b", () => {});\n});\ntest("c", async () => {});\n',
  },

  // cycles, of values and of types
  { file: "wire/a.ts", source: 'export * from "./a.ts";\n', refusedBy: "no-self-import" },
  { file: "wire/cycle-a.ts", source: cycleOf("./cycle-b.ts"), refusedBy: "no-cycle" },
  { file: "wire/cycle-b.ts", source: cycleOf("./cycle-a.ts"), refusedBy: "no-cycle" },
  { file: "wire/cycle-c.ts", source: typeCycleOf("./cycle-d.ts"), refusedBy: "no-cycle" },
  { file: "wire/cycle-d.ts", source: typeCycleOf("./cycle-c.ts"), refusedBy: "no-cycle" },

  // built-ins by their whole name, or the rules above would miss them
  { file: "server/relay.ts", source: importOf("fs"), refusedBy: "prefer-node-protocol" },
];

const root = fileURLToPath(new URL("../..", import.meta.url));

/** One thing the linter said. */
interface Diagnostic {
  readonly filename: string;
  readonly code: string;
}

/**
 * Lints all snippets at once and returns, for each, the rules that refused it. Rules go by file
 * name, so the first snippet for each name stands in one checkout, the second in the next, and so
 * on.
 */
function lint(): Map<Case, string[]> {
  const folder = realpathSync(mkdtempSync(join(tmpdir(), "sync-relay-rules-")));
  try {
    symlinkSync(join(root, "node_modules"), join(folder, "node_modules"), "dir");
    const usedNames = new Map<string, number>();
    const places = new Map<string, Case>();
    const checkouts = new Set<string>();
    for (const each of cases) {
      const number = usedNames.get(each.file) ?? 0;
      usedNames.set(each.file, number + 1);
      const checkout = `checkout-${number}`;
      checkouts.add(checkout);
      const place = join(checkout, each.file);
      mkdirSync(join(folder, dirname(place)), { recursive: true });
      writeFileSync(join(folder, place), each.source);
      places.set(place, each);
    }
    for (const checkout of checkouts) {
      for (const name of [".oxlintrc.json", "tsconfig.json", "package.json"]) {
        copyFileSync(join(root, name), join(folder, checkout, name));
      }
    }
    const found = new Map<Case, string[]>();
    const { stdout, stderr, status } = spawnSync(
      process.execPath,
      [join(root, "node_modules/oxlint/bin/oxlint"), "--type-aware", "--format=json", ...checkouts],
      { cwd: folder, encoding: "utf8", maxBuffer: 1 << 26 },
    );
    assert.equal(status, 1, `the linter must fail: ${stderr}${stdout.slice(0, 2000)}`);
    const { diagnostics } = JSON.parse(stdout) as { diagnostics: readonly Diagnostic[] };
    for (const { filename, code } of diagnostics) {
      const each = places.get(filename.replaceAll("\\", "/"));
      assert.ok(each !== undefined, `the linter speaks of ${filename}, which is no snippet`);
      found.set(each, [...(found.get(each) ?? []), code.replace(/^.*\((.*)\)$/, "$1")]);
    }
    return found;
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

describe("the linter's house rules", () => {
  let found = new Map<Case, string[]>();
  before(() => {
    found = lint();
  });

  for (const folder of ["wire", "server", "client", "cli", "scripts", "tests", "bench"]) {
    test(`${folder}/ is refused what it must not do, and nothing else`, () => {
      const own = cases.filter((each) => each.file.startsWith(`${folder}/`));
      assert.ok(own.length > 0);
      for (const each of own) {
        const rules = found.get(each) ?? [];
        const text = `${each.file}:\n${each.source}`;
        if (each.refusedBy === undefined) assert.deepEqual(rules, [], text);
        else assert.ok(rules.includes(each.refusedBy), `not refused by ${each.refusedBy}: ${text}`);
      }
    });
  }
});
