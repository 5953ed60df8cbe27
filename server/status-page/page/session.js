// @ts-check
/**
 * Getting in and out: the token, and what it may do.
 *
 * The token is kept in the tab's session storage: gone with the tab, sent nowhere
 * by the browser itself. A cookie would go to everything that listens on this host,
 * on any port, since cookies know no ports; and it would go along with requests
 * that other pages make.
 */
import { Api, ApiError } from "./api.js";
import { byId, say } from "./dom.js";

const storageKey = "sync-relay-token";

/** @typedef {{ api: Api, mayChange: boolean }} Session */

/** @type {Readonly<Record<string, string>>} */
const sentences = {
  unauthenticated: "This token does not hold. Copy it again: it is one line, without spaces.",
  permission_denied: "This page must be opened by the relay's own address, as localhost.",
  resource_exhausted: "Too many wrong tokens. Wait a minute, then try again.",
  unreachable: "The relay does not answer. Is it running?",
  unavailable: "The relay is shutting down.",
};

/** Asks for a token until one holds. */
export class Login {
  #view = byId("login", HTMLElement);
  #form = byId("login-form", HTMLFormElement);
  #field = byId("token", HTMLInputElement);
  #button = byId("login-button", HTMLButtonElement);
  #problem = byId("login-problem", HTMLElement);
  #needsToken = document.body.dataset.login !== "none";
  /** @type {(session: Session) => void} */
  #onSession;

  /** @param {(session: Session) => void} onSession */
  constructor(onSession) {
    this.#onSession = onSession;
    this.#form.addEventListener("submit", (event) => {
      event.preventDefault();
      void this.#enter(this.#field.value.trim());
    });
  }

  /** Goes in with the token of before, else asks for one. */
  async begin() {
    const token = sessionStorage.getItem(storageKey) ?? "";
    if (token !== "" || !this.#needsToken) await this.#enter(token);
    else this.#ask("");
  }

  /**
   * Forgets the token and asks for one.
   *
   * @param {string} why
   */
  leave(why) {
    sessionStorage.removeItem(storageKey);
    this.#ask(why);
  }

  /** Whether there is something to leave. */
  get needsToken() {
    return this.#needsToken;
  }

  /** @param {string} token */
  async #enter(token) {
    if (token === "" && this.#needsToken) {
      this.#ask("Type or paste a token first.");
      return;
    }
    this.#button.disabled = true;
    const api = new Api(token);
    try {
      if (!/^[\x21-\x7e]*$/.test(token)) throw new ApiError("unauthenticated", "");
      /** @type {{ scope?: string }} */
      const answer = await api.call("HealthService/Check");
      sessionStorage.setItem(storageKey, token);
      this.#field.value = "";
      this.#view.hidden = true;
      say(this.#problem, "");
      this.#onSession({ api, mayChange: answer.scope === "SCOPE_ADMIN" });
    } catch (error) {
      const code = error instanceof ApiError ? error.code : "unknown";
      if (code === "unauthenticated") sessionStorage.removeItem(storageKey);
      this.#ask(sentences[code] ?? `The relay refused: ${code}.`);
    } finally {
      this.#button.disabled = false;
    }
  }

  /** @param {string} problem */
  #ask(problem) {
    byId("loading", HTMLElement).hidden = true;
    byId("app", HTMLElement).hidden = true;
    this.#view.hidden = false;
    this.#form.hidden = false;
    byId("token-row", HTMLElement).hidden = !this.#needsToken;
    say(this.#button, this.#needsToken ? "Show the relay" : "Try again");
    say(this.#problem, problem);
    this.#field.setAttribute("aria-invalid", String(problem !== ""));
    if (this.#needsToken) {
      this.#field.focus();
      this.#field.select();
    }
  }
}
