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

/** Draw gain * |a - b|. @param {HTMLCanvasElement} canvas @param {ImageData} a @param {ImageData} b @param {number} gain */
export function drawDifference(canvas, a, b, gain) {
  const made = new ImageData(a.width, a.height);
  for (let i = 0; i < a.data.length; i++) made.data[i] = i % 4 === 3 ? 255 : gain * Math.abs(a.data[i] - b.data[i]);
  Object.assign(canvas, { width: a.width, height: a.height });
  canvas.getContext("2d").putImageData(made, 0, 0);
}
