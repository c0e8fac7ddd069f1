/** Show a picture as large as its place allows; small ones with whole, crisp pixels. */

const SMALL = 128;

/**
 * Keep a picture fitted into its place.
 * @param {HTMLElement} place gives the width
 * @param {HTMLElement} target gets the size
 * @param {HTMLImageElement|HTMLCanvasElement} image fires `load` when it has changed
 * @param {() => number} height the most pixels in height
 */
export function fitPicture(place, target, image, height) {
  const fit = () => {
    const [w, h] = image instanceof HTMLCanvasElement ? [image.width, image.height] : [image.naturalWidth, image.naturalHeight];
    const { paddingLeft, paddingRight } = getComputedStyle(place);
    const width = place.clientWidth - parseFloat(paddingLeft) - parseFloat(paddingRight);
    if (!w || width <= 0) return;
    const dots = devicePixelRatio || 1;
    let scale = Math.min(width / w, height() / h);
    if (scale * dots >= 2 && w <= SMALL) scale = Math.floor(scale * dots) / dots; // pixels of one size
    target.style.width = `${Math.round(w * scale)}px`;
    target.style.height = `${Math.round(h * scale)}px`;
    image.classList.toggle("crisp", w <= SMALL && scale > 1);
  };
  new ResizeObserver(fit).observe(place);
  image.addEventListener("load", fit);
}

/** Height for the picture of a view: what the window leaves. @param {number} [others] height of the other parts */
export const stageHeight = (others = 310) => Math.max(200, Math.min(innerHeight - others, innerWidth < 800 ? innerHeight * 0.55 : 720));
