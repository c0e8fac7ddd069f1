/** The view of many seeds side by side. */

import { fillCells, makeCells, Settled } from "./cells.js";
import { count, formatMs, make } from "./dom.js";
import { makeBody } from "./request.js";
import { getState, moveSeed, setState } from "./state.js";

const NUMBER = 24;

/** @param {import("./app.js").Page} page */
export function makeSeedsView(page) {
  const cells = makeCells(NUMBER, (k) => setState({ seed: moveSeed(getState().seed, k), view: "picture" }));
  const summary = make("p", { className: "summary" });
  const move = (distance) => () => setState({ seed: moveSeed(getState().seed, distance) });
  const node = make("figure", {}, make("div", { className: "grid" }, ...cells.map(({ button }) => button)),
    make("figcaption", { className: "row" }, make("button", { type: "button", onclick: move(-NUMBER) }, `← ${NUMBER} before`),
      make("button", { type: "button", onclick: move(NUMBER) }, `${NUMBER} after →`), summary));
  const settled = new Settled();

  function update() {
    const state = getState();
    const seeds = cells.map((_, k) => moveSeed(state.seed, k));
    const bodies = seeds.map((seed) => makeBody(page.model, { ...state, seed }));
    cells.forEach(({ button, caption }, k) => {
      caption.textContent = seeds[k];
      button.setAttribute("aria-label", `Take seed ${seeds[k]}`);
    });
    settled.start(async (signal) => {
      const start = performance.now();
      const facts = await fillCells(cells, bodies, signal);
      const largest = facts.reduce((a, b) => (b.requests > a.requests ? b : a));
      summary.textContent = `${count(NUMBER, "request")} in ${formatMs(performance.now() - start)}; up to ${count(largest.requests, "request")} shared a batch.`;
      page.succeed(null);
    }, page.fail);
  }
  return { node, update, stop: () => settled.stop() };
}
