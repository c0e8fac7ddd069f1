"""The page with models that sample."""

from typing import Any

import numpy as np
import pytest
from helpers.browser import Visit, ask, read_pixels, see_seed, sync_api, wait_for_picture

expect = sync_api.expect

CAPTION = "figcaption strong"
LAST_SEED = 2**64 - 1

COUNT_FETCHES = """(() => {
  const real = window.fetch;
  Object.assign(window, { running: 0, most: 0, asked: 0, given_up: 0 });
  window.fetch = async (...given) => {
    window.most = Math.max(window.most, ++window.running);
    window.asked++;
    try {
      const answer = await real(...given);
      await new Promise((resolve, reject) => {
        setTimeout(resolve, 200);
        given[1]?.signal?.addEventListener("abort", () => { window.given_up++; reject(given[1].signal.reason); });
      });
      return answer;
    } finally { window.running--; }
  };
})()"""
"""Makes every request take 200 ms more, and counts them."""


def test_seeds_by_buttons(visit: Visit) -> None:
    page = visit.open()
    see_seed(page, 7)
    page.get_by_role("button", name="Seed: next", exact=True).click()
    see_seed(page, 8)
    page.get_by_role("button", name="Seed: previous", exact=True).click(click_count=2)
    see_seed(page, 6)
    page.get_by_role("button", name="Seed: random").click()
    expect(page.locator("input#seed")).not_to_have_value("6")
    see_seed(page, int(page.locator("input#seed").input_value()))


def test_seeds_by_keys(visit: Visit) -> None:
    page = visit.open("seed=6")
    see_seed(page, 6)
    page.locator(".mat").focus()
    for key, seed in (("ArrowRight", 7), ("ArrowLeft", 6), ("ArrowLeft", 5)):
        page.keyboard.press(key)
        see_seed(page, seed)
    assert page.evaluate("document.activeElement.className") == "mat"  # the picture keeps the focus


def test_seeds_by_the_field(visit: Visit) -> None:
    page = visit.open()
    see_seed(page, 7)
    page.locator("input#seed").fill(f"00{LAST_SEED}")
    expect(page.locator(CAPTION)).to_contain_text(f"seed {LAST_SEED} ·")
    for key, seed in (("ArrowUp", 0), ("ArrowDown", LAST_SEED), ("ArrowDown", LAST_SEED - 1)):
        page.locator("input#seed").press(key)
        see_seed(page, seed)


def test_what_is_no_seed(visit: Visit) -> None:
    page = visit.open("seed=3")
    see_seed(page, 3)
    field, problem = page.locator("input#seed"), page.locator("#seed-problem")
    for text in ("-1", "1.5", "seven", "", str(2**64), "1e3"):
        field.fill(text)
        expect(problem).to_have_text(f"Seed is a whole number from 0 to {LAST_SEED}.")
        expect(field).to_have_attribute("aria-invalid", "true")
        expect(page.locator(CAPTION)).to_contain_text("seed 3 ·")
    field.fill("4")
    expect(problem).to_have_text("")
    expect(field).to_have_attribute("aria-invalid", "false")
    see_seed(page, 4)


def test_the_picture_is_the_servers(visit: Visit, url: str) -> None:
    page = visit.open(f"seed={LAST_SEED}&index=5")
    see_seed(page, LAST_SEED)
    wanted = ask(url, model="faces", seed=LAST_SEED, index=5)
    assert np.array_equal(read_pixels(page.locator(".hero img")), wanted)
    expect(page.locator(".hero img")).to_have_css("image-rendering", "pixelated")
    width = page.locator(".hero img").bounding_box()["width"]
    assert width > 300 and width % 16 == 0  # large, and each pixel as wide as the next


def test_the_caption_has_the_facts_of_the_headers(visit: Visit) -> None:
    page = visit.open("seed=3&index=5")
    caption = page.locator("figcaption")
    with page.expect_response("**/v1/images") as answer:
        expect(caption).to_contain_text("seed 3 · sample 5 · class")
    headers = answer.value.headers
    expect(caption).to_contain_text(f"class {headers['x-ganrt-label']}, drawn from the seed")
    expect(caption).to_contain_text("Computed in a batch of its own.")
    stages = {name: float(ms) for name, ms in (part.split(";dur=") for part in headers["server-timing"].split(", "))}
    assert caption.locator("dt").all_text_contents() == [*stages, "rest", "total"]
    times = [float(text.removesuffix(" ms")) for text in caption.locator("dd").all_text_contents()]
    assert times[:3] == pytest.approx(list(stages.values()), abs=0.51)
    assert sum(times[:4]) == pytest.approx(times[4], abs=2)  # each one is rounded


def test_a_shared_batch_is_told(visit: Visit) -> None:
    def share(route: Any) -> None:
        answer = route.fetch()
        route.fulfill(response=answer, headers={**answer.headers, "x-ganrt-batch": "rows=12;requests=9"})

    visit.page.route("**/v1/images", share)
    page = visit.open()
    expect(page.locator("figcaption")).to_contain_text("Travelled in a batch of 12 pictures of 9 requests.")


def test_every_control_of_a_model(visit: Visit, url: str) -> None:
    page = visit.open("seed=3")
    see_seed(page, 3)
    page.get_by_role("radio", name="4").check()
    expect(page.locator(CAPTION)).to_have_text("seed 3 · sample 0 · class 4")
    page.locator("#truncation").fill("0.5")
    page.locator("#input-contrast").fill("1.5")
    page.locator("#index").fill("2")
    expect(page.locator(CAPTION)).to_contain_text("sample 2")
    wait_for_picture(page, url, model="faces", seed=3, index=2, label=4, truncation=0.5, inputs={"contrast": 1.5})
    page.get_by_role("button", name="Truncation: off").click()
    expect(page.locator("output[for=truncation]")).to_have_text("the model’s own")
    page.get_by_role("button", name="Contrast: reset").click()
    page.get_by_role("radio", name="drawn from the seed").check()
    wait_for_picture(page, url, model="faces", seed=3, index=2)
    assert page.evaluate("document.activeElement.type") == "radio"


def test_a_link_shows_the_same_picture(visit: Visit, url: str) -> None:
    page = visit.open("seed=3")
    see_seed(page, 3)
    page.locator("#input-contrast").fill("1.5")
    page.get_by_role("radio", name="4").check()
    page.get_by_role("button", name="Seed: next", exact=True).click()
    page.wait_for_url(lambda link: all(part in link for part in ("seed=4", "label=4", "in.contrast=1.5")))
    again = visit.context.new_page()
    again.goto(page.url)
    expect(again.locator(CAPTION)).to_have_text("seed 4 · sample 0 · class 4")
    wait_for_picture(again, url, model="faces", seed=4, label=4, inputs={"contrast": 1.5})
    again.evaluate("location.hash = 'seed=9'")  # as if typed into the address
    see_seed(again, 9)
    wait_for_picture(again, url, model="faces", seed=9)


@pytest.mark.parametrize(
    "state",
    [
        "seed=-1&index=x&to=1e9&view=all&label=a&amount=7&in.contrast=b",
        "seed=99999999999999999999&model=none&gain=0&label=10",
    ],
)
def test_a_damaged_link(visit: Visit, state: str) -> None:
    page = visit.open(state)
    see_seed(page, 7)
    expect(page.locator("#status")).to_have_text("")


def test_a_model_shows_its_own_controls_only(visit: Visit) -> None:
    page = visit.open("label=4&truncation=0.5")
    expect(page.locator("#about")).to_contain_text("conditional")
    expect(page.locator(CAPTION)).to_contain_text("class 4")
    assert page.locator("#views button").all_text_contents() == ["Picture", "Seeds", "Interpolate", "Compare"]
    page.locator("#model").select_option("faces.openvino")  # of the same bundle: the same request
    expect(page.locator("#about")).to_contain_text("openvino")
    expect(page.locator("#truncation")).to_have_value("0.5")
    page.locator("#model").select_option("x2")
    expect(page.locator("#about")).to_contain_text("espcn")
    expect(page.locator("#controls .field")).to_have_count(0)
    assert page.locator("#views button").all_text_contents() == ["Picture", "Compare"]
    page.locator("#model").select_option("faces")
    expect(page.locator(CAPTION)).to_contain_text("drawn from the seed")
    expect(page.locator("output[for=truncation]")).to_have_text("the model’s own")


def test_many_classes_are_a_list(visit: Visit, url: str) -> None:
    def add_classes(route: Any) -> None:
        answer = route.fetch()
        models = answer.json()["models"]
        route.fulfill(response=answer, json={"models": [{**models[0], "classes": 1000}, *models[1:]]})

    visit.page.route("**/v1/models", add_classes)
    page = visit.open("seed=3&label=2")
    wait_for_picture(page, url, model="faces", seed=3, label=2)
    classes = page.get_by_label("Class")
    expect(classes).to_have_value("2")
    assert classes.locator("option").count() == 1001
    classes.select_option("9")
    wait_for_picture(page, url, model="faces", seed=3, label=9)
    classes.select_option("drawn from the seed")
    wait_for_picture(page, url, model="faces", seed=3)


def test_a_truncation_has_the_models_range(visit: Visit) -> None:
    def set_range(route: Any) -> None:
        answer = route.fetch()
        models = answer.json()["models"]
        changed = {**models[0], "truncation": {"low": 0.25, "high": 0.75}}
        route.fulfill(response=answer, json={"models": [changed, *models[1:]]})

    page = visit.open()
    slider = page.locator("#truncation")
    expect(slider).to_have_attribute("max", "2")  # any, as far as the server knows
    visit.page.route("**/v1/models", set_range)
    page.reload()
    expect(slider).to_have_attribute("max", "0.75")
    expect(slider).to_have_attribute("min", "0.25")
    expect(slider).to_have_value("0.75")
    slider.press("ArrowLeft")
    expect(page.locator("output[for=truncation]")).to_have_text("0.74")


def test_requests_are_coalesced(visit: Visit, url: str) -> None:
    visit.page.add_init_script(COUNT_FETCHES)
    page = visit.open()
    see_seed(page, 7)
    page.evaluate("window.asked = 0")
    for _ in range(30):
        page.locator("input#seed").press("ArrowUp")
    see_seed(page, 37)
    wait_for_picture(page, url, model="faces", seed=37)
    assert page.evaluate("window.most") == 2
    assert page.evaluate("window.asked") < 30


def test_a_request_that_is_overtaken_is_aborted(visit: Visit) -> None:
    visit.page.add_init_script(COUNT_FETCHES)
    page = visit.open()
    see_seed(page, 7)
    shown = page.evaluate(
        """async () => {
          const { Latest } = await import("/page/latest.js");
          const [shown, aborted] = [[], []];
          const latest = new Latest((result) => shown.push(result), (error) => shown.push(error.message));
          const job = (name, ms) => (signal) => new Promise((resolve, reject) => {
            setTimeout(() => resolve(name), ms);
            signal.addEventListener("abort", () => (aborted.push(name), reject(signal.reason)));
          });
          latest.submit(() => new Promise((resolve) => setTimeout(() => resolve("deaf"), 200)));
          latest.submit(job("quick", 20));
          await new Promise((resolve) => setTimeout(resolve, 300));
          latest.submit(job("slow", 500));
          latest.submit(job("fast", 50));
          latest.submit(job("never started", 50));
          latest.submit(job("last", 100));
          await new Promise((resolve) => setTimeout(resolve, 700));
          latest.submit(() => Promise.reject(new Error("failed")));
          latest.submit(job("after it", 10));
          await new Promise((resolve) => setTimeout(resolve, 50));
          latest.submit(() => Promise.reject(new Error("failed at last")));
          latest.submit(job("stopped", 50));
          latest.stop();
          await new Promise((resolve) => setTimeout(resolve, 100));
          return { shown, aborted };
        }"""
    )
    assert shown == {"shown": ["quick", "fast", "last", "after it"], "aborted": ["slow", "stopped"]}


def test_many_seeds(visit: Visit, url: str) -> None:
    page = visit.open(f"view=seeds&seed={LAST_SEED - 1}")
    expect(page.locator(".summary")).to_contain_text("24 requests in")
    cells = page.locator(".cell")
    assert cells.locator("span").all_text_contents()[:4] == [str(LAST_SEED - 1), str(LAST_SEED), "0", "1"]
    for cell, seed in ((1, LAST_SEED), (3, 1)):
        assert np.array_equal(read_pixels(cells.nth(cell).locator("img")), ask(url, model="faces", seed=seed))
    page.get_by_role("button", name="24 after").click()
    expect(cells.first.locator("span")).to_have_text("22")
    page.get_by_role("button", name="24 before").click()
    expect(cells.nth(2).locator("span")).to_have_text("0")
    page.get_by_role("button", name="Take seed 5", exact=True).click()
    see_seed(page, 5)
    expect(page.locator("#views [aria-current=page]")).to_have_text("Picture")


def test_interpolation(visit: Visit, url: str) -> None:
    page = visit.open("view=interpolate&seed=3&to=8&amount=0.25&label=1")
    expect(page.locator(CAPTION)).to_contain_text("25 % of the way to seed 8")
    body: dict[str, Any] = {"model": "faces", "seed": 3, "to_seed": 8, "label": 1}
    wait_for_picture(page, url, amount=0.25, **body)
    cells = page.locator(".strip .cell")
    expect(cells).to_have_count(8)
    wait_for_picture(page, url, ".strip .cell:nth-child(4) img", amount=3 / 7, **body)
    cells.last.click()
    expect(page.locator(CAPTION)).to_contain_text("100 % of the way")
    expect(cells.last).to_have_attribute("aria-pressed", "true")
    wait_for_picture(page, url, amount=1, **body)
    page.locator("#amount").press("ArrowLeft")
    wait_for_picture(page, url, amount=0.99, **body)
    expect(cells.last).to_have_attribute("aria-pressed", "false")
    page.get_by_role("button", name="To seed: next").click()
    wait_for_picture(page, url, amount=0.99, **{**body, "to_seed": 9})
    wait_for_picture(page, url, ".strip .cell:nth-child(4) img", amount=3 / 7, **{**body, "to_seed": 9})


def test_the_animation_plays_and_pauses(visit: Visit) -> None:
    page = visit.open("view=interpolate&amount=0")
    expect(page.locator(CAPTION)).to_contain_text("0 % of the way")
    page.get_by_role("button", name="Play").click()
    page.wait_for_function("() => (window.seen ??= new Set()).add(document.querySelector('#amount').value).size > 9")
    page.get_by_role("button", name="Pause").click()
    expect(page.get_by_role("button", name="Play")).to_be_visible()
    stopped = float(page.locator("#amount").input_value())
    expect(page.locator(CAPTION)).to_contain_text(f" {int(stopped * 100 + 0.5)} % of the way")
    page.wait_for_timeout(200)
    assert float(page.locator("#amount").input_value()) == stopped
