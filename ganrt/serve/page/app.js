/** The page: loads the list of models, and puts the controls and the view together. */

import { listModels } from "./api.js";
import { makeInterpolateView } from "./interpolate.js";
import { makeCompareView } from "./compare.js";
import { makeControls } from "./controls.js";
import { find, make } from "./dom.js";
import { makePictureView } from "./picture.js";
import { catchDrops } from "./photos.js";
import { writeCurl, writePython } from "./request.js";
import { makeSeedsView } from "./seeds.js";
import { getState, setState, watch } from "./state.js";
import { say } from "./status.js";
import { getToken } from "./token.js";

/**
 * @typedef {import("./api.js").Model} Model
 * @typedef {object} Page what a view is made for
 * @property {Model} model @property {Model[]} models
 * @property {(blob: Blob|null) => void} succeed a picture has come; null where there is not one to download
 * @property {(error: Error) => void} fail
 */

const VIEWS = {
  picture: { title: "Picture", make: makePictureView, fits: () => true },
  seeds: { title: "Seeds", make: makeSeedsView, fits: (model) => model.seeded && model.kind === "sample" },
  interpolate: { title: "Interpolate", make: makeInterpolateView, fits: (model) => model.interpolates },
  compare: { title: "Compare", make: makeCompareView, fits: () => true },
};

/** @type {Model[]} */
let models = [];
let view = { node: document.body, update: (_) => {}, stop: () => {} };
let controls = { nodes: [], take: (_) => {}, update: (_) => {} };
let built = { model: "", view: "" };
let download = "";

const chooseModel = () => models.find((model) => model.name === getState().model) ?? models[0];
const chooseView = (model) => (VIEWS[getState().view].fits(model) ? getState().view : "picture");

/** @param {Set<string>} changed names of the fields of the state */
function update(changed) {
  const model = chooseModel();
  const name = chooseView(model);
  if (built.model !== model.name) buildModel(model);
  if (built.model !== model.name || built.view !== name) buildView(model, name);
  controls.update(getState());
  view.update(changed);
}

/** @param {Model} model */
function buildModel(model) {
  controls = makeControls(model, () => view.update(new Set(["photos"])));
  find("controls").replaceChildren(...controls.nodes);
  find("model").value = model.name;
  document.title = `${model.name} · ganrt`;
  const size = model.output.size ? `${model.output.size[1]} × ${model.output.size[0]}` : model.output.scale === 1 ? "that of the input" : `${model.output.scale} times the input`;
  const facts = { family: model.family, backend: model.backend, variant: model.variant, precision: model.precision,
    device: model.threads ? `${model.device}, ${model.threads} threads` : model.device,
    proof: model.psnr === null ? "none" : `${model.psnr.toFixed(1)} dB in the worst golden sample`, size };
  find("about").replaceChildren(...Object.entries(facts).map(([name, text]) => make("div", {}, make("dt", {}, name), make("dd", {}, text))));
  built = { model: model.name, view: "" };
}

/** @param {Model} model @param {string} name */
function buildView(model, name) {
  view.stop();
  say("");
  const page = { model, models, succeed, fail: (error) => say(error.message, "error") };
  view = VIEWS[name].make(page);
  built.view = name;
  find("view").replaceChildren(view.node);
  const fitting = Object.entries(VIEWS).filter(([, other]) => other.fits(model));
  find("views").replaceChildren(...fitting.map(([key, { title }]) =>
    make("button", { type: "button", "aria-current": key === name ? "page" : "false", onclick: () => (setState({ view: key }), find("views").querySelector("[aria-current=page]").focus()) }, title)));
  succeed(null);
}

/** @param {Blob|null} blob */
function succeed(blob) {
  const model = chooseModel();
  if (blob !== null) say("");
  URL.revokeObjectURL(download);
  download = blob ? URL.createObjectURL(blob) : "";
  const name = model.seeded ? `${model.bundle}-${getState().seed}.png` : `${model.bundle}.png`;
  const copy = (title, write) => make("button", { type: "button", className: "quiet", onclick: (event) => copyText(event.target, write(chooseModel(), getState(), getToken() !== null)) }, title);
  if (find("actions").childElementCount === 0) {
    find("actions").append(make("a", { id: "download" }, "Download"), copy("Copy as curl", writeCurl), copy("Copy as Python", writePython));
  }
  Object.assign(find("download"), { download: name, href: download, hidden: !blob });
}

/** @param {HTMLElement} button @param {string} text */
async function copyText(button, text) {
  const title = button.textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no permission, or an address that is not https
    const area = make("textarea", { value: text });
    document.body.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = title), 1200);
}

async function start() {
  say("Loading …", "wait");
  models = await listModels();
  say("");
  if (!models.length) return say("The server has no models.", "error");
  const bundles = [...new Set(models.map((model) => model.bundle))];
  const option = (model) => make("option", { value: model.name }, model.name);
  find("model").append(...bundles.map((bundle) => make("optgroup", { label: bundle }, ...models.filter((m) => m.bundle === bundle).map(option))));
  find("model").addEventListener("change", (event) => {
    const next = models.find((model) => model.name === event.target.value);
    const same = next.bundle === chooseModel().bundle;
    setState({ model: next.name, ...(!same && { label: null, truncation: null, inputs: {} }) }); // ranges differ between bundles
  });
  find("skip").addEventListener("click", (event) => {
    event.preventDefault(); // the part of the address behind # is the state
    find("stage").focus();
  });
  find("controls").addEventListener("submit", (event) => event.preventDefault());
  catchDrops(document, (file) => chooseModel().pictures.length && controls.take(file));
  addEventListener("paste", (event) => {
    const [file] = event.clipboardData?.files ?? [];
    if (file && chooseModel().pictures.length) controls.take(file);
  });
  watch((_, changed) => update(changed));
  update(new Set());
}

start().catch((error) => say(error.message, "error"));
