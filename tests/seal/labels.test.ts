import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { test } from "node:test";
import * as labels from "../../client/seal/labels.ts";
import { fromUtf8 } from "../../wire/bytes.ts";

test("12 every label stands in docs/PROTOCOL.md, letter for letter", async () => {
  const page = await readFile(new URL("../../docs/PROTOCOL.md", import.meta.url), "utf8");
  for (const [name, bytes] of Object.entries(labels)) {
    const label = fromUtf8(bytes);
    assert.ok(page.includes(`\`${label}\``), `${name}: ${label}`);
  }
});

test("no label begins another, so that no input of one is an input of another", () => {
  const texts = Object.values(labels).map((bytes) => fromUtf8(bytes) ?? "");
  for (const [i, text] of texts.entries()) {
    assert.ok(
      texts.every((other, j) => i === j || !other.startsWith(text)),
      text,
    );
  }
});
