"""The page with several models of one bundle side by side."""

import base64
import re
from typing import Any

import numpy as np
import pytest
from helpers.browser import Visit, ask, make_photo, read_answer, read_pixels, sync_api

expect = sync_api.expect

DIFFERENCE = """async ([a, b, gain]) => {
  const { compare, drawDifference } = await import("/page/difference.js");
  const image = (levels) => new ImageData(new Uint8ClampedArray(levels), 2, 1);
  const canvas = document.createElement("canvas");
  drawDifference(canvas, image(a), image(b), gain, 2);
  return { ...compare(image(a), image(b)), drawn: [...canvas.getContext("2d").getImageData(0, 0, 2, 1).data] };
}"""


def test_two_models_on_the_same_request(visit: Visit, url: str) -> None:
    page = visit.open("view=compare&seed=5")
    cards = page.locator(".card")
    expect(cards).to_have_count(3)
    expect(cards.last).to_contain_text("faces.openvino − faces")
    for card, model, backend in ((0, "faces", "onnxruntime"), (1, "faces.openvino", "openvino")):
        expect(cards.nth(card)).to_contain_text(backend)
        expect(cards.nth(card)).to_contain_text("fp32 · proven at")
        expect(cards.nth(card).locator(".total dd")).to_contain_text("ms")
        assert np.array_equal(read_pixels(cards.nth(card).locator("img")), ask(url, model=model, seed=5))
    expect(cards.last.locator(".result")).to_have_text(re.compile("levels? of 255|Every pixel is equal"))


def test_the_difference_is_amplified(browser: Any, url: str) -> None:
    """The answer for the second model is replaced, so that it is far away."""
    visit = Visit(browser, url)
    one, other = ask(url, model="faces", seed=5), ask(url, model="faces", seed=6)

    def exchange(route: Any) -> None:
        body = route.request.post_data_json
        seed = "6" if body["model"] == "faces.openvino" else body["seed"]
        route.continue_(post_data={**body, "model": "faces", "seed": seed})

    visit.page.route("**/v1/images", exchange)
    page = visit.open("view=compare&seed=5&gain=1")
    far = np.abs(one.astype(int) - other)
    psnr = 10 * np.log10(255**2 / np.mean(far.astype(float) ** 2))
    expect(page.locator(".result")).to_have_text(f"{psnr:.1f} dB. At most {far.max()} levels of 255.")
    assert np.array_equal(read_canvas(page), far)
    page.locator("#gain").press("ArrowRight")
    page.locator("#gain").press("ArrowRight")
    expect(page.locator("output[for=gain]")).to_have_text("× 3")
    assert np.array_equal(read_canvas(page), np.minimum(3 * far, 255))
    visit.close()


def read_canvas(page: Any) -> Any:
    encoded = page.locator(".card canvas").evaluate("(canvas) => canvas.toDataURL()")
    return read_answer(base64.b64decode(encoded.partition(",")[2]))


@pytest.mark.parametrize(
    ("a", "b", "gain", "psnr", "largest", "drawn"),
    [
        ([0, 0, 0, 255] * 2, [0, 0, 0, 255] * 2, 9, None, 0, [0, 0, 0, 255] * 2),
        ([9, 0, 0, 255] * 2, [7, 0, 0, 255] * 2, 9, 10 * np.log10(255**2 * 3 / 4), 2, [18, 0, 0, 255] * 2),
        ([9, 0, 0, 255] * 2, [7, 0, 0, 95] * 2, 9, 10 * np.log10(255**2 * 3 / 4), 2, [18, 0, 0, 255] * 2),
        ([0, 0, 1, 255, 0, 0, 0, 255], [0, 0, 0, 255, 0, 8, 0, 255], 64, 10 * np.log10(255**2 * 6 / 65), 8, None),
    ],
)
def test_the_arithmetic_of_a_difference(
    visit: Visit, a: list[int], b: list[int], gain: int, psnr: float | None, largest: int, drawn: list[int] | None
) -> None:
    found = visit.open().evaluate(DIFFERENCE, [a, b, gain])
    assert found["largest"] == largest
    assert found["psnr"] == (float("inf") if psnr is None else pytest.approx(psnr))
    assert found["drawn"] == (drawn or [0, 0, 64, 255, 0, 255, 0, 255])


def test_single_pixels_are_seen_in_a_small_difference(visit: Visit) -> None:
    """5 x 3 pixels are shown on 2: blocks of 3, each as bright as its largest difference."""
    drawn = visit.open().evaluate(
        """async () => {
          const { drawDifference } = await import("/page/difference.js");
          const [a, b] = [new ImageData(5, 3), new ImageData(5, 3)];
          b.data[0] = 3;
          b.data[4 * 12 + 1] = 5;  // x 2, y 2
          b.data[4 * 14 + 2] = 9;  // x 4, y 2
          const canvas = document.createElement("canvas");
          drawDifference(canvas, a, b, 10, 2);
          return [canvas.width, canvas.height, ...canvas.getContext("2d").getImageData(0, 0, 2, 1).data];
        }"""
    )
    assert drawn == [2, 1, 30, 50, 0, 255, 0, 0, 90, 255]


def test_one_model_says_how_to_serve_more(visit: Visit) -> None:
    page = visit.open("model=blend&view=compare")
    command = "ganrt serve blend.ganrt --backend onnxruntime --backend openvino"
    expect(page.locator(".invitation code")).to_have_text(command)


def test_models_can_be_left_out(visit: Visit) -> None:
    def add_third(route: Any) -> None:
        answer = route.fetch()
        models = answer.json()["models"]
        route.fulfill(response=answer, json={"models": [*models, {**models[0], "name": "faces.third"}]})

    def answer_as_first(route: Any) -> None:
        route.continue_(post_data={**route.request.post_data_json, "model": "faces"})

    visit.page.route("**/v1/models", add_third)
    visit.page.route("**/v1/images", answer_as_first)
    page = visit.open("view=compare")
    results = page.locator(".result")
    expect(results).to_have_text(["Every pixel is equal.", "Every pixel is equal."])
    page.get_by_role("checkbox", name="faces.openvino").uncheck()
    expect(page.locator(".cards > .card:visible")).to_have_count(2)
    expect(page.locator(".cards > .card:visible").last).to_contain_text("faces.third − faces")
    page.wait_for_url("**without=faces.openvino**")


def test_photographs_are_compared_too(visit: Visit) -> None:
    def add_second(route: Any) -> None:
        answer = route.fetch()
        models = answer.json()["models"]
        route.fulfill(response=answer, json={"models": [*models, {**models[2], "name": "x2.second"}]})

    visit.page.route("**/v1/models", add_second)
    visit.page.route("**/v1/images?*", lambda r: r.continue_(url=r.request.url.replace("x2.second", "x2")))
    page = visit.open("model=x2&view=compare")
    expect(page.locator(".invitation")).to_contain_text("Drop a photograph here")
    file = {"name": "photo.png", "mimeType": "image/png", "buffer": make_photo(24, 16)}
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator(".result")).to_have_text("Every pixel is equal.")
    assert read_pixels(page.locator(".card img").first).shape == (32, 48, 3)
