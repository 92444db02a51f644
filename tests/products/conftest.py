import pytest

from tests.products.static_server import serve_without_pauses


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A web server on this machine for the folder "web"."""
    with serve_without_pauses(tmp_path / "web", monkeypatch) as server:
        yield server
