/**
 * The public API, as a text that is committed: what a change does to it is seen where the change is.
 *
 *     npm run api             writes docs/api/
 *     npm run check -- api    fails where docs/api/ is not what the sources declare
 *
 * Made of dist/, which `npm run build` makes.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import {
  Extractor,
  ExtractorConfig,
  type ExtractorLogLevel,
  type ExtractorResult,
} from "@microsoft/api-extractor";

const root = fileURLToPath(new URL("..", import.meta.url));
const reportFolder = join(root, "docs/api");

/** Messages about how comments are written: `npm run lint` is what says how they are. */
const silent = { default: { logLevel: "none" as ExtractorLogLevel } };

/** What applications import. */
export interface ApiEntry {
  /** The name of its report. */
  readonly name: string;
  /** As it stands in an import: `sync-relay/client`. */
  readonly importedAs: string;
  /** Its declarations in dist/. */
  readonly types: string;
}

/** What applications import. The schema's own modules are generated. */
export function apiEntries(): ApiEntry[] {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | { readonly types: string }>;
  };
  return Object.entries(exports).flatMap(([name, target]) =>
    typeof target === "string" || name.includes("*")
      ? []
      : [
          {
            name: name.slice(2).replaceAll("/", "-"),
            importedAs: `sync-relay/${name.slice(2)}`,
            types: target.types,
          },
        ],
  );
}

/**
 * Reads the declarations of an entry: compares them with its report, by way of the folder `reports`, and
 * writes that anew where `write`; and, or, writes what is declared and said of it to the file `model`.
 */
export function readDeclarations(
  { name, types }: ApiEntry,
  to: { readonly reports?: string; readonly write?: boolean; readonly model?: string },
): ExtractorResult {
  const path = join(root, types);
  const config = ExtractorConfig.prepare({
    configObject: {
      projectFolder: root,
      mainEntryPointFilePath: path,
      newlineKind: "lf",
      compiler: {
        overrideTsconfig: {
          compilerOptions: {
            module: "nodenext",
            target: "es2023",
            strict: true,
            skipLibCheck: true,
            types: ["node"],
          },
          files: [path],
        },
      },
      apiReport: {
        enabled: to.reports !== undefined,
        reportFileName: `${name}.api.md`,
        reportFolder,
        ...(to.reports === undefined ? {} : { reportTempFolder: to.reports }),
      },
      docModel: {
        enabled: to.model !== undefined,
        ...(to.model === undefined ? {} : { apiJsonFilePath: to.model }),
      },
      dtsRollup: { enabled: false },
      tsdocMetadata: { enabled: false },
      messages: {
        compilerMessageReporting: silent,
        extractorMessageReporting: silent,
        tsdocMessageReporting: silent,
      },
    },
    configObjectFullPath: join(root, "api-extractor.json"),
    packageJsonFullPath: join(root, "package.json"),
  });
  return Extractor.invoke(config, {
    localBuild: to.write === true,
    messageCallback: (message) => {
      message.handled = true;
    },
  });
}

/** The names of reports that are not what is declared; written anew where `write`. */
export function staleReports(write: boolean): string[] {
  const temporary = mkdtempSync(join(tmpdir(), "sync-relay-api-"));
  try {
    return apiEntries().flatMap((entry) => {
      const { apiReportChanged } = readDeclarations(entry, { reports: temporary, write });
      return apiReportChanged ? [`docs/api/${entry.name}.api.md`] : [];
    });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const path of staleReports(true)) process.stdout.write(`${path}\n`);
}
