/**
 * Follows the imports of the published folders further than one step.
 *
 * The linter sees one import at a time. Three promises need the whole graph: the relay can never
 * come to load the sealing code, not even by a detour; pure code can never come to load Node; and
 * an application that bundles the client for a browser never gets a Node module with it. This file
 * reads import statements and nothing else, from sources that the formatter has already put into
 * one shape.
 */

import { readdirSync, readFileSync } from "node:fs";
import { isBuiltin } from "node:module";
import { posix } from "node:path";

/** Sources by path: relative to the checkout, with "/". */
export type Sources = ReadonlyMap<string, string>;

/** One import: what it names, and whether it is gone after compilation. */
interface Import {
  readonly specifier: string;
  readonly typeOnly: boolean;
}

/** A rule of the graph: what the files of `from` may never reach, and why. */
interface Rule {
  readonly from: RegExp;
  readonly never: (target: string) => boolean;
  /** Count imports of types too, although they load nothing. */
  readonly types: boolean;
  readonly why: string;
}

/** What stands for a specifier that is not a literal. */
const computed = "(computed)";

const room = (name: string) => (target: string) => target.startsWith(`${name}/`);
const platformNode = /^client\/platform\/node(\/|\.ts$)/;
const nativeLibraries = new Set(["ws", "sqlite3", "pino", "commander", "@connectrpc/connect-node"]);

/** True for what only Node can load. */
function isNode(target: string): boolean {
  return isBuiltin(target) || nativeLibraries.has(target);
}

const rules: readonly Rule[] = [
  {
    from: /^gen\//,
    never: (target) => !target.startsWith("gen/") && !/^@bufbuild\/protobuf(\/|$)/.test(target),
    types: true,
    why: "generated code stands on the protobuf runtime alone",
  },
  {
    from: /^wire\//,
    never: (target) => /^(server|client|cli)\//.test(target),
    types: true,
    why: "wire/ is under everything else",
  },
  {
    from: /^server\//,
    never: (target) => room("client")(target) || room("cli")(target),
    types: true,
    why: "the relay must not be able to read what it keeps",
  },
  {
    from: /^client\//,
    never: (target) => room("server")(target) || room("cli")(target),
    types: true,
    why: "an application does not carry a relay",
  },
  {
    from: /^(wire\/|server\/(session|group-log|group-state|fan-out|mailboxes|requests|admission|rate-limit)\.ts$)/,
    never: isNode,
    types: false,
    why: "pure code gets bytes, time and entropy as arguments",
  },
  {
    from: /^client\/(?!platform\/)/,
    never: (target) => isNode(target) || platformNode.test(target),
    types: false,
    why: "the client's core runs in a browser",
  },
  {
    from: /^client\/platform\/(browser|tauri)(\/|\.ts$)/,
    never: (target) => isNode(target) || platformNode.test(target),
    types: false,
    why: "this platform has no Node",
  },
];

/**
 * Reads the imports of one source. A specifier that is not a literal comes back as "(computed)",
 * which no restricted file may have: nobody can tell what it loads.
 */
export function readImports(source: string): Import[] {
  const imports: Import[] = [];
  // The formatter starts each top-level statement in the first column.
  const statement = /^(?:import|export)\s+(type\s+)?(?:[\w$*{][^"';]*?from\s+)?["']([^"']+)["']/gm;
  for (const [, type, specifier] of source.matchAll(statement)) {
    if (specifier !== undefined) imports.push({ specifier, typeOnly: type !== undefined });
  }
  // Comments that start a line; one inside a line could be half of a glob in a text.
  const code = source.replaceAll(/^\s*\/\*[\s\S]*?\*\//gm, "").replaceAll(/(^|\s)\/\/.*$/gm, "");
  const call = /(typeof\s+)?(?<![\w.$])(?:import|require)\s*\(\s*(?:["'`]([^"'`$]+)["'`])?/g;
  for (const [, type, specifier] of code.matchAll(call)) {
    imports.push({ specifier: specifier ?? computed, typeOnly: type !== undefined });
  }
  return imports;
}

/** Names what `specifier` means inside `file`: a path of the checkout, or a package's own name. */
function resolveImport(file: string, specifier: string): string {
  if (specifier.startsWith(".")) return posix.normalize(posix.join(posix.dirname(file), specifier));
  const [scopeOrName = specifier, name] = specifier.split("/");
  if (isBuiltin(specifier) || name === undefined) return specifier;
  return scopeOrName.startsWith("@") ? `${scopeOrName}/${name}` : scopeOrName;
}

/** Every broken promise of the graph, each as one line with the whole way from file to target. */
export function findViolations(sources: Sources): string[] {
  const graph = new Map<string, { target: string; typeOnly: boolean }[]>();
  for (const [file, source] of sources) {
    graph.set(
      file,
      readImports(source).map(({ specifier, typeOnly }) => ({
        target: resolveImport(file, specifier),
        typeOnly,
      })),
    );
  }
  const violations = new Set<string>();
  for (const rule of rules) {
    for (const start of sources.keys()) {
      if (!rule.from.test(start)) continue;
      const seen = new Set([start]);
      const ways = [[start]];
      for (let files = ways.shift(); files !== undefined; files = ways.shift()) {
        for (const { target, typeOnly } of graph.get(files.at(-1) ?? "") ?? []) {
          if ((typeOnly && !rule.types) || seen.has(target)) continue;
          seen.add(target);
          const next = [...files, target];
          const way = next.join(" -> ");
          if (target === computed) {
            violations.add(`${way}: nobody can tell what a computed import loads`);
          } else if (rule.never(target)) {
            violations.add(`${way}: ${rule.why}`);
          } else ways.push(next);
        }
      }
    }
  }
  return [...violations].toSorted();
}

/** The sources of the published folders below `root`. */
export function readSources(root: string): Sources {
  const sources = new Map<string, string>();
  for (const folder of ["gen", "wire", "server", "client", "cli"]) {
    for (const path of readdirSync(`${root}/${folder}`, { recursive: true, encoding: "utf8" })) {
      const file = `${folder}/${path.replaceAll("\\", "/")}`;
      if (file.endsWith(".ts")) sources.set(file, readFileSync(`${root}/${file}`, "utf8"));
    }
  }
  return sources;
}
