/** The view of several models of one bundle on the same request, and of their differences. */

import { makePicture } from "./api.js";
import { count, make, showBlob } from "./dom.js";
import { compare, drawDifference, readPixels } from "./difference.js";
import { makeTiming } from "./facts.js";
import { fitPicture, stageHeight } from "./frame.js";
import { Latest } from "./latest.js";
import { makeInvitation } from "./picture.js";
import { areMissing, getBlobs } from "./photos.js";
import { makeBody } from "./request.js";
import { getState, setState } from "./state.js";

/** @typedef {import("./api.js").Model} Model */

/** @param {import("./app.js").Page} page */
export function makeCompareView(page) {
  const others = page.models.filter((m) => m.bundle === page.model.bundle && m !== page.model);
  const node = make("figure", {});
  if (!others.length) {
    const command = `ganrt serve ${page.model.bundle}.ganrt --backend onnxruntime --backend openvino`;
    node.append(make("div", { className: "mat invitation" }, make("p", {}, "One model of this bundle is served. To compare two:"), make("code", {}, command)));
    return { node, update: () => {}, stop: () => {} };
  }
  const cards = new Map([page.model, ...others].map((model) => [model.name, makeCard(model)]));
  const differences = new Map(others.map((model) => [model.name, makeDifference(model, page.model.name)]));
  const gain = make("input", { type: "range", id: "gain", min: 1, max: 64, step: 1, oninput: () => setState({ gain: Number(gain.value) }) });
  const value = make("output", { for: "gain" });
  const bar = make("div", { className: "row gain" }, make("label", { for: "gain" }, "Difference amplified ", value), gain,
    ...(others.length > 1 ? others.map(makeChoice) : []));
  const grid = make("div", { className: "cards" }, ...[...cards.values()].map((card) => card.node));
  // Two pictures and their difference are a row; of more, each difference is below its picture.
  for (const [name, { node: difference }] of differences) (others.length > 1 ? cards.get(name).node : grid).append(difference);
  const latest = new Latest(show, page.fail, (busy) => node.setAttribute("aria-busy", String(busy)));
  let pixels = /** @type {Map<string, ImageData>} */ (new Map());

  /** @param {Model} model */
  function makeChoice({ name }) {
    const box = make("input", { type: "checkbox", checked: !getState().without.includes(name) });
    box.addEventListener("change", () => setState({ without: box.checked ? getState().without.filter((n) => n !== name) : [...getState().without, name] }));
    return make("label", { className: "check" }, box, name);
  }

  /** @param {Set<string>} [changed] */
  function update(changed) {
    const state = getState();
    gain.value = String(state.gain);
    value.textContent = `× ${state.gain}`;
    if (changed?.size === 1 && changed.has("gain")) return drawDifferences();
    if (areMissing(page.model)) return node.replaceChildren(makeInvitation(page));
    if (node.firstChild !== bar) node.replaceChildren(bar, grid);
    const chosen = [page.model, ...others.filter((m) => !state.without.includes(m.name))];
    for (const [name, { node }] of [...cards, ...differences]) node.hidden = !chosen.some((m) => m.name === name);
    const [bodies, blobs] = [chosen.map((model) => makeBody(model, state)), getBlobs()];
    latest.submit(async (signal) => {
      const made = new Map(); // one after the other: they would slow each other down, and the times would tell nothing
      for (const body of bodies) made.set(body.model, await makePicture(body, blobs, signal));
      return made;
    });
  }

  async function show(made) {
    page.succeed(made.get(page.model.name).blob);
    pixels = new Map(await Promise.all([...made].map(async ([name, { blob }]) => [name, await readPixels(blob)])));
    for (const [name, { blob, facts }] of made) cards.get(name).show(blob, facts);
    drawDifferences();
  }

  function drawDifferences() {
    const reference = pixels.get(page.model.name);
    for (const [name, other] of pixels) differences.get(name)?.show(reference, other, getState().gain);
  }
  return { node, update, stop: () => latest.stop() };
}

/** @param {Model} model */
function makeCard(model) {
  const image = make("img", { alt: `Picture of ${model.name}` });
  const timing = make("div", {});
  const proof = model.psnr === null ? "not proven" : `proven at ${model.psnr.toFixed(1)} dB`;
  const node = make("section", { className: "card", "aria-label": model.name }, image, make("h3", {}, model.backend),
    make("p", {}, `${model.variant} · ${model.precision} · ${proof}`), timing);
  fitPicture(node, image, image, () => stageHeight(390));
  return { node, show: (blob, facts) => (showBlob(image, blob), timing.replaceChildren(makeTiming(facts))) };
}

/** @param {Model} model @param {string} reference name of the model that it is compared with */
function makeDifference(model, reference) {
  const canvas = make("canvas", { role: "img", width: 1, height: 1 });
  const result = make("p", { className: "result" });
  const node = make("section", { className: "card", "aria-label": `Difference of ${model.name}` }, canvas,
    make("h3", {}, "Difference"), make("p", {}, `${model.name} − ${reference}`), result);
  fitPicture(node, canvas, canvas, () => stageHeight(390));
  return {
    node,
    /** @param {ImageData} a @param {ImageData} b @param {number} gain */
    show(a, b, gain) {
      const same = a.width === b.width && a.height === b.height;
      canvas.hidden = !same;
      if (!same) return (result.textContent = "The sizes differ.");
      drawDifference(canvas, a, b, gain, node.clientWidth * devicePixelRatio);
      canvas.dispatchEvent(new Event("load"));
      const { psnr, largest } = compare(a, b);
      result.textContent = largest ? `${psnr.toFixed(1)} dB. At most ${count(largest, "level")} of 255.` : "Every pixel is equal.";
      canvas.setAttribute("aria-label", `Difference times ${gain}: ${result.textContent}`);
    },
  };
}
