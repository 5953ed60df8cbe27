/**
 * The status page's files, as the side listener serves them: read once, kept in
 * memory, found by the whole of a request's target in a fixed table. What is asked
 * for never becomes a path, so there is nothing to escape from.
 *
 * The page is plain JavaScript that the compiler checks by its JSDoc types. It is
 * served as it lies here, so it is the same from a checkout and from the package,
 * and needs no bundler in either.
 *
 * Anybody who reaches the listener may have these files: they hold no secret and
 * nothing of this relay. Whatever they show, they ask the side API for, with a token.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { fileURLToPath } from "node:url";
import { gzipSync } from "node:zlib";

/** What to send back; `body` is empty where there is nothing to say. */
export interface PageAnswer {
  readonly status: 200 | 304 | 405;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array;
}

export interface PageRequest {
  /** The request's target as it came, with its query. */
  readonly target: string;
  readonly method: string;
  readonly acceptEncoding: string | undefined;
  readonly ifNoneMatch: string | undefined;
}

interface Asset {
  readonly type: string;
  readonly body: Uint8Array;
  readonly gzip: Uint8Array;
  readonly tag: string;
}

const script = "text/javascript; charset=utf-8";
const style = "text/css; charset=utf-8";
const html = "text/html; charset=utf-8";
const here = (name: string): string => fileURLToPath(new URL(`page/${name}`, import.meta.url));
const require = createRequire(import.meta.url);

/** Every target, its type and its file; those of libraries are where npm put them. */
const files: readonly (readonly [target: string, type: string, file: string])[] = [
  ["/", html, here("index.html")],
  ["/status/icon.svg", "image/svg+xml", here("icon.svg")],
  ["/status/page.css", style, here("page.css")],
  ["/status/tables.css", style, here("tables.css")],
  ...[
    "api",
    "charts",
    "devices",
    "dialogs",
    "dom",
    "figures",
    "groups",
    "invites",
    "main",
    "overview",
    "poll",
    "session",
    "words",
  ].map((name) => [`/status/${name}.js`, script, here(`${name}.js`)] as const),
  ["/status/uplot.css", style, require.resolve("uplot/dist/uPlot.min.css")],
  ["/status/uplot.js", script, require.resolve("uplot/dist/uPlot.esm.js")],
  ["/status/uqr.js", script, fileURLToPath(import.meta.resolve("uqr"))],
];

/** In the page's HTML; replaced by how one gets in. */
const loginPlaceholder = 'data-login="token"';

/**
 * What the browser is held to. No source but this listener, nothing inline, no
 * frame in either direction, no form that leaves, and no text that is parsed as HTML.
 */
export const contentSecurityPolicy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self'",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
  "require-trusted-types-for 'script'",
  "trusted-types 'none'",
].join("; ");

const commonHeaders: Readonly<Record<string, string>> = {
  "content-security-policy": contentSecurityPolicy,
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-resource-policy": "same-origin",
  "permissions-policy": "camera=(), geolocation=(), microphone=()",
  "referrer-policy": "no-referrer",
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
};

const nothing = new Uint8Array(0);

export class StatusPage {
  readonly #assets: ReadonlyMap<string, Asset>;

  /** `tokens`: whether the side API asks for one; the page then asks for it too. */
  constructor(options: { readonly tokens: boolean }) {
    this.#assets = options.tokens ? withTokens() : withoutTokens();
  }

  /** All that it answers to. */
  get targets(): Iterable<string> {
    return this.#assets.keys();
  }

  /** Undefined where the target is none of the page's. */
  answer(request: PageRequest): PageAnswer | undefined {
    const asset = this.#assets.get(request.target);
    if (asset === undefined) return undefined;
    if (request.method !== "GET" && request.method !== "HEAD") {
      return {
        status: 405,
        headers: { ...commonHeaders, allow: "GET, HEAD", "content-length": "0" },
        body: nothing,
      };
    }
    const headers = {
      ...commonHeaders,
      // Kept, and asked for again each time: an update of the relay shows at once.
      "cache-control": "no-cache",
      etag: asset.tag,
      vary: "accept-encoding",
    };
    if (request.ifNoneMatch?.split(/\s*,\s*/).includes(asset.tag) === true) {
      return { status: 304, headers, body: nothing };
    }
    const gzip = /(^|,)\s*gzip\s*(,|$)/i.test(request.acceptEncoding ?? "");
    const body = gzip ? asset.gzip : asset.body;
    return {
      status: 200,
      headers: {
        ...headers,
        "content-type": asset.type,
        "content-length": String(body.byteLength),
        ...(gzip ? { "content-encoding": "gzip" } : {}),
      },
      body: request.method === "HEAD" ? nothing : body,
    };
  }
}

function makeAsset(type: string, body: Uint8Array): Asset {
  const hash = createHash("sha256").update(body).digest("base64url").slice(0, 22);
  // Weak: the compressed form is the same file in other bytes.
  return { type, body, gzip: gzipSync(body, { level: 9 }), tag: `W/"${hash}"` };
}

let loaded: ReadonlyMap<string, Asset> | undefined;

function withTokens(): ReadonlyMap<string, Asset> {
  loaded ??= new Map(
    files.map(([target, type, file]) => [target, makeAsset(type, readFileSync(file))]),
  );
  return loaded;
}

function withoutTokens(): ReadonlyMap<string, Asset> {
  const assets = new Map(withTokens());
  const page = Buffer.from(assets.get("/")?.body ?? nothing).toString("utf8");
  const open = page.replace(loginPlaceholder, 'data-login="none"');
  if (open === page) throw new Error("the status page has no place to say how one gets in");
  return assets.set("/", makeAsset(html, Buffer.from(open)));
}
