/** The view of one picture: a sample, or a photograph before and after. */

import { makePicture } from "./api.js";
import { make, showBlob } from "./dom.js";
import { describePicture, makeCaption } from "./facts.js";
import { fitPicture, stageHeight } from "./frame.js";
import { Latest } from "./latest.js";
import { areMissing, getBlobs } from "./photos.js";
import { makeBody } from "./request.js";
import { getState, moveSeed, setState } from "./state.js";
import { makeBeforeAfter } from "./before_after.js";

/** @typedef {import("./app.js").Page} Page */

/** A picture on its mat; left and right keys change the seed. @param {string} label @param {() => number} [height] */
export function makeHero(label, height = () => stageHeight()) {
  const image = make("img", { alt: "" });
  const frame = make("div", { className: "hero" }, image);
  const node = make("div", { className: "mat", tabIndex: 0, role: "group", "aria-label": label }, frame);
  node.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step) return;
    event.preventDefault();
    setState({ seed: moveSeed(getState().seed, step) });
  });
  fitPicture(node, frame, image, height);
  return { node, image };
}

/** @param {Page} page */
export function makePictureView(page) {
  const { model } = page;
  const figure = make("figure", {});
  const stage = model.kind === "transform" ? makeBeforeAfter() : null;
  const hero = makeHero("Picture. Left and right arrow keys change the seed.");
  const latest = new Latest(show, fail, (busy) => figure.setAttribute("aria-busy", String(busy)));

  function update() {
    if (areMissing(model)) return figure.replaceChildren(makeInvitation(page));
    const [state, blobs] = [getState(), getBlobs()];
    const [photo] = blobs.values();
    if (photo && figure.firstChild !== stage.node) figure.replaceChildren(makePreview(photo));
    latest.submit(async (signal) => ({ ...(await makePicture(makeBody(model, state), blobs, signal)), photo, state }));
  }

  async function show({ blob, facts, photo, state }) {
    page.succeed(blob);
    const sizes = stage ? await stage.show(photo, blob) : await showBlob(hero.image, blob);
    const title = [sizes, describePicture(model, state, facts)].filter(Boolean).join(" · ");
    hero.image.alt = title;
    const [picture, caption] = [stage?.node ?? hero.node, makeCaption(title, facts)];
    if (figure.firstChild === picture) figure.lastChild.replaceWith(caption); // the picture keeps the focus
    else figure.replaceChildren(picture, caption);
  }

  function fail(error) {
    page.fail(error);
    if (stage && figure.firstChild !== stage.node) figure.replaceChildren(makeInvitation(page));
  }

  return { node: figure, update, stop: () => latest.stop() };
}

/** A photograph while the model works on it. @param {Blob} photo */
function makePreview(photo) {
  const image = make("img", { alt: "The photograph, which the model works on" });
  const frame = make("div", { className: "hero" }, image);
  const node = make("div", { className: "mat" }, frame);
  image.addEventListener("error", () => frame.remove()); // the server says what is wrong with it
  fitPicture(node, frame, image, () => stageHeight());
  showBlob(image, photo);
  return node;
}

/** What is shown as long as a picture is missing. @param {Page} page */
export function makeInvitation({ model }) {
  const missing = model.pictures.find(({ name }) => !getBlobs().has(name)) ?? model.pictures[0];
  const button = make("button", { type: "button", className: "primary", onclick: () => document.getElementById(`photo-${missing.name}`).click() }, "Choose a file");
  const what = model.pictures.length > 1 ? `the ${missing.name} picture` : "a photograph";
  return make("div", { className: "mat invitation" }, make("p", { className: "large" }, `Drop ${what} here`), make("p", {}, "or paste it, or"), button);
}
