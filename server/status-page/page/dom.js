// @ts-check
/** Making elements, without ever parsing text as HTML. */

/**
 * An element of the page that must be there.
 *
 * @template {HTMLElement} Kind
 * @param {string} id
 * @param {new () => Kind} kind
 * @returns {Kind}
 */
export function byId(id, kind) {
  const found = document.getElementById(id);
  if (!(found instanceof kind)) throw new Error(`the page has no ${kind.name} #${id}`);
  return found;
}

/** @typedef {Node | string | undefined} Child */

/**
 * A new element. Attributes that are undefined are left out; `on…` are listeners.
 *
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {Record<string, string | undefined | ((event: Event) => void)>} attributes
 * @param {...Child} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else if (value !== undefined) element.setAttribute(name, value);
  }
  for (const child of children) if (child !== undefined) element.append(child);
  return element;
}

/**
 * Sets a text, and touches nothing where it is the same: what somebody has
 * selected stays selected.
 *
 * @param {Element} element
 * @param {string} text
 */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** What stands where a name would, if there were one. */
export function nameless() {
  return make("span", { class: "name none" }, "No label");
}

/** A bar that shows a share, and tells it to those who do not see it. */
export class Meter {
  #fill = make("span", { class: "meter-fill" });
  /** @readonly */
  element;

  /** @param {string} label */
  constructor(label) {
    this.element = make(
      "span",
      { class: "meter", role: "meter", "aria-label": label, "aria-valuemin": "0" },
      this.#fill,
    );
    this.element.setAttribute("aria-valuemax", "100");
  }

  /**
   * @param {number} part
   * @param {number} whole
   * @param {string} text
   */
  show(part, whole, text) {
    const share = whole > 0 ? Math.min(1, Math.max(0, part / whole)) : 0;
    this.#fill.hidden = share === 0;
    this.#fill.style.inlineSize = `${(share * 100).toFixed(2)}%`;
    this.element.dataset.level = share >= 0.9 ? "high" : "normal";
    this.element.setAttribute("aria-valuenow", String(Math.round(share * 100)));
    this.element.setAttribute("aria-valuetext", text);
  }
}

/**
 * Rows that stay themselves while what they show changes: focus and selection
 * outlive every look at the relay.
 *
 * @template Item
 */
export class Rows {
  /** @type {HTMLElement} */
  #parent;
  /** @type {(item: Item) => string} */
  #keyOf;
  /** @type {(item: Item) => Row<Item>} */
  #create;
  /** @type {Map<string, Row<Item>>} */
  #rows = new Map();

  /**
   * @param {HTMLElement} parent
   * @param {(item: Item) => string} keyOf
   * @param {(item: Item) => Row<Item>} create
   */
  constructor(parent, keyOf, create) {
    this.#parent = parent;
    this.#keyOf = keyOf;
    this.#create = create;
  }

  /** @param {readonly Item[]} items */
  show(items) {
    // Those that are gone go first: what stays is then in its place, and moving it would take the focus.
    const kept = new Set(items.map(this.#keyOf));
    for (const [key, row] of this.#rows) {
      if (kept.has(key)) continue;
      for (const element of row.elements) element.remove();
      this.#rows.delete(key);
    }
    /** @type {ChildNode | null} */
    let next = this.#parent.firstChild;
    for (const item of items) {
      const key = this.#keyOf(item);
      let row = this.#rows.get(key);
      if (row === undefined) {
        row = this.#create(item);
        this.#rows.set(key, row);
      }
      row.update(item);
      for (const element of row.elements) {
        if (element === next) next = next.nextSibling;
        else this.#parent.insertBefore(element, next);
      }
    }
  }

  get size() {
    return this.#rows.size;
  }

  clear() {
    this.show([]);
  }
}

/**
 * @template Item
 * @typedef {object} Row
 * @property {readonly HTMLElement[]} elements one after the other
 * @property {(item: Item) => void} update
 */
