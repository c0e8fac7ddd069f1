/** Client of the server's HTTP interface. */

import { askToken, getToken } from "./token.js";
import { say } from "./status.js";

/**
 * @typedef {object} Model an entry of GET /v1/models
 * @property {string} name @property {string} bundle @property {string} family
 * @property {"sample"|"transform"} kind @property {string} backend @property {string} variant @property {string} device
 * @property {string} precision @property {number|null} threads @property {number|null} psnr @property {boolean} seeded
 * @property {number|null} classes @property {{low: number, high: number|null}|null} truncation
 * @property {{name: string, low: number, high: number, default: number}[]} scalars
 * @property {{name: string, role: string, size: [number, number]|null}[]} pictures
 * @property {{size: [number, number]|null, scale: number}} output @property {boolean} interpolates
 *
 * @typedef {object} Facts what the headers say about a picture
 * @property {string} seed @property {string} index @property {string|null} label
 * @property {number} rows pictures in its batch @property {number} requests requests in its batch
 * @property {Record<string, number>} timing stage -> milliseconds @property {number} total round trip in milliseconds
 *
 * @typedef {{blob: Blob, facts: Facts}} Made
 */

/** The server refused a request; the message is its sentence. */
class ServerError extends Error {
  /** @param {number} status @param {string} message @param {number} wait seconds after which to try again; 0 for never */
  constructor(status, message, wait) {
    super(message);
    this.status = status;
    this.wait = wait;
  }
}

/** No answer came: the server is away or the network is. */
class ConnectionError extends Error {}

/** @param {AbortSignal} [signal] @returns {Promise<Model[]>} */
export async function listModels(signal) {
  const { blob } = await insist("v1/models", {}, signal);
  return JSON.parse(await blob.text()).models;
}

/**
 * Make one picture.
 * @param {Record<string, any>} body as in POST /v1/images
 * @param {Map<string, Blob>} photos picture input -> file
 * @param {AbortSignal} [signal]
 * @returns {Promise<Made>}
 */
export async function makePicture(body, photos, signal) {
  const { blob, headers, total } = await insist(...(await writeRequest(body, photos)), signal);
  return { blob, facts: readFacts(headers, total) };
}

/** One picture travels as it is, with the rest in the address; several in JSON. */
async function writeRequest(body, photos) {
  if (photos.size === 1) {
    const { inputs = {}, ...rest } = body;
    const [photo] = photos.values();
    const type = photo.type || "application/octet-stream";
    return [`v1/images?${new URLSearchParams({ ...rest, ...inputs })}`, { method: "POST", headers: { "Content-Type": type }, body: photo }];
  }
  const pictures = {};
  for (const [name, photo] of photos) pictures[name] = await encodeBase64(photo);
  const json = JSON.stringify(photos.size ? { ...body, pictures } : body);
  return ["v1/images", { method: "POST", headers: { "Content-Type": "application/json" }, body: json }];
}

function encodeBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(String(reader.result).split(",")[1] ?? "");
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });
}

/** Send a request; while the server is busy or away, say so and try again. */
async function insist(path, options, signal) {
  for (let waited = false; ; waited = true) {
    try {
      const answer = await send(path, options, signal);
      if (waited) say("");
      return answer;
    } catch (error) {
      if (error instanceof ConnectionError) {
        say("The connection to the server is lost. Trying again …", "wait");
        await sleep(1500, signal);
      } else if (error instanceof ServerError && error.wait) {
        for (let left = error.wait; left > 0; left--) {
          say(error.status === 429 ? `Busy, trying again in ${left} s` : `${error.message.replace(/[.]?$/, ".")} Trying again in ${left} s`, "wait");
          await sleep(1000, signal);
        }
      } else throw error;
    }
  }
}

/** @returns {Promise<{blob: Blob, headers: Headers, total: number}>} `total` is the round trip in milliseconds */
async function send(path, options, signal) {
  const token = getToken();
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  const start = performance.now();
  let response;
  let blob;
  try {
    response = await fetch(new URL(path, document.baseURI), { ...options, headers, signal });
    blob = await response.blob();
  } catch (error) {
    throw error.name === "AbortError" ? error : new ConnectionError();
  }
  if (response.ok) return { blob, headers: response.headers, total: performance.now() - start };
  if (response.status === 401) {
    await askToken(token);
    return send(path, options, signal);
  }
  const { error } = await blob.text().then(JSON.parse).catch(() => ({})); // a proxy may answer with a page
  const wait = Number(response.headers.get("Retry-After")) || (response.status === 503 ? 2 : response.status === 429 ? 1 : 0);
  throw new ServerError(response.status, error ?? `The server answered ${response.status}.`, wait);
}

/** @returns {Promise<void>} */
const sleep = (ms, signal) =>
  new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => (clearTimeout(timer), reject(signal.reason)), { once: true });
  });

/** @param {Headers} headers @param {number} total @returns {Facts} */
function readFacts(headers, total) {
  const numbers = (name, pattern) => [...(headers.get(name) ?? "").matchAll(pattern)].map((m) => [m[1], Number(m[2])]);
  const batch = Object.fromEntries(numbers("X-Ganrt-Batch", /(\w+)=(\d+)/g));
  return {
    seed: headers.get("X-Ganrt-Seed") ?? "", index: headers.get("X-Ganrt-Index") ?? "", label: headers.get("X-Ganrt-Label"),
    rows: batch.rows ?? 1, requests: batch.requests ?? 1,
    timing: Object.fromEntries(numbers("Server-Timing", /(\w+);dur=([\d.]+)/g)), total,
  };
}
