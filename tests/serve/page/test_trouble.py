"""The page when the server refuses, is busy or is away; and what it copies."""

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.browser import Visit, ask, find_refusal, make_photo, read_answer, see_seed, sync_api, wait_for_picture

expect = sync_api.expect

STATUS = "#status"


@pytest.fixture
def lenient(browser: Any, url: str) -> Any:
    """A page that may complain about answers that are errors."""
    visit = Visit(browser, url)
    yield visit
    visit.close(refused=(400, 401, 404, 429, 503))


def test_a_busy_server_is_asked_again(lenient: Visit) -> None:
    answers = iter([{"status": 429, "json": {"error": "the queue is full"}, "headers": {"Retry-After": "2"}}])

    def refuse_once(route: Any) -> None:
        answer = next(answers, None)
        route.fulfill(**answer) if answer else route.continue_()

    lenient.page.route("**/v1/images", refuse_once)
    page = lenient.open()
    expect(page.locator(STATUS)).to_have_text("Busy, trying again in 2 s")
    expect(page.locator(STATUS)).to_have_text("Busy, trying again in 1 s")
    see_seed(page, 7)
    expect(page.locator(STATUS)).to_have_text("")


def test_a_server_that_is_not_ready_is_asked_again(lenient: Visit) -> None:
    answers = iter([{"status": 503, "json": {"error": "the models are still being loaded"}}])

    def refuse_once(route: Any) -> None:
        answer = next(answers, None)
        route.fulfill(**answer) if answer else route.continue_()

    lenient.page.route("**/v1/images", refuse_once)
    page = lenient.open()
    expect(page.locator(STATUS)).to_have_text("the models are still being loaded. Trying again in 2 s")
    see_seed(page, 7)
    expect(page.locator(STATUS)).to_have_text("")


def test_a_lost_connection_recovers(browser: Any, url: str) -> None:
    visit = Visit(browser, url)
    page = visit.open()
    see_seed(page, 7)
    visit.context.set_offline(True)
    page.get_by_role("button", name="Seed: next", exact=True).click()
    expect(page.locator(STATUS)).to_have_text("The connection to the server is lost. Trying again …")
    visit.context.set_offline(False)
    see_seed(page, 8)
    expect(page.locator(STATUS)).to_have_text("")
    visit.complaints = [text for text in visit.complaints if "net::ERR_INTERNET_DISCONNECTED" not in text]
    visit.close()


def test_a_server_that_asks_for_a_token(lenient: Visit) -> None:
    def guard(route: Any) -> None:
        if route.request.headers.get("authorization") == "Bearer secret":
            route.continue_()
        else:
            route.fulfill(status=401, json={"error": "a token is needed"})

    lenient.page.route("**/v1/**", guard)
    page = lenient.open("view=seeds")
    expect(page.get_by_role("heading", name="This server asks for a token")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("dialog")).to_be_visible()  # nothing can be shown without a token
    page.get_by_role("textbox", name="Token").fill("no token")
    page.keyboard.press("Enter")
    expect(page.locator("dialog input:invalid")).to_be_visible()
    for token, text in (("wrong", "The server does not accept this token. Try another one."), ("secret", "")):
        page.get_by_role("textbox", name="Token").fill(token)
        page.keyboard.press("Enter")
        if text:
            expect(page.locator("#token-text")).to_have_text(text)
    expect(page.locator(".summary")).to_contain_text("24 requests in")
    assert page.evaluate("[sessionStorage.length, localStorage.length]") == [1, 0]
    page.reload()
    expect(page.locator(".summary")).to_contain_text("24 requests in")
    expect(page.locator("dialog")).to_be_hidden()


def test_a_refusal_is_the_servers_sentence(lenient: Visit, url: str) -> None:
    page = lenient.open("truncation=-3")
    sentence = find_refusal(url, b'{"truncation": -3}')
    assert "truncation is -3" in sentence
    expect(page.locator(STATUS)).to_have_text(sentence)
    expect(page.locator(STATUS)).to_have_attribute("data-kind", "error")
    page.get_by_role("button", name="Truncation: off").click()
    wait_for_picture(page, url, model="faces", seed=7)
    expect(page.locator(STATUS)).to_have_text("")


def test_an_error_that_is_no_sentence(lenient: Visit) -> None:
    lenient.page.route("**/v1/images", lambda route: route.fulfill(status=404, body="<html>"))
    expect(lenient.open().locator(STATUS)).to_have_text("The server answered 404.")


def test_a_server_without_models(lenient: Visit) -> None:
    lenient.page.route("**/v1/models", lambda route: route.fulfill(json={"models": []}))
    expect(lenient.open().locator(STATUS)).to_have_text("The server has no models.")


def read_copy(visit: Visit, name: str) -> str:
    visit.context.grant_permissions(["clipboard-read", "clipboard-write"])
    button = visit.page.locator("#actions button").nth(("Copy as curl", "Copy as Python").index(name))
    expect(button).to_have_text(name)
    button.click()
    expect(button).to_have_text("Copied")
    return str(visit.page.evaluate("navigator.clipboard.readText()"))


def run_command(command: str, folder: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("this machine has no curl")
    subprocess.run(command, shell=True, check=True, cwd=folder, capture_output=True)


def test_a_copied_command_names_the_token_and_does_not_hold_it(visit: Visit) -> None:
    visit.page.add_init_script("sessionStorage.setItem('ganrt.token', 'secret')")
    see_seed(visit.open("in.contrast=0.5"), 7)
    curl, python = (read_copy(visit, name) for name in ("Copy as curl", "Copy as Python"))
    assert '-H "Authorization: Bearer $GANRT_TOKEN"' in curl
    assert '"Authorization": "Bearer " + os.environ["GANRT_TOKEN"]' in python and "import os\n" in python
    assert "secret" not in curl + python


def test_copying_without_the_clipboard_of_secure_pages(visit: Visit) -> None:
    visit.page.add_init_script(
        """Object.defineProperty(navigator, "clipboard", { value: undefined });
        document.addEventListener("copy", () => { window.copied = document.activeElement.value; });"""
    )
    page = visit.open()
    see_seed(page, 7)
    page.get_by_role("button", name="Copy as curl").click()
    expect(page.get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("window.copied").startswith("curl -sS")
    assert page.locator("textarea").count() == 0


@pytest.mark.parametrize(
    ("state", "body"),
    [
        ("seed=18446744073709551615&index=2&label=4", {"seed": 2**64 - 1, "index": 2, "label": 4}),
        ("seed=4&truncation=0.5", {"seed": 4, "truncation": 0.5}),
        ("seed=4&in.contrast=0.5", {"seed": 4, "inputs": {"contrast": 0.5}}),
        ("seed=4&to=5&amount=0.25&view=interpolate", {"seed": 4, "to_seed": 5, "amount": 0.25}),
    ],
)
def test_the_copied_commands_make_the_picture(
    visit: Visit, url: str, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, body: Any
) -> None:
    page = visit.open(state)
    wait_for_picture(page, url, **body)
    monkeypatch.chdir(folder)
    code = read_copy(visit, "Copy as Python")
    found: dict[str, Any] = {}
    exec(code, found)
    picture = found.get("picture")
    if picture is None:  # what `sample` has no argument for is asked of the server
        picture = read_answer(Path("faces.png").read_bytes())
    assert np.array_equal(picture, ask(url, **body))
    run_command(read_copy(visit, "Copy as curl"), tmp_path)
    assert np.array_equal(read_answer((tmp_path / "faces.png").read_bytes()), ask(url, **body))


def test_the_copied_command_with_a_photograph(visit: Visit, url: str, tmp_path: Path) -> None:
    page = visit.open("model=x2")
    page.wait_for_selector("#controls label.drop")
    (tmp_path / "photo.jpg").write_bytes(make_photo(24, 16, "JPEG"))
    run_command(read_copy(visit, "Copy as curl"), tmp_path)
    assert read_answer((tmp_path / "x2.png").read_bytes()).shape == (32, 48, 3)
    assert 'picture = g.transform("photo.jpg")' in read_copy(visit, "Copy as Python")


def test_the_copied_command_with_two_pictures(visit: Visit, tmp_path: Path) -> None:
    page = visit.open("model=blend&in.strength=0.75")
    page.wait_for_selector("#controls label.drop")
    for name in ("content", "style"):
        (tmp_path / f"{name}.jpg").write_bytes(make_photo(48, 32, "JPEG"))
    run_command(read_copy(visit, "Copy as curl"), tmp_path)
    assert read_answer((tmp_path / "blend.png").read_bytes()).shape == (32, 48, 3)
    wanted = 'picture = g.transform(content="content.jpg", style="style.jpg", strength=0.75)'
    assert wanted in read_copy(visit, "Copy as Python")
