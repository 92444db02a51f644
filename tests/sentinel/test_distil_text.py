"""projects/sentinel/distil_text.py for a few steps, on a few texts."""

import pytest

import distil_text
from tests.sentinel.teachers import embed_words


@pytest.fixture
def options(few_texts, realtrain, tmp_path, monkeypatch):
    monkeypatch.setattr(distil_text, "load_teacher", lambda: embed_words)
    return ["--captions", str(realtrain / "aid_captions.csv"), "--output", str(tmp_path / "text"), "--iterations", "2"]


def test_each_seed_is_written_and_the_measures_are_printed(options, tmp_path, capsys):
    distil_text.main([*options, "--seeds", "1", "4"])
    assert {path.name for path in (tmp_path / "text").iterdir()} == {
        *("projection.safetensors", "targets.safetensors"),
        *(f"text_seed{seed}.{suffix}" for seed in (1, 4) for suffix in ("safetensors", "json")),
    }
    printed = capsys.readouterr().out
    assert "seed 4" in printed and "class names cosine" in printed


def test_bad_input(options, tmp_path, error_of):
    (tmp_path / "empty.csv").write_text("file,caption\n")
    assert "empty.csv has no captions" in error_of(distil_text.main, *options, "--captions", tmp_path / "empty.csv")
    assert "missing.csv" in error_of(distil_text.main, *options, "--captions", tmp_path / "missing.csv")
    assert "--iterations is 0" in error_of(distil_text.main, *options, "--iterations", 0)
    assert "--seeds needs numbers of 0 or more" in error_of(distil_text.main, *options, "--seeds", 1, -1)
    assert not (tmp_path / "text").exists()
