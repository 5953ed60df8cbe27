// @ts-check
/** The devices of one group, below its row. */
import { announce, confirmed } from "./dialogs.js";
import { make, Rows, say } from "./dom.js";
import { agoText, counted, shortId } from "./words.js";

/** @typedef {import("./session.js").Session} Session */
/**
 * @typedef {object} Device
 * @property {string} deviceId
 * @property {string} [role]
 * @property {string} [state]
 * @property {boolean} [online]
 * @property {string} [lastSeenMs]
 * @property {string} [behind]
 * @property {string} [fingerprint]
 */

/** @type {Readonly<Record<string, string>>} */
const states = {
  DEVICE_STATE_REMOVED: "Removed by a member",
  DEVICE_STATE_REFUSED: "Refused by the operator",
};

export class Devices {
  /** @readonly */
  element = make("div", { class: "devices" });
  /** @type {Session} */
  #session;
  /** @type {string} */
  #groupId;
  /** @type {(error: unknown) => void} */
  #onError;
  #body = make("tbody", {});
  #rows = new Rows(
    this.#body,
    (/** @type {Device} */ device) => device.deviceId,
    (device) => this.#row(device),
  );

  /**
   * @param {Session} session
   * @param {string} groupId
   * @param {(error: unknown) => void} onError
   */
  constructor(session, groupId, onError) {
    this.#session = session;
    this.#groupId = groupId;
    this.#onError = onError;
    const heads = ["Device", "Presence", "Last seen", "Behind"].map((text) =>
      make("th", { scope: "col" }, text),
    );
    const last = make("th", { scope: "col" }, make("span", { class: "unseen" }, "Actions"));
    this.element.append(
      make(
        "table",
        { class: "cards" },
        make("caption", { class: "unseen" }, "Devices of this group"),
        make("thead", {}, make("tr", {}, ...heads, session.mayChange ? last : undefined)),
        this.#body,
      ),
    );
  }

  /** Asks for the devices and shows them. */
  async look() {
    /** @type {{ devices?: Device[] }} */
    const answer = await this.#session.api.call("DeviceService/List", { groupId: this.#groupId });
    this.#rows.show(answer.devices ?? []);
  }

  /**
   * @param {Device} first
   * @returns {import("./dom.js").Row<Device>}
   */
  #row(first) {
    const name = first.fingerprint?.split(" ").slice(0, 2).join(" ") ?? shortId(first.deviceId);
    const presence = make("span", { class: "presence" });
    const state = make("span", { class: "tag" });
    const cells = {
      presence: make("td", { "data-label": "Presence" }, presence, state),
      seen: make("td", { "data-label": "Last seen" }),
      behind: make("td", { "data-label": "Behind" }),
    };
    let device = first;
    const disconnect = make(
      "button",
      { type: "button", class: "small", onclick: () => void this.#disconnect(name, device) },
      "Disconnect",
      make("span", { class: "unseen" }, ` ${name}`),
    );
    const refuseText = make("span", {});
    const refuse = make(
      "button",
      { type: "button", class: "small", onclick: () => void this.#refuse(name, device) },
      refuseText,
      make("span", { class: "unseen" }, ` ${name}`),
    );
    const row = make(
      "tr",
      {},
      make(
        "th",
        { scope: "row", title: `${first.fingerprint ?? ""}\n${first.deviceId}` },
        make("code", {}, name),
      ),
      cells.presence,
      cells.seen,
      cells.behind,
      this.#session.mayChange
        ? make("td", { class: "actions" }, make("div", {}, disconnect, refuse))
        : undefined,
    );
    return {
      elements: [row],
      update: (now) => {
        device = now;
        const online = now.online === true;
        presence.dataset.online = String(online);
        say(presence, online ? "Online" : "Away");
        const word =
          states[now.state ?? ""] ?? (now.role === "MEMBER_ROLE_RECOVERY" ? "Recovery phrase" : "");
        say(state, word);
        state.hidden = word === "";
        say(cells.seen, agoText(Number(now.lastSeenMs ?? 0), Date.now()));
        const behind = Number(now.behind ?? 0);
        say(cells.behind, behind === 0 ? "nothing" : counted(behind, "blob"));
        disconnect.disabled = !online;
        const refused = now.state === "DEVICE_STATE_REFUSED";
        refuse.hidden = now.state === "DEVICE_STATE_REMOVED";
        refuse.classList.toggle("danger", !refused);
        say(refuseText, refused ? "Serve again" : "Refuse");
      },
    };
  }

  /**
   * @param {string} name
   * @param {Device} device
   */
  async #disconnect(name, { deviceId }) {
    const yes = await confirmed({
      title: `Disconnect ${name}?`,
      text: "Its session ends now. It loses nothing and comes back by itself within seconds.",
      action: "Disconnect",
    });
    if (yes)
      await this.#change("DeviceService/Disconnect", { deviceId }, `${name} is disconnected.`);
  }

  /**
   * @param {string} name
   * @param {Device} device
   */
  async #refuse(name, { deviceId, state }) {
    const lift = state === "DEVICE_STATE_REFUSED";
    const yes = await confirmed(
      lift
        ? {
            title: `Serve ${name} again?`,
            text: "It may connect again, and gets everything it has missed.",
            action: "Serve again",
          }
        : {
            title: `Refuse ${name}?`,
            text: "The relay serves it no more, and the group's members see that the operator did it. It stays in the group and keeps what it has.",
            action: "Refuse",
          },
    );
    if (!yes) return;
    await this.#change(
      "DeviceService/Refuse",
      { deviceId, lift },
      lift ? `${name} is served again.` : `${name} is refused.`,
    );
  }

  /**
   * @param {string} method
   * @param {object} request
   * @param {string} done
   */
  async #change(method, request, done) {
    try {
      await this.#session.api.call(method, { groupId: this.#groupId, ...request });
      announce(done);
      await this.look();
    } catch (error) {
      this.#onError(error);
    }
  }
}
