"""The page that `i2i compare` writes, in a real browser: Chromium, driven by its keyboard."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest

from i2i.cli import compare as command
from i2i.cli.entry import exit_code, parse
from i2i.data.image_io import write_image

PAIRS = 8
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None,
    reason="no Chromium with its chromedriver on the path: apt install chromium-driver",
)

SHOWN = """
const [left, right] = ["left", "right"].map((side) => document.querySelector(`#${side} img`));
return ready ? [document.getElementById("status").textContent, left.src, right.src] : null;
"""
BRIGHTER = """
const brightness = (side) => {
  const image = document.querySelector(`#${side} img`);
  const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight).getContext("2d");
  canvas.drawImage(image, 0, 0);
  return canvas.getImageData(0, 0, image.naturalWidth, image.naturalHeight).data.reduce((sum, value) => sum + value, 0);
};
return brightness("left") > brightness("right") ? "left" : "right";
"""


def compare(*arguments: str | Path) -> int:
    """Run `i2i compare` in this process; returns its exit code."""
    settings = parse(command.Settings, [str(argument) for argument in arguments], description="")
    return exit_code(lambda: command.main(settings), debug=False)


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    options = Options()
    options.binary_location = str(CHROMIUM)
    for flag in (
        *("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "window-size=1200,800"),
        *("disable-background-networking", "disable-component-update", "disable-sync", "disable-default-apps"),
        f"user-data-dir={tmp_path / 'profile'}",
    ):
        options.add_argument(f"--{flag}")
    options.add_experimental_option("prefs", {"download.default_directory": str(tmp_path / "downloads")})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    try:
        yield driver
    finally:
        driver.quit()


@pytest.fixture
def study(tmp_path: Path) -> Path:
    """Of noise that is brighter in A."""
    random = np.random.default_rng(0)
    for folder, brightness in (("a", 160), ("b", 90)):
        for number in range(PAIRS):
            image = random.integers(brightness - 20, brightness + 20, (32, 48, 3)).astype(np.uint8)
            write_image(tmp_path / folder / f"{number}.png", image)
    assert compare(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "study", "--repeats", 2) == 0
    return tmp_path / "study"


@pytest.fixture
def served(study: Path) -> Iterator[str]:
    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(study)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/index.html"
    server.shutdown()


def until(found: Callable[[], Any], what: str) -> Any:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def press(browser: Any, *keys: str) -> None:
    from selenium.webdriver import ActionChains

    ActionChains(browser).send_keys(*keys).perform()


def shown(browser: Any, number: int) -> list[str]:
    """Waits for the pair of this number; its two images."""

    def there() -> list[str] | None:
        found = browser.execute_script(SHOWN)
        return found[1:] if found is not None and found[0] == f"{number} of {PAIRS + 2}" else None

    return until(there, f"pair {number}")


def reload(browser: Any) -> None:
    """Until the page is a new one: Escape, pressed just before, may stop it from loading."""
    browser.execute_script("window.isOld = true")

    def is_new() -> bool:
        browser.refresh()
        return not browser.execute_script("return window.isOld")

    until(is_new, "a reload")


def results_are_open(browser: Any) -> bool:
    return bool(browser.execute_script("return document.getElementById('results').open"))


def sign_in(browser: Any, name: str) -> None:
    from selenium.webdriver.common.keys import Keys

    press(browser, name, Keys.ENTER)  # the field has the focus


def test_a_person_judges_by_keyboard_reloads_goes_on_and_is_scored(browser: Any, study: Path, tmp_path: Path) -> None:
    """Opened from the disk; the person always prefers the brighter image."""
    from selenium.webdriver.common.keys import Keys

    browser.get((study / "index.html").as_uri())
    sign_in(browser, "Zoë B.")
    keys = {"left": (Keys.ARROW_LEFT, "a"), "right": (Keys.ARROW_RIGHT, "l")}
    key = json.loads((study / "key.json").read_text())
    tokens_of_a = {pair["a"] for pair in key["pairs"]}

    def prefer_brighter(number: int) -> None:
        left, right = shown(browser, number)
        # Pages from the disk may not read pixels, so the key tells which one is brighter.
        side = "left" if Path(left).stem in tokens_of_a else "right"
        assert {Path(left).stem in tokens_of_a, Path(right).stem in tokens_of_a} == {True, False}
        press(browser, keys[side][number % 2])

    for number in range(1, 4):
        prefer_brighter(number)
    before = shown(browser, 4)
    reload(browser)
    assert shown(browser, 4) == before
    press(browser, Keys.BACKSPACE)
    third = shown(browser, 3)
    prefer_brighter(3)
    reload(browser)
    assert shown(browser, 4) == before
    press(browser, "u")
    assert shown(browser, 3) == third
    for number in range(3, PAIRS + 3):
        prefer_brighter(number)
    until(lambda: results_are_open(browser), "the end")
    press(browser, Keys.ESCAPE)
    press(browser, Keys.ESCAPE)
    assert browser.execute_script("return state.answers.length") == PAIRS + 2
    reload(browser)
    assert browser.execute_script("return state?.answers.length") == PAIRS + 2
    until(lambda: results_are_open(browser), "the end after a reload")
    press(browser, Keys.ENTER)  # "Download results" has the focus
    results = tmp_path / "downloads" / "results-Zoë-B-.json"
    until(results.exists, "the download")
    assert compare("--score", study, results, "--out", tmp_path / "scores.json") == 0
    scores = json.loads((tmp_path / "scores.json").read_text())
    assert scores["preference"]["share"] == 1
    assert scores["raters"][0]["rater"] == "Zoë B."
    assert (scores["raters"][0]["consistent"], scores["raters"][0]["repeats"]) == (2, 2)
    assert "This person prefers a: 100% (68% to 100%)" in scores["verdict"]
    assert all(judgement["ms"] > 0 for judgement in json.loads(results.read_text())["judgements"])
    assert browser.get_log("browser") == []


def test_a_served_page_tells_bright_from_dark_by_its_pixels(browser: Any, served: str, study: Path) -> None:
    """From a server pixels can be read, so that nothing but what is on the screen decides."""
    browser.get(served)
    sign_in(browser, "ann")
    for number in range(1, PAIRS + 3):
        shown(browser, number)
        browser.find_element("id", f"choose-{browser.execute_script(BRIGHTER)}").click()
    results = until(lambda: browser.find_element("id", "text").get_property("value"), "the text of the results")
    (study / "results-ann.json").write_text(results)
    assert compare("--score", study) == 0
    assert json.loads((study / "scores.json").read_text())["preference"]["share"] == 1


def test_two_people_in_one_browser_have_orders_of_their_own(browser: Any, study: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    browser.get((study / "index.html").as_uri())
    orders = []
    for name in ("ann", "ben"):
        sign_in(browser, name)
        orders.append([])
        for number in range(1, 5):
            orders[-1].append(shown(browser, number))
            press(browser, Keys.ARROW_DOWN)
        browser.find_element("id", "show-results").click()
        content = json.loads(browser.find_element("id", "text").get_property("value"))
        assert (content["rater"], content["complete"]) == (name, False)
        assert [(entry["left"], entry["choice"]) for entry in content["judgements"]] == [
            (Path(left).stem, "tie") for left, _ in orders[-1]
        ]
        browser.find_element("id", "other").click()
    assert orders[0] != orders[1]
    buttons = browser.find_elements("css selector", "#known button")
    assert sorted(button.text for button in buttons) == ["Go on as ann (4 of 10)", "Go on as ben (4 of 10)"]


def test_two_people_in_two_tabs_stay_themselves(browser: Any, study: Path) -> None:
    tabs = {}
    for number, name in enumerate(("ann", "ben"), start=1):
        if tabs:
            browser.switch_to.new_window("tab")
        tabs[name] = browser.current_window_handle
        browser.get((study / "index.html").as_uri())
        if number == 2:  # a new tab goes on with the last person
            assert browser.find_element("id", "judge").text == "ann"
            browser.find_element("id", "show-results").click()
            browser.find_element("id", "other").click()
            reload(browser)
            assert browser.find_element("id", "start").is_displayed()
        sign_in(browser, name)
        shown(browser, 1)
        press(browser, "a")
        shown(browser, 2)
    for name, tab in tabs.items():
        browser.switch_to.window(tab)
        reload(browser)
        shown(browser, 2)
        assert browser.find_element("id", "judge").text == name
        assert browser.execute_script("return rater") == name


def test_half_of_all_pairs_lie_between_a_pair_and_its_repeat(browser: Any, study: Path) -> None:
    browser.get((study / "index.html").as_uri())
    plans = browser.execute_script(
        "study.repeats = 4; return [...Array(100).keys()].map((seed) => planned(seed * 7919))"
    )
    for plan in plans:
        place = {(one["left"], one["right"]): number for number, one in enumerate(plan) if not one["repeat"]}
        repeats = [(number, one) for number, one in enumerate(plan) if one["repeat"]]
        assert len(plan) == PAIRS + 4 == len(place) + len(repeats)
        assert all(number - place[one["right"], one["left"]] >= PAIRS / 2 for number, one in repeats)
    assert len({number for plan in plans for number, one in enumerate(plan) if one["repeat"]}) == PAIRS  # anywhere


def test_nothing_on_the_page_tells_whose_an_image_is(browser: Any, study: Path) -> None:
    browser.get((study / "index.html").as_uri())
    sign_in(browser, "ann")
    for number in range(1, 4):
        shown(browser, number)
        press(browser, "a")
    shown(browser, 4)
    page = browser.page_source + json.dumps(browser.execute_script("return [study, showings, {...localStorage}]"))
    assert "key.json" not in page
    assert '"a":' not in page and '"b":' not in page  # as key.json has them
    loaded = browser.execute_script("return performance.getEntriesByType('resource').map((entry) => entry.name)")
    assert all("/images/" in name for name in loaded)
    assert browser.get_log("browser") == []


def test_order_and_sides_are_fair_over_many_people(browser: Any, study: Path) -> None:
    """Of 400 people every pair and either side comes first as often as chance has it, within four deviations."""
    browser.get((study / "index.html").as_uri())
    plans = browser.execute_script("return [...Array(400).keys()].map((seed) => planned(seed * 7919))")
    pairs = [frozenset(pair["images"]) for pair in browser.execute_script("return study.pairs")]
    as_listed = 0
    first: Counter[frozenset[str]] = Counter()
    for plan in plans:
        fresh = [showing for showing in plan if not showing["repeat"]]
        again = [showing for showing in plan if showing["repeat"]]
        assert sorted(map(sorted, ({one["left"], one["right"]} for one in fresh))) == sorted(map(sorted, pairs))
        as_listed += sum(showing["left"] < showing["right"] for showing in fresh)
        first[frozenset((plan[0]["left"], plan[0]["right"]))] += 1
        assert len(again) == 2
        for repeat in again:
            original = next(one for one in fresh if one["left"] == repeat["right"])
            assert original["right"] == repeat["left"]
            assert plan.index(original) < PAIRS / 2 <= plan.index(repeat)
    judged = 400 * PAIRS
    assert abs(as_listed - judged / 2) < 4 * (judged / 4) ** 0.5
    expected = 400 / PAIRS
    assert all(abs(first[pair] - expected) < 4 * (expected * (1 - 1 / PAIRS)) ** 0.5 for pair in pairs)


def test_keys_do_nothing_before_the_images_are_there_and_when_held(browser: Any, study: Path) -> None:
    browser.get((study / "index.html").as_uri())
    sign_in(browser, "ann")
    shown(browser, 1)
    held = "document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft', repeat: true, bubbles: true}))"
    twice = "for (const _ of [1, 2]) document.dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowLeft'}))"
    browser.execute_script(held)
    assert browser.execute_script("return state.answers.length") == 0
    browser.execute_script(twice)
    shown(browser, 2)
    assert browser.execute_script("return state.answers.length") == 1


def test_zoom_shows_the_same_part_of_both_and_lets_go_when_held(browser: Any, tmp_path: Path) -> None:
    from selenium.webdriver import ActionChains

    random = np.random.default_rng(0)
    for folder, step in (("a", 1), ("b", 2)):  # of two sizes
        image = random.integers(0, 255, (900 // step, 1500 // step, 3)).astype(np.uint8)
        write_image(tmp_path / folder / "0.png", image)
    assert compare(tmp_path / "a", tmp_path / "b", "--out", tmp_path / "study") == 0
    browser.get((tmp_path / "study" / "index.html").as_uri())
    sign_in(browser, "ann")
    until(lambda: browser.execute_script("return ready"), "the pair")
    size = "return ['left', 'right'].map((s) => document.querySelector(`#${s} img`).getBoundingClientRect().width)"
    part = "return ['left', 'right'].map((s) => document.querySelector(`#${s} .pane`).scrollLeft)"
    fitted = browser.execute_script(size)
    assert fitted[0] == fitted[1] < 600
    press(browser, "z")
    assert browser.execute_script(size) == [1500, 1500]
    ActionChains(browser).move_to_element_with_offset(browser.find_element("id", "left"), 200, 0).perform()
    until(lambda: browser.execute_script(part)[1] > 600, "the right image to follow")
    left, right = browser.execute_script(part)
    assert left == right
    press(browser, "z")
    assert browser.execute_script(size) == fitted
    ActionChains(browser).key_down("z").pause(0.5).key_up("z").perform()
    assert browser.execute_script(size) == fitted


def test_a_page_without_its_images_says_so(browser: Any, study: Path) -> None:
    shutil.rmtree(study / "images")
    browser.get((study / "index.html").as_uri())
    sign_in(browser, "ann")
    trouble = browser.find_element("id", "trouble")
    until(trouble.is_displayed, "the message")
    assert "could not be loaded" in trouble.text
    assert browser.execute_script("return document.getElementById('choose-left').disabled")


def test_without_storage_the_page_warns_and_works(browser: Any, study: Path) -> None:
    script = "Object.defineProperty(window, 'localStorage', {get() { throw new DOMException('blocked') }})"
    browser.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": script})
    browser.get((study / "index.html").as_uri())
    assert browser.find_element("id", "not-kept").is_displayed()
    sign_in(browser, "ann")
    shown(browser, 1)
    press(browser, "a")
    shown(browser, 2)
