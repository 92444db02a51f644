import sys

import pytest

from sentinel import text_steps
from tests.data.conftest import datasets_root  # noqa: F401, of use to every test here
from tests.sentinel.realtrain import write_captions, write_pair_archives, write_scene_archives
from tests.sentinel.teachers import WORDS, fake_wordfreq


@pytest.fixture(scope="session")
def realtrain(tmp_path_factory):
    """The folder of the training sets, small; not to be changed."""
    folder = tmp_path_factory.mktemp("realtrain")
    write_pair_archives(folder)
    write_scene_archives(folder)
    write_captions(folder)
    return folder


@pytest.fixture
def few_texts(monkeypatch):
    """Few texts to teach the text tower with."""
    monkeypatch.setitem(sys.modules, "wordfreq", fake_wordfreq())
    monkeypatch.setattr(text_steps, "WORDS", len(WORDS))
    monkeypatch.setattr(text_steps, "PHRASES", 40)
    monkeypatch.setattr(text_steps, "HELD_OUT_PHRASES", 10)
    monkeypatch.setattr(text_steps, "COMMON", 20)


@pytest.fixture
def error_of(capsys):
    """A function ``(main, *words)`` that returns the message of a command that fails."""

    def run(main, *words):
        with pytest.raises(SystemExit) as stop:
            main([str(word) for word in words])
        assert stop.value.code == 2
        return capsys.readouterr().err.splitlines()[-1]

    return run
