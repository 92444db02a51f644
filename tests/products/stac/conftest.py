import pytest

from mm_ovseg.raster import shared_lattice


@pytest.fixture(autouse=True)
def exact_areas(monkeypatch):
    """Areas without a margin, so that extents tell what was cut."""
    monkeypatch.setattr(shared_lattice, "AREA_MARGIN", 0)
