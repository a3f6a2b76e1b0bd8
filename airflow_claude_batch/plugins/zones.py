"""Days of a time zone."""

from __future__ import annotations

import datetime
import zoneinfo


def zone_of(name: str) -> zoneinfo.ZoneInfo:
    """The time zone of this name; UTC where there is none."""
    try:
        return zoneinfo.ZoneInfo(name)
    except (ValueError, zoneinfo.ZoneInfoNotFoundError, OSError):
        return zoneinfo.ZoneInfo("UTC")


def day_in(
    zone: zoneinfo.ZoneInfo, day: datetime.date
) -> tuple[datetime.datetime | None, datetime.datetime | None]:
    """When a day begins and ends, in UTC; None at the end of all times."""
    return start_of(zone, day), start_of(zone, day, later=1)


def start_of(zone: zoneinfo.ZoneInfo, day: datetime.date, *, later: int = 0) -> datetime.datetime | None:
    """When a day, or one some days later, begins, in UTC."""
    try:
        begin = datetime.datetime.combine(day + datetime.timedelta(days=later), datetime.time(), zone)
        return begin.astimezone(datetime.UTC)
    except OverflowError:
        return None
