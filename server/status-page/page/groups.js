// @ts-check
/** The groups on the relay, each with its devices. */
import { Devices } from "./devices.js";
import { announce, confirmed } from "./dialogs.js";
import { byId, Meter, make, nameless, Rows, say } from "./dom.js";
import { agoText, countText, shortId, sizeText } from "./words.js";

/** @typedef {import("./session.js").Session} Session */
/**
 * @typedef {object} Group
 * @property {string} groupId
 * @property {string} [label]
 * @property {string} [bytes]
 * @property {string} [fileBytes]
 * @property {string} [quotaBytes]
 * @property {boolean} [quotaOwn]
 * @property {string} [blobs]
 * @property {number} [devices]
 * @property {number} [devicesOnline]
 * @property {boolean} [suspended]
 * @property {string} [lastSeenMs]
 */

export const groupsMs = 4_000;
/** Groups shown; the command line has a way to see more. */
const shownMax = 200;

export class Groups {
  /** @type {Session} */
  #session;
  /** @type {(error: unknown) => void} */
  #onError;
  #body = byId("groups", HTMLElement);
  #rows = new Rows(
    this.#body,
    (/** @type {Group} */ group) => group.groupId,
    (group) => this.#row(group),
  );
  /** @type {Map<string, Devices>} */
  #open = new Map();

  /**
   * @param {Session} session
   * @param {(error: unknown) => void} onError
   */
  constructor(session, onError) {
    this.#session = session;
    this.#onError = onError;
  }

  /** Asks for the groups, and the devices of those that are open. */
  async look() {
    /** @type {{ groups?: Group[], nextPageToken?: string }} */
    const answer = await this.#session.api.call("GroupService/List", { pageSize: shownMax });
    const groups = answer.groups ?? [];
    for (const id of this.#open.keys()) {
      if (!groups.some((group) => group.groupId === id)) this.#open.delete(id);
    }
    await Promise.all([...this.#open.values()].map((devices) => devices.look()));
    if (this.#session.api.closed) return;
    this.#rows.show(groups);
    byId("groups-table", HTMLElement).hidden = groups.length === 0;
    byId("groups-none", HTMLElement).hidden = groups.length > 0;
    byId("groups-more", HTMLElement).hidden = (answer.nextPageToken ?? "") === "";
  }

  remove() {
    this.#rows.clear();
    this.#open.clear();
  }

  /**
   * @param {Group} first
   * @returns {import("./dom.js").Row<Group>}
   */
  #row(first) {
    const { groupId } = first;
    const detailId = `devices-${groupId}`;
    const label = first.label ?? "";
    const name = label === "" ? shortId(groupId) : label;
    const meter = new Meter(`Live bytes of the quota of ${name}`);
    const suspended = make("span", { class: "tag" }, "Suspended");
    const online = make("span", { class: "presence" });
    const used = make("span", {});
    const file = make("td", { "data-label": "On disk", class: "number" });
    const blobs = make("td", { "data-label": "Blobs", class: "number" });
    const seen = make("td", { "data-label": "Last seen" });
    let group = first;
    const toggle = make(
      "button",
      {
        type: "button",
        class: "small",
        "aria-expanded": "false",
        "aria-controls": detailId,
        onclick: () => void this.#toggle(groupId, toggle, detail),
      },
      "Devices",
      make("span", { class: "unseen" }, ` of ${name}`),
    );
    const suspendText = make("span", {});
    const suspend = make(
      "button",
      { type: "button", class: "small", onclick: () => void this.#suspend(name, group) },
      suspendText,
      make("span", { class: "unseen" }, ` ${name}`),
    );
    const row = make(
      "tr",
      {},
      make(
        "th",
        { scope: "row" },
        label === "" ? nameless() : make("span", { class: "name" }, label),
        suspended,
        make("code", { class: "id", title: groupId }, shortId(groupId)),
      ),
      make("td", { "data-label": "Online" }, online),
      make("td", { "data-label": "Live" }, make("div", { class: "fill" }, used, meter.element)),
      file,
      blobs,
      seen,
      make(
        "td",
        { class: "actions" },
        make("div", {}, toggle, this.#session.mayChange ? suspend : undefined),
      ),
    );
    const detail = make(
      "tr",
      { id: detailId, class: "detail", hidden: "" },
      make("td", { colspan: "7" }),
    );
    return {
      elements: [row, detail],
      update: (now) => {
        group = now;
        const bytes = Number(now.bytes ?? 0);
        const quota = Number(now.quotaBytes ?? 0);
        const text = `${sizeText(bytes)} of ${sizeText(quota)}`;
        suspended.hidden = now.suspended !== true;
        say(suspendText, now.suspended === true ? "Resume" : "Suspend");
        say(online, `${countText(now.devicesOnline ?? 0)} of ${countText(now.devices ?? 0)}`);
        online.dataset.online = String((now.devicesOnline ?? 0) > 0);
        say(used, text);
        meter.show(bytes, quota, text);
        say(file, sizeText(Number(now.fileBytes ?? 0)));
        say(blobs, countText(Number(now.blobs ?? 0)));
        say(seen, agoText(Number(now.lastSeenMs ?? 0), Date.now()));
      },
    };
  }

  /**
   * @param {string} groupId
   * @param {HTMLButtonElement} button
   * @param {HTMLTableRowElement} detail
   */
  async #toggle(groupId, button, detail) {
    const opens = detail.hidden;
    button.setAttribute("aria-expanded", String(opens));
    detail.hidden = !opens;
    const cell = detail.cells[0];
    if (!opens) {
      this.#open.delete(groupId);
      cell?.replaceChildren();
      return;
    }
    const devices = new Devices(this.#session, groupId, this.#onError);
    cell?.replaceChildren(devices.element);
    this.#open.set(groupId, devices);
    try {
      await devices.look();
    } catch (error) {
      this.#onError(error);
    }
  }

  /**
   * @param {string} name
   * @param {Group} group
   */
  async #suspend(name, { groupId, suspended }) {
    const lift = suspended === true;
    const yes = await confirmed(
      lift
        ? {
            title: `Resume ${name}?`,
            text: "Its devices may write again. What they have kept back comes by itself.",
            action: "Resume",
          }
        : {
            title: `Suspend ${name}?`,
            text: "Its devices may read but not write. They keep what they write until the group is resumed.",
            action: "Suspend",
          },
    );
    if (!yes) return;
    try {
      await this.#session.api.call("GroupService/Suspend", { groupId, lift });
      announce(lift ? `${name} may write again.` : `${name} is suspended.`);
      await this.look();
    } catch (error) {
      this.#onError(error);
    }
  }
}
