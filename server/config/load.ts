/** Reads the configuration's file, and the rest with it. */
import { readFile } from "node:fs/promises";
import { ConfigError, type ConfigFlag, type LoadedConfig, readConfig } from "./config.ts";

/** A file larger than this is no configuration. */
const fileBytesMax = 256 * 1024;

export interface ConfigPlaces {
  /** The file, where there is one. */
  readonly path?: string;
  readonly environment: Readonly<Record<string, string | undefined>>;
  readonly flags: readonly ConfigFlag[];
}

/** The whole configuration. Throws `ConfigError` with every mistake, a missing file among them. */
export async function loadConfig(places: ConfigPlaces): Promise<LoadedConfig> {
  const { path, environment, flags } = places;
  if (path === undefined) return readConfig({ environment, flags });
  return readConfig({ file: { path, text: await readText(path) }, environment, flags });
}

async function readText(path: string): Promise<string> {
  let bytes: Buffer;
  try {
    bytes = await readFile(path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    throw new ConfigError([
      code === "ENOENT"
        ? `${path}: no such file`
        : `${path}: cannot be read (${code ?? "unknown"})`,
    ]);
  }
  if (bytes.byteLength > fileBytesMax) {
    throw new ConfigError([`${path}: larger than ${fileBytesMax} bytes`]);
  }
  return bytes.toString("utf8");
}
