/**
 * Which files belong in the published package.
 *
 * The list is derived from the sources and from what package.json promises, not written down: a
 * written list is one more thing to forget.
 */

/** What the checks read of package.json. */
export interface Manifest {
  readonly exports: Readonly<Record<string, string | Readonly<Record<string, string>>>>;
  readonly bin: Readonly<Record<string, string>>;
}

const alwaysPublished = new Set(["package.json", "README.md", "LICENSE", "CHANGELOG.md"]);

/** The files of dist/ that one source leaves there. */
function builtFrom(source: string): string[] {
  // What a folder's package.json tells bundlers of its sources, the package's own tells them of dist/.
  if (source.endsWith(".md") || source.endsWith("/package.json")) return [];
  if (!source.endsWith(".ts") || source.endsWith(".d.ts")) return [`dist/${source}`];
  const stem = `dist/${source.slice(0, -".ts".length)}`;
  return [`${stem}.js`, `${stem}.d.ts`];
}

/**
 * Compares the files of a packed package with its sources, each in one line.
 *
 * @param content the packed files, relative to the package
 * @param sources the files of the published folders, relative to the checkout
 */
export function packageProblems(
  manifest: Manifest,
  content: readonly string[],
  sources: readonly string[],
): string[] {
  const packed = new Set(content);
  const expected = new Set(sources.flatMap(builtFrom));
  const promised = [
    ...Object.values(manifest.bin),
    ...Object.values(manifest.exports).flatMap((target) =>
      typeof target === "string" ? [target] : Object.values(target),
    ),
  ].map((path) => path.replace(/^\.\//, ""));
  return [
    ...[...expected].filter((path) => !packed.has(path)).map((path) => `missing: ${path}`),
    ...content
      .filter(
        (path) =>
          !expected.has(path) && !alwaysPublished.has(path) && !/^proto\/.+\.proto$/.test(path),
      )
      .map((path) => `does not belong in the package: ${path}`),
    ...promised
      .filter((path) => !path.includes("*") && !packed.has(path))
      .map((path) => `package.json names ${path}, which is not there`),
    ...["README.md", "LICENSE"]
      .filter((path) => !packed.has(path))
      .map((path) => `missing: ${path}`),
    ...(content.some((path) => path.startsWith("proto/")) ? [] : ["missing: the schema, proto/"]),
  ].toSorted();
}
