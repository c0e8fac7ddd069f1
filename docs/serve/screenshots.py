"""Make the pictures of the page in this folder, from a running server:

ganrt export out/demo/run --out digits.ganrt --precision fp32,int8
ganrt export ganrt/weights/realesr-animevideov3-fp16.safetensors --out x4.ganrt --precision fp32,int8
ganrt serve digits.ganrt x4.ganrt --precision fp32 --precision int8
python docs/serve/screenshots.py http://127.0.0.1:8000

The run is the one of `ganrt demo`. The photograph is the one in docs/photo.png, whose author is named there.
"""

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from playwright.sync_api import sync_playwright

FOLDER = Path(__file__).parent
FLOWER = (872, 2, 1160, 290)
"""Place of the original photograph in docs/photo.png: left, top, right, bottom."""
LARGEST_ERROR = 4
"""Levels that a palette may change a pixel by; a photograph needs more."""
DESKTOP = {"viewport": {"width": 1280, "height": 830}, "device_scale_factor": 1.5}
PHOTO = {"viewport": {"width": 1280, "height": 800}, "device_scale_factor": 1}
WIDE = {"viewport": {"width": 1280, "height": 700}, "device_scale_factor": 1}
PHONE = {"viewport": {"width": 390, "height": 844}, "device_scale_factor": 2, "is_mobile": True, "has_touch": True}


def make_photo() -> bytes:
    """Return the photograph at half its size as a PNG file."""
    with PIL.Image.open(FOLDER.parent / "photo.png") as sheet:
        flower = sheet.convert("RGB").crop(FLOWER)
    buffer = io.BytesIO()
    flower.resize((144, 144), PIL.Image.Resampling.LANCZOS).save(buffer, "PNG")
    return buffer.getvalue()


def write_png(path: Path, data: bytes) -> None:
    """Write a screenshot, with a palette if it has next to no colours."""
    with PIL.Image.open(io.BytesIO(data)) as image:
        picture = image.convert("RGB")
    few = picture.quantize(256, PIL.Image.Quantize.MAXCOVERAGE, dither=PIL.Image.Dither.NONE)
    error = np.abs(np.asarray(few.convert("RGB")).astype(int) - np.asarray(picture)).max()
    (few if error <= LARGEST_ERROR else picture).save(path, optimize=True)


def main(url: str) -> None:
    """Take all screenshots of the server at an address."""
    photo = {"name": "flower.png", "mimeType": "image/png", "buffer": make_photo()}
    path = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])

        def take(name: str, state: str, ready: str, scheme: str, device: dict[str, Any], press: str = "") -> None:
            for _ in range(2):  # the first requests of a server are slower
                page = browser.new_page(color_scheme=scheme, reduced_motion="reduce", **device)
                page.goto(f"{url}#{state}")
                if "x4" in state:
                    page.locator("input[type=file]").set_input_files(photo)
                page.locator(ready).filter(has_text=" ").first.wait_for()
                page.wait_for_timeout(1000)
                if press:
                    page.locator(press).press("ArrowLeft")
                    page.locator(press).blur()
                    page.wait_for_timeout(500)
                data = page.screenshot()
                page.close()
            write_png(FOLDER / name, data)

        grid, flow = "view=seeds&seed=7", "view=interpolate&seed=11&to=22"
        take("page.png", grid, ".summary", "light", DESKTOP)
        take("page-dark.png", flow, "figcaption", "dark", DESKTOP, press="#amount")
        take("page-photo.png", "model=x4", "figcaption", "light", PHOTO)
        take("page-compare.png", "model=x4&view=compare&gain=16", ".result", "dark", WIDE)
        take("page-phone.png", "seed=1009", "figcaption", "light", PHONE)
        browser.close()


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") + "/")
