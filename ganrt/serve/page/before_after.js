/** Two pictures on top of each other, and a line between them that can be moved. */

import { make, showBlob } from "./dom.js";
import { fitPicture, stageHeight } from "./frame.js";

export function makeBeforeAfter() {
  const before = make("img", { alt: "Before: the photograph", draggable: false, className: "before" });
  const after = make("img", { alt: "After: what the model made of it", draggable: false });
  const range = make("input", { type: "range", min: 0, max: 100, step: 1, value: 50, "aria-label": "Share of the picture that shows the photograph" });
  const box = make("div", { className: "wipe" }, after, before, make("span", { className: "tag left" }, "before"),
    make("span", { className: "tag right" }, "after"), range, make("i", { className: "line" }));
  const place = make("div", { className: "mat" }, box);
  const move = () => {
    box.style.setProperty("--cut", `${range.value}%`);
    range.setAttribute("aria-valuetext", `${range.value} % photograph`);
  };
  const drag = (event) => {
    const { left, width } = box.getBoundingClientRect();
    range.value = String(((event.clientX - left) / width) * 100);
    move();
  };
  // The range itself ignores pointers: its thumb does not follow them exactly, and its box is one line high.
  box.addEventListener("pointerdown", (event) => {
    event.preventDefault();
    box.setPointerCapture(event.pointerId);
    range.focus({ preventScroll: true });
    drag(event);
  });
  box.addEventListener("pointermove", (event) => box.hasPointerCapture(event.pointerId) && drag(event));
  range.addEventListener("input", move);
  move();
  fitPicture(place, box, after, () => stageHeight());
  return {
    node: place,
    /** @param {Blob} photo @param {Blob} result @returns {Promise<string>} the sizes of both */
    async show(photo, result) {
      await Promise.all([showBlob(before, photo), showBlob(after, result)]);
      return `${before.naturalWidth} × ${before.naturalHeight} → ${after.naturalWidth} × ${after.naturalHeight}`;
    },
  };
}
