"""The real page, served by the real command, in a real browser: Debian's packages chromium and chromium-driver."""

import json
import re
import shutil
import signal
import urllib.request

import pytest
import rasterio

pytest.importorskip("selenium", reason="needs mm_ovseg[browser]")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.app.page_server import run_page
from tests.patience import PATIENCE

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")

DESK, PHONE = (1280, 900), (390, 844)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with run_page(tmp_path_factory.mktemp("server")) as process:
        yield process


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('browser')}")
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def open_page(browser, server, size=DESK):
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(server.url)
    wait(browser, lambda: picture(browser))


def wait(browser, condition):
    return WebDriverWait(browser, PATIENCE).until(lambda _: condition())


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def picture(browser):
    """The map's own layer, without what is beneath; None where there is none."""
    layers = browser.find_elements(By.CSS_SELECTOR, ".ovseg-layer")
    return layers[0].get_attribute("src") if layers else None


def legend(browser):
    return [row.text for row in browser.find_elements(By.CSS_SELECTOR, ".ovseg-legend tbody tr")]


def message(browser):
    return [element.text for element in browser.find_elements(By.CSS_SELECTOR, ".ovseg-message")]


def clear(browser, box):
    for button in browser.find_elements(By.CSS_SELECTOR, f"#{box} button[aria-label=Clear]"):
        button.click()
    wait(browser, lambda: browser.find_elements(By.CSS_SELECTOR, f"#{box} input[type=file]"))


def choose(browser, box, path):
    """Choose a file in place of the one that is there."""
    clear(browser, box)
    find(browser, f"#{box} input[type=file]").send_keys(str(path))
    wait(browser, lambda: path.stem in find(browser, f"#{box}").text)


def type_classes(browser, text):
    box = find(browser, "#ovseg-classes textarea, #ovseg-classes input")
    box.send_keys(Keys.CONTROL, "a")
    box.send_keys(text)


def click(browser, selector):
    element = find(browser, selector)
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    element.click()


def test_the_page_opens_with_a_map_and_shows_it_otherwise(server, browser):
    open_page(browser, server)
    assert [row.split()[0] for row in legend(browser)] == ["city", "road", "forest", "water", "farmland"]
    underlined = browser.find_elements(By.CSS_SELECTOR, ".ovseg-legend u")
    assert [name.text for name in underlined] == ["road", "water"]
    with_sar, rows = picture(browser), legend(browser)
    click(browser, "#ovseg-sensors label:nth-of-type(2)")
    wait(browser, lambda: picture(browser) != with_sar and legend(browser) != rows)
    click(browser, "#ovseg-sensors label:nth-of-type(1)")
    wait(browser, lambda: picture(browser) == with_sar)
    click(browser, "#ovseg-map-layer label:nth-of-type(2)")
    wait(browser, lambda: picture(browser) != with_sar and browser.find_elements(By.CSS_SELECTOR, ".ovseg-scale"))
    slider = find(browser, "#ovseg-opacity input[type=range]")
    slider.send_keys(Keys.HOME)
    wait(browser, lambda: find(browser, ".ovseg-layer").value_of_css_property("opacity") == "0")


def test_uploaded_files_become_a_map_to_download(server, browser, write_image, tmp_path):
    open_page(browser, server)
    before = picture(browser)
    choose(browser, "ovseg-rgb", write_image("north.tif"))
    choose(browser, "ovseg-sar", write_image("radar.tif", bands=1))
    type_classes(browser, "lake, <b>wood</b>, ${1+1}")
    click(browser, "#ovseg-start")
    wait(browser, lambda: picture(browser) not in (None, before))
    assert [re.sub(r" [\d.,–]+ .*", "", row) for row in legend(browser)] == ["lake", "<b>wood</b>", "${1+1}"]
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path / "downloads")}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    click(browser, "#ovseg-download")
    wait(browser, (tmp_path / "downloads" / "north_map.tif").is_file)
    with rasterio.open(tmp_path / "downloads" / "north_map.tif") as file:
        assert file.shape == (64, 96) and file.crs.to_epsg() == 32633 and file.tags(1)["class_1"] == "<b>wood</b>"


def test_the_files_of_the_last_map_are_not_offered_while_another_is_made(server, browser):
    open_page(browser, server)
    assert find(browser, "#ovseg-download").is_enabled()
    browser.execute_script("""
        window.offered = [];
        const note = () => window.offered.push(!document.getElementById('ovseg-download').disabled);
        new MutationObserver(note).observe(document.body, {attributes: true, childList: true, subtree: true});
    """)
    click(browser, "#ovseg-start")
    wait(browser, lambda: browser.execute_script("return window.offered.includes(false)"))
    wait(browser, find(browser, "#ovseg-download").is_enabled)
    assert picture(browser)


def test_the_page_is_for_all(server, browser):
    open_page(browser, server)
    live = find(browser, "#ovseg-message")
    assert live.get_attribute("aria-live") == "polite" and live.get_attribute("role") == "status"
    wait(browser, lambda: "The map is made: city" in live.get_attribute("textContent"))
    assert live.rect["width"] <= 1 and live.value_of_css_property("display") != "none"
    browser.execute_script("document.querySelector('#ovseg-opacity input[type=number]').focus()")
    browser.switch_to.active_element.send_keys(Keys.TAB)
    while browser.switch_to.active_element.get_attribute("type") != "range":
        browser.switch_to.active_element.send_keys(Keys.TAB)
    assert browser.switch_to.active_element.value_of_css_property("outline-style") == "solid"
    small = [
        (button.get_attribute("aria-label") or button.text, button.size)
        for button in browser.find_elements(By.CSS_SELECTOR, "button")
        if button.is_displayed() and min(button.size["width"], button.size["height"]) < 24
    ]
    assert small == []


def test_what_is_wrong_is_said_on_the_page(server, browser, write_image, tmp_path):
    open_page(browser, server)
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    choose(browser, "ovseg-rgb", tmp_path / "torn.png")
    click(browser, "#ovseg-start")
    wait(browser, lambda: message(browser) and "torn.png cannot be read" in message(browser)[0])
    assert str(server.folder) not in message(browser)[0] and picture(browser) is None
    choose(browser, "ovseg-rgb", write_image("rgb.png"))
    type_classes(browser, "water,,road")
    click(browser, "#ovseg-start")
    wait(browser, lambda: message(browser) and "A class name" in message(browser)[0])
    (tmp_path / "huge.png").write_bytes(bytes(1_100_000))
    clear(browser, "ovseg-sar")
    find(browser, "#ovseg-sar input[type=file]").send_keys(str(tmp_path / "huge.png"))
    wait(browser, lambda: "maximum" in find(browser, "body").text.lower())


def test_the_page_fits_a_phone_and_asks_no_other_host(server, browser, tmp_path):
    browser.get_log("performance")
    open_page(browser, server, PHONE)
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
    tops = [find(browser, selector).rect["y"] for selector in ("#ovseg-start", ".ovseg-map", ".ovseg-legend")]
    assert tops == sorted(tops)
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"}
    assert asked and not [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    answers = [entry["params"]["response"] for entry in entries if entry["method"] == "Network.responseReceived"]
    assert [answer["url"] for answer in answers if answer["status"] >= 400] == []
    assert "default-src 'self'" in urllib.request.urlopen(server.url).headers["Content-Security-Policy"]
    browser.save_screenshot(str(tmp_path / "phone.png"))
    assert (tmp_path / "phone.png").stat().st_size > 20_000


def test_nothing_is_left_when_the_server_ends(server, browser):
    browser.get("about:blank")
    assert list(server.folder.glob("mm_ovseg_app_*/uploads"))
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    assert not list(server.folder.iterdir())
