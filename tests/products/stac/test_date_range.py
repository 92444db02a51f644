import pytest

from mm_ovseg.errors import ConfigError
from mm_ovseg.products.stac.date_range import DateRange, parse_dates
from mm_ovseg.products.stac.stac_document import parse_time


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2023-06-10", "2023-06-10T00:00:00Z", "2023-06-10T23:59:59.999999Z"),
        ("2024-02", "2024-02-01T00:00:00Z", "2024-02-29T23:59:59.999999Z"),
        ("2023", "2023-01-01T00:00:00Z", "2023-12-31T23:59:59.999999Z"),
        ("2023-06-01/2023-06-30", "2023-06-01T00:00:00Z", "2023-06-30T23:59:59.999999Z"),
        ("2023-06/2023-07", "2023-06-01T00:00:00Z", "2023-07-31T23:59:59.999999Z"),
        ("2023-06-10T12:00:00+02:00/..", "2023-06-10T10:00:00Z", None),
        ("/2023-06-10T12:00:00Z", None, "2023-06-10T12:00:00Z"),
        ("../..", None, None),
    ],
)
def test_dates(text, start, end):
    assert parse_dates(text) == DateRange(parse_time(start), parse_time(end))


@pytest.mark.parametrize("text", ["", "June", "2023-13", "2023-02-30", "2023-06-10/a", "20230610", "1/2/3", "0000"])
def test_what_is_no_date_is_one_sentence(text):
    with pytest.raises(ConfigError, match="--date is"):
        parse_dates(text)


def test_the_order_matters():
    with pytest.raises(ConfigError, match="ends before it starts"):
        parse_dates("2023-07/2023-06-10")


def test_a_range_holds_its_limits():
    day = parse_dates("2023-06-10")
    assert day.holds(parse_time("2023-06-10T23:59:59.5Z")) and not day.holds(parse_time("2023-06-11T00:00:00Z"))
    assert not day.holds(None) and DateRange().holds(None)
    assert str(day) == "2023-06-10T00:00:00Z/2023-06-10T23:59:59Z" and str(parse_dates("2023/..")).endswith("/..")
    assert str(day.widened(30)) == "2023-05-11T00:00:00Z/2023-07-10T23:59:59Z"
    assert parse_dates("0001/9999").widened(30) == DateRange()
