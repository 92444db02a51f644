import pytest

from mm_ovseg.raster import shared_lattice
from tests.products.static_server import serve_without_pauses


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine for the folder "web"."""
    with serve_without_pauses(tmp_path / "web", monkeypatch) as server:
        yield server


@pytest.fixture(autouse=True)
def exact_areas(monkeypatch):
    """Areas without a margin, so that extents tell what was cut."""
    monkeypatch.setattr(shared_lattice, "AREA_MARGIN", 0)
