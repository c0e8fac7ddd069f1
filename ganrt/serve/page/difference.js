/** How far two pictures are apart, from their pixels. */

/** @param {Blob} blob @returns {Promise<ImageData>} */
export async function readPixels(blob) {
  const bitmap = await createImageBitmap(blob, { colorSpaceConversion: "none", premultiplyAlpha: "none" });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}

/**
 * @param {ImageData} a @param {ImageData} b of the same size
 * @returns {{psnr: number, largest: number}} decibels over all channels, Infinity for equal pictures; largest difference in levels
 */
export function compare(a, b) {
  let squares = 0;
  let largest = 0;
  for (let i = 0; i < a.data.length; i++) {
    if (i % 4 === 3) continue; // alpha
    const distance = Math.abs(a.data[i] - b.data[i]);
    squares += distance * distance;
    if (distance > largest) largest = distance;
  }
  return { psnr: 10 * Math.log10(255 ** 2 / (squares / (a.data.length * 0.75))), largest };
}

/**
 * Draw gain * |a - b|. A picture that is shown smaller is drawn in blocks, each as bright as its largest difference:
 * the browser would average single pixels away.
 * @param {HTMLCanvasElement} canvas @param {ImageData} a @param {ImageData} b @param {number} gain
 * @param {number} most pixels across that can be shown
 */
export function drawDifference(canvas, a, b, gain, most) {
  const block = Math.max(1, Math.ceil(a.width / most));
  const [width, height] = [Math.ceil(a.width / block), Math.ceil(a.height / block)];
  const made = new ImageData(width, height);
  for (let i = 0; i < a.data.length; i++) {
    const [x, y, channel] = [(i >> 2) % a.width, Math.floor((i >> 2) / a.width), i & 3];
    const to = 4 * (Math.floor(y / block) * width + Math.floor(x / block)) + channel;
    made.data[to] = channel === 3 ? 255 : Math.max(made.data[to], gain * Math.abs(a.data[i] - b.data[i]));
  }
  Object.assign(canvas, { width, height });
  canvas.getContext("2d").putImageData(made, 0, 0);
}
