import assert from "node:assert/strict";
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, relative, resolve } from "node:path";
import { afterEach, beforeEach, describe, test } from "node:test";
import fc from "fast-check";
import {
  contentTypeOf,
  decodeFile,
  encodeFile,
  fileOverheadBytes,
} from "../../cli/device/file-entry.ts";
import { pathProblem } from "../../cli/device/file-path.ts";
import { PlaceRefused, ReceivingFolder } from "../../cli/device/folder.ts";
import { collectSources } from "../../cli/device/sources.ts";
import { CommandError } from "../../cli/exit-codes.ts";
import { utf8 } from "../../wire/bytes.ts";

const file = (path: string, text = "text", executable = false) => ({
  path,
  executable,
  modifiedMs: 1_700_000_000_000,
  data: utf8(text),
});

describe("a pushed file's path", () => {
  test("names below the folder are fine", () => {
    for (const path of [
      "a",
      "a/b/c.txt",
      ".hidden",
      "..a",
      "a..",
      "a b",
      "ü/日本",
      "a\\b",
      "c:d",
    ]) {
      assert.equal(pathProblem(path, "linux"), undefined, path);
    }
  });

  test("whatever leads elsewhere is refused", () => {
    for (const path of [
      "",
      "/",
      "/etc/passwd",
      "..",
      "../a",
      "a/../b",
      "a/..",
      ".",
      "./a",
      "a//b",
      "a/",
      "a\0b",
    ]) {
      assert.notEqual(pathProblem(path, "linux"), undefined, path);
    }
    for (const path of ["a\\..\\b", "C:/a", "a:b", "a?", "nul|x"]) {
      assert.notEqual(pathProblem(path, "win32"), undefined, path);
    }
  });

  test("lengths are bounded", () => {
    assert.equal(pathProblem("a".repeat(255)), undefined);
    assert.notEqual(pathProblem("a".repeat(256)), undefined);
    assert.notEqual(pathProblem("ü".repeat(128)), undefined);
    assert.equal(pathProblem(Array.from({ length: 512 }, () => "a").join("/")), undefined);
    assert.notEqual(pathProblem(Array.from({ length: 513 }, () => "a").join("/")), undefined);
  });

  test("no accepted path resolves outside its folder", () => {
    const part = fc.oneof(fc.constantFrom("..", ".", "", "a", "/", "\\", "\0", "~"), fc.string());
    fc.assert(
      fc.property(
        fc.array(part, { maxLength: 8 }),
        fc.constantFrom("/", "\\", ""),
        (parts, glue) => {
          const path = parts.join(glue);
          if (pathProblem(path, "linux") !== undefined) return;
          const inside = relative("/folder", resolve("/folder", path));
          assert.ok(inside !== "" && !inside.startsWith("../") && inside !== "..", path);
        },
      ),
    );
  });
});

describe("a file as an entry", () => {
  test("comes back as it went", () => {
    fc.assert(
      fc.property(
        fc.record({
          path: fc.string({ unit: "grapheme" }),
          executable: fc.boolean(),
          modifiedMs: fc.maxSafeNat(),
          data: fc.uint8Array(),
        }),
        (each) => {
          const encoded = encodeFile(each);
          assert.deepEqual(
            { ...decodeFile(encoded), $typeName: undefined, $unknown: undefined },
            {
              ...each,
              $typeName: undefined,
              $unknown: undefined,
            },
          );
          assert.ok(encoded.byteLength - each.data.byteLength <= fileOverheadBytes(each.path));
        },
      ),
    );
  });

  test("any bytes decode to a file or to nothing, and never throw", () => {
    fc.assert(fc.property(fc.uint8Array(), (bytes) => void decodeFile(bytes)));
  });

  test("raw files say what they are by their name", () => {
    assert.equal(contentTypeOf("a/b.MD"), "text/markdown");
    assert.equal(contentTypeOf("README"), "application/octet-stream");
    assert.equal(contentTypeOf("a.unknown"), "application/octet-stream");
  });
});

describe("the receiving folder", () => {
  let root = "";
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-folder-"));
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  test("a file stands in its place with time and mode, and nothing else is left", async () => {
    const folder = await ReceivingFolder.open(join(root, "new/folder"));
    assert.deepEqual(await folder.put(file("a/b.sh", "echo", true)), {
      path: "a/b.sh",
      written: true,
    });
    const target = join(root, "new/folder/a/b.sh");
    assert.equal(readFileSync(target, "utf8"), "echo");
    assert.equal(statSync(target).mtimeMs, 1_700_000_000_000);
    assert.notEqual(statSync(target).mode & 0o100, 0);
    assert.deepEqual(readdirSync(join(root, "new/folder/a")), ["b.sh"]);
  });

  test("the same bytes again are not written; other bytes or another mode replace them", async () => {
    const folder = await ReceivingFolder.open(root);
    assert.equal((await folder.put(file("a", "one"))).written, true);
    assert.equal((await folder.put(file("a", "one"))).written, false);
    assert.equal((await folder.put(file("a", "two"))).written, true);
    assert.equal((await folder.put(file("a", "two", true))).written, true);
    assert.equal(readFileSync(join(root, "a"), "utf8"), "two");
  });

  test("no symbolic link below the folder is followed", async () => {
    const outside = mkdtempSync(join(tmpdir(), "sync-cli-outside-"));
    try {
      symlinkSync(outside, join(root, "link"));
      const folder = await ReceivingFolder.open(root);
      await assert.rejects(folder.put(file("link/a")), PlaceRefused);
      await assert.rejects(folder.put(file("link/b/c")), PlaceRefused);
      assert.deepEqual(readdirSync(outside), []);
      // A link in the place of the file itself is replaced, and what it points to stays.
      writeFileSync(join(outside, "target"), "untouched");
      symlinkSync(join(outside, "target"), join(root, "file"));
      await folder.put(file("file", "new"));
      assert.equal(readFileSync(join(outside, "target"), "utf8"), "untouched");
      assert.equal(readFileSync(join(root, "file"), "utf8"), "new");
    } finally {
      rmSync(outside, { recursive: true, force: true });
    }
  });

  test("a path that leads out is refused", async () => {
    const folder = await ReceivingFolder.open(join(root, "in"));
    for (const path of ["../escaped", "/escaped", "a/../../escaped"]) {
      await assert.rejects(folder.put(file(path)), PlaceRefused);
    }
    assert.ok(!existsSync(join(root, "escaped")));
    assert.deepEqual(readdirSync(join(root, "in")), []);
  });

  test("a folder in the place of a file, and a file in that of a folder, are left alone", async () => {
    mkdirSync(join(root, "folder"));
    writeFileSync(join(root, "plain"), "kept");
    const folder = await ReceivingFolder.open(root);
    await assert.rejects(folder.put(file("folder")), PlaceRefused);
    await assert.rejects(folder.put(file("plain/a")), PlaceRefused);
    assert.equal(readFileSync(join(root, "plain"), "utf8"), "kept");
  });

  test("the folder itself may be a link", async () => {
    mkdirSync(join(root, "real"));
    symlinkSync(join(root, "real"), join(root, "named"));
    const folder = await ReceivingFolder.open(join(root, "named"));
    await folder.put(file("a"));
    assert.ok(existsSync(join(root, "real/a")));
  });
});

describe("the files of a push", () => {
  let root = "";
  beforeEach(() => {
    root = mkdtempSync(join(tmpdir(), "sync-cli-sources-"));
    mkdirSync(join(root, "docs/deep"), { recursive: true });
    writeFileSync(join(root, "docs/a.md"), "a");
    writeFileSync(join(root, "docs/deep/b.sh"), "b");
    chmodSync(join(root, "docs/deep/b.sh"), 0o755);
    writeFileSync(join(root, "docs/empty"), "");
  });
  afterEach(() => rmSync(root, { recursive: true, force: true }));

  const collect = async (names: string[], options: { base?: string; recursive?: boolean } = {}) => {
    const skipped: string[] = [];
    const sources = await collectSources(
      names.map((name) => join(root, name)),
      {
        base: options.base ?? root,
        recursive: options.recursive ?? true,
        skipped: (name) => skipped.push(relative(root, name)),
      },
    );
    return { sources, paths: sources.map(({ path }) => path), skipped };
  };

  test("go with their path below the base", async () => {
    const { sources, paths } = await collect(["docs"]);
    assert.deepEqual(paths, ["docs/a.md", "docs/deep/b.sh", "docs/empty"]);
    assert.deepEqual(
      sources.map(({ executable }) => executable),
      [false, true, false],
    );
    assert.deepEqual(
      sources.map(({ bytes }) => bytes),
      [1, 1, 0],
    );
  });

  test("outside the base go by their name, a folder with its own in front", async () => {
    const base = join(root, "docs/deep");
    assert.deepEqual((await collect(["docs/a.md"], { base })).paths, ["a.md"]);
    const elsewhere = tmpdir();
    assert.deepEqual((await collect(["docs"], { base: join(elsewhere, "nowhere") })).paths, [
      "docs/a.md",
      "docs/deep/b.sh",
      "docs/empty",
    ]);
  });

  test("a link inside a folder is left out and told", async () => {
    symlinkSync("/etc/hostname", join(root, "docs/link"));
    const { paths, skipped } = await collect(["docs"]);
    assert.ok(!paths.includes("docs/link"));
    assert.deepEqual(skipped, ["docs/link"]);
  });

  test("a file named twice goes once; two that would be one are refused", async () => {
    assert.deepEqual((await collect(["docs/a.md", "docs/a.md"])).paths, ["docs/a.md"]);
    writeFileSync(join(root, "a.md"), "other");
    const base = join(root, "docs/deep");
    await assert.rejects(collect(["docs/a.md", "a.md"], { base }), CommandError);
  });

  test("a folder without -r, and what does not exist, are refused", async () => {
    await assert.rejects(collect(["docs"], { recursive: false }), /a folder/);
    await assert.rejects(collect(["missing"]), { code: "ENOENT" });
  });
});

test("what a killed process left of a file is removed, what a running one writes is not", async () => {
  const folder = mkdtempSync(join(tmpdir(), "sync-cli-"));
  try {
    // No process has this number: it is above what systems give out.
    const left = ".sync-cli-2147483646-0123456789abcdef.part";
    const running = `.sync-cli-${process.pid}-0123456789abcdef.part`;
    for (const name of [left, running, ".sync-cli-mine.part"])
      writeFileSync(join(folder, name), "");
    await ReceivingFolder.open(folder);
    assert.deepEqual(readdirSync(folder).toSorted(), [running, ".sync-cli-mine.part"].toSorted());
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
});
