/** Sizes and times as people write them. */
import { usageError } from "../exit-codes.ts";

const sizes: Readonly<Record<string, number>> = {
  B: 1,
  KiB: 1024,
  MiB: 1024 ** 2,
  GiB: 1024 ** 3,
  TiB: 1024 ** 4,
};

const spans: Readonly<Record<string, number>> = { s: 1, min: 60, m: 60, h: 3_600, d: 86_400 };

const pushesMax = 1_000_000;

/** A number of bytes: `500MiB`, `2GiB`, `1048576`. */
export function readAmount(text: string): number {
  return read(text, sizes, "B", "a size like 500MiB or 2GiB");
}

/** A number of seconds: `90s`, `30min`, `12h`, `7d`. */
export function readSpan(text: string): number {
  return read(text, spans, "s", "a time like 30min, 12h or 7d");
}

/** Pushes a second, and at once: `50`, `50/500`, or `default` for the relay's. */
export function readRate(text: string): { pushesPerS: number; pushesBurst: number } {
  if (text === "default") return { pushesPerS: 0, pushesBurst: 0 };
  const match = /^([1-9]\d{0,6})(?:\/([1-9]\d{0,6}))?$/.exec(text);
  const [perS, burst] = [Number(match?.[1]), Number(match?.[2] ?? 0)];
  if (match === null || Math.max(perS, burst) > pushesMax) {
    throw usageError(`${text} is not a rate like 50, 50/500 or default, at most ${pushesMax}`);
  }
  return { pushesPerS: perS, pushesBurst: burst };
}

function read(text: string, units: Readonly<Record<string, number>>, bare: string, what: string) {
  const match = /^(\d{1,15}) ?([A-Za-z]*)$/.exec(text);
  const unit = units[match?.[2] === "" ? bare : (match?.[2] ?? "")];
  const value = unit === undefined ? Number.NaN : Number(match?.[1]) * unit;
  if (!Number.isSafeInteger(value) || value < 1) throw usageError(`${text} is not ${what}`);
  return value;
}
