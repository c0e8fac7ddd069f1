"""The page with image-to-image models."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Visit, ask, find_refusal, make_photo, read_answer, read_pixels, sync_api, wait_for_picture

expect = sync_api.expect

CAPTION = "figcaption strong"
AFTER = ".wipe img:not(.before)"

DROP = """(target, [base64, name, type]) => {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name, { type }));
  const over = new DragEvent("dragover", { dataTransfer: data, bubbles: true, cancelable: true });
  if (target.dispatchEvent(over)) throw new Error("nothing takes the file");
  target.dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true, cancelable: true }));
}"""
PASTE = """([base64]) => {
  const data = new DataTransfer();
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  data.items.add(new File([bytes], "pasted.png", { type: "image/png" }));
  document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
}"""


def encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


def drop(page: Any, data: bytes, name: str = "photo.png", kind: str = "image/png", place: str = "main") -> None:
    """Drop a file onto a place of the page, once it is ready."""
    page.wait_for_selector("#controls label.drop")
    page.locator(place).first.evaluate(DROP, [encode(data), name, kind])


def test_a_dropped_photograph(visit: Visit, url: str) -> None:
    page, photo = visit.open("model=x2"), make_photo(40, 24)
    expect(page.locator(".invitation")).to_contain_text("Drop a photograph here")
    drop(page, photo)
    expect(page.locator(CAPTION)).to_have_text("40 × 24 → 80 × 48")
    assert np.array_equal(read_pixels(page.locator(".wipe .before")), read_answer(photo))
    wanted = ask(url, model="x2", pictures={"luma": encode(photo)})
    assert wanted.shape == (48, 80, 3)
    assert np.array_equal(read_pixels(page.locator(AFTER)), wanted)
    expect(page.locator("label.drop")).to_contain_text("photo.png · 40 × 24")
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "x2.png"
    assert np.array_equal(read_answer(Path(download.value.path()).read_bytes()), wanted)


def test_a_photograph_that_is_pasted_or_chosen(visit: Visit) -> None:
    page = visit.open("model=x2")
    page.wait_for_selector("#controls label.drop")
    page.evaluate(PASTE, [encode(make_photo(24, 24))])
    expect(page.locator(CAPTION)).to_have_text("24 × 24 → 48 × 48")
    expect(page.locator("label.drop")).to_contain_text("pasted.png")
    file = {"name": "chosen.jpg", "mimeType": "image/jpeg", "buffer": make_photo(32, 16, "JPEG")}
    page.locator("input[type=file]").set_input_files(file)
    expect(page.locator(CAPTION)).to_have_text("32 × 16 → 64 × 32")
    expect(page.locator("label.drop")).to_contain_text("chosen.jpg")


def test_a_photograph_is_shown_while_the_model_works(visit: Visit) -> None:
    held: list[Any] = []
    visit.page.route("**/v1/images?**", lambda route: held.append(route))
    page, photo = visit.open("model=x2"), make_photo(40, 24)
    drop(page, photo)
    expect(page.locator(".mat img")).to_be_visible()
    assert np.array_equal(read_pixels(page.locator(".mat img")), read_answer(photo))
    expect(page.locator(".invitation")).to_have_count(0)
    expect(page.locator("figure")).to_have_attribute("aria-busy", "true")
    held[0].continue_()
    expect(page.locator(CAPTION)).to_contain_text("80")
    expect(page.locator("figure")).to_have_attribute("aria-busy", "false")


def test_a_form_that_the_server_does_not_read_is_converted(visit: Visit) -> None:
    page, photo = visit.open("model=x2"), make_photo(24, 24, "BMP")
    drop(page, photo, "photo.bmp", "image/bmp")
    expect(page.locator(CAPTION)).to_have_text("24 × 24 → 48 × 48")
    assert np.array_equal(read_pixels(page.locator(".wipe .before")), read_answer(photo))


def cut(page: Any) -> float:
    """Share of the photograph that is shown, in percent."""
    return float(page.locator(".wipe").evaluate("(node) => parseFloat(node.style.getPropertyValue('--cut'))"))


def test_the_comparison_slider_by_keyboard(visit: Visit) -> None:
    page = visit.open("model=x2")
    drop(page, make_photo(40, 40))
    page.wait_for_selector(".wipe")
    slider = page.get_by_role("slider", name="Share of the picture that shows the photograph")
    assert cut(page) == 50
    slider.press("ArrowLeft")
    assert cut(page) == 49
    expect(slider).to_have_attribute("aria-valuetext", "49 % photograph")
    slider.press("Home")
    assert cut(page) == 0
    slider.press("End")
    assert cut(page) == 100
    clip = page.locator(".wipe .before").evaluate("(node) => getComputedStyle(node).clipPath")
    assert clip in ("inset(0px)", "inset(0px 0% 0px 0px)", "inset(0px calc(0%) 0px 0px)", "inset(0px 0px 0px 0px)")


def test_the_comparison_slider_by_pointer(visit: Visit) -> None:
    page = visit.open("model=x2")
    drop(page, make_photo(40, 40))
    page.wait_for_selector(".wipe")
    box = page.locator(".wipe").bounding_box()
    middle = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + box["width"] * 0.25, middle)
    assert cut(page) == 50  # until the button is pressed
    page.mouse.down()
    assert cut(page) == pytest.approx(25, abs=1)
    page.mouse.move(box["x"] + box["width"] * 0.8, middle + 20)
    assert cut(page) == pytest.approx(80, abs=1)
    page.mouse.move(box["x"] + box["width"] + 100, middle)
    assert cut(page) == 100
    page.mouse.up()
    page.mouse.move(box["x"] + 5, middle)
    assert cut(page) == 100
    page.keyboard.press("ArrowLeft")  # the slider has the focus
    assert cut(page) == 99


def test_the_comparison_slider_by_touch(browser: Any, url: str) -> None:
    visit = Visit(browser, url, viewport={"width": 390, "height": 800}, has_touch=True, is_mobile=True)
    page = visit.open("model=x2")
    drop(page, make_photo(40, 40))
    page.wait_for_selector(".wipe")
    box = page.locator(".wipe").bounding_box()
    page.touchscreen.tap(box["x"] + box["width"] * 0.75, box["y"] + 40)
    assert cut(page) == pytest.approx(75, abs=1)
    visit.close()


def test_two_pictures_of_one_size_and_a_strength(visit: Visit, url: str) -> None:
    page = visit.open("model=blend")
    expect(page.locator(".invitation")).to_contain_text("Drop the content picture here")
    drop(page, make_photo(48, 32), "a.png")
    expect(page.locator(".invitation")).to_contain_text("Drop the style picture here")
    drop(page, make_photo(96, 96), "b.png", place="label[for=photo-style]")
    expect(page.locator(CAPTION)).to_have_text("48 × 32 → 48 × 32")
    note = "b.png · Scaled and cropped from 96 × 96 to 48 × 32, the only size that this model takes."
    expect(page.locator("label[for=photo-style]")).to_contain_text(note)
    expect(page.locator("label[for=photo-content]")).to_contain_text("a.png · 48 × 32")
    style = read_pixels(page.locator("label[for=photo-style] img"))
    assert style.shape == (32, 48, 3)
    page.locator("#input-strength").fill("0")  # the style then plays no part
    content = encode(make_photo(48, 32))
    pictures = {"content": content, "style": content}
    wait_for_picture(page, url, AFTER, model="blend", pictures=pictures, inputs={"strength": 0})
    drop(page, make_photo(48, 32), "c.png", place="label[for=photo-style]")
    page.locator("#input-strength").fill("1")
    wait_for_picture(page, url, AFTER, model="blend", pictures=pictures, inputs={"strength": 1})


def test_the_middle_of_a_photograph_is_kept(visit: Visit) -> None:
    page = visit.open("model=blend")
    drop(page, make_photo(480, 480), "a.png")
    thumbnail = page.locator("label[for=photo-content] img")
    expect(thumbnail).to_be_visible()
    made = read_pixels(thumbnail).astype(int)
    assert made.shape == (32, 48, 3)
    # Red grows from left to right over the whole width, green from a sixth to five sixths of the height.
    assert made[16, 0, 0] < 10 and made[16, -1, 0] > 245
    assert made[0, 24, 1] == pytest.approx(255 / 6, abs=8) and made[-1, 24, 1] == pytest.approx(255 * 5 / 6, abs=8)


def test_a_text_file_gets_the_servers_sentence(browser: Any, url: str) -> None:
    visit = Visit(browser, url)
    page = visit.open("model=x2")
    drop(page, b"no picture", "notes.txt", "text/plain")
    sentence = find_refusal(url, b"no picture", "text/plain")
    assert "text/plain" in sentence
    expect(page.locator("#status")).to_have_text(sentence)
    expect(page.locator(".invitation")).to_contain_text("Drop a photograph here")
    expect(page.locator("label.drop")).to_contain_text("notes.txt")
    drop(page, b"no picture either", "notes.png")
    expect(page.locator("#status")).to_contain_text("is not a PNG, JPEG, WEBP file")
    drop(page, make_photo(24, 24))
    expect(page.locator(CAPTION)).to_have_text("24 × 24 → 48 × 48")
    expect(page.locator("#status")).to_have_text("")
    visit.close(refused=(400, 415))
