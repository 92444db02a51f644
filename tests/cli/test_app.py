"""The command line of the page, as far as it needs no extra, and what the checkout brings to it."""

import socket

import pytest

from mm_ovseg.app import shipped_pairs
from mm_ovseg.app.port import open_port
from mm_ovseg.cli import app
from mm_ovseg.cli.main import build_parser
from mm_ovseg.engine import load_config
from tests.conftest import run_cli


def fails(capsys, *arguments):
    with pytest.raises(SystemExit) as stop:
        run_cli("app", *arguments)
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.fixture
def with_extra(monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: object())


def test_without_its_packages_the_extra_is_named(capsys, monkeypatch):
    monkeypatch.setattr(app.importlib.util, "find_spec", lambda name: None)
    said = fails(capsys)
    assert "needs starlette, uvicorn, python_multipart, rio_tiler," in said and "pip install 'mm_ovseg[app]'" in said


@pytest.mark.parametrize("arguments,said", [
    (["--max-upload-megabytes", "0"], "--max-upload-megabytes is 0; give a positive number"),
    (["--max-megapixels", "nan"], "--max-megapixels is nan"),
    (["--port", "70000"], "--port is 70000; give a number from 1 to 65535"),
    (["--allowed-host", "http://maps.example.org"], "--allowed-host is 'http://maps.example.org'; give a name"),
    (["--allowed-host", "maps.example.org:80"], "without scheme and port"),
    (["--host", "256.0.0.1"], "cannot be served at 256.0.0.1"),
    (["--port", "0", "--config-file", "none.yaml"], "none.yaml"),
    (["--port", "0", "--opts", "INPUT.SAR.SCALES", "db"], "did you mean INPUT.SAR.SCALE?"),
])  # fmt: skip
def test_what_is_wrong_is_said_before_a_model_is_loaded(arguments, said, capsys, with_extra):
    assert said in fails(capsys, *arguments)


def test_a_port_that_is_taken(capsys, with_extra):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert "Address already in use" in fails(capsys, "--host", "127.0.0.1", "--port", port)


def test_the_default_is_this_machine_alone():
    with open_port(build_parser(app).parse_args([]).host, 0) as listener:
        assert listener.getsockname()[0] in ("127.0.0.1", "::1")


def test_the_shipped_config_loads_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg = load_config(shipped_pairs.CONFIG, ["MODEL.DEVICE", "cpu"])
    assert cfg.MODEL.WEIGHTS == "sentinel://"
    pairs = shipped_pairs.shipped_pairs(cfg)
    assert [pair.name for pair in pairs] == ["Under clouds", "Clear sky"]
    assert all(path.is_file() for pair in pairs for path in (*pair.rgb, *pair.sar))
    # Bands of other files.
    assert shipped_pairs.shipped_pairs(load_config(shipped_pairs.CONFIG, ["INPUT.RGB.BANDS", "[4, 3, 2]"])) == []
