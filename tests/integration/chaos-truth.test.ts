/** What judges a run on real processes must itself be able to say no. */
import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { drift, type Sample, summary } from "../../scripts/soak/samples.ts";
import type { Device } from "../chaos/device-process.ts";
import { FrameCutter, flipped, truncated } from "../chaos/frames.ts";
import type { AppliedLine, EventLine, PushLine } from "../chaos/processes/messages.ts";
import { type Excuses, judge } from "../chaos/truth.ts";

const pushes: readonly PushLine[] = [
  ["begin", ["a/1", "a/2"], 2],
  [
    "queued",
    [
      ["a/1", 1, "one"],
      ["a/2", 2, "two"],
    ],
  ],
  ["durable", [["one", 1]]],
  ["begin", ["a/3"], 3],
  ["refused", ["a/3"], "STATE_full"],
];
const one: AppliedLine = ["entry", 1, 1, "A", 1, "one", "a/1"];
const two: AppliedLine = ["entry", 2, 2, "A", 2, "two", "a/2"];

function wrong(
  applied: readonly AppliedLine[],
  excuses: Excuses = {},
  events: readonly EventLine[] = [],
): string {
  const device = (name: string, own: readonly PushLine[], lines: readonly AppliedLine[]): Device =>
    ({
      name,
      member: true,
      pushes: () => own,
      applied: () => lines,
      events: () => events,
    }) as unknown as Device;
  return judge([device("a", pushes, [one, two]), device("b", [], applied)], excuses).wrong.join();
}

describe("the judgement of a run", () => {
  test("is silent where everything is there once, in order", () => {
    assert.equal(wrong([one, two]), "");
  });

  test("names what is missing, twice, out of order, elsewhere, or was never pushed", () => {
    assert.match(wrong([one]), /b lacks a\/2 \(queued\)/);
    assert.match(wrong([two]), /b lacks a\/1 \(acknowledged\)/);
    assert.match(wrong([one, two, two]), /a\/2 twice/);
    assert.match(wrong([two, one]), /seq 1 behind 2/);
    assert.match(wrong([["entry", 1, 7, "A", 1, "one", "a/1"], two]), /at cursor 7, acknowledged/);
    assert.match(wrong([one, two, ["entry", 3, 3, "A", 3, "x", "a/9"]]), /never pushed/);
    assert.match(wrong([one, two, ["entry", 3, 3, "A", 3, "x", "a/3"]]), /a\/3 was refused/);
    assert.match(wrong([one, ["entry", 2, 2, "A", 2, "two", "a/1"]]), /never pushed/);
  });

  test("takes no alarm, no gap and no defect without a reason", () => {
    const finding: EventLine = ["integrity", "ALTERED"];
    assert.match(wrong([one, two], {}, [finding]), /integrity ALTERED/);
    assert.equal(wrong([one, two], { integrity: /ALTERED/ }, [finding]), "");
    assert.match(wrong([one, two], {}, [["gap", "{}"]]), /gap/);
    assert.match(wrong([one, two], { gaps: true }, [["defect", "it threw"]]), /it threw/);
  });
});

describe("the drift of a soak", () => {
  const at = (atS: number, rssMiB: number, descriptors = 20): Sample => {
    return { atS, rssMiB, descriptors, pushes: 1, p50Ms: 1, p99Ms: 2, worstMs: 3 };
  };
  const hour = Array.from({ length: 720 }, (_, i) => i * 5);

  test("is the slope behind the first quarter", () => {
    const found = drift(hour.map((s) => at(s, s < 900 ? 40 : 60 + s / 3_600)));
    assert.ok(Math.abs(found.slopeMiBPerHour - 1) < 0.01, `${found.slopeMiBPerHour}`);
    assert.equal(summary(hour.map((s) => at(s, 60 + s / 3_600))).steady, true);
  });

  test("is a leak where memory or descriptors grow", () => {
    assert.equal(summary(hour.map((s) => at(s, 60 + s / 300))).steady, false);
    assert.equal(summary(hour.map((s) => at(s, 60, 20 + s / 600))).steady, false);
  });
});

test("WebSocket messages are cut out of any pieces, and stay whole when they are meddled with", () => {
  const head = Buffer.from("HTTP/1.1 101 x\r\n\r\n");
  const frame = (bytes: number): Buffer => {
    const body = Buffer.alloc(bytes, 7);
    if (bytes < 126) return Buffer.concat([Buffer.from([0x82, bytes]), body]);
    return Buffer.concat([Buffer.from([0x82, 126, bytes >> 8, bytes & 255]), body]);
  };
  const stream = Buffer.concat([head, frame(3), frame(300), Buffer.from([0x89, 0]), frame(0)]);
  for (const step of [1, 7, stream.length]) {
    const cutter = new FrameCutter();
    const cut = [];
    for (let i = 0; i < stream.length; i += step) {
      cut.push(...cutter.push(stream.subarray(i, i + step)));
    }
    assert.deepEqual(
      cut.map(({ number, frame: { length } }) => [number, length]),
      [
        [0, 18],
        [1, 5],
        [2, 304],
        [2, 2],
        [3, 2],
      ],
    );
  }
  const shorter = truncated(frame(300));
  assert.deepEqual([shorter.length, shorter.readUInt16BE(2)], [303, 299]);
  const turned = flipped(frame(3), 4);
  assert.deepEqual([...turned], [0x82, 3, 7, 7 ^ 16, 7]);
});
