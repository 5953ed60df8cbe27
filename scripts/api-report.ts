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
import { Extractor, ExtractorConfig, type ExtractorLogLevel } from "@microsoft/api-extractor";

const root = fileURLToPath(new URL("..", import.meta.url));
const reportFolder = join(root, "docs/api");

/** Messages about how comments are written: `npm run lint` is what says how they are. */
const silent = { default: { logLevel: "none" as ExtractorLogLevel } };

/** What applications import, by the name of its report. The schema's own modules are generated. */
function entries(): Map<string, string> {
  const { exports } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    exports: Record<string, string | { readonly types: string }>;
  };
  return new Map(
    Object.entries(exports).flatMap(([name, target]) =>
      typeof target === "string" || name.includes("*")
        ? []
        : [[name.slice(2).replaceAll("/", "-"), target.types] as const],
    ),
  );
}

/** The names of reports that are not what is declared; written anew where `write`. */
export function staleReports(write: boolean): string[] {
  const temporary = mkdtempSync(join(tmpdir(), "sync-relay-api-"));
  try {
    return [...entries()].flatMap(([name, types]) => {
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
            enabled: true,
            reportFileName: `${name}.api.md`,
            reportFolder,
            reportTempFolder: temporary,
          },
          docModel: { enabled: false },
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
      const { apiReportChanged } = Extractor.invoke(config, {
        localBuild: write,
        messageCallback: (message) => {
          message.handled = true;
        },
      });
      return apiReportChanged ? [`docs/api/${name}.api.md`] : [];
    });
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  for (const path of staleReports(true)) process.stdout.write(`${path}\n`);
}
