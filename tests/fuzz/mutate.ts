/**
 * Inputs from inputs: bits, bytes, lengths and pieces changed anywhere, and, where the bytes read as
 * protobuf, fields dropped, doubled, moved, renumbered, retyped and changed at any depth, with every
 * length around them set right again.
 */
import { concatBytes } from "../../wire/bytes.ts";
import type { Chance } from "./chance.ts";

/** Inputs stay below this: what grows from change to change is cut. */
export const inputBytesMax = 8_192;

const oddBytes = [0, 1, 0x0a, 0x20, 0x7f, 0x80, 0xfe, 0xff];
/** Around the bounds of varints, of safe numbers and of the lengths that ids have. */
const oddNumbers = [
  0n,
  1n,
  2n,
  15n,
  16n,
  17n,
  31n,
  32n,
  33n,
  63n,
  64n,
  127n,
  128n,
  255n,
  256n,
  16_383n,
  16_384n,
  65_535n,
  65_536n,
  (1n << 31n) - 1n,
  1n << 31n,
  (1n << 32n) - 1n,
  1n << 32n,
  (1n << 53n) - 1n,
  1n << 53n,
  (1n << 63n) - 1n,
  1n << 63n,
  (1n << 64n) - 1n,
];

/** One input made of another; `other` lends pieces. */
export function mutate(
  input: Uint8Array,
  other: Uint8Array,
  chance: Chance,
  structured = false,
): Uint8Array {
  let bytes = input;
  const changes = 1 + (chance.oneIn(3) ? chance.below(4) : 0);
  for (let i = 0; i < changes; i++) {
    const asMessage = chance.oneIn(structured ? 1 : 2) && !(structured && chance.oneIn(50));
    const byField = asMessage ? mutateFields(bytes, other, chance, 0) : undefined;
    bytes = byField ?? mutateBytes(bytes, other, chance);
  }
  return bytes.byteLength > inputBytesMax ? bytes.slice(0, inputBytesMax) : bytes;
}

function mutateBytes(bytes: Uint8Array, other: Uint8Array, chance: Chance): Uint8Array {
  const at = chance.below(bytes.byteLength + 1);
  const length = 1 + chance.below(chance.oneIn(4) ? 200 : 8);
  switch (chance.below(8)) {
    case 0: {
      const made = new Uint8Array(bytes);
      if (at < made.byteLength) made[at] = (made[at] as number) ^ (1 << chance.below(8));
      return made;
    }
    case 1: {
      const made = new Uint8Array(bytes);
      if (at < made.byteLength) {
        made[at] = chance.oneIn(2) ? chance.pick(oddBytes) : chance.below(256);
      }
      return made;
    }
    case 2:
      return concatBytes(bytes.subarray(0, at), bytes.subarray(at + length));
    case 3:
      return concatBytes(bytes.subarray(0, at), chance.bytes(length), bytes.subarray(at));
    case 4:
      return concatBytes(bytes.subarray(0, at + length), bytes.subarray(at));
    case 5:
      return bytes.slice(0, at);
    case 6: {
      const from = chance.below(other.byteLength + 1);
      return concatBytes(bytes.subarray(0, at), other.subarray(from));
    }
    default: {
      const from = chance.below(other.byteLength + 1);
      const piece = other.subarray(from, from + length);
      return concatBytes(bytes.subarray(0, at), piece, bytes.subarray(at + piece.byteLength));
    }
  }
}

/** One field of a message, as it stands in the bytes. */
interface Field {
  readonly number: number;
  readonly wireType: number;
  /** What is behind tag and length. */
  readonly value: Uint8Array;
}

function mutateFields(
  bytes: Uint8Array,
  other: Uint8Array,
  chance: Chance,
  depth: number,
): Uint8Array | undefined {
  const fields = readFields(bytes);
  if (fields === undefined || fields.length === 0) return undefined;
  const at = chance.below(fields.length);
  const field = fields[at] as Field;
  const put = (...made: readonly Field[]): Uint8Array =>
    writeFields([...fields.slice(0, at), ...made, ...fields.slice(at + 1)]);
  if (field.wireType === 2 && depth < 6 && chance.below(4) > 0) {
    const inside = mutateFields(field.value, other, chance, depth + 1);
    if (inside !== undefined && chance.below(4) > 0) return put({ ...field, value: inside });
  }
  switch (chance.below(8)) {
    case 0:
      return put();
    case 1:
      return put(field, field);
    case 2: {
      const to = chance.below(fields.length);
      const rest = fields.toSpliced(at, 1);
      return writeFields(rest.toSpliced(to, 0, field));
    }
    case 3: {
      const lent = readFields(other);
      return put(field, lent === undefined || lent.length === 0 ? field : chance.pick(lent));
    }
    case 4:
      return put({ ...field, number: 1 + chance.below(chance.oneIn(5) ? 40 : 8) });
    case 5:
      return put(unknownField(chance), field);
    default:
      if (field.wireType === 0) {
        const number = chance.oneIn(3) ? BigInt(chance.word()) : chance.pick(oddNumbers);
        return put({ ...field, value: varint(number) });
      }
      return put({ ...field, value: mutateBytes(field.value, other, chance) });
  }
}

function unknownField(chance: Chance): Field {
  const number = 1 + chance.below(60);
  const value = varint(chance.pick(oddNumbers));
  if (chance.oneIn(2)) return { number, wireType: 0, value };
  return { number, wireType: 2, value };
}

/** The fields of a message; undefined where the bytes are none. */
function readFields(bytes: Uint8Array): Field[] | undefined {
  const fields: Field[] = [];
  let offset = 0;
  const number = (): number => {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = bytes[offset];
      if (byte === undefined || scale > 2 ** 63) return Number.NaN;
      offset += 1;
      value += (byte & 0x7f) * scale;
      if (byte < 0x80) return value;
    }
  };
  while (offset < bytes.byteLength) {
    const tag = number();
    const wireType = tag % 8;
    const field = Math.floor(tag / 8);
    if (!(field >= 1 && field < 4_096) || (wireType !== 0 && wireType !== 2)) return undefined;
    let start = offset;
    const value = number();
    if (Number.isNaN(value)) return undefined;
    if (wireType === 2) {
      start = offset;
      offset += value;
      if (offset > bytes.byteLength) return undefined;
    }
    fields.push({ number: field, wireType, value: bytes.subarray(start, offset) });
  }
  return fields;
}

function writeFields(fields: readonly Field[]): Uint8Array {
  return concatBytes(
    ...fields.flatMap(({ number, wireType, value }) => [
      varint(BigInt(number * 8 + wireType)),
      ...(wireType === 2 ? [varint(BigInt(value.byteLength))] : []),
      value,
    ]),
  );
}

function varint(value: bigint): Uint8Array {
  const bytes: number[] = [];
  let rest = value;
  for (; rest >= 0x80n; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  bytes.push(Number(rest));
  return Uint8Array.from(bytes);
}
