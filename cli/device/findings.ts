/** `findings`, `accept` and `export --evidence`: what was found wrong with the history. */
import { randomUUID } from "node:crypto";
import { open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { toBinary, toJsonString } from "@bufbuild/protobuf";
import type { FindingInfo, SyncClient } from "../../client/index.ts";
import {
  type EvidenceBundle,
  EvidenceBundleSchema,
} from "../../gen/syncrelay/sealed/v1/bundle_pb.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { count, formatTable, printable } from "../output.ts";
import type { Context } from "../program.ts";
import { ask, checkCanConfirm } from "./ask.ts";
import { withMember } from "./device.ts";
import { connectionSettled } from "./waiting.ts";

/** `findings`: what this device holds against the history it was shown. */
export async function listFindings(
  context: Context,
  options: { readonly state: string },
): Promise<void> {
  const { output } = context;
  await withMember(options.state, async (client) => {
    const all = client.findings();
    for (const finding of all) output.event("finding", { ...finding });
    if (output.json) return;
    output.event(
      "findings",
      {},
      all.length === 0 ? "nothing was found wrong" : listText(client, all),
    );
    if (all.some(({ state }) => state === "open")) {
      output.note("show it to somebody else: sync-cli export --evidence FILE");
    }
  });
}

/** `accept`: a person has seen it, and this device goes on. */
export async function acceptFindings(
  context: Context,
  ids: readonly string[],
  options: { readonly state: string; readonly yes: boolean },
): Promise<void> {
  const { output, signal } = context;
  checkCanConfirm(context, options.yes, "accepting a finding");
  await withMember(options.state, async (client) => {
    const chosen = ids.map((id) => findingOf(client, id));
    for (const finding of chosen) output.note(`${headline(client, finding)}: ${finding.means}`);
    const question = `go on without what is missing or altered, and accept ${count(chosen.length, "finding")}?`;
    if (!options.yes && !(await ask(context, question))) {
      throw new CommandError(ExitCode.refused, "DECLINED", "nothing was accepted");
    }
    await connectionSettled(client, signal);
    for (const { id, finding } of chosen) {
      await client.acceptFinding(id);
      output.event("accepted", { id, finding }, `accepted ${id}`);
    }
  });
}

/** `export --evidence`: what shows the findings to somebody else. */
export async function exportEvidence(
  context: Context,
  options: { readonly state: string; readonly evidence: string; readonly finding?: string },
): Promise<void> {
  const { output } = context;
  await withMember(options.state, async (client) => {
    const id = options.finding === undefined ? undefined : findingOf(client, options.finding).id;
    const bundle = await client.evidence(id);
    const bytes = encode(bundle, options.evidence);
    await writeWhole(options.evidence, bytes);
    output.event(
      "exported",
      { file: options.evidence, findings: bundle.findings.length, bytes: bytes.byteLength },
      `${count(bundle.findings.length, "finding")} with what shows ${bundle.findings.length === 1 ? "it" : "them"}: ${options.evidence}`,
    );
    output.note("it holds no key, no content and no name; docs/SECURITY.md says how it is checked");
  });
}

function encode(bundle: EvidenceBundle, file: string): Uint8Array {
  return file.endsWith(".json")
    ? Buffer.from(`${toJsonString(EvidenceBundleSchema, bundle, { prettySpaces: 2 })}\n`)
    : toBinary(EvidenceBundleSchema, bundle);
}

/** Whole and on disk, or not at all. */
async function writeWhole(file: string, bytes: Uint8Array): Promise<void> {
  const beside = `${file}.${randomUUID()}.part`;
  try {
    const handle = await open(beside, "wx", 0o600);
    try {
      await handle.writeFile(bytes);
      await handle.sync();
    } finally {
      await handle.close();
    }
    await rename(beside, file);
  } catch (error) {
    await rm(beside, { force: true });
    const { code } = error as NodeJS.ErrnoException;
    if (code === undefined) throw error;
    throw usageError(`${file} cannot be written (${code})`, `check the folder ${dirname(file)}`);
  }
}

/** By its id, or the beginning of it that no other has. */
function findingOf(client: SyncClient, id: string): FindingInfo {
  const all = client.findings();
  const exact = all.find((finding) => finding.id === id);
  const alike = all.filter((finding) => finding.id.startsWith(id));
  const found = exact ?? (alike.length === 1 ? alike[0] : undefined);
  if (found !== undefined) return found;
  throw usageError(
    alike.length > 1 ? `several findings begin with ${id}` : "there is no finding of that id",
    "list them: sync-cli findings",
  );
}

function listText(client: SyncClient, all: readonly FindingInfo[]): string {
  return formatTable([
    ["ID", "STATE", "FOUND", "WHAT"],
    ...all.map((finding) => [
      finding.id,
      finding.holds ? `${finding.state}, holds` : finding.state,
      new Date(finding.foundMs).toISOString().slice(0, 16).replace("T", " "),
      `${headline(client, finding)}: ${finding.means}`,
    ]),
  ]);
}

function headline(client: SyncClient, { finding, sender, seq }: FindingInfo): string {
  const what = finding.toLowerCase().replaceAll("_", " ");
  if (sender === undefined) return what;
  const name = client.devices().find(({ deviceId }) => deviceId === sender)?.name;
  const of = ` of ${name === undefined ? "a former device" : printable(name)}`;
  return seq === undefined ? `${what}${of}` : `${what}${of}, number ${seq}`;
}
