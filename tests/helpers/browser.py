"""A headless browser on the page of a server: what it sends, complains about and shows."""

import io
import json
import shutil
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import PIL.Image
import pytest
from numpy.typing import NDArray

sync_api = pytest.importorskip("playwright.sync_api", reason="the tests of the page need Playwright")

sync_api.expect.set_options(timeout=20_000)

ARGUMENTS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
]
REFUSED = "Failed to load resource: the server responded with a status of "
"""How Chromium reports an answer that is an error."""

_PIXELS = """async (image) => {
  await image.decode();
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d");
  context.drawImage(image, 0, 0);
  const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
  return [canvas.height, canvas.width, ...data];
}"""


@contextmanager
def open_browser() -> Iterator[Any]:
    """A Chromium of this machine; the test is skipped where there is none."""
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if path is None:
        pytest.skip("there is no Chromium on this machine")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """A page in a fresh profile, with everything that it asks for and complains about."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        """Nothing is loaded yet. `options` are those of Playwright's `new_context`."""
        self.url = url
        self.context = browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **options})
        self.page = self.context.new_page()
        self.complaints: list[str] = []
        self.addresses: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))

    def open(self, state: str = "") -> Any:
        """Load the page with a state behind the #; returns Playwright's page."""
        self.page.goto(f"{self.url}#{state}")
        return self.page

    def close(self, refused: tuple[int, ...] = ()) -> None:
        """Close the page. Fails if it complained, other than about answers with the statuses `refused`, or asked
        anybody but the server."""
        self.context.close()
        known = tuple(f"{REFUSED}{status}" for status in refused)
        wrong = [text for text in self.complaints if not text.startswith(known)]
        wrong += [address for address in self.addresses if not address.startswith((self.url, f"blob:{self.url}"))]
        assert not wrong, wrong


def read_pixels(image: Any) -> NDArray[np.uint8]:
    """The pixels of an image element (a locator) as the browser decoded them: uint8 (H, W, 3)."""
    height, width, *values = image.evaluate(_PIXELS)
    return np.array(values, np.uint8).reshape(height, width, 4)[..., :3]


def read_answer(data: bytes) -> NDArray[np.uint8]:
    """The pixels of a PNG file: uint8 (H, W, 3)."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def ask(url: str, **body: Any) -> NDArray[np.uint8]:
    """The picture that the server makes for a body of POST /v1/images: uint8 (H, W, 3)."""
    request = urllib.request.Request(f"{url}v1/images", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return read_answer(answer.read())


def find_refusal(url: str, data: bytes, kind: str = "application/json") -> str:
    """The sentence with which the server refuses a body."""
    request = urllib.request.Request(f"{url}v1/images", data, {"Content-Type": kind})
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request)
    with caught.value as answer:
        return str(json.load(answer)["error"])


def make_photo(width: int, height: int, form: str = "PNG") -> bytes:
    """The file of a picture with colours and edges."""
    y, x = np.mgrid[:height, :width]
    picture = np.stack([x * 255 // width, y * 255 // height, (x // 8 + y // 8) % 2 * 255], -1).astype(np.uint8)
    buffer = io.BytesIO()
    PIL.Image.fromarray(picture).save(buffer, form)
    return buffer.getvalue()


def see_seed(page: Any, seed: int) -> None:
    """Wait until the page shows the picture of a seed, and the seed in its field."""
    sync_api.expect(page.locator("figcaption strong")).to_contain_text(f"seed {seed} ·")
    sync_api.expect(page.locator("input#seed")).to_have_value(str(seed))


def wait_for_picture(page: Any, url: str, selector: str = ".hero img", **body: Any) -> None:
    """Wait until an image element shows the picture of a request."""
    wanted = ask(url, **body)
    page.wait_for_selector(selector)
    for _ in range(200):
        if np.array_equal(read_pixels(page.locator(selector)), wanted):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"the page never showed the picture of {body}")
