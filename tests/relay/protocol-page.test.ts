/** `docs/PROTOCOL.md` against what it speaks of: the table of errors, and numbers that tests cite. */
import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { ErrorCode, errorTable } from "../../wire/errors.ts";
import * as limits from "../../wire/limits.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(`${root}/docs/PROTOCOL.md`, "utf8");
const rules = [...page.matchAll(/^- \*\*(\d+\.\d+)\*\*/gm)].map((match) => match[1] ?? "");

test("10.1 the table of errors is the one of wire/errors.ts, a row a code, in order", () => {
  const written = page
    .split("\n")
    .filter((line) => /^\| \d{3} +\|/.test(line))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim()),
    );
  const known = Object.entries(errorTable).map(([code, row]) => [
    code,
    row.name,
    row.ends,
    row.again,
    row.sent ? "yes" : "no",
    String(row.exit),
    row.message,
  ]);
  assert.deepEqual(written, known);
  assert.ok(known.every(([code, name]) => ErrorCode[Number(code)] === name));
});

test("rules stand in order, each number once", () => {
  assert.ok(rules.length > 120);
  let [section, rule] = [1, 0];
  for (const number of rules) {
    const [major = 0, minor = 0] = number.split(".").map(Number);
    assert.ok(
      (major === section && minor === rule + 1) || (major === section + 1 && minor === 1),
      `${number} after ${section}.${rule}`,
    );
    [section, rule] = [major, minor];
  }
});

test("every rule a test title cites is on the page", () => {
  const known = new Set(rules);
  let cited = 0;
  for (const room of ["session", "relay", "wire"]) {
    for (const file of readdirSync(`${root}/tests/${room}`)) {
      if (!file.endsWith(".test.ts")) continue;
      const text = readFileSync(`${root}/tests/${room}/${file}`, "utf8");
      for (const [, title = ""] of text.matchAll(/^\s*test\(\s*["`]([^"`]+)/gm)) {
        for (const [, number = ""] of title.matchAll(/(?<![\d.,])(\d{1,2}\.\d{1,2})(?=[ ,])/g)) {
          assert.ok(known.has(number), `${file}: ${title}`);
          cited += 1;
        }
      }
    }
  }
  assert.ok(cited > 100, `${cited} citations`);
});

test("the page names the bounds that wire/limits.ts sets", () => {
  const named = [
    limits.helloBytesMax,
    limits.handshakeBytesMax,
    limits.envelopeOverheadBytes,
    limits.pageBytesMax,
    limits.recordItemsMax,
    limits.recordEnvelopesMax,
    limits.batchBlobsMax,
    limits.headerBytesMax,
    limits.windowBlobsMax,
    limits.pullWindowBytesMax,
    limits.witnessBytesMax,
    limits.controlBytesMax,
    limits.inviteMessageBytesMax,
    limits.noiseMessageBytesMax,
  ];
  for (const bound of named) {
    assert.ok(page.includes(bound.toLocaleString("en-US")), `${bound} is not on the page`);
  }
});
