// @ts-check
/** How numbers, sizes and times are written, and how sizes are read. Pure. */

const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/**
 * A size: `1.4 MiB`.
 *
 * @param {number} bytes
 */
export function sizeText(bytes) {
  let value = bytes;
  let unit = 0;
  while (value >= 1_024 && unit < units.length - 1) {
    value /= 1_024;
    unit += 1;
  }
  return `${unit === 0 ? String(Math.round(value)) : shortNumber(value)} ${units[unit]}`;
}

/**
 * A size as it is typed: `2GiB`, `500 MB`, `65536`. Undefined where it is none.
 *
 * @param {string} text
 * @returns {number | undefined}
 */
export function readSize(text) {
  const match = /^(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?)b?|b)?$/i.exec(text.trim());
  if (match === null) return undefined;
  const [, digits = "", letter = "", binary = ""] = match;
  const power = letter === "" ? 0 : "kmgtp".indexOf(letter.toLowerCase()) + 1;
  const bytes = Math.round(Number(digits) * (binary === "" ? 1_000 : 1_024) ** power);
  return Number.isSafeInteger(bytes) ? bytes : undefined;
}

/**
 * Three digits that count: `0.42`, `12.5`, `830`, `12,400`.
 *
 * @param {number} value
 */
export function shortNumber(value) {
  if (value === 0) return "0";
  const digits = value >= 100 ? 0 : value >= 10 ? 1 : 2;
  return value.toLocaleString("en", { maximumFractionDigits: digits });
}

/**
 * A whole number with separators.
 *
 * @param {number} value
 */
export function countText(value) {
  return Math.round(value).toLocaleString("en");
}

/**
 * A number with what it counts.
 *
 * @param {number} count
 * @param {string} one
 * @param {string} [many]
 */
export function counted(count, one, many = `${one}s`) {
  return `${countText(count)} ${count === 1 ? one : many}`;
}

/**
 * A wait: `0.8 ms`, `12 ms`, `1.2 s`.
 *
 * @param {number} seconds
 */
export function waitText(seconds) {
  return seconds < 1 ? `${shortNumber(seconds * 1_000)} ms` : `${shortNumber(seconds)} s`;
}

/** @type {readonly (readonly [number, string])[]} */
const spans = [
  [86_400, "day"],
  [3_600, "hour"],
  [60, "minute"],
];

/**
 * A long time, in its largest unit: `3 days`, `5 minutes`, `less than a minute`.
 *
 * @param {number} seconds
 * @param {(value: number) => number} round time that has passed is never said to be more
 */
export function spanText(seconds, round = Math.floor) {
  for (const [length, name] of spans) {
    if (seconds >= length) return counted(round(seconds / length), name);
  }
  return "less than a minute";
}

/**
 * How long ago something was: `now`, `5 minutes ago`, `never`.
 *
 * @param {number} thenMs
 * @param {number} nowMs
 */
export function agoText(thenMs, nowMs) {
  if (thenMs === 0) return "never";
  const seconds = (nowMs - thenMs) / 1_000;
  return seconds < 60 ? "just now" : `${spanText(seconds)} ago`;
}

/**
 * A share of a whole: `42 %`. What is not nothing is never shown as 0.
 *
 * @param {number} part
 * @param {number} whole
 */
export function percentText(part, whole) {
  if (whole <= 0 || part <= 0) return "0 %";
  const percent = (100 * part) / whole;
  return percent < 1 ? "< 1 %" : `${Math.floor(percent)} %`;
}

/**
 * The beginning of an id: enough to tell two apart, and to find the whole one.
 *
 * @param {string} id
 */
export function shortId(id) {
  return `${id.slice(0, 8)}…`;
}
