/** Arbitrary messages of a schema: every field absent or there, every list short, every body. */
import { type DescField, type DescMessage, ScalarType } from "@bufbuild/protobuf";
import fc from "fast-check";

function scalar(type: ScalarType): fc.Arbitrary<unknown> {
  switch (type) {
    case ScalarType.BYTES:
      return fc.uint8Array({ maxLength: 40 });
    case ScalarType.STRING:
      return fc.string({ unit: "grapheme", maxLength: 20 });
    case ScalarType.BOOL:
      return fc.boolean();
    case ScalarType.UINT64:
      return fc.oneof(
        fc.bigInt({ min: 0n, max: 300n }),
        fc.bigInt({ min: 0n, max: 2n ** 64n - 1n }),
      );
    case ScalarType.UINT32:
      return fc.nat(0xffff_ffff);
    default:
      throw new Error(`no field of the protocol is a ${ScalarType[type]}`);
  }
}

function single(field: DescField): fc.Arbitrary<unknown> {
  if (field.message !== undefined) return arbitraryMessage(field.message);
  if (field.enum !== undefined) return fc.integer({ min: -1, max: 12 });
  return scalar(field.scalar);
}

/** What `create` takes for the message. */
export function arbitraryMessage(message: DescMessage): fc.Arbitrary<object> {
  const fields: Record<string, fc.Arbitrary<unknown>> = {};
  for (const member of message.members) {
    if (member.kind === "oneof") {
      const cases = member.fields.map((field) =>
        single(field).map((value) => ({ case: field.localName, value })),
      );
      fields[member.localName] = fc.oneof(fc.constant({ case: undefined }), ...cases);
    } else if (member.fieldKind === "list") {
      fields[member.localName] = fc.array(single(member), { maxLength: 3 });
    } else {
      fields[member.localName] = fc.option(single(member), { nil: undefined });
    }
  }
  // An undefined field is an absent one to `create`.
  return fc.record(fields);
}
