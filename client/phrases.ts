/** Recovery phrases of the group this device is in: made, checked, replaced and revoked. */
import { MemberRole } from "../gen/syncrelay/sync/v1/session_pb.ts";
import { fingerprint, idText } from "../wire/ids.ts";
import type { Parts } from "./parts.ts";
import { members } from "./seal/membership.ts";
import {
  admitPhrase,
  drawPhrase,
  type PhraseState,
  paperOfWords,
  phraseState,
} from "./seal/recovery.ts";
import type { RecoveryPhrase } from "./types.ts";
import { UsageError } from "./usage-error.ts";

export async function createPhrase(
  { core, changes }: Parts,
  options: { readonly replace?: boolean },
): Promise<RecoveryPhrase> {
  const before = phrasesOf(core);
  if (before.length > 0 && options.replace !== true) {
    throw new UsageError("the group has a recovery phrase already; it can be replaced");
  }
  const { words, paper } = drawPhrase(core.host.random);
  const { deviceId } = paper.keys;
  try {
    await changes.admit({
      deviceId,
      make: (chain) =>
        admitPhrase(chain, paper, {
          keys: core.keys,
          random: core.host.random,
          nowMs: Math.floor(core.host.nowMs()),
        }),
    });
  } finally {
    paper.wipe();
  }
  const replaced = before.length === 0 ? Promise.resolve() : changes.remove(before);
  replaced.catch(() => undefined);
  // Asked for on disk before the words are given out.
  await core.disk.write(() => undefined);
  return { words, deviceId: idText(deviceId), fingerprint: fingerprint(deviceId), replaced };
}

export async function verifyPhrase(
  { core, group }: Parts,
  words: string | readonly string[],
): Promise<PhraseState> {
  const { chain } = core;
  const paper = paperOfWords(words);
  try {
    if (chain === undefined) return "unknown";
    return phraseState(chain, await group.blobs(), paper);
  } finally {
    paper.wipe();
  }
}

export async function revokePhrases({ core, changes }: Parts): Promise<number> {
  const phrases = phrasesOf(core);
  if (phrases.length > 0) await changes.remove(phrases);
  return phrases.length;
}

function phrasesOf({ chain }: Parts["core"]): string[] {
  return chain === undefined
    ? []
    : members(chain)
        .filter(({ role }) => role === MemberRole.PAPER)
        .map(({ deviceId }) => idText(deviceId));
}
