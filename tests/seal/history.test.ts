import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { closingLinks } from "../../client/seal/history.ts";
import {
  addDevice,
  changedPlaces,
  deviceMessage,
  extendChain,
  openBody,
  type Positions,
  positionsOf,
  removeDevices,
  senderLinks,
  type Verdict,
  verifyWindow,
  type WindowContext,
} from "../../client/seal/index.ts";
import { FindingKind } from "../../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { SenderLinkSchema } from "../../gen/syncrelay/sealed/v1/entry_pb.ts";
import {
  BodyState,
  type StoredBlob,
  StoredBlobSchema,
} from "../../gen/syncrelay/sync/v1/log_pb.ts";
import { MemberRole } from "../../gen/syncrelay/sync/v1/session_pb.ts";
import { emptyBytes, utf8 } from "../../wire/bytes.ts";
import { ErrorCode } from "../../wire/errors.ts";
import { idText, zeroLink } from "../../wire/ids.ts";
import { changed, device, fails, flipped, group, seeded, Writer } from "./support.ts";

const of = group("a", "b");
const idA = idText(device("a").deviceId);
const idB = idText(device("b").deviceId);
const fresh: WindowContext = {
  groupId: of.groupId,
  roster: of.chain.devices,
  positions: new Map(),
};

function run(blobs: readonly StoredBlob[], change: Partial<WindowContext> = {}) {
  return verifyWindow(blobs, { ...fresh, ...change });
}

/** A verdict in one word: its kind, or what was found. */
function word(verdict: Verdict): string {
  if (verdict.kind !== "refused") return verdict.kind;
  const forked = verdict.finding === FindingKind.DEVICE_FORKED;
  assert.equal(verdict.code, forked ? ErrorCode.DEVICE_FORKED : ErrorCode.HISTORY_ALTERED);
  return FindingKind[verdict.finding];
}

function words(blobs: readonly StoredBlob[], change: Partial<WindowContext> = {}): string[] {
  const { verdicts } = run(blobs, change);
  assert.equal(verdicts.length, blobs.length);
  for (const [i, verdict] of verdicts.entries()) assert.equal(verdict.stored, blobs[i]);
  return verdicts.map(word);
}

function three(name = "a", seed = "") {
  const writer = new Writer(of, name, { seed });
  return { writer, blobs: [writer.write(), writer.write(), writer.write()] as const };
}

describe("PROTOCOL 13.16: a sender that pushes again into a restored log", () => {
  const resuming = new Set([idA]);

  test("goes on where it leaves out seqs, once, and not in another order", () => {
    const { writer, blobs } = three();
    const [one, two, three_] = blobs;
    const five = [writer.write(), writer.write()][1] as StoredBlob;
    const { verdicts, tookUp } = run([one, three_], { resuming });
    assert.deepEqual(verdicts.map(word), ["entry", "entry"]);
    assert.deepEqual(tookUp.get(idA), { from: 2, through: 2 });
    assert.deepEqual(words([one, three_, five], { resuming }), ["entry", "entry", "DROPPED"]);
    assert.deepEqual(words([one, three_, two], { resuming }), ["entry", "REORDERED", "entry"]);
    assert.deepEqual(words([one, three_]), ["entry", "DROPPED"]);
  });

  test("waits for a snapshot behind what it says that it lacks, and that excuses nothing else", () => {
    const { writer, blobs } = three();
    const [one, , three_] = blobs;
    const four = writer.write();
    const lacking = new Map([[idA, 2]]);
    assert.deepEqual(words([one, three_, four], { lacking }), ["entry", "held", "held"]);
    assert.deepEqual(words([one, three_], { lacking, resuming }), ["entry", "held"]);
    assert.deepEqual(words([one, four], { lacking }), ["entry", "DROPPED"]);
  });

  test("does not go on behind a blob that was refused, in this window or before", () => {
    const { blobs } = three();
    const [one, two, three_] = blobs;
    const altered = changed(two, ({ blob }) => {
      blob.header = flipped(blob.header, blob.header.byteLength - 1);
    });
    assert.deepEqual(words([one, altered, three_], { resuming }), ["entry", "ALTERED", "held"]);
    const { positions } = run([one]);
    const holding = new Set([idA]);
    assert.deepEqual(words([three_], { resuming, positions, holding }), ["held"]);
  });
});

describe("SECURITY Verified history: what is right", () => {
  test("blobs of several senders are entries, open, and move the positions", () => {
    const a = three("a");
    const b = three("b");
    const blobs = [a.blobs[0], b.blobs[0], b.blobs[1], a.blobs[1], a.blobs[2], b.blobs[2]];
    const { verdicts, positions } = run(blobs);
    assert.deepEqual(verdicts.map(word), Array(6).fill("entry"));
    assert.deepEqual(positions.get(idA)?.link, a.writer.own[2]?.link);
    assert.equal(positions.get(idB)?.seq, 3);
    for (const verdict of verdicts) {
      assert.ok(verdict.kind === "entry" && verdict.stored.blob !== undefined);
      const bodyKey = of.chain.keyring.bodyKey(1);
      assert.ok(bodyKey !== undefined);
      const at = { groupId: of.groupId, sender: verdict.stored.sender, bodyKey };
      assert.deepEqual(openBody(verdict.stored.blob, verdict.header, at).data, utf8("data"));
    }
    assert.equal(fresh.positions.size, 0);
  });

  test("windows follow one another", () => {
    const { blobs, writer } = three();
    const { positions } = run(blobs.slice(0, 2));
    const next = run([blobs[2], writer.write()], { positions });
    assert.deepEqual(next.verdicts.map(word), ["entry", "entry"]);
    assert.equal(next.positions.get(idA)?.seq, 4);
    assert.equal(positions.get(idA)?.seq, 2);
  });

  test("more than a window at once is as good as several", () => {
    const writer = new Writer(of, "a", { seed: "long" });
    const blobs = Array.from({ length: 2_050 }, () => writer.write());
    const bad = changed(blobs[2_020] as StoredBlob, (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
    });
    const altered = [...blobs.slice(0, 2_020), bad, ...blobs.slice(2_021)];
    assert.ok(words(blobs).every((kind) => kind === "entry"));
    // A signature in the middle is covered by the newest: the chain proves it.
    assert.ok(words(altered).every((kind) => kind === "entry"));
  });

  test("an older signature is covered by the newest", () => {
    const { blobs } = three();
    const first = changed(blobs[0], (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
    });
    assert.deepEqual(words([first, blobs[1], blobs[2]]), ["entry", "entry", "entry"]);
  });

  test("a body that was dropped leaves its header, and the chain goes on", () => {
    const writer = new Writer(of, "a");
    const drop = (stored: StoredBlob, bodyState: BodyState) =>
      changed(stored, (copy) => {
        copy.blob.body = emptyBytes;
        copy.bodyState = bodyState;
      });
    const blobs = [
      drop(writer.write({ ttlS: 5 }), BodyState.EXPIRED),
      drop(writer.write(), BodyState.DELETED),
      drop(writer.write(), BodyState.TRIMMED),
      drop(writer.write(), BodyState.UNSPECIFIED),
      // Early expiry: what was signed without a TTL does not expire.
      drop(writer.write(), BodyState.EXPIRED),
      writer.write(),
    ];
    const { verdicts } = run(blobs);
    assert.deepEqual(
      verdicts.map((verdict) => (verdict.kind === "dropped" ? verdict.claim : verdict.kind)),
      ["expired", "deleted", "trimmed", "none", "none", "entry"],
    );
  });

  test("what was read before is known, alone and before what is new", () => {
    const { blobs, writer } = three();
    const { positions } = run(blobs);
    assert.deepEqual(words(blobs, { positions }), ["known", "known", "known"]);
    const again = run([blobs[1], blobs[2], writer.write()], { positions });
    assert.deepEqual(again.verdicts.map(word), ["known", "known", "entry"]);
    assert.deepEqual(run([blobs[0]], { positions }).positions, positions);
  });

  test("the same blob twice in a window is an entry once", () => {
    const { blobs } = three();
    assert.deepEqual(words([blobs[0], blobs[0], blobs[1]]), ["entry", "known", "entry"]);
  });

  test("re-reading takes a chain up anywhere and moves nothing", () => {
    const { blobs, writer } = three();
    const later = [blobs[1], blobs[2], writer.write()];
    const { positions } = run(blobs);
    const again = run(later, { positions, reading: "again" });
    assert.deepEqual(again.verdicts.map(word), ["entry", "entry", "entry"]);
    assert.equal(again.positions, positions);
    const bad = changed(later[2] as StoredBlob, (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
    });
    assert.deepEqual(words([blobs[1], blobs[2], bad], { reading: "again" }), [
      "entry",
      "entry",
      "ALTERED",
    ]);
    assert.deepEqual(words([blobs[0], blobs[2]], { reading: "again" }), ["entry", "DROPPED"]);
  });
});

describe("SECURITY Verified history: what is altered", () => {
  const alterations: Record<string, Parameters<typeof changed>[1]> = {
    "the blob id": (copy) => {
      copy.blob.blobId = flipped(copy.blob.blobId);
    },
    "the header": (copy) => {
      copy.blob.header = flipped(copy.blob.header, copy.blob.header.byteLength - 1);
    },
    "the sender, to another member": (copy) => {
      copy.sender = device("b").deviceId;
    },
    "the blob id's length": (copy) => {
      copy.blob.blobId = copy.blob.blobId.subarray(1);
    },
    "the signature's length": (copy) => {
      copy.blob.signature = copy.blob.signature.subarray(1);
    },
    "the header's form": (copy) => {
      copy.blob.header = copy.blob.header.subarray(1);
    },
    "the epoch, to none": (copy) => {
      copy.blob.epoch = 0n;
    },
    "the epoch, beyond all numbers": (copy) => {
      copy.blob.epoch = 2n ** 63n;
    },
  };
  for (const [what, change] of Object.entries(alterations)) {
    test(`${what}: refused, the ones before stand, the ones behind are held`, () => {
      const { blobs } = three();
      const bad = changed(blobs[1], change);
      const { verdicts, positions } = run([blobs[0], bad, blobs[2]]);
      const wrongSender = what.startsWith("the sender");
      assert.deepEqual(
        verdicts.map(word),
        // As another sender's it is not in the way of the true one's gap.
        ["entry", "ALTERED", wrongSender ? "DROPPED" : "held"],
      );
      assert.equal(positions.get(idA)?.seq, 1);
      assert.equal(positions.get(idB)?.seq ?? 0, 0);
    });
  }

  test("the newest signature: the longest valid prefix stands", () => {
    const { blobs } = three();
    const bad = changed(blobs[2], (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
    });
    const { verdicts, positions } = run([blobs[0], blobs[1], bad]);
    assert.deepEqual(verdicts.map(word), ["entry", "entry", "ALTERED"]);
    assert.equal(positions.get(idA)?.seq, 2);
  });

  test("a stored blob without a blob", () => {
    const { blobs } = three();
    const empty = create(StoredBlobSchema, { cursor: 1n, sender: device("a").deviceId });
    assert.deepEqual(words([blobs[0], empty, blobs[1]]), ["entry", "ALTERED", "entry"]);
  });

  test("the intact one, come again, heals the chain", () => {
    const { blobs } = three();
    const bad = changed(blobs[1], (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
      copy.blob.header = flipped(copy.blob.header, 10);
    });
    assert.deepEqual(words([blobs[0], bad, blobs[1], blobs[2]]), [
      "entry",
      "ALTERED",
      "entry",
      "entry",
    ]);
  });

  test("of one sender does not touch another", () => {
    const a = three("a");
    const b = three("b");
    const bad = changed(a.blobs[0], (copy) => {
      copy.blob.header = flipped(copy.blob.header, 10);
    });
    assert.deepEqual(words([bad, b.blobs[0], a.blobs[1], b.blobs[1]]), [
      "ALTERED",
      "entry",
      "held",
      "entry",
    ]);
  });

  test("blobs of another group are refused", () => {
    const { blobs } = three();
    assert.deepEqual(words([blobs[0]], { groupId: flipped(of.groupId) }), ["ALTERED"]);
  });
});

describe("SECURITY Verified history: what is out of its place", () => {
  test("a blob left out is found at the next one", () => {
    const { blobs, writer } = three();
    const { verdicts, positions } = run([blobs[0], blobs[2], writer.write()]);
    assert.deepEqual(verdicts.map(word), ["entry", "DROPPED", "held"]);
    assert.equal(positions.get(idA)?.seq, 1);
    assert.deepEqual(words([blobs[1]]), ["DROPPED"]);
  });

  test("a seq passed over by the sender itself, though the link is right", () => {
    const { blobs, writer } = three();
    const { seq, link } = writer.place;
    const skipping = new Writer(of, "a", { place: { seq: seq + 1, link }, seed: "skipping" });
    assert.deepEqual(words([...blobs, skipping.write()]).at(-1), "DROPPED");
  });

  test("the next seq behind another link", () => {
    const { blobs } = three();
    const place = { seq: 3, link: seeded("another link")(32) };
    const other = new Writer(of, "a", { place, seed: "other link" });
    assert.deepEqual(words([...blobs, other.write()]).at(-1), "DEVICE_FORKED");
  });

  test("a finding holds its sender in the windows behind it, too", () => {
    const writer = new Writer(of, "a", { seed: "windows" });
    const blobs = Array.from({ length: 2_003 }, () => writer.write());
    blobs.splice(1_990, 1);
    const kinds = words(blobs);
    assert.equal(kinds[1_990], "DROPPED");
    assert.ok(kinds.slice(1_991).every((kind) => kind === "held"));
  });

  test("two in the wrong order", () => {
    const { blobs } = three();
    assert.deepEqual(words([blobs[0], blobs[2], blobs[1]]), ["entry", "REORDERED", "entry"]);
  });

  test("a gap behind an open finding is held, not found again", () => {
    const { blobs } = three();
    const holding = new Set([idA]);
    assert.deepEqual(words([blobs[1], blobs[2]], { holding }), ["held", "held"]);
    assert.deepEqual(words([...blobs], { holding }), ["entry", "entry", "entry"]);
    const b = three("b");
    assert.deepEqual(words([b.blobs[2]], { holding }), ["DROPPED"]);
    assert.equal(holding.size, 1);
  });

  test("two histories of one device, met at the same seq", () => {
    const left = three("a", "left");
    const right = three("a", "right");
    const { positions } = run(left.blobs.slice(0, 2));
    assert.deepEqual(words([right.blobs[1]], { positions }), ["DEVICE_FORKED"]);
    assert.deepEqual(words([right.blobs[2]], { positions }), ["DEVICE_FORKED"]);
    // Without the device's signature it is the relay's doing, not the device's.
    const forged = changed(right.blobs[1], (copy) => {
      copy.blob.signature = flipped(copy.blob.signature);
    });
    assert.deepEqual(words([forged], { positions }), ["ALTERED"]);
  });

  test("a device that starts its chain again says which link it abandons", () => {
    const left = three("a", "left");
    const right = three("a", "right");
    const abandonedLink = left.writer.own[2]?.link;
    assert.ok(abandonedLink !== undefined);
    const { positions } = run(left.blobs);
    const restart = right.writer.write({ abandonedLink });
    const behind = right.writer.write();
    const { verdicts, positions: after } = run([restart, behind], { positions });
    assert.deepEqual(verdicts.map(word), ["entry", "entry"]);
    assert.equal(after.get(idA)?.seq, 5);
    // Whoever followed the other branch simply goes on.
    const followed = run(right.blobs).positions;
    assert.deepEqual(words([restart, behind], { positions: followed }), ["entry", "entry"]);
    // A link that nobody here holds is no licence to jump.
    const other = new Writer(of, "a", { place: right.writer.place, seed: "other" });
    const bad = other.write({ abandonedLink: seeded("none")(32) });
    assert.deepEqual(words([bad], { positions }), ["DROPPED"]);
  });
});

describe("SECURITY Verified history: who may write", () => {
  test("a sender that is no member", () => {
    const stranger = new Writer(of, "c");
    assert.deepEqual(words([stranger.write(), stranger.write()]), ["STRANGER", "STRANGER"]);
    const odd = changed(stranger.write(), (copy) => {
      copy.sender = new Uint8Array(31);
    });
    assert.deepEqual(words([odd]), ["STRANGER"]);
  });

  test("a recovery phrase", () => {
    const paper = deviceMessage(device("paper"), "paper");
    paper.role = MemberRole.PAPER;
    const at = { keys: device("a"), random: seeded("paper"), nowMs: 1 };
    const change = addDevice(of.chain, paper, { ...at, recoveryRecord: new Uint8Array(100) });
    const chain = extendChain(of.chain, change.controlBlob, at);
    const writer = new Writer({ ...of, chain }, "paper");
    assert.deepEqual(words([writer.write()], { roster: chain.devices }), ["STRANGER"]);
  });

  test("a removed device up to its closing place, and not beyond", () => {
    const { blobs, writer } = three("b");
    const closing = writer.own[1];
    assert.ok(closing !== undefined);
    const at = { keys: device("a"), random: seeded("closing"), nowMs: 1 };
    const closings = [{ deviceId: device("b").deviceId, place: closing }];
    const { controlBlob } = removeDevices(of.chain, closings, at);
    const roster = extendChain(of.chain, controlBlob, at).devices;
    const { verdicts, positions } = run(blobs, { roster });
    assert.deepEqual(verdicts.map(word), ["entry", "entry", "STRANGER"]);
    assert.equal(positions.get(idB)?.seq, 2);
    // Another history of it that ends at the same seq is not the one closed.
    const other = three("b", "other");
    assert.deepEqual(words(other.blobs.slice(0, 2), { roster }), ["held", "STRANGER"]);
    assert.deepEqual(words([blobs[2]], { roster, reading: "again" }), ["STRANGER"]);
  });
});

describe("SECURITY Verified history: a removed device below its closing place", () => {
  const { blobs, writer } = three("b");
  const at = { keys: device("a"), random: seeded("closing"), nowMs: 1 };
  const [first, , closing] = writer.own;
  assert.ok(first !== undefined && closing !== undefined);
  const { controlBlob } = removeDevices(
    of.chain,
    [{ deviceId: device("b").deviceId, place: closing }],
    at,
  );
  const roster = extendChain(of.chain, controlBlob, at).devices;

  test("what does not reach the closing link is held, and moves no position", () => {
    const { verdicts, positions } = run(blobs.slice(0, 2), { roster });
    assert.deepEqual(verdicts.map(word), ["held", "held"]);
    assert.equal(positions.get(idB), undefined);
    assert.deepEqual(words(three("b", "other").blobs.slice(0, 2), { roster }), ["held", "held"]);
    assert.deepEqual(words(blobs, { roster }), ["entry", "entry", "entry"]);
    // The rest of what was read before the removal, and other senders.
    const positioned = new Map([[idB, { seq: 1, link: first.link }]]);
    assert.deepEqual(words(blobs.slice(1), { roster, positions: positioned }), ["entry", "entry"]);
    const other = three("a").blobs[0];
    assert.deepEqual(words([blobs[0], other], { roster }), ["held", "entry"]);
  });

  test("over many windows: once all of the chain was seen, its parts are taken", () => {
    const where = { groupId: of.groupId, place: { seq: 0, link: zeroLink }, closing };
    assert.equal(closingLinks(blobs.slice(0, 2), where), undefined);
    assert.equal(closingLinks(blobs.slice(1), where), undefined);
    const links = closingLinks([blobs[2], blobs[0], blobs[1]], where);
    assert.ok(links !== undefined);
    const proven = new Map([[idB, links]]);
    assert.deepEqual(words(blobs.slice(0, 2), { roster, proven }), ["entry", "entry"]);
    // The relay shows another history in its place the second time.
    const other = three("b", "other").blobs.slice(0, 2);
    assert.deepEqual(words(other, { roster, proven }), ["held", "held"]);
  });
});

describe("SECURITY Verified history: witnessed places", () => {
  const link = seeded("link")(32);
  const positions: Positions = new Map([
    [idA, { seq: 3, link }],
    [idB, { seq: 4, link }],
  ]);

  test("are what changed of other devices since the last entry", () => {
    const one = changedPlaces(positions, new Map(), device("a").deviceId);
    assert.deepEqual(
      one.changed.map(({ deviceId, seq }) => [idText(deviceId), seq]),
      [[idB, 4n]],
    );
    assert.deepEqual(changedPlaces(positions, one.told, device("a").deviceId).changed, []);
    const moved = new Map(positions).set(idB, { seq: 4, link: flipped(link) });
    assert.equal(changedPlaces(moved, one.told, device("a").deviceId).changed.length, 1);
    const nothing = new Map([[idB, { seq: 0, link: zeroLink }]]);
    assert.deepEqual(changedPlaces(nothing, new Map(), device("a").deviceId).changed, []);
  });

  test("are at most 256 an entry, the rest in the next", () => {
    const many = new Map(
      Array.from({ length: 300 }, (_, i) => [idText(seeded(`sender ${i}`)(32)), { seq: 1, link }]),
    );
    const one = changedPlaces(many, new Map(), device("a").deviceId);
    const two = changedPlaces(many, one.told, device("a").deviceId);
    assert.deepEqual([one.changed.length, two.changed.length], [256, 44]);
  });

  test("positions survive as messages, and refuse what is none", () => {
    assert.deepEqual(positionsOf(senderLinks(positions)), positions);
    for (const bad of [{ deviceId: link.subarray(1) }, { link: emptyBytes }, { seq: 2n ** 53n }]) {
      const place = create(SenderLinkSchema, { deviceId: link, seq: 1n, link, ...bad });
      fails(ErrorCode.HISTORY_ALTERED, () => positionsOf([place]));
    }
  });
});
