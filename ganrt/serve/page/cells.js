/** Small pictures side by side, each a request of its own: the server puts them into shared batches. */

import { make, showBlob } from "./dom.js";
import { makePicture } from "./api.js";

/**
 * @typedef {{button: HTMLButtonElement, image: HTMLImageElement, caption: HTMLElement}} Cell
 * @param {(cell: number) => void} choose @param {number} number of cells @returns {Cell[]}
 */
export function makeCells(number, choose) {
  return Array.from({ length: number }, (_, k) => {
    const image = make("img", { alt: "", className: "crisp" });
    const caption = make("span", {});
    image.addEventListener("load", () => image.classList.toggle("crisp", image.naturalWidth <= 128));
    return { button: make("button", { type: "button", className: "cell", onclick: () => choose(k) }, image, caption), image, caption };
  });
}

/**
 * Fill cells with the pictures of requests.
 * @param {Cell[]} cells @param {Record<string, any>[]} bodies one per cell @param {AbortSignal} signal
 * @param {(made: import("./api.js").Made, cell: number) => void} [receive]
 * @returns {Promise<import("./api.js").Facts[]>}
 */
export function fillCells(cells, bodies, signal, receive = () => {}) {
  return Promise.all(bodies.map(async (body, k) => {
    const made = await makePicture(body, new Map(), signal);
    if (signal.aborted) throw signal.reason;
    receive(made, k);
    await showBlob(cells[k].image, made.blob);
    return made.facts;
  }));
}

/** A job that starts when nothing has changed for a moment, and is aborted when something does. */
export class Settled {
  #control = new AbortController();
  #timer = 0;

  /** @param {(signal: AbortSignal) => Promise<void>} job @param {(error: Error) => void} fail */
  start(job, fail) {
    this.stop();
    const { signal } = (this.#control = new AbortController());
    this.#timer = setTimeout(() => job(signal).catch((error) => signal.aborted || fail(error)), 120);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#control.abort();
  }
}
