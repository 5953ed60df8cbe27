/** Calls the side API of a relay: on this machine by its data folder, elsewhere by its URL. */
import { readFile } from "node:fs/promises";
import { resolve } from "node:path";
import type { DescService } from "@bufbuild/protobuf";
import {
  type Client,
  Code,
  ConnectError,
  createClient,
  type Interceptor,
} from "@connectrpc/connect";
import { createConnectTransport } from "@connectrpc/connect-node";
import { ErrorSchema } from "../../gen/syncrelay/sync/v1/error_pb.ts";
import { lastAdminUrl } from "../../server/admin/open-side.ts";
import { readToken } from "../../server/admin/tokens.ts";
import { errorOfMessage } from "../../wire/errors.ts";
import { CommandError, ExitCode, usageError } from "../exit-codes.ts";
import { printable } from "../output.ts";
import type { Context } from "../program.ts";
import { dataFolder, type SideOptions } from "./data-folder.ts";

export interface SideClient {
  /** A client of one service. */
  of<Service extends DescService>(service: Service): Client<Service>;
}

export async function openSideClient(
  { world, output }: Context,
  options: SideOptions,
): Promise<SideClient> {
  const folder = resolve(dataFolder(world.env, options));
  const url = options.url ?? world.env["SYNC_RELAY_URL"] ?? (await lastAdminUrl(folder));
  if (url === undefined) {
    throw new CommandError(
      ExitCode.usage,
      "NO_RELAY",
      "no relay with a side API was started in this folder",
      {
        hint: "name its folder with --data DIR, or the relay with --url http://HOST:8081 and --token-file FILE",
      },
    );
  }
  if (!/^https?:\/\/[^/?#]+\/?$/.test(url))
    throw usageError("--url must look like http://127.0.0.1:8081");
  const file = options.tokenFile ?? world.env["SYNC_RELAY_TOKEN_FILE"];
  const token = await tokenOf(folder, file);
  if (token !== undefined && url.startsWith("http:") && !isLoopbackUrl(url)) {
    output.warn(
      `the token travels unencrypted to ${url}: use a tunnel, as ssh -L 8081:127.0.0.1:8081 HOST`,
    );
  }
  const authorize: Interceptor = (next) => (request) => {
    if (token !== undefined) request.header.set("authorization", `Bearer ${token}`);
    return next(request);
  };
  const transport = createConnectTransport({
    baseUrl: url.replace(/\/$/, ""),
    httpVersion: "1.1",
    interceptors: [authorize],
  });
  return { of: (service) => createClient(service, transport) };
}

async function tokenOf(folder: string, file: string | undefined): Promise<string | undefined> {
  if (file === undefined)
    return (await readToken(folder, "admin")) ?? (await readToken(folder, "read"));
  const text = (await readFile(file, "utf8")).trim();
  // Not shown: it may be a token of another kind.
  if (!/^[A-Za-z0-9._~+/=-]{1,256}$/.test(text)) throw usageError(`${file} holds no token`);
  return text;
}

function isLoopbackUrl(url: string): boolean {
  return /^http:\/\/(localhost|127(\.\d{1,3}){3}|\[::1\])(:\d+)?\/?$/i.test(url);
}

const exits: Readonly<Partial<Record<Code, ExitCode>>> = {
  [Code.Canceled]: ExitCode.interrupted,
  [Code.InvalidArgument]: ExitCode.usage,
  [Code.DeadlineExceeded]: ExitCode.unreachable,
  [Code.NotFound]: ExitCode.refused,
  [Code.AlreadyExists]: ExitCode.refused,
  [Code.PermissionDenied]: ExitCode.refused,
  [Code.ResourceExhausted]: ExitCode.limit,
  [Code.FailedPrecondition]: ExitCode.refused,
  [Code.Aborted]: ExitCode.refused,
  [Code.Unavailable]: ExitCode.unreachable,
  [Code.Unauthenticated]: ExitCode.refused,
};

const hints: Readonly<Partial<Record<Code, string>>> = {
  [Code.Unauthenticated]:
    "the token does not hold: name its file with --token-file, or the relay's folder with --data",
  [Code.PermissionDenied]: "this needs the admin token: --token-file DATA/admin-token",
  [Code.Unavailable]: "check that the relay runs and that --url or --data name it",
  [Code.ResourceExhausted]: "wait a minute and run the command again",
};

/** What the side API refused, as any other failure of a command. */
export function explainSideError(error: unknown): unknown {
  if (!(error instanceof ConnectError)) return error;
  const [told] = error.findDetails(ErrorSchema);
  if (told !== undefined) return errorOfMessage(told);
  const name = Code[error.code].replaceAll(/(?<=[a-z])(?=[A-Z])/g, "_").toUpperCase();
  const text =
    error.code === Code.Unavailable ? "the side API cannot be reached" : messageOf(error);
  return new CommandError(exits[error.code] ?? ExitCode.defect, name, text, {
    hint: hints[error.code] ?? "",
    cause: error,
  });
}

function messageOf(error: ConnectError): string {
  if (error.code === Code.Unauthenticated) return "the side API does not know this token";
  if (error.code === Code.PermissionDenied) return "this token may only look";
  return printable(error.rawMessage);
}
