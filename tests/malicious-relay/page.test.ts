/** The tables of docs/SECURITY.md say what the lies say, and are printed. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { deliveryLies } from "./deliveries.ts";
import { healedBy, lies } from "./lies.ts";
import { memberLies } from "./member-lies.ts";
import { plantedLies } from "./planted-lies.ts";

const columns =
  "the lie | what the relay does | event | what the user sees | what stayed safe | healed";

/** Tables of a page, one row a line, without what only aligns them. */
function tablesOf(page: string): string[][] {
  return page
    .split(/\n(?!\|)/)
    .map((part) => part.split("\n").filter((line) => line.startsWith("|")))
    .map((lines) =>
      lines.map((line) =>
        line
          .slice(1, -1)
          .split("|")
          .map((cell) => cell.trim())
          .join(" | "),
      ),
    )
    .filter(([first]) => first === columns);
}

test("the tables of docs/SECURITY.md say what the lies say", (t) => {
  const page = readFileSync(new URL("../../docs/SECURITY.md", import.meta.url), "utf8");
  const tables = tablesOf(page);
  const told = [
    lies.map((lie) => ({ ...lie, healed: healedBy(lie) })),
    memberLies.map((lie) => lie),
    deliveryLies.map((lie) => lie),
  ].map((each) =>
    each.map(({ name, does, event, sees, safe, healed }) =>
      [name, does, event, sees, safe, healed].join(" | "),
    ),
  );
  for (const row of [columns, ...told.flat()]) t.diagnostic(row);
  assert.deepEqual(
    tables.map((rows) => rows.slice(2)),
    told,
  );
});

test("each lie that comes to an event has a check that is taken out to see its test fail", () => {
  const told = [...lies, ...memberLies, ...deliveryLies];
  const noticed = told.filter(({ event }) => event !== "nothing").map(({ name }) => name);
  assert.deepEqual(
    noticed.filter((name) => !plantedLies.includes(name)),
    [],
  );
  const names = new Set(told.map(({ name }) => name));
  assert.deepEqual(
    plantedLies.filter((name) => !names.has(name)),
    [],
  );
});
