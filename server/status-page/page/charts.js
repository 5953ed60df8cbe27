// @ts-check
/** A live graph of the last minutes, by uPlot. */
import uPlot from "./uplot.js";

const height = 132;
/** How much time a graph shows, in seconds. */
export const shownS = 300;

/**
 * A colour of the page as it is now: light or dark.
 *
 * @param {string} name
 */
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

/**
 * @typedef {object} Line
 * @property {string} colour the name of the page's colour
 * @property {boolean} [filled]
 */

export class Chart {
  #plot;
  /** @type {HTMLElement} */
  #parent;
  #observer;
  #dark = matchMedia("(prefers-color-scheme: dark)");

  /**
   * @param {HTMLElement} parent
   * @param {Line[]} lines
   * @param {object} options
   * @param {(value: number) => string} options.text how a value is written
   * @param {number} options.least the top of the scale at least: a calm line lies low
   * @param {boolean} [options.whole] only whole numbers are marked
   */
  constructor(parent, lines, { text, least, whole = false }) {
    this.#parent = parent;
    /** @type {uPlot.Options} */
    const options = {
      width: Math.max(160, parent.clientWidth),
      height,
      padding: [8, 4, 9, 0],
      legend: { show: false },
      cursor: { show: false },
      select: { show: false, left: 0, top: 0, width: 0, height: 0 },
      scales: {
        x: { time: true, range: (_, __, newest) => [(newest ?? 0) - shownS, newest ?? 0] },
        y: { range: (_, __, highest) => [0, Math.max(least, (highest ?? 0) * 1.15)] },
      },
      axes: [
        { show: false },
        {
          size: 52,
          gap: 6,
          space: 26,
          font: "11px system-ui, sans-serif",
          stroke: () => colour("--muted"),
          grid: { stroke: () => colour("--line"), width: 1 },
          ticks: { show: false },
          ...(whole
            ? { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000] }
            : {}),
          values: (_, marks) => marks.map((mark) => text(mark)),
        },
      ],
      series: [
        {},
        ...lines.map((line) => ({
          stroke: () => colour(line.colour),
          ...(line.filled === true ? { fill: () => `${colour(line.colour)}22` } : {}),
          width: 1.75,
          points: { show: false },
          spanGaps: false,
        })),
      ],
    };
    this.#plot = new uPlot(options, [[], ...lines.map(() => [])], parent);
    this.#observer = new ResizeObserver(() => {
      const width = parent.clientWidth;
      if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height });
    });
    this.#observer.observe(parent);
    this.#dark.addEventListener("change", this.#redraw);
  }

  /**
   * @param {(number | null)[][]} columns times in seconds, then a column for each line
   * @param {string} summary what the graph says, for those who do not see it
   */
  show(columns, summary) {
    this.#plot.setData(/** @type {any} */ (columns));
    this.#parent.setAttribute("aria-label", summary);
  }

  remove() {
    this.#observer.disconnect();
    this.#dark.removeEventListener("change", this.#redraw);
    this.#plot.destroy();
  }

  #redraw = () => this.#plot.redraw();
}
