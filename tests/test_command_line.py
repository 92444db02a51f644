import pytest

from mm_ovseg.command_line import clean_exit
from mm_ovseg.errors import ConfigError, DataError


@clean_exit
def program(error=None):
    if error:
        raise error
    return "done"


def test_a_result_passes_through():
    assert program() == "done"


def test_our_errors_become_one_line_and_status_2(capsys):
    with pytest.raises(SystemExit) as stop:
        program(DataError("sar.tif is empty; replace it."))
    assert stop.value.code == 2
    assert capsys.readouterr().err == "error: sar.tif is empty; replace it.\n"


def test_debugging_shows_the_traceback(monkeypatch):
    monkeypatch.setenv("MM_OVSEG_DEBUG", "1")
    with pytest.raises(ConfigError):
        program(ConfigError("x"))


def test_defects_of_the_program_are_not_hidden():
    with pytest.raises(ZeroDivisionError):
        program(ZeroDivisionError())
