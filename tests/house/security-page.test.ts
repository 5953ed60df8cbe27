/** Each rule of `docs/SECURITY.md` is cited by a test, stands below with one that shows it, or is a statement. */
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { collectTestFiles } from "../../scripts/test.ts";

const root = fileURLToPath(new URL("../..", import.meta.url));
const page = readFileSync(`${root}/docs/SECURITY.md`, "utf8");
const rules = [...page.matchAll(/^- \*\*(\d+\.\d+)\*\*/gm)].map((match) => match[1] ?? "");

/** What says what is so, and for which no check could be taken out. */
const statements = new Set([
  "1.1",
  "1.3",
  "1.4",
  "1.6",
  "9.1",
  "9.2",
  "9.3",
  "9.6",
  "9.7",
  "9.10",
  "9.11",
  "9.12",
  "9.13",
  "9.14",
]);

/** Tests whose titles say the same in the words of their room. */
const shownBy: Readonly<Record<string, readonly [file: string, title: string]>> = {
  "1.5": ["seal/history", "a removed device up to its closing place, and not beyond"],
  "2.1": ["seal/keys", "follow from the seed alone, and all differ"],
  "2.2": ["client/state-store", "the folder and the file are this user's alone"],
  "2.3": ["seal/keys", "a previous secret opens under the secret"],
  "2.4": ["seal/keys", "draws another key for each use and each epoch"],
  "2.5": ["integration/membership", "a removed device is cut off, and its old keyring"],
  "2.6": ["seal/membership", "a wrong secret is named so by the key check value"],
  "5.7": ["client/restarts", "hears of it before it writes on"],
  "4.1": ["seal/membership", "an author that is no member"],
  "4.2": ["seal/membership", "removing: the removed device put in"],
  "4.4": ["seal/pairing", "a nonce that is not the one committed to: nobody can choose it later"],
  "4.8": ["cli/programs", "no secret, device name or content stands in the relay's files"],
  "4.5": ["client/pairing", "PROTOCOL 9.9: three failed attempts burn the invite"],
};

const files = collectTestFiles(root).filter(
  (file) => !file.endsWith("house/security-page.test.ts"),
);
const texts = new Map(files.map((file) => [file, readFileSync(`${root}/${file}`, "utf8")]));
const cited = new Set(
  [...texts.values()].flatMap((text) =>
    [...text.matchAll(/SECURITY (\d+\.\d+(?:, \d+\.\d+)*)/g)].flatMap(([, numbers = ""]) =>
      numbers.split(", "),
    ),
  ),
);
/** What the lies of `tests/malicious-relay` show, each in a test of its own. */
const byLies = new Set([
  "1.2",
  "4.3",
  "5.1",
  "5.2",
  "5.3",
  "5.4",
  "5.5",
  "5.6",
  "9.4",
  "9.5",
  "9.8",
  "9.9",
]);

test("rules of docs/SECURITY.md that tests cite, or that are named here, are on the page", () => {
  const named = [...cited, ...statements, ...byLies, ...Object.keys(shownBy)];
  assert.deepEqual(
    named.filter((rule) => !rules.includes(rule)),
    [],
  );
});

test("what is said to show a rule is there", () => {
  for (const [rule, [file, title]] of Object.entries(shownBy)) {
    assert.ok(texts.get(`tests/${file}.test.ts`)?.includes(title), `${rule}: ${file}: ${title}`);
  }
});

test("each rule that is a check is shown by a test", (t) => {
  const open = rules.filter(
    (rule) => !cited.has(rule) && !statements.has(rule) && !byLies.has(rule) && !(rule in shownBy),
  );
  t.diagnostic(`open: ${open.join(", ")}`);
  assert.deepEqual(open, []);
});
