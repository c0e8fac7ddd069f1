/** The token of a server that asks for one. */

import { find } from "./dom.js";

const KEY = "ganrt.token";
/** @type {Promise<void>|null} many requests are refused at once: one question for all */
let asking = null;

export const getToken = () => sessionStorage.getItem(KEY);

/** Ask for a token, unless another than the refused one was given meanwhile. @param {string|null} refused */
export function askToken(refused) {
  if (getToken() !== refused) return Promise.resolve();
  asking ??= new Promise((resolve) => {
    const dialog = find("token");
    const field = dialog.querySelector("input");
    if (refused) find("token-text").textContent = "The server does not accept this token. Try another one.";
    field.value = "";
    dialog.addEventListener("cancel", (event) => event.preventDefault()); // nothing can be shown without one
    dialog.addEventListener("close", () => {
      sessionStorage.setItem(KEY, field.value.trim());
      asking = null;
      resolve();
    }, { once: true });
    dialog.showModal();
  });
  return asking;
}
