/** `sync-relay health`: whether a relay on this machine serves devices; for container engines and scripts. */
import { get } from "node:http";
import type { Command, Option } from "commander";
import { CommandError, ExitCode } from "../exit-codes.ts";
import { printable } from "../output.ts";
import type { Context } from "../program.ts";
import { type ConfigOptions, readSettings } from "./config.ts";

/** How long a relay may take to answer, in milliseconds. */
const answerMsMax = 5_000;

export function healthCommand(
  context: Context,
  program: Command,
  options: readonly Option[],
): void {
  const command = program
    .command("health")
    .description("say whether the relay on this machine serves devices")
    .helpOption("-h, --help", "print this help")
    .addHelpText(
      "after",
      `
Asks GET /health where the configuration says that the relay listens. Ends with 0 where it serves
devices, with 4 where it does not answer or shuts down. What else is the matter: sync-relay admin health.

Examples:
  sync-relay health
  sync-relay health --listen 127.0.0.1:9000`,
    );
  for (const option of options) command.addOption(option);
  command.action((given: ConfigOptions) => health(context, given));
}

async function health(context: Context, options: ConfigOptions): Promise<void> {
  const { output } = context;
  const { listen } = (await readSettings(context, options)).options;
  const url = `http://${localName(listen)}/health`;
  const text = await answerOf(url).catch((error: unknown) => {
    throw new CommandError(ExitCode.unreachable, "UNREACHABLE", `no relay answers at ${url}`, {
      hint: "start it with sync-relay serve, or name where it listens with --listen or --config",
      cause: error,
    });
  });
  const { status, version } = statusOf(text);
  output.event("health", { status, version, url }, `${status}, version ${printable(version)}`);
  if (status !== "ok") {
    throw new CommandError(ExitCode.unreachable, "UNHEALTHY", "the relay serves no devices now", {
      hint: "see why: sync-relay admin health",
    });
  }
}

/** Where a program on this machine reaches what listens there. */
function localName(listen: string): string {
  return listen.replace(/^0\.0\.0\.0:/, "127.0.0.1:").replace(/^\[::\]:/, "[::1]:");
}

function answerOf(url: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const request = get(url, { timeout: answerMsMax, agent: false }, (response) => {
      let text = "";
      response.setEncoding("utf8");
      response.on("data", (chunk: string) => {
        text += chunk;
        if (text.length > 4_096) request.destroy(new Error("this is no relay"));
      });
      response.on("end", () => resolve(text));
      response.on("error", reject);
    });
    request.on("timeout", () => request.destroy(new Error("no answer in time")));
    request.on("error", reject);
  });
}

function statusOf(text: string): { readonly status: string; readonly version: string } {
  try {
    const { status, version } = JSON.parse(text) as Record<string, unknown>;
    if (status === "ok" || status === "draining") {
      return { status, version: typeof version === "string" ? version : "" };
    }
  } catch {
    // What answers is no relay: told below.
  }
  throw new CommandError(ExitCode.unreachable, "UNREACHABLE", "what answers there is no relay", {
    hint: "name where the relay listens with --listen or --config",
  });
}
