"""The real page, served by the real command, in a real browser: Debian's packages chromium and chromium-driver."""

import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio

pytest.importorskip("selenium", reason="needs mm_ovseg[browser]")

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.wait import WebDriverWait

from tests.app.page_server import run_page
from tests.patience import PATIENCE

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="needs chromium and chromium-driver")

DESK, PHONE = (1280, 800), (390, 844)
AXE = Path(__file__).with_name("axe.min.js")  # axe-core 4.14.1; packages of PyPI have old ones, or need a second driver


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
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


def open_page(browser, server, size=DESK):
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": size == PHONE}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.execute_cdp_cmd("Emulation.setTouchEmulationEnabled", {"enabled": size == PHONE})
    browser.get(server.url)
    wait(browser, lambda: map_id(browser) and loaded(browser, "/tiles/classes/"))


def wait(browser, condition):
    return WebDriverWait(browser, PATIENCE).until(lambda _: condition())


def find(browser, selector):
    return browser.find_element(By.CSS_SELECTOR, selector)


def find_all(browser, selector):
    return browser.find_elements(By.CSS_SELECTOR, selector)


def text(browser, selector):
    return find(browser, selector).get_attribute("textContent")


def map_id(browser):
    """The id of the map that is shown; None for none."""
    links = find_all(browser, "#result:not([hidden]) #downloads a")
    return re.search("/maps/([^/]+)/", links[0].get_attribute("href"))[1] if links else None


def loaded(browser, part, side="left"):
    """Whether the tiles of a side are there, of which some have a part of their address."""
    tiles = find_all(browser, f".leaflet-{side}-pane img.leaflet-tile-loaded[src*='{part}']")
    return bool(tiles) and find(browser, "#map").get_attribute("aria-busy") == "false"


def legend(browser):
    rows = "return [...document.querySelectorAll('#legend tbody tr')].map(row => row.querySelector('th').innerText)"
    return browser.execute_script(rows)


def ask(browser, classes=None):
    """Ask for a map, and wait for it."""
    before = map_id(browser)
    if classes is not None:
        box = find(browser, "#classes")
        box.clear()
        box.send_keys(classes)
    find(browser, "#make").click()
    wait(browser, lambda: map_id(browser) not in (None, before))


def upload(browser, **files):
    """Upload files by sensor."""
    find(browser, "#images > summary").click()
    for sensor, path in files.items():
        find(browser, f"#{sensor}-files").send_keys(str(path))
    wait(browser, lambda: len(find_all(browser, ".drop li")) == len(find_all(browser, ".drop li:not(:has(progress))")))
    assert text(browser, "#read") == "Open these images"


def test_the_page_opens_with_a_map(server, browser):
    open_page(browser, server)
    assert loaded(browser, "/tiles/rgb/")
    names = ["water", "forest", "farmland", "city", "industrial area", "grassland", "bare ground"]
    assert [name for name in legend(browser) if name != "none"] == names
    assert [name.text for name in find_all(browser, "#legend u")] == ["industrial area", "bare ground"]
    assert text(browser, "#status").startswith("Made in ")
    assert re.search(r"farmland [\d.]+%", text(browser, "#status-details"))
    find(browser, "#view-image label:nth-of-type(2)").click()
    find(browser, "#view-layer label:nth-of-type(2)").click()
    wait(browser, lambda: loaded(browser, "/tiles/confidence/") and loaded(browser, "/tiles/sar/"))
    assert find(browser, "#confidence-scale").is_displayed()
    find(browser, "#opacity").send_keys(Keys.HOME)
    layer = "//*[contains(@class, 'leaflet-layer')][.//img[contains(@src, 'confidence')]]"
    assert browser.find_element(By.XPATH, layer).value_of_css_property("opacity") == "0"


def test_names_asked_again_become_a_map_to_download(server, browser, tmp_path):
    open_page(browser, server)
    ask(browser, "lake, <b>wood</b>, ${1+1}")
    assert legend(browser)[:3] == ["lake", "<b>wood</b>", "${1+1}"] and not find_all(browser, "#legend b")
    assert "from kept features" in text(browser, "#status")
    downloads = {"behavior": "allow", "downloadPath": str(tmp_path)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", downloads)
    find(browser, "#downloads a").click()
    wait(browser, lambda: list(tmp_path.glob("*.tif")))
    with rasterio.open(next(tmp_path.glob("*.tif"))) as file:
        assert file.tags(1)["class_1"] == "<b>wood</b>"
    for _ in range(2):  # it is made, and then it is there
        browser.find_element(By.LINK_TEXT, "GeoPackage").click()
        wait(browser, lambda: list(tmp_path.glob("*.gpkg")) and text(browser, "#status") == "The GeoPackage is ready.")
        next(tmp_path.glob("*.gpkg")).unlink()


def test_a_click_or_enter_tells_what_is_there(server, browser):
    open_page(browser, server)
    ActionChains(browser).move_to_element(find(browser, "#map")).click().perform()
    wait(browser, lambda: find_all(browser, ".point h3"))
    name = text(browser, ".point h3")
    assert name in legend(browser) and text(browser, ".point .best span") == name
    assert len(find_all(browser, ".scores li")) == 7 and "EPSG:" in text(browser, ".point .hint")
    assert re.fullmatch(r"[\d.-]+, [\d.-]+", text(browser, ".position"))
    find(browser, "#map").send_keys(Keys.ESCAPE)
    wait(browser, lambda: not find_all(browser, ".point"))
    find(browser, "#map").send_keys(Keys.ENTER)
    wait(browser, lambda: find_all(browser, ".point h3"))
    assert text(browser, "#point-status").startswith(text(browser, ".point h3"))


def test_unsure_pixels_are_left_out(server, browser):
    open_page(browser, server)
    before = text(browser, "#legend")
    find(browser, "#min-score").send_keys(Keys.END)
    wait(browser, lambda: legend(browser)[-1] == "none" and loaded(browser, "min_score=1.00"))
    assert not find_all(browser, "img[src*='/classes/']:not([src*='min_score'])")
    find(browser, "#map").send_keys(Keys.ENTER)
    wait(browser, lambda: find_all(browser, ".point h3"))
    left_out = re.fullmatch(r"none \((.+), score below the minimum\)", text(browser, ".point h3"))[1]
    assert text(browser, "#point-status").startswith(text(browser, ".point h3") + ". RGB")
    find(browser, "#min-score").send_keys(Keys.HOME)
    wait(browser, lambda: text(browser, "#legend") == before)
    wait(browser, lambda: not find_all(browser, ".point"))  # it would say what is no longer drawn
    find(browser, "#map").send_keys(Keys.ENTER)
    wait(browser, lambda: find_all(browser, ".point h3"))
    assert text(browser, ".point h3") == left_out


def test_a_rectangle_is_mapped_alone(server, browser):
    open_page(browser, server)
    find(browser, "#area-draw").click()
    drag = ActionChains(browser).move_to_element_with_offset(find(browser, "#map"), -150, -100)
    drag.click_and_hold().move_by_offset(60, 50).move_by_offset(60, 50).release().perform()
    wait(browser, lambda: re.search(r"\d × .* m", text(browser, "#area-text")))
    assert find(browser, "#area-draw").get_attribute("aria-pressed") == "false" and not find_all(browser, ".point")
    ask(browser)
    find(browser, "#map").send_keys(Keys.ENTER)
    wait(browser, lambda: "There is no map here." in text(browser, "#point-status"))
    find(browser, "#area-view").click()
    wait(browser, lambda: find_all(browser, "path.area"))
    find(browser, "#area-clear").click()
    assert text(browser, "#area-text") == "the whole scene" and not find_all(browser, "path.area")


def test_a_divider_compares_two_layers(server, browser):
    open_page(browser, server)
    find(browser, "#compare").click()
    wait(browser, lambda: loaded(browser, "/tiles/rgb/") and loaded(browser, "/tiles/classes/", "right"))
    assert not find_all(browser, ".leaflet-left-pane img[src*='/classes/']")
    panes = [find(browser, f".leaflet-{side}-pane") for side in ("left", "right")]
    before = [pane.value_of_css_property("clip-path") for pane in panes]
    find(browser, "#swipe-range").send_keys(Keys.ARROW_RIGHT)
    after = [pane.value_of_css_property("clip-path") for pane in panes]
    assert before[0] != after[0] and before[1] != after[1] and "none" not in before + after
    assert find(browser, "#swipe-range").get_attribute("aria-valuetext") == "RGB on 51%, Map on the rest"
    find(browser, "#compare").click()
    assert [pane.value_of_css_property("clip-path") for pane in panes] == ["none", "none"]


def test_files_without_coordinates_are_shown_by_pixels_and_read_otherwise(server, browser, write_image):
    open_page(browser, server)
    upload(browser, rgb=write_image("north.png"), sar=write_image("radar.png", bands=1))
    find(browser, "#read").click()
    wait(browser, lambda: text(browser, "#scene-name") == "north")
    assert "96 × 64 pixels, not georeferenced" in text(browser, "#scene-text") and map_id(browser) is None
    ask(browser, "water, road")
    ActionChains(browser).move_to_element(find(browser, "#map")).click().perform()
    wait(browser, lambda: find_all(browser, ".point h3"))
    column, row = map(int, re.search(r"column (\d+), row (\d+)", text(browser, ".point .hint")).groups())
    assert 0 < column < 96 and 0 < row < 64 and not find_all(browser, ".leaflet-control-scale")
    find(browser, "#sar-unit").send_keys("power")
    find(browser, "#read").click()
    wait(browser, lambda: "for 2 bands" in text(browser, "#alert"))  # the model's ranges, of VV and VH
    find(browser, "#sar-range").send_keys("-25 to 0")
    find(browser, "#read").click()
    wait(browser, lambda: map_id(browser) is None and not text(browser, "#alert"))
    assert [find(browser, f"#sar-{key}").get_attribute("value") for key in ("unit", "range")] == ["power", "-25 to 0"]
    ask(browser)


def test_the_unit_is_said_before_files_are_opened(server, browser, write_image):
    open_page(browser, server)
    decibels = np.linspace(-20, -5, 2 * 64 * 96, dtype=np.float32).reshape(2, 64, 96)
    upload(browser, sar=write_image("radar.tif", image=decibels))
    find(browser, "#make").click()
    wait(browser, lambda: "set the SAR unit" in text(browser, "#alert"))
    find(browser, "#sar-unit").send_keys("decibels")
    ask(browser)
    ranges = find(browser, "#sar-range").get_attribute("value")
    assert text(browser, "#scene-name") == "radar" and ranges == "-25 to 0, -32 to -7"


def test_what_is_wrong_is_said(server, browser, tmp_path):
    open_page(browser, server)
    find(browser, "#classes").send_keys(",,road")
    find(browser, "#make").click()
    wait(browser, lambda: "class name" in text(browser, "#alert"))
    assert find(browser, "#alert").get_attribute("role") == "alert" and map_id(browser)
    find(browser, "#alert-close").click()
    assert text(browser, "#alert") == ""
    find(browser, "#images > summary").click()
    (tmp_path / "huge.png").write_bytes(bytes(1_100_000))
    find(browser, "#rgb-files").send_keys(str(tmp_path / "huge.png"))
    wait(browser, lambda: text(browser, "#alert") == "huge.png has 1.1 MB, more than the maximum of 1.0 MB.")
    (tmp_path / "torn.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    find(browser, "#rgb-files").send_keys(str(tmp_path / "torn.png"))
    wait(browser, lambda: text(browser, "#read") == "Open these images" and find(browser, "#read").is_enabled())
    find(browser, "#read").click()
    wait(browser, lambda: "torn.png cannot be read" in text(browser, "#alert"))
    assert str(server.folder) not in text(browser, "#alert")


def test_a_run_is_cancelled_and_the_map_before_it_stays(server, browser):
    open_page(browser, server)
    before = map_id(browser)
    browser.execute_script("""
        const cancel = document.getElementById('cancel');
        new MutationObserver((_, observer) => {
            window.noted = !document.getElementById('downloads-note').hidden;
            observer.disconnect();
            cancel.click();
        }).observe(cancel, {attributes: true});
    """)
    find(browser, "#make").click()
    wait(browser, lambda: text(browser, "#status") == "Cancelled.")
    assert browser.execute_script("return window.noted") and text(browser, "#alert") == ""
    assert map_id(browser) == before and not find(browser, "#cancel").is_displayed()
    ask(browser)


def test_the_page_fits_a_phone_and_asks_no_other_host(server, browser):
    browser.get_log("performance"), browser.get_log("browser")
    open_page(browser, server, PHONE)
    find(browser, "#images > summary").click()
    assert browser.execute_script("return document.documentElement.scrollWidth") == PHONE[0]
    small = [
        (button.get_attribute("aria-label") or button.text, button.size)
        for button in find_all(browser, "button, summary, a[role=button], .button, .choices label, input[type=range]")
        if button.is_displayed() and min(button.size.values()) < 43.9
    ]
    assert small == []
    find(browser, "#sheet").click()
    assert (
        find(browser, "#sheet").get_attribute("aria-expanded") == "false" and not find(browser, "#make").is_displayed()
    )
    entries = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {entry["params"]["request"]["url"] for entry in entries if entry["method"] == "Network.requestWillBeSent"}
    assert asked and not [url for url in asked if not url.startswith((server.url, "data:", "blob:"))]
    assert [entry["message"] for entry in browser.get_log("browser")] == []  # such as a blocked script


@pytest.mark.parametrize("size", [DESK, PHONE], ids=["desk", "phone"])
def test_the_page_is_for_all(server, browser, size):
    open_page(browser, server, size)
    for details in find_all(browser, "details:not([open]) > summary"):
        details.click()
    find(browser, "#compare").click()
    find(browser, "#map").send_keys(Keys.ENTER)
    wait(browser, lambda: find_all(browser, ".point h3"))
    browser.execute_script(AXE.read_text(encoding="utf-8"))
    result = browser.execute_async_script("axe.run().then(arguments[0])")
    found = {rule["id"]: [node["html"] for node in rule["nodes"]] for rule in result["violations"]}
    assert found == {} and len(result["passes"]) > 20


def test_nothing_is_left_when_the_server_ends(server, browser):
    browser.get("about:blank")
    server.send_signal(signal.SIGTERM)
    assert server.wait(PATIENCE) == 0
    assert not list(server.folder.iterdir())
