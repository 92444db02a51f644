"""The page's interface, as its script uses it."""

import json

import numpy as np
import pytest
import rasterio
from rasterio.transform import from_origin

from mm_ovseg.app.messages import UNEXPECTED
from mm_ovseg.app.scenes import SceneFiles
from mm_ovseg.app.serving import open_examples
from mm_ovseg.app.visitors import NOT_FOUND
from tests.app.page_client import Browser, make_page
from tests.products.sentinel2_product import write_sentinel2


@pytest.fixture
def page(shipped_cfg, maker, tmp_path):
    return make_page(shipped_cfg, maker, tmp_path / "page")


@pytest.fixture
def browser(page):
    with Browser(page) as client:
        yield client


def test_from_files_to_a_map_to_its_files(browser, write_image):
    about = browser.get("/api/page").json()
    assert about["opening"] is about["opening_map"] is None and about["sar_units"] == [
        "8bit",
        "dB",
        "power",
        "amplitude",
    ]
    assert about["classes"] == "city, road, forest, water, farmland" and about["examples"] == []
    rgb, sar = browser.upload(write_image("North & é.tif")), browser.upload(write_image("sar.tif", bands=1))
    events = browser.events("/api/scenes", rgb=[rgb], sar=[sar], reading=None)
    assert {event["what"] for event in events[:-1]} == {"reading"} and events[-1]["event"] == "scene"
    scene = events[-1]["scene"]
    assert scene["name"] == "North & é" and scene["reading"]["sar_unit"] == "8bit" and scene["warnings"] == []
    assert browser.get(f"/api/scenes/{scene['id']}").json() == scene
    events = browser.events(f"/api/scenes/{scene['id']}/maps", classes="lake, wood", background="", sensors="both")
    assert events[-2] == {"event": "progress", "done": 2, "total": 2, "what": "windows"}
    made = events[-1]["map"]
    assert [entry["name"] for entry in made["classes"]] == ["lake", "wood"] and made["scene"] == scene["id"]
    assert made["bounds"] == scene["bounds"] and not made["asked_again"]
    again = browser.map(scene, "water")
    assert again["asked_again"] and again["seconds"] < 60
    # The old map means itself.
    (south, west), (north, east) = scene["bounds"]
    middle = {"lat": (south + north) / 2, "lng": (west + east) / 2}
    name = browser.get(f"/api/maps/{made['id']}/point", params=middle).json()["name"]
    assert name in ("lake", "wood")
    point = browser.get(f"/api/maps/{made['id']}/point", params={**middle, "min_score": 1}).json()
    assert (point["name"], point["below_minimum"]) == ("none", name)
    answer = browser.get(f"/api/maps/{made['id']}/files/geotiff")
    assert "North%20%26%20%C3%A9_map.tif" in answer.headers["content-disposition"]
    with rasterio.MemoryFile(answer.content) as memory, memory.open() as file:
        assert file.tags(1)["class_0"] == "lake" and file.shape == (64, 96)
    legend = browser.get(f"/api/maps/{made['id']}/legend", params={"min_score": 1}).json()["classes"]
    assert legend[-1]["name"] == "none" and legend[-1]["share"] > 0.9
    for kind, beginning in (("report", b"{"), ("confidence", b"II")):
        assert browser.get(f"/api/maps/{made['id']}/files/{kind}").content.startswith(beginning)


def test_polygons_are_made_once_and_in_the_queue(page, browser, write_image, monkeypatch):
    made = browser.map(browser.scene(write_image("rgb.tif")))
    file, polygons = f"/api/maps/{made['id']}/files/geopackage", f"/api/maps/{made['id']}/polygons"
    assert browser.get(file).status_code == 404
    assert browser.events(polygons)[-1] == {"event": "polygons"}
    first = browser.get(file).content
    monkeypatch.setattr(page.runs, "add", None)
    assert first.startswith(b"SQLite") and browser.events(polygons) == [{"event": "polygons"}]
    assert browser.get(file).content == first and browser.post("/api/maps/1/polygons").status_code == 404


def test_tiles_are_pictures_that_may_be_kept(browser, write_image):
    scene = browser.scene(write_image("rgb.png"))
    made = browser.map(scene)
    for route in (
        f"scenes/{scene['id']}/tiles/rgb",
        *(f"maps/{made['id']}/tiles/{kind}" for kind in ("classes", "confidence")),
    ):
        answer = browser.get(f"/api/{route}/0/0/0.png")
        assert answer.content.startswith(b"\x89PNG") and "immutable" in answer.headers["cache-control"]
        assert answer.content != browser.get(f"/api/{route}/5/30/30.png").content
    assert browser.get(f"/api/maps/{made['id']}/tiles/classes/0/0/0.png?min_score=1").content != answer.content
    assert browser.get(f"/api/maps/{made['id']}/point", params={"x": 3.5, "y": 2}).json()["coordinates"] is None
    for query in ({"x": 96, "y": 1}, {"x": -1, "y": 1}):
        answer = browser.get(f"/api/maps/{made['id']}/point", params=query)
        assert answer.status_code == 404 and answer.json() == {"message": "There is no map here."}


def test_a_rectangle_is_mapped_alone(browser, write_image):
    for name, body in (("rgb.tif", "area"), ("rgb.png", "pixels")):
        scene = browser.scene(write_image(name))
        corners = [[10, 20], [40, 50]]
        if body == "area":
            (south, west), (north, east) = scene["bounds"]
            corners = [[south, west], [(south + north) / 2, (west + east) / 2]]
        made = browser.map(scene, **{body: corners})
        shown = made.get("pixels") or made["bounds"]
        assert np.allclose(shown, corners, rtol=0, atol=2e-4)  # of pixels of 10 m
        assert sum(entry["pixels"] for entry in made["classes"]) < 64 * 96 / 3
        for wrong in ([[1000, 1000], [1001, 1001]], [[1]], "x", {}, [[1, 2], [3, None]]):
            answer = browser.post(f"/api/scenes/{scene['id']}/maps", json={"classes": "water", body: wrong})
            assert answer.status_code == 400 and answer.json()["message"]
        infinite = f'{{"classes": "water", "{body}": [[1, 2], [3, 1e999]]}}'
        assert browser.post(f"/api/scenes/{scene['id']}/maps", content=infinite).status_code == 400


def test_the_same_files_in_another_reading(browser, write_image):
    sar = browser.upload(write_image("sar.tif", image=np.full((1, 30, 40), -12, np.float32)))
    [event] = browser.events("/api/scenes", rgb=[], sar=[sar], reading=None)
    assert event["event"] == "error" and "sar.tif holds float32 values" in event["message"]
    scene = browser.events("/api/scenes", sar=[sar], reading={"sar_unit": "dB", "sar_range": [-20, 0]})[-1]["scene"]
    assert (scene["reading"]["sar_unit"], scene["reading"]["sar_range"]) == ("dB", [-20, 0])
    answer = browser.post("/api/scenes", json={"sar": [sar], "reading": {"sar_range": [0, -20]}})
    assert answer.status_code == 400 and "lower one first" in answer.json()["message"]


def test_several_files_are_one_image(browser, write_image):
    files = [browser.upload(write_image(name, bands=1)) for name in ("vv.tif", "vh.tif")]
    scene = browser.events("/api/scenes", rgb=None, sar=files)[-1]["scene"]
    assert scene["reading"]["sar_bands"] == [1, 2] and scene["images"] == ["sar"] and scene["name"] == "vv"
    assert browser.map(scene)["sensors"] == "sar"


def test_no_visitor_reaches_what_others_have(page, browser, write_image):
    file = browser.upload(write_image("rgb.tif"))
    scene = browser.events("/api/scenes", rgb=[file])[-1]["scene"]
    made = browser.map(scene)
    other = Browser(page, beside=browser)
    for route in (
        f"scenes/{scene['id']}", f"scenes/{scene['id']}/tiles/rgb/14/8900/5900.png",
        f"maps/{made['id']}/tiles/classes/14/8900/5900.png", f"maps/{made['id']}/legend",
        f"maps/{made['id']}/point?lat=45.15&lng=15", f"maps/{made['id']}/files/geotiff",
        f"maps/{made['id']}/files/report",
        f"scenes/{made['id']}", f"maps/{scene['id']}/legend", f"scenes/{file}", "scenes/..%2f..", "maps/x/legend",
    ):  # fmt: skip
        answer = other.get(f"/api/{route}")
        assert answer.status_code == 404, route
    assert other.get(f"/api/maps/{made['id']}/legend").json() == {"message": NOT_FOUND}
    for route, body in (
        ("scenes", {"rgb": [file]}), ("scenes", {"sar": [file]}), ("scenes", {"example": scene["id"]}),
        (f"scenes/{scene['id']}/maps", {"classes": "water"}),
    ):  # fmt: skip
        answer = other.post(f"/api/{route}", json=body)
        assert (answer.status_code, answer.json()) == (404, {"message": NOT_FOUND})
    other.cookies.clear()
    assert other.get(f"/api/scenes/{scene['id']}").status_code == 403
    assert other.post("/api/files", files={"file": ("a.tif", b"II*")}).status_code == 403


def test_a_shared_scene_is_read_only(page, browser, open_scene, write_image):
    shared = open_scene(write_image("rgb.tif"))
    page.visitors.share(shared)
    page.examples = [shared]
    [example] = browser.get("/api/page").json()["examples"]
    assert example == {"id": shared.id, "title": "north", "attribution": None}
    [event] = browser.events("/api/scenes", example=shared.id)
    assert event["scene"]["id"] == shared.id
    read = browser.events("/api/scenes", example=shared.id, reading={"rgb_bands": [3, 2, 1]})[-1]["scene"]
    assert read["id"] != shared.id and read["reading"]["rgb_bands"] == [3, 2, 1]
    assert not browser.map(event["scene"])["asked_again"]
    other = Browser(page, beside=browser)
    assert other.map(event["scene"], "lake")["asked_again"]
    corners = [[45.149, 15.0], [45.151, 15.01]]
    assert not other.map(event["scene"], "lake", area=corners)["asked_again"]
    assert not browser.map(event["scene"], "lake", area=corners)["asked_again"]
    assert browser.map(event["scene"], "wood")["asked_again"]  # a rectangle displaces nothing


def test_a_pair_of_this_machine_opens_the_page(page, browser, write_image, tmp_path):
    pair = SceneFiles((write_image("wide.tif", 300, 400),), (write_image("sar.tif", bands=1),), name="wide")
    open_examples(page, tmp_path, pair, with_example=True)  # larger than visitors' scenes may be
    about = browser.get("/api/page").json()
    assert [example["title"] for example in about["examples"]] == ["wide", "Under clouds", "Clear sky"]
    assert about["opening"] == about["examples"][0]["id"] and about["opening_map"] is None
    scene = browser.get(f"/api/scenes/{about['opening']}").json()
    assert (scene["width"], scene["images"]) == (400, ["rgb", "sar"])


def test_a_product_of_this_machine_opens_the_page(page, browser, write_image, tmp_path):
    classes = np.full((48, 60), 4, np.uint8)
    classes[:, 30:] = 9  # cloud on the east
    product = write_sentinel2(
        tmp_path / "products",
        np.full((3, 96, 120), 0.1),
        classes=classes,
    )
    place = {"crs": "EPSG:32632", "transform": from_origin(600_000, 5_100_000, 10, 10)}
    sar = write_image("sar.tif", 96, 120, bands=1, **place)
    open_examples(page, tmp_path, SceneFiles((product,), (sar,), name=product.stem), with_example=False)
    scene = browser.get(f"/api/scenes/{page.opening.id}").json()
    assert scene["reading"]["rgb_unit"] == "reflectance" and scene["images"] == ["rgb", "sar"]
    made = browser.map(scene, "wood")
    (south, west), (north, east) = scene["bounds"]
    for share, coverage in ((0.1, "RGB and SAR"), (0.9, "SAR, and RGB under cloud")):
        place = {"lat": (south + north) / 2, "lng": west + share * (east - west)}
        assert browser.get(f"/api/maps/{made['id']}/point", params=place).json()["coverage"] == coverage
    assert browser.map(scene, "wood", sensors="sar")["scene"] == scene["id"]


def test_the_page_opens_with_the_shipped_map(page, browser, tmp_path):
    open_examples(page, tmp_path, None, with_example=True)
    about = browser.get("/api/page").json()
    assert about["opening_map"]["scene"] == about["opening"] == about["examples"][0]["id"]
    assert browser.map({"id": about["opening"]}, "lake, wood")["asked_again"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]", b"1", b"[" * 50_000, b'{"a":' * 10_000])
def test_what_is_not_json(body, browser):
    answer = browser.post("/api/scenes", content=body)
    assert answer.status_code == 400 and "load the page again" in answer.json()["message"]


def test_wrong_values_are_sentences(browser, write_image):
    scene = browser.scene(write_image("rgb.tif"))
    for body, said in (
        ({"classes": ""}, "empty"),
        ({"classes": "a, a"}, "more than once"),
        ({"classes": 3}, "class names"),
        ({"classes": "a" * 5000}, "class names"),
        ({"classes": "a", "sensors": "sar"}, "no such image"),
        ({"classes": "a", "sensors": None}, "class names"),
        ({"classes": "a", "pixels": [[1e9, 1e9], [2e9, 2e9]]}, "outside"),
    ):
        answer = browser.post(f"/api/scenes/{scene['id']}/maps", json=body)
        assert answer.status_code == 400 and said in answer.json()["message"], body
    for body in ({}, {"rgb": []}, {"rgb": "x"}, {"rgb": ["x"]}, {"rgb": [[]]}, {"example": {}}, {"rgb": ["x"] * 21}):
        assert browser.post("/api/scenes", json=body).status_code in (400, 404)
    made = browser.map(scene)
    for query in (
        *("legend?min_score=2", "legend?min_score=nan", "legend?min_score=x"),
        *("point", "point?lat=x&lng=1", "point?lat=45.151&lng=15.005&min_score=2"),
    ):
        assert browser.get(f"/api/maps/{made['id']}/{query}").status_code == 400
    for route in ("tiles/x/0/0/0.png", "files/x", "files/..%2fmap.tif", "tiles/classes/-1/0/0.png"):
        assert browser.get(f"/api/maps/{made['id']}/{route}").status_code == 404
    assert browser.get(f"/api/scenes/{scene['id']}/tiles/sar/0/0/0.png").status_code == 404


def test_uploads_are_checked(browser, page, write_image):
    def send(name, content):
        return browser.post("/api/files", files={"file": (name, content)})

    assert send("../../etc/passwd", b"II*").json()["name"] == "passwd"
    assert send("C:\\maps\\a.tif", b"II*").json()["name"] == "a.tif"
    assert not [path for path in page.visitors.folder.rglob("*") if "passwd" in path.name or ".tif" in path.name]
    kept = list(page.visitors.folder.rglob("*"))
    for name, content, status in (
        ("empty.tif", b"", 400),
        ("big.tif", bytes(1_000_001), 413),
        ("big", bytes(1_200_000), 413),
    ):
        answer = send(name, content)
        assert answer.status_code == status and answer.json()["message"]
    for form in ({"files": {"other": ("a", b"x")}}, {"data": {"file": "x"}}):
        assert browser.post("/api/files", **form).status_code == 400
    broken = {"Content-Type": "multipart/form-data; boundary=x"}
    assert browser.post("/api/files", content=b"--y\r\n", headers=broken).status_code == 400
    assert list(page.visitors.folder.rglob("*")) == kept
    two = [("file", ("a", b"x")), ("file", ("b", b"x"))]
    assert browser.post("/api/files", files=two).status_code == 400


def test_an_error_of_ours_tells_nothing(browser, page, monkeypatch):
    monkeypatch.setattr(page.maker, "classes", None)
    answer = browser.get("/api/page")
    assert answer.status_code == 500 and json.loads(answer.text) == {"message": UNEXPECTED}
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_no_mosaic_of_the_servers_files(browser, write_image):
    secret = write_image("secret.tif")
    mosaic = f"""<VRTDataset rasterXSize="96" rasterYSize="64"><VRTRasterBand dataType="Byte" band="1"><SimpleSource>
    <SourceFilename>{secret}</SourceFilename><SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"""
    secret.with_name("mosaic.vrt").write_text(mosaic)
    file = browser.upload(secret.with_name("mosaic.vrt"))
    [event] = browser.events("/api/scenes", rgb=[file])
    assert "mosaic.vrt cannot be read as a PNG" in event["message"]
