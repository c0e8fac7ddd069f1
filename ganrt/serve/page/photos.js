/** The photographs of image-to-image models: dropped, pasted or chosen; scaled where the model takes one size only. */

import { make, showBlob } from "./dom.js";

const ACCEPTED = ["image/png", "image/jpeg", "image/webp"];

/** @typedef {{blob: Blob, note: string}} Photo what is sent, and what was done to the file */

/** @type {Map<string, File>} picture input -> file, kept when the model changes */
const files = new Map();
/** @type {Map<string, Photo>} */
let photos = new Map();

export const getBlobs = () => new Map([...photos].map(([name, photo]) => [name, photo.blob]));
/** @param {import("./api.js").Model} model */
export const areMissing = (model) => model.pictures.some(({ name }) => !photos.has(name));

/** Prepare the chosen files for a model. @param {import("./api.js").Model} model */
async function preparePhotos(model) {
  const chosen = model.pictures.filter(({ name }) => files.has(name));
  photos = new Map(await Promise.all(chosen.map(async ({ name, size }) => [name, await prepare(files.get(name), size)])));
}

/**
 * Prepare a file. One that the browser cannot read is sent as it is: the server says what is wrong with it.
 * @param {File} file @param {[number, number]|null} size height and width @returns {Promise<Photo>}
 */
async function prepare(file, size) {
  const bitmap = await createImageBitmap(file).catch(() => null);
  const fits = !size || (bitmap?.height === size[0] && bitmap.width === size[1]);
  if (!bitmap || (fits && ACCEPTED.includes(file.type))) return { blob: file, note: bitmap ? `${bitmap.width} × ${bitmap.height}` : "" };
  const [height, width] = fits ? [bitmap.height, bitmap.width] : size;
  const scale = Math.max(width / bitmap.width, height / bitmap.height);
  const canvas = new OffscreenCanvas(width, height);
  const context = canvas.getContext("2d");
  context.imageSmoothingQuality = "high";
  const [w, h] = [bitmap.width * scale, bitmap.height * scale];
  context.drawImage(bitmap, (width - w) / 2, (height - h) / 2, w, h);
  const note = fits ? `${width} × ${height}` : `Scaled and cropped from ${bitmap.width} × ${bitmap.height} to ${width} × ${height}, the only size that this model takes.`;
  return { blob: await canvas.convertToBlob({ type: "image/png" }), note };
}

/**
 * Drop fields for the pictures of a model; each is also a file picker.
 * @param {import("./api.js").Model} model @param {() => void} changed called when `getBlobs` has a new photograph
 */
export function makeFields(model, changed) {
  const fields = model.pictures.map((picture) => {
    const input = make("input", { type: "file", accept: ACCEPTED.join(","), className: "hidden", id: `photo-${picture.name}` });
    const text = make("span", {});
    const thumbnail = make("img", { alt: "", hidden: true });
    const title = picture.name[0].toUpperCase() + picture.name.slice(1).replaceAll("_", " ");
    const label = make("label", { className: "drop", for: input.id }, thumbnail, make("strong", {}, title), text);
    input.addEventListener("change", () => input.files[0] && take(picture.name, input.files[0]));
    const node = make("div", { className: "photo" }, input, label);
    catchDrops(node, (file) => take(picture.name, file));
    return { node, update: () => update(picture.name, text, thumbnail) };
  });
  const update = (name, text, thumbnail) => {
    const photo = photos.get(name);
    text.textContent = photo ? [files.get(name).name, photo.note].filter(Boolean).join(" · ") : "drop, paste or choose a picture";
    thumbnail.hidden = !photo?.note; // without a note it could not be read
    if (photo?.note) showBlob(thumbnail, photo.blob);
  };
  const take = async (name, file) => {
    files.set(name, file);
    await preparePhotos(model);
    for (const field of fields) field.update();
    changed();
  };
  photos = new Map(); // those of another model may have the wrong size
  preparePhotos(model).then(() => (fields.forEach((field) => field.update()), files.size && changed()));
  return { nodes: fields.map(({ node }) => node), take: (file) => take((model.pictures.find(({ name }) => !files.has(name)) ?? model.pictures[0]).name, file) };
}

/** Call `take` with a file that is dropped onto a node. @param {HTMLElement|Document} node @param {(file: File) => void} take */
export function catchDrops(node, take) {
  node.addEventListener("dragover", (event) => event.preventDefault());
  node.addEventListener("drop", (event) => {
    if (event.defaultPrevented) return; // a field inside has taken it
    event.preventDefault();
    const [file] = event.dataTransfer?.files ?? [];
    if (file) take(file);
  });
}
