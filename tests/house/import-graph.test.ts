/** Proves that the import graph is followed further than one step, and that ours is in order. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { findViolations, readImports, readSources } from "../../scripts/import-graph.ts";

const violations = (sources: Record<string, string>): string[] =>
  findViolations(new Map(Object.entries(sources)));

describe("the import graph", () => {
  test("of this checkout breaks no promise", () => {
    const sources = readSources(fileURLToPath(new URL("../..", import.meta.url)));
    assert.ok(sources.size > 0);
    assert.deepEqual(findViolations(sources), []);
  });

  test("shows the relay reaching the sealing code by a detour", () => {
    const [first, ...rest] = violations({
      "server/relay.ts": 'import { a } from "../wire/helper.ts";\n',
      "wire/helper.ts": 'export * from "../client/seal/keys.ts";\n',
      "client/seal/keys.ts": "export const a = 1;\n",
    }).filter((line) => line.startsWith("server/"));
    assert.match(first ?? "", /^server\/relay\.ts -> wire\/helper\.ts -> client\/seal\/keys\.ts: /);
    assert.deepEqual(rest, []);
  });

  test("shows a pure file reaching Node by a detour, but lets a type through", () => {
    const store =
      'import { readFileSync } from "node:fs";\nexport type Row = typeof readFileSync;\n';
    assert.deepEqual(
      violations({
        "server/session.ts":
          'import type { Row } from "./store/sqlite.ts";\nexport type R = Row;\n',
        "server/store/sqlite.ts": store,
      }),
      [],
    );
    for (const statement of [
      'import { Row } from "./store/sqlite.ts";\n',
      'import { type Row } from "./store/sqlite.ts";\n',
      'import {\n  a,\n  b,\n} from "./store/sqlite.ts";\n',
      'import "./store/sqlite.ts";\n',
      'export * from "./store/sqlite.ts";\n',
      'const row = await import("./store/sqlite.ts");\n',
      'const row = () => import(\n  "./store/sqlite.ts"\n);\n',
    ]) {
      const found = violations({ "server/session.ts": statement, "server/store/sqlite.ts": store });
      assert.equal(found.length, 1, statement);
      assert.match(
        found[0] ?? "",
        /^server\/session\.ts -> server\/store\/sqlite\.ts -> node:fs: /,
      );
    }
  });

  for (const [why, file, source] of [
    ["generated code leaving gen/", "gen/a_pb.ts", 'import { a } from "../wire/a.ts";\n'],
    ["wire/ loading Node without its prefix", "wire/a.ts", 'import { a } from "fs";\n'],
    ["the client loading the relay", "client/a.ts", 'import type { A } from "../server/a.ts";\n'],
    [
      "the client's core loading Node's platform",
      "client/a.ts",
      'import "./platform/node/index.ts";\n',
    ],
    ["the browser's platform loading ws", "client/platform/browser/a.ts", 'import W from "ws";\n'],
    [
      "an import nobody can read",
      "wire/a.ts",
      "export const load = (name: string) => import(name);\n",
    ],
  ] as const) {
    test(`shows ${why}`, () => {
      assert.equal(violations({ [file]: source }).length, 1);
    });
  }

  test("takes no comment and no text for an import", () => {
    assert.deepEqual(
      readImports(
        [
          "/** Never call import(name) here. */",
          "// import(name) neither",
          'const text = "import x";',
          "import.meta.url;",
          "const a = imports(name);",
        ].join("\n"),
      ),
      [],
    );
  });
});
