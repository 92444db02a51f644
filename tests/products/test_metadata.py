"""Values in metadata: times of any number of digits, and numbers that are finite."""

from datetime import datetime, timezone
from pathlib import Path

import pytest

from mm_ovseg.errors import DataError
from mm_ovseg.products.metadata import find_text, read_xml, to_number, to_time


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("2022-01-25T10:52:29.024Z", 24_000),
        ("2022-01-25T10:52:29", 0),
        (" 2022-01-25 10:52:29.3424069Z\n", 342_406),
    ],
)
def test_times(text, microseconds):
    assert to_time(text) == datetime(2022, 1, 25, 10, 52, 29, microseconds, timezone.utc)


@pytest.mark.parametrize("text", ["", "T", "2022-13-25T10:52:29Z", "2022-01-25", "2022-01-25T10:52:29+02:00"])
def test_what_is_not_a_time_in_utc_is_unknown(text):
    assert to_time(text) is None


def test_numbers():
    assert to_number("-1e3", "OFFSET", Path("a.xml")) == -1000
    for text in ("one", "nan", "inf", "1,5"):
        with pytest.raises(DataError, match=f"a.xml has OFFSET '{text}', which is not a number"):
            to_number(text, "OFFSET", Path("a.xml"))
    with pytest.raises(DataError, match=r"a\.xml lacks OFFSET"):
        to_number("", "OFFSET", Path("a.xml"))


def test_texts_are_found_in_any_namespace(tmp_path):
    (tmp_path / "a.xml").write_text('<n:a xmlns:n="urn:x"><b><n:c> é </n:c></b><c>later</c></n:a>', encoding="utf-8")
    root = read_xml(tmp_path / "a.xml")
    assert find_text(root, "c") == "é" and find_text(root, "other", "c") == "é" and find_text(root, "d") == ""
