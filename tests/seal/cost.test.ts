/** What verification costs in bytes. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { prepareBlob } from "../../client/seal/index.ts";
import { utf8 } from "../../wire/bytes.ts";
import { device, seeded } from "./support.ts";

test("header and signature add at most 200 bytes to a blob, at the highest seq that there is", (t) => {
  const random = seeded("cost");
  const { header, signature, link } = prepareBlob(
    { data: utf8("x"), ttlS: 90 * 86_400 },
    {
      groupId: random(32),
      keys: device("a"),
      previous: { seq: Number.MAX_SAFE_INTEGER - 1, link: random(32) },
      witnessed: [],
      random,
    },
  );
  // The link itself is not sent: a header names the one before, both sides derive the next.
  const bytes = header.byteLength + signature.byteLength;
  t.diagnostic(
    `${header.byteLength} header, ${signature.byteLength} signature, ${link.byteLength} link (derived)`,
  );
  assert.ok(bytes <= 200, `${bytes} bytes`);
});
