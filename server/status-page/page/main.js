// @ts-check
/** The status page: goes in, looks at the relay every few seconds, and comes out again. */
import { ApiError } from "./api.js";
import { announce, bindCopyButtons } from "./dialogs.js";
import { byId, say } from "./dom.js";
import { Groups, groupsMs } from "./groups.js";
import { Invites, invitesMs } from "./invites.js";
import { figuresMs, Overview } from "./overview.js";
import { Poll } from "./poll.js";
import { Login } from "./session.js";

/** @typedef {import("./session.js").Session} Session */
/** @typedef {import("./overview.js").Health} Health */

const app = byId("app", HTMLElement);
const banner = byId("banner", HTMLElement);
const leave = byId("leave", HTMLButtonElement);

/** Everything that is there while somebody is in. */
class View {
  /** @type {Session} */
  #session;
  /** @type {(why: string) => void} */
  #onOut;
  #overview = new Overview();
  /** @type {Groups} */
  #groups;
  /** @type {Invites} */
  #invites;
  /** @type {Poll[]} */
  #polls;
  #lost = false;

  /**
   * @param {Session} session
   * @param {(why: string) => void} onOut the token holds no more
   */
  constructor(session, onOut) {
    this.#session = session;
    this.#onOut = onOut;
    const onError = (/** @type {unknown} */ error) => this.#failed(error, true);
    this.#groups = new Groups(session, onError);
    this.#invites = new Invites(session, () => this.#overview.address, onError);
    this.#polls = [
      this.#poll(() => this.#lookAtFigures(), figuresMs),
      this.#poll(() => this.#groups.look(), groupsMs),
      this.#poll(() => this.#invites.look(), invitesMs),
    ];
  }

  lookNow() {
    for (const poll of this.#polls) poll.now();
  }

  remove() {
    this.#session.api.close();
    for (const poll of this.#polls) poll.stop();
    this.#overview.remove();
    this.#groups.remove();
    this.#invites.remove();
    banner.hidden = true;
    app.dataset.stale = "false";
  }

  /**
   * @param {() => Promise<void>} look
   * @param {number} intervalMs
   */
  #poll(look, intervalMs) {
    return new Poll(async () => {
      try {
        await look();
        this.#reached();
      } catch (error) {
        this.#failed(error, false);
      }
    }, intervalMs);
  }

  async #lookAtFigures() {
    const { api } = this.#session;
    /** @type {Promise<{ health?: Health }>} */
    const check = api.call("HealthService/Check");
    /** @type {Promise<{ metrics?: object[] }>} */
    const get = api.call("MetricsService/Get");
    const [health, figures] = await Promise.all([check, get]);
    if (api.closed) return;
    this.#overview.showHealth(health.health ?? {});
    this.#overview.showFigures(figures);
    app.dataset.loaded = "true";
  }

  #reached() {
    if (!this.#lost || this.#session.api.closed) return;
    this.#lost = false;
    banner.hidden = true;
    app.dataset.stale = "false";
    announce("The relay answers again.");
    // What else is on the page is as old as the break.
    this.lookNow();
  }

  /**
   * @param {unknown} error
   * @param {boolean} asked whether somebody waits for what failed
   */
  #failed(error, asked) {
    if (this.#session.api.closed) return;
    if (!(error instanceof ApiError)) throw error;
    if (error.isLogin) {
      this.#onOut("This token holds no more. Somebody drew a new one.");
      return;
    }
    const gone = error.code === "unreachable" || error.code === "unavailable";
    if (gone) {
      this.#lost = true;
      app.dataset.stale = "true";
      say(
        byId("banner-text", HTMLElement),
        error.code === "unreachable"
          ? "The relay does not answer. Trying again every few seconds; what you see is from before."
          : "The relay is shutting down, or cannot write. What you see is from before.",
      );
      banner.hidden = false;
    } else if (asked) {
      announce(`The relay refused: ${error.message === "" ? error.code : error.message}`);
    }
  }
}

/** @type {View | undefined} */
let view;

const login = new Login((session) => {
  byId("loading", HTMLElement).hidden = true;
  byId("scope", HTMLElement).hidden = session.mayChange;
  app.dataset.loaded = "false";
  app.hidden = false;
  view = new View(session, out);
});

/** @param {string} why */
function out(why) {
  view?.remove();
  view = undefined;
  login.leave(why);
}

leave.hidden = !login.needsToken;
leave.addEventListener("click", () => out(""));
byId("banner-retry", HTMLButtonElement).addEventListener("click", () => view?.lookNow());
for (const [id, answer] of [
  ["confirm-no", "no"],
  ["confirm-yes", "yes"],
]) {
  byId(id ?? "", HTMLButtonElement).addEventListener("click", () => {
    byId("confirm", HTMLDialogElement).close(answer);
  });
}
bindCopyButtons();
await login.begin();
