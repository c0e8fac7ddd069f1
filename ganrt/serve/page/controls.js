/** The controls of a model: only those that it has. */

import { format, make } from "./dom.js";
import { makeFields } from "./photos.js";
import { chosenClass } from "./request.js";
import { getState, LARGEST_SEED, moveSeed, parseWhole, setState } from "./state.js";

/** @typedef {import("./state.js").State} State @typedef {{node: HTMLElement, update: (state: State) => void}} Control */

const MOST_BUTTONS = 20;

/**
 * @param {import("./api.js").Model} model @param {() => void} photosChanged
 */
export function makeControls(model, photosChanged) {
  const fields = makeFields(model, photosChanged);
  /** @type {Control[]} */
  const controls = fields.nodes.map((node) => ({ node, update: () => {} }));
  if (model.seeded) controls.push(makeSeed("Seed", "seed"));
  if (model.interpolates) controls.push(makeSeed("To seed", "to", (state) => state.view !== "interpolate"));
  if (model.classes) controls.push(makeClasses(model));
  if (model.truncation) controls.push(makeTruncation(model.truncation));
  for (const scalar of model.scalars) controls.push(makeScalar(scalar));
  if (model.seeded) controls.push(makeIndex());
  return {
    nodes: controls.map(({ node }) => node),
    take: fields.take,
    update: (/** @type {State} */ state) => controls.forEach((control) => control.update(state)),
  };
}

/** A whole number below 2^64: a field that says what is wrong, and takes up and down keys. */
function makeWhole(name, key, className) {
  const problem = make("p", { id: `${key}-problem`, className: "problem", role: "alert" });
  const input = make("input", { id: key, className, inputMode: "numeric", spellcheck: false, "aria-describedby": problem.id });
  const check = () => {
    const value = parseWhole(input.value);
    problem.textContent = value === null ? `${name} is a whole number from 0 to ${LARGEST_SEED}.` : "";
    input.setAttribute("aria-invalid", String(value === null));
    if (value !== null && value !== getState()[key]) setState({ [key]: value });
  };
  input.addEventListener("input", check);
  input.addEventListener("keydown", (event) => {
    const step = { ArrowUp: 1, ArrowDown: -1 }[event.key];
    if (!step) return;
    event.preventDefault();
    setState({ [key]: moveSeed(getState()[key], step) });
  });
  const update = (state) => {
    if (parseWhole(input.value) !== state[key]) input.value = state[key];
    if (input.value.length !== Number(input.dataset.digits)) input.dataset.digits = input.value.length; // long ones are set smaller
    problem.textContent = "";
    input.setAttribute("aria-invalid", "false");
  };
  return { input, problem, update };
}

/** @param {string} name @param {"seed"|"to"} key @param {(state: State) => boolean} [isHidden] @returns {Control} */
function makeSeed(name, key, isHidden = () => false) {
  const { input, problem, update } = makeWhole(name, key, "seed");
  const move = (distance) => () => setState({ [key]: moveSeed(getState()[key], distance) });
  const random = () => setState({ [key]: String(crypto.getRandomValues(new Uint32Array(1))[0] % 1_000_000) }); // short enough to remember
  const button = (text, label, onclick) => make("button", { type: "button", onclick, "aria-label": label }, text);
  const node = make("div", { className: "field" }, make("label", { for: key }, name), input,
    make("div", { className: "buttons" }, button("←", `${name}: previous`, move(-1)), button("→", `${name}: next`, move(1)),
      button("Random", `${name}: random`, random)), problem);
  return { node, update: (state) => (update(state), (node.hidden = isHidden(state))) };
}

/** @returns {Control} */
function makeIndex() {
  const { input, problem, update } = makeWhole("Sample", "index", "small");
  const node = make("div", { className: "field line" }, make("label", { for: "index" }, "Sample of this seed"), input, problem);
  return { node, update };
}

/** @param {import("./api.js").Model} model @returns {Control} */
function makeClasses(model) {
  const names = [null, ...Array(model.classes).keys()];
  const text = (label) => (label === null ? "drawn from the seed" : String(label));
  const choose = (value) => setState({ label: value === "" ? null : Number(value) });
  if (model.classes > MOST_BUTTONS) {
    const select = make("select", { id: "label", onchange: () => choose(select.value) },
      ...names.map((label) => make("option", { value: label ?? "" }, text(label))));
    const node = make("div", { className: "field" }, make("label", { for: "label" }, "Class"), select);
    return { node, update: (state) => (select.value = String(chosenClass(model, state) ?? "")) };
  }
  const radios = names.map((label) => make("input", { type: "radio", name: "label", value: label ?? "", onchange: () => choose(String(label ?? "")) }));
  const node = make("fieldset", { className: "field chips" }, make("legend", {}, "Class"),
    ...radios.map((radio, k) => make("label", {}, radio, make("span", {}, text(names[k])))));
  return { node, update: (state) => radios.forEach((radio, k) => (radio.checked = names[k] === chosenClass(model, state))) };
}

/**
 * A slider with its value, and a button that takes it back.
 * @param {string} id @param {string} name @param {number} low @param {number} high @param {string} reset text of the button
 * @param {(state: State) => number|null} read null: at rest @param {number} rest
 * @param {(value: number|null) => void} write @returns {Control}
 */
function makeSlider(id, name, low, high, reset, read, rest, write) {
  const value = make("output", { for: id });
  const range = make("input", { type: "range", id, min: low, max: high, step: (high - low) / 100, oninput: () => write(Number(range.value)) });
  const back = make("button", { type: "button", className: "quiet", "aria-label": `${name}: ${reset}`, onclick: () => (write(null), range.focus()) }, reset);
  const node = make("div", { className: "field slider" }, make("label", { for: id }, name), value, back, range);
  return {
    node,
    update: (state) => {
      const number = read(state);
      range.value = String(number ?? rest);
      value.textContent = number === null && reset === "off" ? "the model’s own" : format(number ?? rest);
      range.setAttribute("aria-valuetext", value.textContent);
      back.hidden = number === null;
    },
  };
}

/** @param {{low: number, high: number|null}} range */
const makeTruncation = ({ low, high }) =>
  makeSlider("truncation", "Truncation", low, high ?? 2, "off", (state) => state.truncation, high ?? 2, (truncation) => setState({ truncation }));

/** @param {{name: string, low: number, high: number, default: number}} scalar */
function makeScalar({ name, low, high, default: rest }) {
  const write = (value) => {
    const { [name]: _, ...others } = getState().inputs;
    setState({ inputs: value === null || value === rest ? others : { ...others, [name]: value } });
  };
  const title = name[0].toUpperCase() + name.slice(1).replaceAll("_", " ");
  return makeSlider(`input-${name}`, title, low, high, "reset", (state) => state.inputs[name] ?? null, rest, write);
}
