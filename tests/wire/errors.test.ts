import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import fc from "fast-check";
import { EnvelopeSchema } from "../../gen/syncrelay/sync/v1/envelope_pb.ts";
import { ErrorCodeSchema, ErrorSchema } from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { utf8 } from "../../wire/bytes.ts";
import { decodeEnvelopes, encodeError } from "../../wire/envelope.ts";
import {
  closeCodeOf,
  type ErrorAgain,
  ErrorCode,
  type ErrorEnds,
  errorMessageOf,
  errorOfCloseCode,
  errorOfMessage,
  errorRow,
  errorTable,
  SyncError,
} from "../../wire/errors.ts";

/** The table as it is promised: code, name, ends, again, sent, exit code of the command line. */
const promised: readonly (readonly [number, string, ErrorEnds, ErrorAgain, boolean, number])[] = [
  [101, "UNREACHABLE", "session", "later", false, 4],
  [102, "CONNECTION_LOST", "session", "later", false, 4],
  [103, "TIMED_OUT", "session", "later", false, 4],
  [201, "HANDSHAKE_FAILED", "session", "later", true, 3],
  [202, "VERSION_UNSUPPORTED", "session", "changed", true, 3],
  [203, "RELAY_KEY_MISMATCH", "session", "never", false, 3],
  [301, "RECORD_INVALID", "session", "changed", true, 1],
  [302, "ENVELOPE_INVALID", "session", "changed", true, 1],
  [303, "ENVELOPE_UNEXPECTED", "session", "changed", true, 1],
  [304, "TOO_LARGE", "request", "changed", true, 1],
  [401, "DEVICE_UNKNOWN", "session", "changed", true, 3],
  [402, "DEVICE_REVOKED", "session", "never", true, 3],
  [403, "NOT_A_MEMBER", "request", "changed", true, 3],
  [404, "INVITE_INVALID", "request", "changed", true, 3],
  [405, "READ_ONLY", "request", "changed", true, 3],
  [406, "REGISTRATION_CLOSED", "request", "changed", true, 3],
  [501, "RATE_LIMITED", "request", "later", true, 5],
  [502, "QUOTA_EXCEEDED", "request", "changed", true, 5],
  [503, "TOO_MANY_CONNECTIONS", "session", "later", true, 5],
  [504, "REPLACED", "session", "never", true, 5],
  [602, "LOG_CHANGED", "nothing", "changed", false, 6],
  [603, "LINK_CONFLICT", "request", "changed", true, 6],
  [604, "EPOCH_STALE", "request", "changed", true, 6],
  [605, "MEMBERSHIP_CONFLICT", "request", "changed", true, 6],
  [606, "OUT_OF_ORDER", "request", "changed", true, 6],
  [607, "EPOCH_AHEAD", "request", "changed", true, 6],
  [701, "DRAINING", "session", "later", true, 4],
  [702, "STORE_UNAVAILABLE", "request", "later", true, 4],
  [703, "INTERNAL", "session", "later", true, 1],
  [801, "KEY_MISSING", "request", "changed", false, 7],
  [802, "OPEN_FAILED", "entry", "never", false, 7],
  [803, "HISTORY_ALTERED", "entry", "never", false, 7],
  [804, "WRONG_KEY", "request", "changed", false, 7],
  [805, "DEVICE_FORKED", "entry", "changed", false, 7],
];

test("10.1 every code of the schema has a row, under its name, and no other has", () => {
  const schema = ErrorCodeSchema.values
    .filter((value) => value.number !== 0)
    .map((value) => [value.number, value.name.replace(/^ERROR_CODE_/, "")]);
  assert.deepEqual(
    schema,
    promised.map(([code, name]) => [code, name]),
  );
  assert.deepEqual(
    Object.keys(errorTable).map(Number),
    promised.map(([code]) => code),
  );
});

for (const [code, name, ends, again, sent, exit] of promised) {
  test(`10.1 ${code} ${name}: ends ${ends}, again ${again}, exit ${exit}, ${sent ? "may be sent" : "is never sent"}`, () => {
    const row = errorRow(code);
    assert.deepEqual({ ...row, message: "" }, { name, ends, again, sent, exit, message: "" });
    const error = new SyncError(code);
    assert.equal(error.code, code);
    assert.equal(error.codeName, name);
    assert.equal(error.message, row.message);
    assert.equal(closeCodeOf(code), 4000 + code);
    assert.equal(errorOfCloseCode(4000 + code), sent ? code : undefined);
  });
}

test("10.1 each sentence is short enough for a close reason, and its own", () => {
  const messages = Object.values(errorTable).map((row) => row.message);
  for (const message of messages) {
    assert.ok(utf8(message).byteLength > 0 && utf8(message).byteLength <= 123, message);
    assert.match(message, /^[a-z].*[^.]$/);
  }
  assert.equal(new Set(messages).size, messages.length);
});

test("10.3 a code this version does not know acts as its class", () => {
  const classes: [number, ErrorEnds, ErrorAgain, boolean, number][] = [
    [199, "session", "later", false, 4],
    [299, "session", "later", true, 3],
    [399, "session", "changed", true, 1],
    [499, "request", "changed", true, 3],
    [599, "request", "later", true, 5],
    [601, "request", "changed", true, 6],
    [699, "request", "changed", true, 6],
    [799, "request", "later", true, 4],
    [899, "request", "changed", false, 7],
  ];
  for (const [code, ends, again, sent, exit] of classes) {
    const { name, message, ...row } = errorRow(code);
    assert.deepEqual(row, { ends, again, sent, exit });
    assert.equal(new SyncError(code).codeName, `CODE_${code}`);
    // Nothing that is only true of one known code is said of an unknown one.
    const hundred = Object.entries(errorTable).filter(([known]) => known[0] === `${code}`[0]);
    assert.ok(!hundred.some(([, known]) => known.name === name));
    assert.ok(utf8(message).byteLength <= 123);
  }
});

test("10.3 any number at all has a row, and a close code in the private range", () => {
  fc.assert(
    fc.property(fc.oneof(fc.integer(), fc.integer({ min: -10, max: 1100 })), (code) => {
      const row = errorRow(code);
      assert.ok(row.exit >= 1 && row.exit <= 7);
      assert.ok(utf8(row.message).byteLength <= 123);
      const closeCode = closeCodeOf(code);
      assert.ok(closeCode >= 4100 && closeCode <= 4999);
      new SyncError(code);
    }),
  );
});

test("10.1 close codes that are not ours, or not for sending, mean nothing", () => {
  for (const closeCode of [0, 1000, 1006, 3999, 4000, 4099, 5000, 5201, 4201.5, Number.NaN]) {
    assert.equal(errorOfCloseCode(closeCode), undefined);
  }
  for (let closeCode = 4100; closeCode < 5000; closeCode++) {
    const code = errorOfCloseCode(closeCode);
    if (code === undefined) assert.equal(errorRow(closeCode - 4000).sent, false);
    else assert.equal(closeCodeOf(code), closeCode);
  }
});

test("10.1 on the wire stand the code, the table's sentence and typed details, never cause or hint", () => {
  const error = new SyncError(ErrorCode.QUOTA_EXCEEDED, {
    cause: new Error("SECRET /var/lib"),
    hint: "SECRET hint",
    retryAfterMs: 1500,
    detail: { case: "quota", value: { usedBytes: 5n, limitBytes: 4n } },
  });
  const bytes = encodeError(7, error);
  assert.ok(!Buffer.from(bytes).includes("SECRET"));
  const [envelope] = decodeEnvelopes(bytes, 1000);
  assert.equal(envelope?.requestId, 7n);
  assert.equal(envelope.body.case, "error");
  const back = errorOfMessage(envelope.body.value);
  assert.equal(back.code, ErrorCode.QUOTA_EXCEEDED);
  assert.equal(back.message, errorRow(ErrorCode.QUOTA_EXCEEDED).message);
  assert.equal(back.retryAfterMs, 1500);
  assert.equal(back.detail?.case, "quota");
  assert.equal(back.hint, undefined);
  assert.equal(back.cause, undefined);
});

test("10.1 a waiting time of any size is told whole, never shorter, within 32 bits", () => {
  const told = (retryAfterMs: number): number =>
    errorMessageOf(new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs })).retryAfterMs;
  assert.deepEqual(
    [0, 0.2, 1, 1.5, 1e300, Infinity, -1, -Infinity, Number.NaN].map(told),
    [0, 1, 1, 2, 0xffff_ffff, 0xffff_ffff, 0, 0, 0],
  );
  fc.assert(
    fc.property(fc.double(), (retryAfterMs) => {
      const error = new SyncError(ErrorCode.RATE_LIMITED, { retryAfterMs });
      const back = fromBinary(ErrorSchema, toBinary(ErrorSchema, errorMessageOf(error)));
      assert.equal(back.retryAfterMs, told(retryAfterMs));
    }),
  );
});

test("10.1 what is never sent leaves as INTERNAL, without its details", () => {
  for (const code of [
    ErrorCode.UNSPECIFIED,
    ...promised.filter((row) => !row[4]).map((row) => row[0]),
  ]) {
    const detail = { case: "incident", value: { id: "abc" } } as const;
    const message = errorMessageOf(new SyncError(code, { detail }));
    assert.equal(message.code, ErrorCode.INTERNAL);
    assert.equal(message.detail.case, undefined);
  }
});

test("SECURITY: a relay's word never passes for what only a device can find", () => {
  for (const code of [0, -1, 101, 203, 602, 801, 803, 805, 899, 199]) {
    const error = errorOfMessage(create(ErrorSchema, { code, message: "believe me" }));
    if (code === -1) assert.equal(error.code, -1);
    else assert.equal(error.code, ErrorCode.ENVELOPE_INVALID);
    assert.ok(!error.message.includes("believe"));
  }
});

test("10.3 any Error message, known code or not, becomes a SyncError with a sentence of ours", () => {
  const details = fc.constantFrom("quota", "incident", "tooLarge", "versionRange", undefined);
  fc.assert(
    fc.property(
      fc.integer(),
      fc.string(),
      fc.nat(),
      details,
      (code, text, retryAfterMs, detail) => {
        const message = create(ErrorSchema, {
          code,
          message: text,
          retryAfterMs,
          detail: detail === undefined ? { case: undefined } : { case: detail, value: {} },
        });
        const envelope = create(EnvelopeSchema, { body: { case: "error", value: message } });
        const [decoded] = decodeEnvelopes(
          Uint8Array.from(withSize(toBinary(EnvelopeSchema, envelope))),
          1 << 20,
        );
        assert.equal(decoded?.body.case, "error");
        const error = errorOfMessage(decoded.body.value);
        assert.ok(error instanceof SyncError);
        assert.equal(error.message, errorRow(error.code).message);
        assert.equal(error.detail?.case, error.code === code ? detail : undefined);
      },
    ),
  );
});

function withSize(bytes: Uint8Array): number[] {
  assert.ok(bytes.byteLength < 2 ** 14);
  return [(bytes.byteLength & 0x7f) | 0x80, bytes.byteLength >> 7, ...bytes];
}
