// @ts-check
/** How the relay is and what it does: health, and the figures as numbers and graphs. */
import { Chart, shownS } from "./charts.js";
import { byId, Meter, make, say } from "./dom.js";
import { readFigures, speedsBetween, Trail } from "./figures.js";
import {
  counted,
  countText,
  percentText,
  shortNumber,
  sizeText,
  spanText,
  waitText,
} from "./words.js";

/** @typedef {import("./figures.js").Reading} Reading */
/** @typedef {{ status?: string, problems?: { message?: string }[], version?: string, uptimeS?: string, address?: string }} Health */

export const figuresMs = 2_000;
/** After so long without a reading the line has a gap, in milliseconds. */
const gapMs = 3 * figuresMs;
/** Readings over which speeds are taken: what comes in bursts is readable. */
const speedReadings = 3;

/** @type {Readonly<Record<string, readonly [level: string, word: string]>>} */
const statuses = {
  HEALTH_STATUS_OK: ["good", "Working"],
  HEALTH_STATUS_DEGRADED: ["warn", "Needs attention"],
  HEALTH_STATUS_DRAINING: ["bad", "Shutting down"],
};

export class Overview {
  /** @type {Reading[]} */
  #readings = [];
  #sessions = new Trail(1, Math.ceil((shownS * 1_000) / figuresMs) + 2);
  #traffic = new Trail(2, Math.ceil((shownS * 1_000) / figuresMs) + 2);
  #commits = new Trail(2, Math.ceil((shownS * 1_000) / figuresMs) + 2);
  #sessionsChart = new Chart(
    byId("chart-sessions", HTMLElement),
    [{ colour: "--series-1", filled: true }],
    { text: countText, least: 4, whole: true },
  );
  #trafficChart = new Chart(
    byId("chart-traffic", HTMLElement),
    [{ colour: "--series-2" }, { colour: "--series-1", filled: true }],
    { text: shortNumber, least: 2 },
  );
  #commitsChart = new Chart(
    byId("chart-commits", HTMLElement),
    [{ colour: "--series-2" }, { colour: "--series-1", filled: true }],
    { text: waitText, least: 0.004 },
  );
  #meter = new Meter("Live bytes of the most the store may have");
  #address = "";

  constructor() {
    byId("store-meter", HTMLElement).append(this.#meter.element);
  }

  get address() {
    return this.#address;
  }

  /** @param {Health} health */
  showHealth(health) {
    const [level, word] = statuses[health.status ?? ""] ?? ["warn", "Unknown"];
    const status = byId("status", HTMLElement);
    status.dataset.level = level;
    say(status, word);
    document.title = level === "good" ? "Sync Relay" : `${word} – Sync Relay`;
    this.#address = health.address ?? "";
    say(byId("address", HTMLElement), this.#address);
    say(byId("version", HTMLElement), `Version ${health.version ?? "unknown"}`);
    say(byId("uptime", HTMLElement), `up for ${spanText(Number(health.uptimeS ?? 0))}`);
    const texts = (health.problems ?? []).map((problem) => problem.message ?? "");
    const list = byId("problems", HTMLElement);
    if (texts.join("\n") === list.dataset.shown) return;
    list.dataset.shown = texts.join("\n");
    list.replaceChildren(...texts.map((text) => make("li", {}, text)));
    list.hidden = texts.length === 0;
  }

  /** @param {{ metrics?: any[] }} answer */
  showFigures(answer) {
    const reading = readFigures(answer, Date.now());
    const last = this.#readings.at(-1);
    if (last !== undefined) {
      if (reading.uptimeS < last.uptimeS) this.#readings = [];
      if (reading.atMs - last.atMs > gapMs) this.#addGap(last.atMs + 1);
    }
    this.#readings = [...this.#readings, reading].slice(-speedReadings - 1);
    const [before] = this.#readings;
    const speeds = before === undefined ? undefined : speedsBetween(before, reading);
    this.#sessions.add(reading.atMs, [reading.members + reading.lobby]);
    this.#traffic.add(reading.atMs, [speeds?.delivered, speeds?.stored]);
    this.#commits.add(reading.atMs, [speeds?.worst, speeds?.median]);
    this.#showSessions(reading);
    this.#showTraffic(speeds);
    this.#showCommits(reading, speeds);
    this.#showStore(reading);
  }

  remove() {
    for (const chart of [this.#sessionsChart, this.#trafficChart, this.#commitsChart]) {
      chart.remove();
    }
    this.#meter.element.remove();
  }

  /** @param {number} atMs */
  #addGap(atMs) {
    this.#sessions.add(atMs, [undefined]);
    this.#traffic.add(atMs, [undefined, undefined]);
    this.#commits.add(atMs, [undefined, undefined]);
  }

  /** @param {Reading} reading */
  #showSessions({ members, lobby, liveGroups }) {
    const total = members + lobby;
    say(byId("sessions", HTMLElement), countText(total));
    say(byId("sessions-groups", HTMLElement), `in ${counted(liveGroups, "active group")}`);
    say(
      byId("sessions-more", HTMLElement),
      lobby === 0 ? "nobody pairs" : `${countText(lobby)} of them pairing or new`,
    );
    this.#sessionsChart.show(
      this.#sessions.columns,
      `Connected devices, last five minutes: ${countText(total)} now`,
    );
  }

  /** @param {ReturnType<typeof speedsBetween>} speeds */
  #showTraffic(speeds) {
    const { stored = 0, delivered = 0, receivedBytes = 0, sentBytes = 0 } = speeds ?? {};
    say(byId("stored", HTMLElement), shortNumber(stored));
    say(byId("delivered", HTMLElement), shortNumber(delivered));
    say(
      byId("traffic-more", HTMLElement),
      `${sizeText(receivedBytes)}/s in, ${sizeText(sentBytes)}/s out`,
    );
    this.#trafficChart.show(
      this.#traffic.columns,
      `Blobs pushed and delivered per second, last five minutes: ${shortNumber(stored)} and ${shortNumber(delivered)} now`,
    );
  }

  /**
   * @param {Reading} reading
   * @param {ReturnType<typeof speedsBetween>} speeds
   */
  #showCommits({ queuedBytes }, speeds) {
    const { median, worst } = speeds ?? {};
    say(byId("median", HTMLElement), median === undefined ? "–" : waitText(median));
    say(byId("worst", HTMLElement), worst === undefined ? "–" : waitText(worst));
    const waits = queuedBytes === 0 ? "nothing waits" : `${sizeText(queuedBytes)} wait`;
    say(
      byId("commits-more", HTMLElement),
      median === undefined ? `no commits now, ${waits}` : waits,
    );
    this.#commitsChart.show(
      this.#commits.columns,
      median === undefined || worst === undefined
        ? "Commit time, last five minutes: no commits now"
        : `Commit time, last five minutes: half within ${waitText(median)}, 99 of 100 within ${waitText(worst)} now`,
    );
  }

  /** @param {Reading} reading */
  #showStore(reading) {
    const { liveBytes, limitBytes, fileBytes, freeBytes, blobs, groups } = reading;
    const share = percentText(liveBytes, limitBytes);
    const text = `${sizeText(liveBytes)} of ${sizeText(limitBytes)}`;
    this.#meter.show(liveBytes, limitBytes, `${share}, ${text}`);
    say(byId("store-share", HTMLElement), share);
    say(byId("store-of", HTMLElement), text);
    say(byId("store-file", HTMLElement), sizeText(fileBytes));
    say(byId("store-free", HTMLElement), sizeText(freeBytes));
    say(byId("store-blobs", HTMLElement), countText(blobs));
    say(byId("store-groups", HTMLElement), countText(groups));
    say(byId("memory", HTMLElement), sizeText(reading.residentBytes));
    say(byId("loop", HTMLElement), waitText(reading.loopDelayS));
  }
}
