"""Dates as users write them: a day, month or year, a time, or a range of these."""

import calendar
import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from mm_ovseg.errors import ConfigError
from mm_ovseg.products.stac.stac_document import parse_time

__all__ = ["DateRange", "parse_dates"]

DATE = re.compile(r"(?P<year>\d{4})(-(?P<month>\d{2})(-(?P<day>\d{2}))?)?")
OPEN = ("", "..")


@dataclass(frozen=True)
class DateRange:
    """The time from ``start`` to ``end``, both included, in UTC; None for no limit."""

    start: datetime | None = None
    end: datetime | None = None

    def holds(self, time: datetime | None) -> bool:
        """Whether a time is in the range; an unknown time is only in a range without limits."""
        if time is None:
            return self == DateRange()
        return (self.start is None or self.start <= time) and (self.end is None or time <= self.end)

    def widened(self, days: int) -> "DateRange":
        """The range with so many days more on both sides."""
        return DateRange(_moved(self.start, -days), _moved(self.end, days))

    def __str__(self) -> str:
        """As STAC writes it, such as "2023-06-01T00:00:00Z/2023-06-30T23:59:59Z"."""
        return "/".join(".." if time is None else f"{time:%Y-%m-%dT%H:%M:%SZ}" for time in (self.start, self.end))


def parse_dates(text: str) -> DateRange:
    """The range that a text means: "2023-06-10", "2023-06", "2023-06-01/2023-06-30", "2023-06-10T12:00:00Z/..".

    Raises:
        ConfigError: It is none, or ends before it starts.
    """
    first, slash, last = text.strip().partition("/")
    start = None if slash and first in OPEN else _limits(first, text)[0]
    end = None if slash and last in OPEN else _limits(last if slash else first, text)[1]
    if start is not None and end is not None and end < start:
        raise ConfigError(f"--date is '{text}', which ends before it starts; give the earlier date first.")
    return DateRange(start, end)


def _moved(time: datetime | None, days: int) -> datetime | None:
    """A time some days later; None, for no limit, beyond the years that Python knows."""
    try:
        return time and time + timedelta(days=days)
    except OverflowError:
        return None


def _limits(text: str, whole: str) -> tuple[datetime, datetime]:
    """The first and last second of a date; a time twice."""
    if (time := parse_time(text)) is not None and "T" in text.upper():
        return time, time
    match = DATE.fullmatch(text.strip())
    try:
        year, month, day = (int(match[name]) if match[name] else None for name in ("year", "month", "day"))
        last_month = month or 12
        last_day = day or calendar.monthrange(year, last_month)[1]
        start = datetime(year, month or 1, day or 1, tzinfo=timezone.utc)
        return start, datetime(year, last_month, last_day, 23, 59, 59, 999999, tzinfo=timezone.utc)
    except (TypeError, ValueError) as error:
        raise ConfigError(
            f"--date is '{whole}'; give a day, such as 2023-06-10, or a range, such as 2023-06-01/2023-06-30."
        ) from error
