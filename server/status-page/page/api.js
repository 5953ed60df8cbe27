// @ts-check
/** The side API over Connect's JSON: one POST a call, to where the page came from. */

/**
 * What the API refused, or that it could not be asked.
 *
 * Codes are Connect's; `unreachable` where there was no answer at all.
 */
export class ApiError extends Error {
  /**
   * @param {string} code
   * @param {string} message
   */
  constructor(code, message) {
    super(message);
    this.name = "ApiError";
    /** @readonly */
    this.code = code;
  }

  /** Whether the token is the trouble. */
  get isLogin() {
    return this.code === "unauthenticated";
  }
}

/** An answer that takes longer than this is none, in milliseconds. */
const patienceMs = 10_000;

/** The API with one token. */
export class Api {
  /** @type {string} */
  #token;
  #closed = new AbortController();

  /** @param {string} token empty where the relay asks for none */
  constructor(token) {
    this.#token = token;
  }

  /** Gives up what is under way. */
  close() {
    this.#closed.abort();
  }

  /** Whether it was closed: what comes back then is nobody's any more. */
  get closed() {
    return this.#closed.signal.aborted;
  }

  /**
   * Calls a method. Rejects with `ApiError`.
   *
   * @template Answer
   * @param {string} method such as `InviteService/List`
   * @param {object} [request]
   * @returns {Promise<Answer>}
   */
  async call(method, request = {}) {
    const late = AbortSignal.timeout(patienceMs);
    /** @type {Response} */
    let response;
    try {
      response = await fetch(`/syncrelay.admin.v1.${method}`, {
        method: "POST",
        headers: {
          "content-type": "application/json",
          "connect-protocol-version": "1",
          ...(this.#token === "" ? {} : { authorization: `Bearer ${this.#token}` }),
        },
        body: JSON.stringify(request),
        cache: "no-store",
        credentials: "omit",
        redirect: "error",
        referrerPolicy: "no-referrer",
        signal: AbortSignal.any([late, this.#closed.signal]),
      });
      const answer = await response.json();
      if (response.ok) return answer;
      throw new ApiError(String(answer.code ?? "unknown"), String(answer.message ?? ""));
    } catch (error) {
      if (error instanceof ApiError) throw error;
      throw new ApiError("unreachable", "The relay does not answer.");
    }
  }
}
