/** The view of the way from one seed to another: a slider, a filmstrip, and an animation. */

import { makePicture } from "./api.js";
import { fillCells, makeCells, Settled } from "./cells.js";
import { format, make, showBlob } from "./dom.js";
import { describePicture, makeCaption } from "./facts.js";
import { stageHeight } from "./frame.js";
import { Latest } from "./latest.js";
import { makeHero } from "./picture.js";
import { makeBody } from "./request.js";
import { getState, setState } from "./state.js";

const STEPS = 8;
/** Frames of the animation: those of the filmstrip and three between each two. */
const FRAMES = 4 * (STEPS - 1) + 1;
const FRAME_MS = 70;

/** @param {import("./app.js").Page} page */
export function makeInterpolateView(page) {
  const { model } = page;
  /** @type {Map<string, import("./api.js").Made>} amount -> picture, of the present two seeds */
  const frames = new Map();
  const key = (amount) => amount.toFixed(4);
  const hero = makeHero("Picture between two seeds. Left and right arrow keys change the first seed.", () => stageHeight(480));
  const range = make("input", { type: "range", id: "amount", min: 0, max: 1, step: 0.01, "aria-label": "Amount", oninput: () => setState({ amount: Number(range.value) }) });
  const cells = makeCells(STEPS, (k) => setState({ amount: k / (STEPS - 1) }));
  const play = make("button", { type: "button", onclick: toggle }, "Play");
  const ends = [make("span", {}), make("span", {})];
  const caption = make("div", {});
  const node = make("figure", {}, hero.node, make("div", { className: "way" }, play, ends[0], range, ends[1]),
    make("div", { className: "strip" }, ...cells.map(({ button }) => button)), caption);
  const latest = new Latest(({ made, amount }) => keep(made, amount, true), page.fail);
  const film = new Settled();
  const rest = new Settled();
  let timer = 0;
  let wanted = "";

  const bodyAt = (amount) => makeBody(model, getState(), { to_seed: getState().to, amount });
  function keep(made, amount, visible) {
    frames.set(key(amount), made);
    if (visible) show(made, amount);
  }
  async function show(made, amount) {
    page.succeed(made.blob);
    await showBlob(hero.image, made.blob);
    hero.image.alt = `${describePicture(model, getState(), made.facts)}, ${format(amount * 100, 0)} % of the way to seed ${getState().to}`;
    if (!timer) caption.replaceChildren(makeCaption(hero.image.alt, made.facts));
  }

  function update() {
    const { amount, seed, to } = getState();
    range.value = String(amount);
    range.setAttribute("aria-valuetext", `${format(amount * 100, 0)} % of the way`);
    [ends[0].textContent, ends[1].textContent] = [seed, to];
    const now = JSON.stringify(bodyAt(0));
    if (now !== wanted) {
      wanted = now;
      frames.clear();
      rest.stop();
      if (timer) toggle();
      const amounts = cells.map((_, k) => k / (STEPS - 1));
      cells.forEach(({ button }, k) => button.setAttribute("aria-label", `${format(amounts[k] * 100, 0)} % of the way`));
      film.start(async (signal) => void (await fillCells(cells, amounts.map(bodyAt), signal, (made, k) => keep(made, amounts[k], false))), page.fail);
    }
    cells.forEach(({ button }, k) => button.setAttribute("aria-pressed", String(Math.abs(k / (STEPS - 1) - amount) < 1e-6)));
    const made = frames.get(key(amount));
    if (made) return show(made, amount);
    const body = bodyAt(amount);
    latest.submit(async (signal) => ({ made: await makePicture(body, new Map(), signal), amount }));
  }

  /** Play what has been fetched, there and back; what is missing is fetched meanwhile. */
  function toggle() {
    clearInterval(timer);
    play.textContent = timer ? "Play" : "Pause";
    if (timer) {
      timer = 0;
      rest.stop();
      return setState({ amount: Number(range.value) });
    }
    let at = Number(range.value);
    let direction = 1;
    timer = setInterval(() => {
      const step = direction / (FRAMES - 1);
      if (at + step > 1.0001 || at + step < -0.0001) direction = -direction;
      else at += step;
      const nearest = Math.round(at * (FRAMES - 1)) / (FRAMES - 1);
      const made = frames.get(key(nearest));
      if (!made) return;
      range.value = String(nearest);
      show(made, nearest);
    }, FRAME_MS);
    rest.start(async (signal) => {
      for (let k = 0; k < FRAMES; k++) {
        const amount = k / (FRAMES - 1);
        if (!frames.has(key(amount))) keep(await makePicture(bodyAt(amount), new Map(), signal), amount, false);
      }
    }, page.fail);
  }

  const stop = () => {
    clearInterval(timer);
    [latest, film, rest].forEach((job) => job.stop());
  };
  return { node, update, stop };
}
