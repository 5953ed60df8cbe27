/**
 * A reference of everything the package exports, one folder for each path that applications import:
 *
 *     npm run docs    builds, and writes docs/reference/
 *
 * It is made, not committed: as Markdown it is larger than the sources it is made of. What is committed of
 * the public API is docs/api/, where a change to it is seen. `npm run check -- api` fails where that is not
 * what is declared, and where something that is exported has no comment that could stand here.
 */
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { apiEntries, readDeclarations } from "./api-report.ts";

const root = fileURLToPath(new URL("..", import.meta.url));
const referenceFolder = join(root, "docs/reference");

/** What a declaration is in a model of API Extractor: the parts that are looked at here. */
interface ApiItem {
  readonly kind: string;
  readonly name?: string;
  docComment?: string;
  readonly members?: readonly ApiItem[];
  readonly excerptTokens?: readonly { readonly text: string }[];
}

/** Classes whose members are those of an interface or another class, and say nothing of their own. */
const likeOthers: Readonly<Record<string, readonly [entry: string, name: string]>> = {
  BrowserSyncClient: ["client", "SyncClient"],
  IndexedDbDocStore: ["yjs", "DocStore"],
  MemoryDocStore: ["yjs", "DocStore"],
  MemoryStore: ["client", "StateStore"],
};

/** What needs no comment: a constructor is its parameters, and an error's name is its class's. */
function speaksForItself(item: ApiItem, parent: ApiItem): boolean {
  return (
    item.kind === "Constructor" || (item.name === "name" && parent.name?.endsWith("Error") === true)
  );
}

export interface Reference {
  /** The models by the name of their entry, as JSON. */
  readonly models: ReadonlyMap<string, unknown>;
  /** What is exported and has no comment. */
  readonly silent: readonly string[];
  /** The reports of docs/api/ that are not what is declared. */
  readonly stale: readonly string[];
}

/** Reads what dist/ declares. */
export function readReference(): Reference {
  const temporary = mkdtempSync(join(tmpdir(), "sync-relay-reference-"));
  try {
    const models = new Map<string, ApiItem>();
    const stale: string[] = [];
    for (const entry of apiEntries()) {
      const path = join(temporary, `${entry.name}.api.json`);
      const { apiReportChanged } = readDeclarations(entry, { model: path, reports: temporary });
      if (apiReportChanged) stale.push(`docs/api/${entry.name}.api.md`);
      models.set(entry.name, JSON.parse(readFileSync(path, "utf8")) as ApiItem);
    }
    const silent: string[] = [];
    for (const [entry, model] of models) {
      for (const item of exported(model)) {
        const [from, name] = likeOthers[item.name ?? ""] ?? [];
        const other = exported(models.get(from ?? "")).find((each) => each.name === name);
        for (const member of item.members ?? []) {
          member.docComment ||=
            other?.members?.find((one) => one.name === member.name)?.docComment ?? "";
          if (!speaksForItself(member, item) && isSilent(member)) {
            silent.push(`${entry}: ${item.name}.${member.name}`);
          }
        }
        if (isSilent(item)) silent.push(`${entry}: ${item.name}`);
      }
    }
    return { models, silent, stale };
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** What an entry point exports. */
function exported(model: ApiItem | undefined): readonly ApiItem[] {
  return (model?.members ?? []).flatMap(({ members }) => members ?? []);
}

function isSilent({ docComment = "" }: ApiItem): boolean {
  return !/[a-z]{3}/i.test(docComment.replaceAll(/@\w+/g, ""));
}

/** Writes docs/reference/ anew. */
function writeReference({ models }: Reference): void {
  rmSync(referenceFolder, { recursive: true, force: true });
  mkdirSync(referenceFolder, { recursive: true });
  const temporary = mkdtempSync(join(tmpdir(), "sync-relay-reference-"));
  try {
    const rows: string[] = [];
    for (const { name, importedAs } of apiEntries()) {
      const input = join(temporary, name);
      mkdirSync(input);
      writeFileSync(join(input, "sync-relay.api.json"), JSON.stringify(models.get(name)));
      const folder = join(referenceFolder, name);
      document(input, folder);
      rows.push(`| [\`${importedAs}\`](${name}/sync-relay.md) | ${readdirSync(folder).length} |`);
    }
    writeFileSync(
      join(referenceFolder, "README.md"),
      `# Reference\n\nMade by \`npm run docs\`. Guides stand in [CLIENT.md](../CLIENT.md).\n\n| import | pages |\n| --- | --- |\n${rows.join("\n")}\n`,
    );
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

/** API Documenter is a program; what it says of tags that other languages' comments have is of no use. */
function document(input: string, output: string): void {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      join(root, "node_modules/@microsoft/api-documenter/bin/api-documenter"),
      "markdown",
      "--input-folder",
      input,
      "--output-folder",
      output,
    ],
    { encoding: "utf8" },
  );
  if (status !== 0) throw new Error(`api-documenter: ${stdout}${stderr}`);
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const reference = readReference();
  writeReference(reference);
  process.stdout.write("docs/reference/README.md\n");
  for (const item of reference.silent) process.stderr.write(`no comment: ${item}\n`);
}
