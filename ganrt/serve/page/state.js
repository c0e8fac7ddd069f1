/** What the page shows, kept in the address after `#`, so that a link shows the same picture. */

export const LARGEST_SEED = 2n ** 64n - 1n;

/**
 * @typedef {object} State
 * @property {string} model name of a model; "" for the first
 * @property {"picture"|"seeds"|"interpolate"|"compare"} view
 * @property {string} seed decimal: numbers of JavaScript are exact up to 2^53 only
 * @property {string} index
 * @property {number|null} label null: drawn from the seed
 * @property {number|null} truncation null: the model's own
 * @property {string} to seed at the end of the interpolation
 * @property {number} amount
 * @property {Record<string, number>} inputs scalars that are not at their default
 * @property {string[]} without models that are left out of the comparison
 * @property {number} gain amplification of the difference
 */

/** @type {State} */
const DEFAULTS = {
  model: "", view: "picture", seed: "7", index: "0", label: null, truncation: null,
  to: "9", amount: 0.5, inputs: {}, without: [], gain: 32,
};

/** @type {State} */
let state = read();
/** @type {((state: State, changed: Set<string>) => void)[]} */
const listeners = [];
let timer = 0;

export const getState = () => state;

/** Be called after every change. @param {(state: State, changed: Set<string>) => void} listener */
export const watch = (listener) => listeners.push(listener);

/** Change some fields. @param {Partial<State>} patch */
export function setState(patch) {
  state = { ...state, ...patch };
  clearTimeout(timer);
  timer = setTimeout(write, 200); // browsers refuse more than about 100 changes of the address in 30 s
  for (const listener of listeners) listener(state, new Set(Object.keys(patch)));
}

/** @param {string} text @returns {string|null} the number without leading zeros; null if it is no whole number below 2^64 */
export function parseWhole(text) {
  if (!/^\d{1,40}$/.test(text.trim())) return null;
  const number = BigInt(text.trim());
  return number <= LARGEST_SEED ? number.toString() : null;
}

/** A neighbour of a seed; the last one is followed by 0. @param {string} seed @param {number} distance */
export const moveSeed = (seed, distance) => BigInt.asUintN(64, BigInt(seed) + BigInt(distance)).toString();

function write() {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(state)) {
    if (name === "inputs") for (const [key, number] of Object.entries(value)) query.set(`in.${key}`, String(number));
    else if (String(value ?? "") !== String(DEFAULTS[name] ?? "") || name === "seed") query.set(name, String(value ?? ""));
  }
  history.replaceState(null, "", `#${query}`);
}

/** @returns {State} */
function read() {
  const query = new URLSearchParams(location.hash.slice(1));
  const number = (name) => (query.get(name) && Number.isFinite(Number(query.get(name))) ? Number(query.get(name)) : null);
  const whole = (name) => parseWhole(query.get(name) ?? "") ?? DEFAULTS[name];
  const view = query.get("view") ?? "";
  return {
    model: query.get("model") ?? "",
    view: ["seeds", "interpolate", "compare"].includes(view) ? view : "picture",
    seed: whole("seed"), index: whole("index"), to: whole("to"),
    label: number("label"), truncation: number("truncation"),
    amount: Math.min(1, Math.max(0, number("amount") ?? DEFAULTS.amount)),
    inputs: Object.fromEntries([...query.keys()].filter((k) => k.startsWith("in.") && number(k) !== null).map((k) => [k.slice(3), number(k)])),
    without: (query.get("without") ?? "").split(",").filter(Boolean),
    gain: Math.min(64, Math.max(1, Math.round(number("gain") ?? DEFAULTS.gain))),
  };
}

addEventListener("hashchange", () => setState(read()));
