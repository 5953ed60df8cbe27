/**
 * A push service, and an app's subscription there, on loopback: it takes what RFC 8030 says, insists on a
 * token that RFC 8292 allows, and opens the content as an app does by RFC 8291. None of it by the library
 * that the relay sends with.
 */
import assert from "node:assert/strict";
import {
  createDecipheriv,
  createECDH,
  createPublicKey,
  type ECDH,
  hkdfSync,
  randomBytes,
  verify,
} from "node:crypto";
import type { ServerResponse } from "node:http";
import { createServer, type Server } from "node:https";
import type { AddressInfo } from "node:net";
import type { TestContext } from "node:test";
import type { WakeUpPlace } from "../../server/wake-up-requests.ts";

/** Of an authority that nobody but these tests trusts, for `push.test` and loopback. */
export const certificate = `-----BEGIN CERTIFICATE-----
MIIByjCCAXCgAwIBAgIUIopiZnKPzOCTvtT5vzl8sWxw+gEwCgYIKoZIzj0EAwIw
JjEkMCIGA1UEAwwbYSBwdXNoIHNlcnZpY2Ugb2YgdGhlIHRlc3RzMCAXDTI2MTEy
NTAwMzMwNloYDzIxMjYxMTAxMDAzMzA2WjAmMSQwIgYDVQQDDBthIHB1c2ggc2Vy
dmljZSBvZiB0aGUgdGVzdHMwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAATO7Zj3
S7gcOcG7pGxiA0JN8zIfr1UM9OVyYy9oYcensjE6nnqOtO7gnR8eUZIi7CMzCCqb
tZfHLpfKJOVPpNfHo3oweDAdBgNVHQ4EFgQUf4MO8XIy3jWs7RWu2LYbZ9WltTYw
HwYDVR0jBBgwFoAUf4MO8XIy3jWs7RWu2LYbZ9WltTYwDwYDVR0TAQH/BAUwAwEB
/zAlBgNVHREEHjAcgglwdXNoLnRlc3SCCWxvY2FsaG9zdIcEfwAAATAKBggqhkjO
PQQDAgNIADBFAiEA1Ui3Y7+oj2L+BqCccpF2ypCLI9VsgetzCc4laezl0sICIBtH
mZBYuy8dLKwGnIx1CymKfZzdwXBjTmbxGflWf8Bo
-----END CERTIFICATE-----
`;
const key = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg4ZEJISgy0LsPltlp
3WpU3YnxJr5opBgImR+4dHXDJs2hRANCAATO7Zj3S7gcOcG7pGxiA0JN8zIfr1UM
9OVyYy9oYcensjE6nnqOtO7gnR8eUZIi7CMzCCqbtZfHLpfKJOVPpNfH
-----END PRIVATE KEY-----
`;

/** What came, and held. */
export interface PushedMessage {
  readonly path: string;
  readonly headers: Readonly<Record<string, string | string[] | undefined>>;
  /** What the token says. */
  readonly claims: { readonly aud: string; readonly exp: number; readonly sub: string };
  /** The sender's key, as base64url. */
  readonly sender: string;
  /** The content as the app opens it. */
  readonly text: string;
  readonly bodyBytes: number;
}

/** What the service answers: a status, with headers where it has any. */
export interface PushAnswer {
  readonly status: number;
  readonly headers?: Readonly<Record<string, string>>;
  /** Goes on with the body for as long as anybody reads. */
  readonly endless?: boolean;
  /** Never answers. */
  readonly silent?: boolean;
}

interface App {
  readonly ecdh: ECDH;
  readonly auth: Uint8Array;
}

export class PushService {
  readonly messages: PushedMessage[] = [];
  /** What is wrong with what came: a test looks at it. */
  readonly faults: unknown[] = [];
  /** The next answers; then 201. */
  readonly answers: PushAnswer[] = [];
  /** Bytes of bodies that were written. */
  writtenBytes = 0;
  /** Resolves when the other side has ended a body that goes on. */
  readonly cutOff: Promise<void>;
  #cut: () => void = () => undefined;
  readonly #apps = new Map<string, App>();
  readonly #server: Server;
  #waiting: (() => void)[] = [];

  private constructor() {
    this.cutOff = new Promise((resolve) => {
      this.#cut = resolve;
    });
    this.#server = createServer({ key, cert: certificate }, (request, response) => {
      const parts: Uint8Array[] = [];
      request.on("data", (part: Uint8Array) => parts.push(part));
      request.on("end", () => {
        try {
          this.messages.push(
            this.#read(request.url ?? "", request.method, request.headers, Buffer.concat(parts)),
          );
        } catch (error) {
          this.faults.push(error);
        }
        const answer = this.answers.shift() ?? { status: 201 };
        const { status, headers = {}, endless = false, silent = false } = answer;
        if (silent) return;
        response.writeHead(status, headers);
        response.on("close", () => this.#cut());
        if (endless) this.#writeOn(response);
        else response.end("said to nobody");
        for (const wake of this.#waiting.splice(0)) wake();
      });
    });
  }

  static async start(t: TestContext): Promise<PushService> {
    const service = new PushService();
    await new Promise<void>((resolve) => service.#server.listen(0, "127.0.0.1", resolve));
    t.after(() => {
      service.#server.closeAllConnections();
      service.#server.close();
    });
    return service;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  /** An app subscribes. */
  subscribe(name: string, host = `127.0.0.1:${this.port}`): WakeUpPlace {
    const ecdh = createECDH("prime256v1");
    ecdh.generateKeys();
    const auth = new Uint8Array(randomBytes(16));
    this.#apps.set(`/${name}`, { ecdh, auth });
    return {
      endpoint: `https://${host}/${name}`,
      p256dh: new Uint8Array(ecdh.getPublicKey()),
      auth,
    };
  }

  /** Resolves once so many messages came in all. */
  async came(count: number): Promise<void> {
    while (this.messages.length + this.faults.length < count) {
      await new Promise<void>((resolve) => this.#waiting.push(resolve));
    }
  }

  #writeOn(response: ServerResponse): void {
    const piece = new Uint8Array(65_536);
    const next = (): void => {
      if (response.destroyed) return;
      this.writtenBytes += piece.byteLength;
      response.write(piece, () => setImmediate(next));
    };
    next();
  }

  #read(
    path: string,
    method: string | undefined,
    headers: Readonly<Record<string, string | string[] | undefined>>,
    body: Uint8Array,
  ): PushedMessage {
    const app = this.#apps.get(path);
    assert.ok(app !== undefined, `nobody is subscribed at ${path}`);
    assert.equal(method, "POST");
    assert.equal(headers["content-encoding"], "aes128gcm");
    assert.match(String(headers["ttl"]), /^\d+$/);
    const [, token = "", sender = ""] =
      /^vapid t=([\w.-]+), ?k=([\w-]+)$/.exec(String(headers["authorization"])) ?? [];
    return {
      path,
      headers,
      claims: claimsOf(token, sender, this.port),
      sender,
      text: open(body, app),
      bodyBytes: body.byteLength,
    };
  }
}

/** RFC 8292, section 2: signed by the sender's key, for this service, for at most a day. */
function claimsOf(token: string, sender: string, port: number): PushedMessage["claims"] {
  const [head = "", payload = "", signature = ""] = token.split(".");
  const point = Buffer.from(sender, "base64url");
  const coordinate = (from: number): string =>
    point.subarray(from, from + 32).toString("base64url");
  const publicKey = createPublicKey({
    key: { kty: "EC", crv: "P-256", x: coordinate(1), y: coordinate(33) },
    format: "jwk",
  });
  assert.ok(
    verify(
      "sha256",
      Buffer.from(`${head}.${payload}`),
      { key: publicKey, dsaEncoding: "ieee-p1363" },
      Buffer.from(signature, "base64url"),
    ),
    "the token is signed by the key it is sent with",
  );
  const text = (part: string): unknown => JSON.parse(Buffer.from(part, "base64url").toString());
  assert.equal((text(head) as { alg: string }).alg, "ES256");
  const claims = text(payload) as PushedMessage["claims"];
  assert.ok([`https://127.0.0.1:${port}`, `https://push.test:${port}`].includes(claims.aud));
  const leftS = claims.exp - Date.now() / 1_000;
  assert.ok(leftS > 0 && leftS <= 86_400, "it holds for at most a day");
  return claims;
}

/** RFC 8291, section 3, over RFC 8188: one record. */
function open(body: Uint8Array, { ecdh, auth }: App): string {
  const salt = body.subarray(0, 16);
  const keyLength = body[20] ?? 0;
  const senderKey = body.subarray(21, 21 + keyLength);
  const sealed = body.subarray(21 + keyLength);
  const shared = ecdh.computeSecret(senderKey);
  const info = Buffer.concat([Buffer.from("WebPush: info\0"), ecdh.getPublicKey(), senderKey]);
  const input = new Uint8Array(hkdfSync("sha256", shared, auth, info, 32));
  const derive = (label: string, length: number): Uint8Array =>
    new Uint8Array(hkdfSync("sha256", input, salt, Buffer.from(label), length));
  const decipher = createDecipheriv(
    "aes-128-gcm",
    derive("Content-Encoding: aes128gcm\0", 16),
    derive("Content-Encoding: nonce\0", 12),
  );
  decipher.setAuthTag(sealed.subarray(-16));
  const plain = Buffer.concat([decipher.update(sealed.subarray(0, -16)), decipher.final()]);
  const end = plain.lastIndexOf(2);
  assert.ok(
    end >= 0 && plain.subarray(end + 1).every((byte) => byte === 0),
    "the last record ends",
  );
  return plain.subarray(0, end).toString();
}
