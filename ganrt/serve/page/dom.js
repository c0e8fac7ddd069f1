/** Small helpers for elements. Text is always set as text, never parsed as HTML. */

/**
 * Make an element.
 * @param {string} tag
 * @param {Record<string, any>} [props] `onX` are listeners; names with a dash, `role` and `for` are attributes; others properties
 * @param {...(Node|string|null|false)} children
 * @returns {any}
 */
export function make(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") node.setAttribute(name, value);
    else node[name] = value;
  }
  node.append(...children.filter((child) => child !== null && child !== false));
  return node;
}

/** @param {string} id @returns {any} */
export const find = (id) => document.getElementById(id);

/** Show a blob in an image element; the address of the one before is freed. @param {HTMLImageElement} image @param {Blob} blob */
export async function showBlob(image, blob) {
  const old = image.src;
  image.src = URL.createObjectURL(blob);
  if (old.startsWith("blob:")) URL.revokeObjectURL(old);
  await image.decode().catch(() => {}); // rejected when a newer picture took its place
}

/** @param {number} value @param {number} [digits] */
export const format = (value, digits = 2) => Number(value.toFixed(digits)).toString();

/** @param {number} ms */
export const formatMs = (ms) => `${ms < 10 ? ms.toFixed(1) : Math.round(ms)} ms`;

/** @param {number} count @param {string} noun */
export const count = (count, noun) => `${count} ${noun}${count === 1 ? "" : "s"}`;
