"""The report page in headless Chromium, from file://: no request, nothing hostile run, keys, narrow screens."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_pages import hostile_runs, many_runs, result, shown, two_runs, view
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from evalkit.progress import SilentProgress
from evalkit.report.page import PageOptions, render
from evalkit.report.samplesets import ShownRun

CHROMIUM, DRIVER = Path("/usr/bin/chromium"), Path("/usr/bin/chromedriver")
OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,1000",
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[webdriver.Chrome]:
    if not (CHROMIUM.exists() and DRIVER.exists()):
        if os.environ.get("CI") == "true":
            pytest.fail(f"{CHROMIUM} or {DRIVER} is absent, and CI must not skip the tests in a browser")
        pytest.skip(f"{CHROMIUM} or {DRIVER} is absent (Debian's packages chromium and chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = str(CHROMIUM)
    for option in (*OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('chromium')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # a path of its own, so that Selenium looks for no driver anywhere
    browser = webdriver.Chrome(options=options, service=Service(executable_path=str(DRIVER)))
    try:
        yield browser
    finally:
        browser.quit()


@pytest.fixture
def browser(chromium: webdriver.Chrome) -> webdriver.Chrome:
    """With the logs of earlier tests read."""
    chromium.get("about:blank")
    chromium.get_log("browser")
    chromium.get_log("performance")
    shape(chromium, 1280)
    return chromium


@pytest.fixture
def open_page(browser: webdriver.Chrome, tmp_path: Path) -> Callable[[list[ShownRun]], Path]:
    def write(runs: list[ShownRun]) -> Path:
        file = tmp_path / "report.html"
        file.write_text(render(runs, PageOptions(), SilentProgress()).html, "utf-8")
        browser.get(file.as_uri())
        return file

    return write


def shape(browser: webdriver.Chrome, width: int, **media: str) -> None:
    size = {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    features = [{"name": name.replace("_", "-"), "value": value} for name, value in media.items()]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def events(browser: webdriver.Chrome) -> list[dict[str, Any]]:
    return [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]


def requests(browser: webdriver.Chrome) -> list[str]:
    asked = [one["params"]["request"]["url"] for one in events(browser) if one["method"] == "Network.requestWillBeSent"]
    return [url for url in asked if not url.startswith("data:")]


def samples(browser: webdriver.Chrome) -> list[str]:
    script = "return Array.from(document.querySelectorAll('#list > li h3'), one => one.textContent)"
    return list(browser.execute_script(script))


def status(browser: webdriver.Chrome) -> str:
    return browser.find_element(By.ID, "status").text


def press(browser: webdriver.Chrome, *keys: str) -> None:
    for key in keys:
        ActionChains(browser).send_keys(key).perform()


def focused(browser: webdriver.Chrome) -> WebElement:
    return browser.switch_to.active_element


def focused_sample(browser: webdriver.Chrome) -> str | None:
    return focused(browser).get_attribute("aria-label")


def tab_to(browser: webdriver.Chrome, name: str) -> None:
    """Press the tab key until a control of this id has the focus."""
    for _ in range(200):
        if focused(browser).get_attribute("id") == name:
            return
        press(browser, Keys.TAB)
    raise AssertionError(f"the tab key does not reach {name}")


def choose(browser: webdriver.Chrome, name: str, label: str) -> None:
    """Choose an option by the arrow keys."""
    tab_to(browser, name)
    chosen = "return document.activeElement.selectedOptions[0].textContent"
    press(browser, Keys.HOME)
    for _ in range(20):
        if browser.execute_script(chosen).startswith(label):
            return
        press(browser, Keys.ARROW_DOWN)
    raise AssertionError(f"{name} has no option {label}")


def until(browser: webdriver.Chrome, holds: Callable[[], bool]) -> None:
    WebDriverWait(browser, 5, poll_frequency=0.05).until(lambda _: holds())


# -- opening -----------------------------------------------------------------------------------------------------------
def test_it_opens_from_a_file_and_asks_nobody(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    file = open_page(two_runs())
    assert samples(browser)[:2] == ["q0", "q1"]
    loaded = "return Array.from(document.images).every(one => one.complete && one.naturalWidth > 0)"
    until(browser, lambda: bool(browser.execute_script(loaded)))
    time.sleep(0.3)
    assert browser.get_log("browser") == []
    assert requests(browser) == [file.as_uri()]


def test_hostile_text_does_nothing(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    file = open_page(hostile_runs())
    time.sleep(0.3)  # an alert would make the next command fail
    assert browser.execute_script("return typeof window.pwned") == "undefined"
    assert len(samples(browser)) == 13
    assert browser.find_elements(By.CSS_SELECTOR, "#list script, #list svg, #list img[onerror]") == []
    assert "<script>window.pwned = 1; alert(1)</script>" in samples(browser)[0]
    assert browser.get_log("browser") == []
    assert requests(browser) == [file.as_uri()]


def test_the_policy_stops_a_script_that_got_in_anyhow(
    browser: webdriver.Chrome, open_page: Callable[..., Path]
) -> None:
    open_page(two_runs())
    browser.execute_script(
        "const made = document.createElement('div');"
        'made.innerHTML = \'<img src=x onerror="window.pwned = 1"><img src="https://localhost:9/x.png">\';'
        "document.body.append(made);"
        "const script = document.createElement('script'); script.textContent = 'window.pwned = 2';"
        "document.body.append(script);"
    )
    until(browser, lambda: bool(browser.get_log("browser")))
    time.sleep(0.3)
    assert browser.execute_script("return typeof window.pwned") == "undefined"
    # it is announced, and blocked before it leaves
    found = [one["params"] for one in events(browser)]
    asked = [one["requestId"] for one in found if "localhost" in one.get("request", {}).get("url", "")]
    blocked = [one["requestId"] for one in found if one.get("blockedReason") == "csp"]
    assert set(asked) <= set(blocked) and len(blocked) >= 2


# -- looking for samples -----------------------------------------------------------------------------------------------
def test_filters_sort_and_pages_by_keyboard_alone(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs(120))
    assert status(browser) == "Samples 1 to 50 of 120; page 1 of 3"
    choose(browser, "state", "lost")
    until(browser, lambda: samples(browser) == ["q15", "q45", "q75", "q105"])
    assert status(browser) == "Samples 1 to 4 of 4, among 120 here; page 1 of 1"
    choose(browser, "state", "gained")
    assert samples(browser)[:2] == ["q10", "q20"] and len(samples(browser)) == 8
    choose(browser, "state", "failed")
    assert samples(browser) == ["q7"]
    choose(browser, "state", "all")
    choose(browser, "run", "llava")
    choose(browser, "sort", "worst")
    assert samples(browser)[:3] == ["q0", "q15", "q30"]
    choose(browser, "group", "number")
    assert samples(browser)[:2] == ["q1", "q4"]
    tab_to(browser, "reset")
    press(browser, Keys.ENTER)
    until(browser, lambda: status(browser).startswith("Samples 1 to 50 of 120;"))


def options(browser: webdriver.Chrome, name: str) -> list[str]:
    script = "return Array.from(document.getElementById(arguments[0]).options, one => one.value)"
    return list(browser.execute_script(script, name))


def test_no_filter_is_offered_that_can_match_nothing(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    """Nothing is right or wrong in a caption; a choice made in another set is not kept there."""
    captions = [
        shown([view(place, right=None, score=float(place)) for place in range(9)], of=result(model, task="captions"))
        for model in ("blip", "llava")
    ]
    open_page([*two_runs(30), *captions])
    assert options(browser, "state") == ["all", "right", "wrong", "failed", "flipped", "gained", "lost", "other"]
    choose(browser, "state", "flipped")
    choose(browser, "set", "captions")
    assert options(browser, "state") == ["all", "other"]
    assert status(browser).startswith("Samples 1 to 9 of 9")
    assert "change" in options(browser, "sort")
    open_page([shown([view(place, right=None, score=None) for place in range(3)])])
    assert options(browser, "state") == ["all"]
    assert options(browser, "sort") == ["data", "id"]


def test_text_filters_as_it_is_typed(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs(120))
    tab_to(browser, "text")
    press(browser, "WHAT is 119")
    until(browser, lambda: samples(browser) == ["q119"])
    press(browser, Keys.ENTER)
    assert focused_sample(browser) == "sample q119"
    press(browser, "/")
    assert focused(browser).get_attribute("id") == "text"
    press(browser, " zebra", Keys.ENTER)
    until(browser, lambda: samples(browser) == [])
    assert status(browser) == "No sample is like that, among 120 here; page 1 of 1"


def test_keys_move_among_samples_and_pages(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs(120))
    tab_to(browser, "next")
    press(browser, Keys.ENTER)
    assert (focused_sample(browser), status(browser)) == ("sample q50", "Samples 51 to 100 of 120; page 2 of 3")
    press(browser, "j", Keys.ARROW_DOWN, "k")
    assert focused_sample(browser) == "sample q51"
    press(browser, Keys.END)
    assert focused_sample(browser) == "sample q99"
    press(browser, "j")
    assert focused_sample(browser) == "sample q99"
    press(browser, "n")
    assert focused_sample(browser) == "sample q100"
    press(browser, "n")
    assert focused_sample(browser) == "sample q100"
    press(browser, Keys.ARROW_LEFT, "p")
    assert focused_sample(browser) == "sample q0"
    press(browser, Keys.HOME, "k")
    assert focused_sample(browser) == "sample q0"


def test_letters_are_letters_while_one_types(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs(120))
    tab_to(browser, "text")
    press(browser, "jknp/")
    assert focused(browser).get_attribute("value") == "jknp/"


def test_the_skip_link_comes_first(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs())
    press(browser, Keys.TAB)
    assert focused(browser).text == "Skip to the content"
    press(browser, Keys.ENTER)
    assert focused(browser).get_attribute("id") == "main"


def test_answers_stand_side_by_side(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    open_page(two_runs(20))
    first = browser.find_element(By.CSS_SELECTOR, "#list > li").text
    assert "what is 0?" in first and "none" in first
    assert "blip/miniature" in first and "llava/miniature" in first
    assert first.count("wrong") >= 2 and "0.0 %" in first
    failed = browser.find_elements(By.CSS_SELECTOR, "#list > li")[7].text
    assert "out of memory" in failed and "failed" in failed


# -- screens -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("runs", [two_runs, hostile_runs])
def test_a_narrow_screen_does_not_scroll_sideways(
    browser: webdriver.Chrome, open_page: Callable[..., Path], runs: Callable[[], list[ShownRun]]
) -> None:
    shape(browser, 375)
    open_page(runs())
    browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    width = "return [document.documentElement.scrollWidth, document.body.scrollWidth, window.innerWidth]"
    page, body, screen = browser.execute_script(width)
    assert screen == 375
    assert max(page, body) <= 375


def test_tables_show_that_they_scroll_and_keep_their_first_column(
    browser: webdriver.Chrome, open_page: Callable[..., Path]
) -> None:
    shape(browser, 375)
    open_page(two_runs())
    tables = browser.find_elements(By.CSS_SELECTOR, "#runs .scroll, #leaderboard .scroll, #differences .scroll")
    assert len(tables) == 3
    for table in tables:
        hidden = "return arguments[0].scrollWidth - arguments[0].clientWidth"
        assert browser.execute_script(hidden, table) > 100
        assert "gradient" in table.value_of_css_property("background-image")
        first = table.find_element(By.CSS_SELECTOR, "tbody th[scope=row]")
        place = first.location["x"]
        assert 100 < first.size["width"] < 160  # room for words, and for what moves beside it
        browser.execute_script("arguments[0].scrollLeft = 100", table)
        assert first.location["x"] == place


def contrast(one: list[float], other: list[float]) -> float:
    """As WCAG has it."""

    def luminance(colour: list[float]) -> float:
        parts = [part / 255 for part in colour]
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


CONTRASTS = """
const colour = (text) => (text.match(/[\\d.]+/g) ?? []).map(Number);
const ground = (one) => {
  for (let at = one; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    if (found.length === 3 || found[3] === 1) { return found.slice(0, 3); }
  }
  return [255, 255, 255];
};
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const found = [];
while (walker.nextNode()) {
  const one = walker.currentNode.parentElement;
  const silent = !walker.currentNode.data.trim() || one.closest("script, style, button:disabled");
  if (silent || !one.checkVisibility()) { continue; }
  const style = getComputedStyle(one);
  const ink = colour(one.closest("svg") ? style.fill : style.color);
  found.push([one.outerHTML.slice(0, 80), ink, ground(one)]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(browser: webdriver.Chrome, open_page: Callable[..., Path], scheme: str) -> None:
    shape(browser, 1280, prefers_color_scheme=scheme)
    open_page(two_runs())
    found = browser.execute_script(CONTRASTS)
    assert len(found) > 300
    grounds = {tuple(ground) for _, _, ground in found}
    assert ((255, 255, 255) in grounds) == (scheme == "light")
    assert [one for one in found if len(one[1]) == 4 or contrast(one[1], one[2]) < 4.5] == []


def test_motion_is_reduced_where_that_is_wished(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    behaviour = "return getComputedStyle(document.documentElement).scrollBehavior"
    open_page(two_runs(10))
    assert browser.execute_script(behaviour) == "smooth"
    shape(browser, 1280, prefers_reduced_motion="reduce")
    assert browser.execute_script(behaviour) == "auto"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (375, "light"), (1280, "dark")])
def test_a_picture_of_it_is_taken(
    browser: webdriver.Chrome, open_page: Callable[..., Path], tmp_path: Path, width: int, scheme: str
) -> None:
    from PIL import Image

    shape(browser, width, prefers_color_scheme=scheme)
    open_page(two_runs())
    file = tmp_path / f"{width}-{scheme}.png"
    assert browser.save_screenshot(str(file))
    with Image.open(file) as image:
        assert image.width == width
        corner = image.convert("RGB").getpixel((2, 2))
        assert isinstance(corner, tuple)
        assert (min(corner) > 200) == (scheme == "light")


# -- many samples ------------------------------------------------------------------------------------------------------
@pytest.mark.slow
def test_five_thousand_samples_are_paged(browser: webdriver.Chrome, open_page: Callable[..., Path]) -> None:
    file = open_page(many_runs(5000))
    assert 20e6 < file.stat().st_size < 60e6
    assert len(samples(browser)) == 50
    assert status(browser) == "Samples 1 to 50 of 5,000; page 1 of 100"
    choose(browser, "sort", "worst")
    until(browser, lambda: samples(browser)[:2] != ["q0", "q1"])
