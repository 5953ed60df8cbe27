// @ts-check
/** Who was invited, and inviting. */
import { announce, confirmed } from "./dialogs.js";
import { byId, make, nameless, Rows, say } from "./dom.js";
import { encode } from "./uqr.js";
import { agoText, countText, readSize, sizeText, spanText } from "./words.js";

/** @typedef {import("./session.js").Session} Session */
/**
 * @typedef {object} Invite
 * @property {string} inviteId
 * @property {string} [label]
 * @property {string} [quotaBytes]
 * @property {string} [state]
 * @property {string} [createdMs]
 * @property {string} [expiresInS]
 */

export const invitesMs = 6_000;
/** Invites shown; the command line has a way to see more. */
const shownMax = 500;
const quotaBytesMin = 65_536;
const labelBytesMax = 64;

/** @type {Readonly<Record<string, readonly [rank: number, word: string]>>} */
const states = {
  INVITE_STATE_OPEN: [0, "Open"],
  INVITE_STATE_USED: [1, "Used"],
  INVITE_STATE_EXPIRED: [2, "Expired"],
  INVITE_STATE_REVOKED: [3, "Revoked"],
};

export class Invites {
  /** @type {Session} */
  #session;
  /** @type {() => string} */
  #address;
  /** @type {(error: unknown) => void} */
  #onError;
  #dialog = byId("invite", HTMLDialogElement);
  #form = byId("invite-form", HTMLFormElement);
  #fresh = byId("invite-fresh", HTMLElement);
  #rows = new Rows(
    byId("invites", HTMLElement),
    (/** @type {Invite} */ invite) => invite.inviteId,
    (invite) => this.#row(invite),
  );
  #unbind = new AbortController();
  #creating = false;
  /** @type {Invite[]} */
  #all = [];
  #showsEnded = false;
  #ended = byId("invites-ended", HTMLButtonElement);

  /**
   * @param {Session} session
   * @param {() => string} address the relay's, for whoever is invited
   * @param {(error: unknown) => void} onError
   */
  constructor(session, address, onError) {
    this.#session = session;
    this.#address = address;
    this.#onError = onError;
    const { signal } = this.#unbind;
    const open = byId("invite-new", HTMLButtonElement);
    open.hidden = !session.mayChange;
    open.addEventListener("click", () => this.#ask(), { signal });
    this.#ended.addEventListener(
      "click",
      () => {
        this.#showsEnded = !this.#showsEnded;
        this.#show();
      },
      { signal },
    );
    this.#form.addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        void this.#create();
      },
      { signal },
    );
    for (const button of this.#dialog.querySelectorAll("button[data-closes]")) {
      button.addEventListener("click", () => this.#dialog.close(), { signal });
    }
    // Told once: what is closed is gone from the page as well.
    this.#dialog.addEventListener("close", () => this.#forget(), { signal });
  }

  /** Asks for the invites and shows them, those that can be used first. */
  async look() {
    /** @type {{ invites?: Invite[], nextPageToken?: string }} */
    const answer = await this.#session.api.call("InviteService/List", { pageSize: shownMax });
    if (this.#session.api.closed) return;
    const rank = (/** @type {Invite} */ invite) => states[invite.state ?? ""]?.[0] ?? 4;
    const invites = (answer.invites ?? []).toSorted(
      (a, b) => rank(a) - rank(b) || Number(b.createdMs ?? 0) - Number(a.createdMs ?? 0),
    );
    this.#all = invites;
    this.#show();
    byId("invites-table", HTMLElement).hidden = invites.length === 0;
    byId("invites-none", HTMLElement).hidden = invites.length > 0;
    byId("invites-more", HTMLElement).hidden = (answer.nextPageToken ?? "") === "";
  }

  remove() {
    if (this.#dialog.open) this.#dialog.close();
    this.#forget();
    this.#unbind.abort();
    this.#rows.clear();
  }

  /** Those that can be used; the others only where somebody wants to see them. */
  #show() {
    const open = this.#all.filter((invite) => invite.state === "INVITE_STATE_OPEN");
    const ended = this.#all.length - open.length;
    // With none that is open, the list would be empty for no good reason.
    const all = this.#showsEnded || open.length === 0;
    this.#rows.show(all ? this.#all : open);
    this.#ended.hidden = ended === 0 || open.length === 0;
    this.#ended.setAttribute("aria-pressed", String(this.#showsEnded));
    say(this.#ended, `${this.#showsEnded ? "Hide" : "Show"} ${countText(ended)} used or ended`);
  }

  /**
   * @param {Invite} first
   * @returns {import("./dom.js").Row<Invite>}
   */
  #row(first) {
    const label = first.label ?? "";
    const name = label === "" ? first.inviteId : label;
    const state = make("span", { class: "tag" });
    const quota = Number(first.quotaBytes ?? 0);
    const created = make("td", { "data-label": "Made" });
    const expires = make("td", { "data-label": "Expires" });
    const revoke = make(
      "button",
      { type: "button", class: "small danger", onclick: () => void this.#revoke(name, first) },
      "Revoke",
      make("span", { class: "unseen" }, ` ${name}`),
    );
    const row = make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        label === "" ? nameless() : make("span", { class: "name" }, label),
        make("code", { class: "id" }, first.inviteId),
      ),
      make("td", { "data-label": "State" }, state),
      make("td", { "data-label": "Quota" }, quota === 0 ? "Default" : sizeText(quota)),
      created,
      expires,
      this.#session.mayChange
        ? make("td", { class: "actions" }, make("div", {}, revoke))
        : undefined,
    );
    return {
      elements: [row],
      update: (invite) => {
        const open = invite.state === "INVITE_STATE_OPEN";
        const left = Number(invite.expiresInS ?? 0);
        say(state, states[invite.state ?? ""]?.[1] ?? "Unknown");
        state.dataset.open = String(open);
        say(created, agoText(Number(invite.createdMs ?? 0), Date.now()));
        say(expires, open ? (left === 0 ? "Never" : `in ${spanText(left, Math.round)}`) : "–");
        revoke.hidden = !open;
      },
    };
  }

  #ask() {
    this.#form.reset();
    this.#form.hidden = false;
    this.#fresh.hidden = true;
    this.#problem("");
    this.#dialog.showModal();
    byId("invite-label", HTMLInputElement).focus();
  }

  /**
   * @param {string} text
   * @param {HTMLInputElement} [field]
   */
  #problem(text, field) {
    for (const id of ["invite-label", "invite-quota"]) {
      const input = byId(id, HTMLInputElement);
      input.setAttribute("aria-invalid", String(input === field));
    }
    say(byId("invite-problem", HTMLElement), text);
    field?.focus();
  }

  async #create() {
    if (this.#creating) return;
    const label = byId("invite-label", HTMLInputElement);
    const quota = byId("invite-quota", HTMLInputElement);
    const expiry = byId("invite-expiry", HTMLSelectElement);
    if (new TextEncoder().encode(label.value.trim()).byteLength > labelBytesMax) {
      this.#problem("The label is too long.", label);
      return;
    }
    const quotaBytes = quota.value.trim() === "" ? 0 : readSize(quota.value);
    if (quotaBytes === undefined || (quotaBytes !== 0 && quotaBytes < quotaBytesMin)) {
      this.#problem("The quota is a size such as 500 MiB, at least 64 KiB; or nothing.", quota);
      return;
    }
    this.#problem("");
    this.#creating = true;
    try {
      /** @type {{ code?: string }} */
      const answer = await this.#session.api.call("InviteService/Create", {
        kind: "INVITE_KIND_GROUP",
        label: label.value.trim(),
        quotaBytes: String(quotaBytes),
        expiresInS: expiry.value,
      });
      this.#tell(answer.code ?? "");
      await this.look();
    } catch (error) {
      this.#dialog.close();
      this.#onError(error);
    } finally {
      this.#creating = false;
    }
  }

  /** @param {string} code */
  #tell(code) {
    const address = this.#address();
    this.#form.hidden = true;
    this.#fresh.hidden = false;
    say(byId("invite-code", HTMLElement), code);
    say(byId("invite-command", HTMLElement), `sync-cli init --relay '${address}' --invite=${code}`);
    byId("invite-qr", HTMLElement).replaceChildren(picture(`${address}\n${code}`));
    byId("invite-done", HTMLButtonElement).focus();
  }

  #forget() {
    say(byId("invite-code", HTMLElement), "");
    say(byId("invite-command", HTMLElement), "");
    byId("invite-qr", HTMLElement).replaceChildren();
  }

  /**
   * @param {string} name
   * @param {Invite} invite
   */
  async #revoke(name, { inviteId }) {
    const yes = await confirmed({
      title: "Revoke this invite?",
      text: `Nobody can found a group with “${name}” any more. This cannot be undone; a new invite can be made.`,
      action: "Revoke",
    });
    if (!yes) return;
    try {
      await this.#session.api.call("InviteService/Revoke", { inviteId });
      announce("The invite is revoked.");
      await this.look();
    } catch (error) {
      this.#onError(error);
    }
  }
}

/**
 * A text as a QR code: dark on white whatever the page's colours, with the margin
 * that readers need.
 *
 * @param {string} text
 */
function picture(text) {
  const { data, size } = encode(text, { border: 4 });
  const dots = data
    .flatMap((row, y) => row.map((dark, x) => (dark ? `M${x} ${y}h1v1h-1z` : "")))
    .join("");
  const svg = (/** @type {string} */ name, /** @type {Record<string, string>} */ attributes) => {
    const element = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
    return element;
  };
  const image = svg("svg", {
    viewBox: `0 0 ${size} ${size}`,
    role: "img",
    "aria-label": "The relay's address and the invite as a QR code",
    "shape-rendering": "crispEdges",
  });
  image.append(
    svg("rect", { width: String(size), height: String(size), fill: "#fff" }),
    svg("path", { d: dots, fill: "#000" }),
  );
  return image;
}
