"""Rasters on the web are read in parts, each of which is fetched once, and kept for the next run."""

import numpy as np
import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterSource, open_raster
from mm_ovseg.raster.remote_file import CHUNK, RemoteFile
from tests.products.stac_catalogue import CORNER, reflectance, write_cog

VALUES = np.round(reflectance("B04", CORNER, (700, 700)) * 10000).astype(np.uint16)


@pytest.fixture
def address(server):
    """A GeoTIFF of 36 blocks of about 28 kB."""
    write_cog(server.folder / "a.tif", VALUES, CORNER, nodata=0)
    return f"{server.address}/a.tif"


@pytest.fixture
def copy(tmp_path):
    return tmp_path / "parts" / "a"


def window(address, copy, *place):
    with RasterSource(RemoteFile(address, copy)) as source:
        return source.read([1], place)[0][..., 0]


def test_only_what_is_read_is_fetched(server, address, copy):
    np.testing.assert_array_equal(window(address, copy, 300, 130, 50, 60), VALUES[300:350, 130:190])
    size = (server.folder / "a.tif").stat().st_size
    assert server.sent < 0.15 * size and {(method, path) for method, path, _ in server.asked} == {("GET", "/a.tif")}


def test_nothing_is_fetched_twice(server, address, copy):
    window(address, copy, 300, 130, 50, 60)
    before = len(server.asked)
    np.testing.assert_array_equal(window(f"{address}?sig=new", copy, 300, 130, 50, 60), VALUES[300:350, 130:190])
    assert len(server.asked) == before
    window(address, copy, 0, 0, 700, 700)
    assert server.sent == (server.folder / "a.tif").stat().st_size
    starts = [int(part.removeprefix("bytes=").split("-")[0]) for _, _, part in server.asked]
    assert len(set(starts)) == len(starts) and all(start % CHUNK == 0 for start in starts)


def test_what_was_fetched_before_a_failure_is_kept(server, address, copy):
    server.stops_after["/a.tif"] = 20
    with pytest.raises(DataError, match=r"a\.tif cannot be fetched .*run the same command again later"):
        window(address, copy, 0, 0, 700, 700)
    del server.stops_after["/a.tif"]
    np.testing.assert_array_equal(window(address, copy, 0, 0, 700, 700), VALUES)
    assert server.sent == (server.folder / "a.tif").stat().st_size


def test_a_list_that_was_cut_short_is_continued(server, address, copy):
    window(address, copy, 300, 130, 50, 60)
    parts = copy.with_name("a.parts")
    before, lines = server.sent, parts.read_text().splitlines(keepends=True)
    parts.write_text("".join(lines[:-1]) + lines[-1][:1])
    np.testing.assert_array_equal(window(address, copy, 300, 130, 50, 60), VALUES[300:350, 130:190])
    assert before < server.sent < 2 * before


def test_a_file_that_changes_is_fetched_from_the_start(server, address, copy):
    window(address, copy, 300, 130, 50, 60)
    write_cog(server.folder / "a.tif", VALUES[::-1], CORNER, nodata=0)
    with pytest.raises(DataError, match="has changed while it was fetched; run the same command again"):
        window(address, copy, 0, 0, 700, 700)
    np.testing.assert_array_equal(window(address, copy, 0, 0, 700, 700), VALUES[::-1])


def test_an_interruption_is_not_swallowed(server, address, copy, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    with RasterSource(RemoteFile(address, copy)) as source:
        monkeypatch.setattr("mm_ovseg.raster.remote_file.fetch_part", interrupted)
        with pytest.raises(KeyboardInterrupt):
            source.read([1])


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\x1a\n" + bytes(100),
        b"<VRTDataset rasterXSize='1'><SourceFilename>/etc/passwd",
        b"II*\0" + bytes(50),
    ],
)
def test_other_files_are_refused(server, copy, content):
    (server.folder / "a.tif").write_bytes(content)
    with pytest.raises(DataError), open_raster(RemoteFile(f"{server.address}/a.tif", copy)):
        pass


def test_a_truncated_file_is_one_sentence(server, address, copy):
    path = server.folder / "a.tif"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:\d+/a\.tif cannot be read .* may be damaged"):
        window(address, copy, 0, 0, 700, 700)


def test_files_beside_it_are_not_asked_for(server, address, copy):
    for name in ("a.tif.aux.xml", "a.tif.ovr", "a.tif.msk", "a.tfw"):
        (server.folder / name).write_bytes(b"<PAMDataset/>")
    window(address, copy, 0, 0, 10, 10)
    assert set(server.paths()) == {"/a.tif"}


def test_a_failure_that_gdal_swallows_is_raised(server, address, copy):
    file = RemoteFile(address, copy)
    with pytest.raises(DataError, match="cannot be fetched"), open_raster(file):
        server.fails["/a.tif"] = [-503]
        assert file.read(10 * CHUNK, 10) == b""
