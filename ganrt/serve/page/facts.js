/** The caption of a picture: what it is, in which batch it was computed, and where the time went. */

import { count, formatMs, make } from "./dom.js";
import { chosenClass } from "./request.js";

/** @typedef {import("./api.js").Facts} Facts */

const STAGES = ["queue", "compute", "encode"];

/** @param {import("./api.js").Model} model @param {import("./state.js").State} state @param {Facts} facts */
export function describePicture(model, state, facts) {
  const words = model.seeded ? [`seed ${facts.seed}`, `sample ${facts.index}`] : [];
  if (facts.label !== null) words.push(`class ${facts.label}${chosenClass(model, state) === null ? ", drawn from the seed" : ""}`);
  return words.join(" · ");
}

/** @param {Facts} facts */
const describeBatch = ({ rows, requests }) =>
  rows > 1 ? `Travelled in a batch of ${count(rows, "picture")} of ${count(requests, "request")}.` : "Computed in a batch of its own.";

/** A stacked bar of the round trip. @param {Facts} facts */
export function makeTiming(facts) {
  const known = STAGES.map((name) => [name, facts.timing[name] ?? 0]);
  const rest = Math.max(0, facts.total - known.reduce((sum, [, ms]) => sum + ms, 0));
  const parts = [...known, ["rest", rest]];
  const bar = make("div", { className: "bar", "aria-hidden": "true" });
  const list = make("dl", {});
  for (const [name, ms] of parts) {
    const piece = make("span", { className: name });
    piece.style.flexGrow = String(ms);
    bar.append(piece);
    list.append(make("div", {}, make("dt", { className: name }, name), make("dd", {}, formatMs(ms))));
  }
  list.append(make("div", { className: "total" }, make("dt", {}, "total"), make("dd", {}, formatMs(facts.total))));
  return make("div", { className: "timing" }, bar, list);
}

/** @param {string} title @param {Facts} facts */
export const makeCaption = (title, facts) =>
  make("figcaption", {}, make("p", {}, title && make("strong", {}, title), make("span", {}, describeBatch(facts))), makeTiming(facts));
