/** The line above the picture, which screen readers read aloud. */

import { find } from "./dom.js";

/** @param {string} text empty to remove it @param {"error"|"wait"} [kind] */
export function say(text, kind = "wait") {
  const line = find("status");
  if (line.textContent === text) return;
  line.textContent = text;
  line.dataset.kind = kind;
}
