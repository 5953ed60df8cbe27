/**
 * What it costs a device to believe nothing: catching up with a log of five senders, with every check of
 * the history, and by a client that makes none (`bench/unverified/hook.ts` says how that one comes to be).
 */
import { cpSync } from "node:fs";
import { join } from "node:path";
import { prepareBlob } from "../../client/seal/blob.ts";
import { deriveDeviceKeys } from "../../client/seal/keys.ts";
import { buildFolder, inDataFolder } from "../harness/build.ts";
import {
  alone,
  amount,
  compare,
  type Figures,
  inTurns,
  type Question,
  type Settings,
} from "../harness/measure.ts";
import { withParts } from "../harness/part.ts";
import type { HistoryArgs } from "../load/group-history.ts";

const history = { senders: 5, blobs: 100_000, payloadBytes: 256, atOnce: 10 };
/** The difference is small beside what else a machine does. */
const repetitionsMin = 5;

/** Both sides begin from copies of the same two folders. */
export async function catchUpWith(
  settings: Settings,
  made: string,
  blobs: number,
  verified: boolean,
): Promise<Figures> {
  return await inDataFolder(async (folder) => {
    cpSync(made, folder, { recursive: true });
    const relay = { name: "harness/relay", nodeOptions: settings.relayOptions };
    const hook = join(buildFolder, "bench", "unverified", "hook.js");
    const device = {
      name: "load/catching-up",
      nodeOptions: verified ? settings.relayOptions : ["--import", hook],
    };
    return await withParts([relay, device] as const, async (server, client) => {
      const { address } = await server.call<{ address: string }>("start", { folder });
      const state = join(folder, "device");
      const { ms, cpuUs } = await client.call<{ ms: number; cpuUs: number }>("catchUp", {
        address,
        state,
        blobs,
      });
      return { us: (1_000 * ms) / blobs, cpuUs: cpuUs / blobs, perSecond: (1_000 * blobs) / ms };
    });
  });
}

/** Writes a history into a folder; how many blobs there are. */
export async function makeHistory(
  folder: string,
  history: Omit<HistoryArgs, "address" | "state">,
): Promise<number> {
  return await withParts(["harness/relay", "load/group-history"] as const, async (server, load) => {
    const { address } = await server.call<{ address: string }>("start", { folder });
    const state = join(folder, "device");
    const { blobs } = await load.call<{ blobs: number }>("write", { ...history, address, state });
    return blobs;
  });
}

/** What is sent of a blob beside what is in it, at its largest: its header, which names the link before it, and its signature. */
function addedBytes(): number {
  const random = (length: number): Uint8Array => new Uint8Array(length).fill(7);
  const { header, signature } = prepareBlob(
    { data: random(history.payloadBytes), ttlS: 90 * 86_400 },
    {
      groupId: random(32),
      keys: deriveDeviceKeys(random(32)),
      previous: { seq: Number.MAX_SAFE_INTEGER - 1, link: random(32) },
      witnessed: [],
      random,
    },
  );
  return header.byteLength + signature.byteLength;
}

export const verification: Question = {
  name: "verification",
  what: "a device catches up in Node with 100,000 blobs of 256 B by five senders: with verification, and without",
  ask: async (settings) =>
    await inDataFolder(async (made) => {
      settings.progress("five devices write the history");
      const blobs = await makeHistory(made, {
        ...history,
        blobs: amount(settings, history.blobs),
      });
      const repetitions = settings.short
        ? settings.repetitions
        : Math.max(repetitionsMin, settings.repetitions);
      const pairs = await inTurns(
        { ...settings, repetitions },
        () => catchUpWith(settings, made, blobs, true),
        () => catchUpWith(settings, made, blobs, false),
      );
      const sides = {
        ours: "the client as it is: links, chains, signatures, hashes of entries and what senders say that they saw are verified",
        limit:
          "the same client with those checks left out; it pulls, opens, stores, hands over and acknowledges all the same",
      };
      const { name: question } = verification;
      const time = { question, what: verification.what, sides, wanted: "at most" as const };
      return [
        compare({ ...time, unit: "µs/blob", target: 1.15 }, pairs, "us"),
        compare(
          {
            ...time,
            question: `${question}/cpu`,
            what: "the same, in processor time of the device's process",
            unit: "µs/blob",
          },
          pairs,
          "cpuUs",
        ),
        compare(
          { question: `${question}/rate`, what: "the same, as a rate", unit: "blobs/s", sides },
          pairs,
          "perSecond",
        ),
        {
          ...alone(
            {
              question: `${question}/bytes`,
              what: "header with the link before, and signature, of a blob; at the highest seq and with a lifetime; at most 200",
              unit: "B/blob",
              sides: { ours: "bytes of the two fields; the blob's own link is derived, not sent" },
            },
            [addedBytes()],
          ),
        },
      ];
    }),
};
