"""The page on a phone, in the dark, by keyboard alone, and without anything from elsewhere."""

from typing import Any

import pytest
from helpers.browser import Visit, make_photo, see_seed, sync_api

expect = sync_api.expect

VIEWS = ("picture", "seeds", "interpolate", "compare")

CLIPPED = """() => [...document.querySelectorAll("body *")].filter((node) => {
  const box = node.getBoundingClientRect();
  if (!box.width || !node.checkVisibility() || node.closest(".hidden, .skip, option, .wipe")) return false;
  const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
  const cut = text && node.clientWidth && node.scrollWidth > node.clientWidth + 1;
  return box.left < -0.5 || box.right > innerWidth + 0.5 || cut;
}).map((node) => node.outerHTML.slice(0, 150))"""
"""What reaches beyond the window, or has text that its box cuts off."""

CONTRASTS = """() => {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
  const rgba = (color) => {
    canvas.clearRect(0, 0, 1, 1);
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
    return [...canvas.getImageData(0, 0, 1, 1).data];
  };
  const linear = (level) => (level <= 10.31475 ? level / 255 / 12.92 : ((level / 255 + 0.055) / 1.055) ** 2.4);
  const luminance = ([r, g, b]) => 0.2126 * linear(r) + 0.7152 * linear(g) + 0.0722 * linear(b);
  const fields = "input:not([type=range], [type=radio], [type=file], [type=checkbox])";
  return [...document.querySelectorAll("body *")].filter((node) => {
    const text = [...node.childNodes].some((child) => child.nodeType === 3 && child.data.trim());
    return (text || node.matches(fields)) && node.checkVisibility() && !node.closest(".hidden, noscript, option, .tag");
  }).map((node) => {
    const opaque = (n) => n === document.body || rgba(getComputedStyle(n).backgroundColor)[3] === 255;
    let behind = node;
    while (!opaque(behind)) behind = behind.parentElement;
    const colors = [getComputedStyle(node).color, getComputedStyle(behind).backgroundColor];
    const [a, b] = colors.map((color) => luminance(rgba(color)));
    return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), node.outerHTML.slice(0, 150)];
  });
}"""
"""Contrast of each text with the background behind it, by the formula of WCAG 2.2."""

FOCUSED = """() => {
  const node = document.activeElement;
  const label = node.getAttribute("aria-label") || [...(node.labels ?? [])].map((l) => l.textContent).join(" ")
    || node.textContent;
  const boxes = [node, node.nextElementSibling].filter(Boolean);
  const styles = boxes.flatMap((n) => [getComputedStyle(n), getComputedStyle(n, "::after")]);
  const ring = styles.some((s) => s.outlineStyle !== "none" || s.boxShadow !== "none");
  return { tag: node.tagName, id: node.id, label: label.trim(), ring };
}"""
"""The element with the focus: what it is called, and whether it or what stands for it looks different."""


def wait_for_view(page: Any, view: str) -> None:
    ready = {
        "picture": "figcaption",
        "seeds": ".summary:not(:empty)",
        "interpolate": "figcaption",
        "compare": ".result",
    }
    page.wait_for_selector(ready[view] + (" >> text=/./" if view == "compare" else ""))


def test_on_a_phone_nothing_is_cut_off(browser: Any, url: str) -> None:
    visit = Visit(browser, url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visit.open("seed=18446744073709551615&to=18446744073709551614")
    for view in VIEWS:
        page.locator(f"#views >> text={view.capitalize()}").tap()
        wait_for_view(page, view)
        assert page.evaluate("document.documentElement.scrollWidth") == 360
        assert page.evaluate(CLIPPED) == []
    visit.close()


def test_a_photograph_on_a_phone(browser: Any, url: str) -> None:
    visit = Visit(browser, url, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    page = visit.open("model=x2")
    file = {
        "name": "a_very_long_name_of_a_file_from_some_camera.png",
        "mimeType": "image/png",
        "buffer": make_photo(99, 9),
    }
    page.locator("input[type=file]").set_input_files(file)
    page.wait_for_selector(".wipe")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert page.evaluate(CLIPPED) == []
    visit.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(browser: Any, url: str, scheme: str) -> None:
    visit = Visit(browser, url, color_scheme=scheme, reduced_motion="reduce")
    page = visit.open()
    for view in VIEWS:
        page.locator(f"#views >> text={view.capitalize()}").click()
        wait_for_view(page, view)
        page.locator("input#seed").fill("none")
        expect(page.locator("#seed-problem")).not_to_have_text("")
        contrasts = page.evaluate(CONTRASTS)
        assert len(contrasts) > 20
        assert [entry for entry in contrasts if entry[0] < 4.5] == []
    visit.close()


def background(page: Any) -> int:
    """Lightness of the page's background, the sum of three levels."""
    color = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(int(part) for part in color.removeprefix("rgb(").removesuffix(")").split(", "))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_the_system_and_the_chosen_ones(browser: Any, url: str, scheme: str) -> None:
    visit = Visit(browser, url, color_scheme=scheme)
    page = visit.open()
    assert (background(page) < 384) == (scheme == "dark")
    other = "light" if scheme == "dark" else "dark"
    page.get_by_role("button", name=f"Switch to {other} colours").click()
    assert (background(page) < 384) == (other == "dark")
    page.reload()
    assert (background(page) < 384) == (other == "dark")
    page.get_by_role("button", name=f"Switch to {scheme} colours").click()
    assert (background(page) < 384) == (scheme == "dark")
    visit.close()


def walk(page: Any) -> list[dict[str, Any]]:
    """Press the tab key until the focus leaves the page; returns what had it."""
    steps: list[dict[str, Any]] = []
    for _ in range(80):
        page.keyboard.press("Tab")
        step = page.evaluate(FOCUSED)
        if step["tag"] == "BODY":
            return steps
        steps.append(step)
    raise AssertionError("the focus never leaves the page")


def test_everything_is_reached_by_keyboard(visit: Visit) -> None:
    page = visit.open()
    see_seed(page, 7)
    steps = walk(page)
    assert [step for step in steps if not step["label"] or not step["ring"]] == []
    labels = [step["label"] for step in steps]
    assert labels[0] == "Skip to the picture"
    assert [step["id"] for step in steps if step["tag"] in ("INPUT", "SELECT") and step["id"]] == [
        *("model", "seed", "truncation", "input-contrast", "index")
    ]
    for name in ("Picture", "Seeds", "Interpolate", "Compare", "Seed: next", "Download", "Copy as curl"):
        assert name in labels


def test_the_views_by_keyboard(visit: Visit) -> None:
    page = visit.open("amount=0.5")
    see_seed(page, 7)
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")  # skips to the picture
    assert page.evaluate("document.activeElement.id") == "stage"
    assert "stage" not in page.url
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.locator("#views [aria-current=page]")).to_have_text("Interpolate")
    assert page.evaluate("document.activeElement.textContent") == "Interpolate"
    expect(page.locator("figcaption")).to_contain_text("50 % of the way")
    page.locator("#amount").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("figcaption")).to_contain_text("51 % of the way")
    page.get_by_role("radio", name="drawn from the seed").focus()
    page.keyboard.press("ArrowRight")
    expect(page.locator("figcaption")).to_contain_text("class 0")


def test_the_status_is_read_aloud_and_motion_can_be_reduced(browser: Any, url: str) -> None:
    visit = Visit(browser, url, reduced_motion="reduce")
    page = visit.open()
    see_seed(page, 7)
    expect(page.locator("#status")).to_have_attribute("aria-live", "polite")
    moving = "[...document.querySelectorAll('*')].filter((n) => getComputedStyle(n).transitionDuration !== '0s').length"
    assert page.evaluate(moving) == 0
    visit.close()
    visit = Visit(browser, url, reduced_motion="no-preference")
    page = visit.open()
    see_seed(page, 7)
    assert page.evaluate(moving) > 0
    visit.close()


def test_the_page_is_strict_about_where_things_come_from(visit: Visit) -> None:
    page = visit.open()
    see_seed(page, 7)
    answer = page.request.get(visit.url)
    assert answer.headers["content-security-policy"].startswith("default-src 'self'")
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert {address.removeprefix(visit.url).partition("/")[0] for address in visit.addresses} >= {"page", "v1"}
    refused = page.evaluate(
        """() => new Promise((resolve) => {
          document.addEventListener("securitypolicyviolation", (event) => resolve(event.effectiveDirective));
          document.head.append(Object.assign(document.createElement("script"), { textContent: "window.inline = 1" }));
        })"""
    )
    assert refused == "script-src-elem" and page.evaluate("window.inline") is None
    visit.complaints.clear()  # the violation of this test
