/** What the operators' page promises by name is there. */
import assert from "node:assert/strict";
import { access, readFile } from "node:fs/promises";
import { test } from "node:test";
import { errorTable } from "../../wire/errors.ts";

const page = await readFile(new URL("../../docs/OPERATIONS.md", import.meta.url), "utf8");

test("every error code has one row of troubleshooting, in the order of their numbers", () => {
  const [, section = ""] = page.split("## Troubleshooting by error code");
  const [rows = ""] = section.split("\n## ");
  const named = [...rows.matchAll(/^\| `([A-Z_]+)`/gm)].map(([, name]) => name);
  assert.deepEqual(
    named,
    Object.values(errorTable).map(({ name }) => name),
  );
  for (const row of rows.split("\n").filter((line) => line.startsWith("| `"))) {
    const [, , meaning = "", step = ""] = row.split("|").map((cell) => cell.trim());
    assert.ok(meaning.length > 10 && step.length > 5, row);
  }
});

test("what it links to is there", async () => {
  const links = [...page.matchAll(/\]\((?!https?:|#)([^)#]+)(?:#[^)]*)?\)/g)].map(([, to]) => to);
  assert.ok(links.length > 5);
  for (const to of links) await access(new URL(`../../docs/${to}`, import.meta.url));
});
