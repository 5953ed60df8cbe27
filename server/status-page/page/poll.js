// @ts-check
/**
 * Looks again and again while somebody looks at the page.
 *
 * The API could stream the same figures, but a stream says nothing sooner than once
 * a second, and a tab that is forgotten would hold one of the few there are; this
 * way a hidden tab costs the relay nothing.
 */
export class Poll {
  /** @type {() => Promise<void>} */
  #look;
  /** @type {number} */
  #intervalMs;
  /** @type {ReturnType<typeof setTimeout> | undefined} */
  #timer;
  #looking = false;
  #again = false;
  #stopped = false;

  /**
   * @param {() => Promise<void>} look never rejects
   * @param {number} intervalMs
   */
  constructor(look, intervalMs) {
    this.#look = look;
    this.#intervalMs = intervalMs;
    document.addEventListener("visibilitychange", this.#onVisibility);
    this.now();
  }

  /** Looks at once; what is under way is awaited first, as it may be older than the reason to look. */
  now() {
    if (this.#looking) {
      this.#again = true;
      return;
    }
    clearTimeout(this.#timer);
    this.#looking = true;
    void this.#look().finally(() => {
      this.#looking = false;
      if (this.#stopped) return;
      if (this.#again) {
        this.#again = false;
        this.now();
      } else if (!document.hidden) {
        this.#timer = setTimeout(() => this.now(), this.#intervalMs);
      }
    });
  }

  stop() {
    this.#stopped = true;
    clearTimeout(this.#timer);
    document.removeEventListener("visibilitychange", this.#onVisibility);
  }

  #onVisibility = () => {
    if (document.hidden) clearTimeout(this.#timer);
    else this.now();
  };
}
