// @ts-check
/** Asking before something is done, saying that it was done, and copying. */
import { byId, say } from "./dom.js";

/**
 * Asks whether to do something. The way out is what Enter and Escape do.
 *
 * @param {{ title: string, text: string, action: string }} question
 * @returns {Promise<boolean>}
 */
export function confirmed({ title, text, action }) {
  const dialog = byId("confirm", HTMLDialogElement);
  say(byId("confirm-title", HTMLElement), title);
  say(byId("confirm-text", HTMLElement), text);
  say(byId("confirm-yes", HTMLElement), action);
  dialog.returnValue = "no";
  dialog.showModal();
  byId("confirm-no", HTMLElement).focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}

/** @type {ReturnType<typeof setTimeout> | undefined} */
let fading;

/**
 * Says that something happened, to eyes and to screen readers.
 *
 * @param {string} text
 */
export function announce(text) {
  const notice = byId("notice", HTMLElement);
  say(notice, text);
  notice.dataset.shown = "true";
  clearTimeout(fading);
  fading = setTimeout(() => {
    notice.dataset.shown = "false";
    say(notice, "");
  }, 6_000);
}

/**
 * Copies a text; where the browser allows none, selects it for the person to copy.
 *
 * @param {HTMLElement} source
 */
export async function copy(source) {
  try {
    await navigator.clipboard.writeText(source.textContent ?? "");
    announce("Copied.");
  } catch {
    getSelection()?.selectAllChildren(source);
    announce("Selected: press Ctrl+C to copy.");
  }
}

/** Makes every button that names a text copy it. */
export function bindCopyButtons() {
  for (const button of document.querySelectorAll("button[data-copies]")) {
    if (!(button instanceof HTMLButtonElement)) continue;
    const source = byId(button.dataset.copies ?? "", HTMLElement);
    button.addEventListener("click", () => void copy(source));
  }
}
