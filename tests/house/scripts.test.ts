/** What the scripts decide: which tests run, and which files may be published. */

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { packageProblems } from "../../scripts/package-content.ts";
import { selectTestFiles } from "../../scripts/test.ts";

describe("npm test", () => {
  const files = [
    "tests/wire/records.test.ts",
    "tests/store/contract.test.ts",
    "tests/chaos/kill.test.ts",
    "tests/browser/page.test.ts",
  ];

  test("leaves the heavy rooms out", () => {
    assert.deepEqual(selectTestFiles(files, []), [files[1], files[0]]);
  });

  test("takes words as parts of a path", () => {
    assert.deepEqual(selectTestFiles(files, ["wire"]), [files[0]]);
    assert.deepEqual(selectTestFiles(files, ["./tests/store/contract.test.ts"]), [files[1]]);
    assert.deepEqual(selectTestFiles(files, ["nothing"]), []);
  });

  test("runs a heavy room that is named", () => {
    assert.deepEqual(selectTestFiles(files, ["chaos"]), [files[2]]);
    assert.deepEqual(selectTestFiles(files, ["tests/browser"]), [files[3]]);
    assert.deepEqual(selectTestFiles(files, ["page"]), []);
  });
});

describe("the package's content", () => {
  const manifest = {
    bin: { program: "dist/cli/main.js" },
    exports: { "./wire": { types: "./dist/wire/index.d.ts", default: "./dist/wire/index.js" } },
  };
  const sources = ["wire/index.ts", "cli/main.ts", "server/store/1.sql", "wire/README.md"];
  const content = [
    "package.json",
    "README.md",
    "LICENSE",
    "proto/a.proto",
    "dist/wire/index.js",
    "dist/wire/index.d.ts",
    "dist/cli/main.js",
    "dist/cli/main.d.ts",
    "dist/server/store/1.sql",
  ];
  const without = (path: string): string[] => content.filter((each) => each !== path);

  test("is in order when it is all there", () => {
    assert.deepEqual(packageProblems(manifest, content, sources), []);
  });

  test("misses what a source should have left", () => {
    assert.deepEqual(packageProblems(manifest, without("dist/server/store/1.sql"), sources), [
      "missing: dist/server/store/1.sql",
    ]);
    assert.deepEqual(packageProblems(manifest, without("README.md"), sources), [
      "missing: README.md",
    ]);
  });

  test("misses what package.json promises", () => {
    assert.deepEqual(
      packageProblems({ ...manifest, bin: { program: "dist/cli/gone.js" } }, content, sources),
      ["package.json names dist/cli/gone.js, which is not there"],
    );
  });

  for (const path of ["tests/a.test.ts", "dist/wire/index.js.map", "dist/tests/a.js", ".env"]) {
    test(`has no place for ${path}`, () => {
      assert.deepEqual(packageProblems(manifest, [...content, path], sources), [
        `does not belong in the package: ${path}`,
      ]);
    });
  }
});
