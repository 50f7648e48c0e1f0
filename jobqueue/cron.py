"""When a cron entry ticks: arithmetic on a schedule in a time zone, and what is due after some were missed. Pure.

Not here: reading the file (`jobqueue.yamlcron`), pushing a tick once whoever tries (`lua/tick.lua`), waiting for it
(`supervisor.crontab`). Times are ms since 1970 as the server's clock tells them; ticks are whole seconds. The fields of
an expression, and what a change to or from summer time does to them, are those of Debian's cron, by way of cronsim.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from typing import Final, Literal
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

CatchUp = Literal["last", "none"]

LATE_MS: Final = 60_000
"""How late a tick may be that is not to be caught up: restarts and failovers take seconds."""
NICKNAMES: Final = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
_SOME_DAY: Final = datetime(2024, 1, 1, tzinfo=UTC)  # where the check begins whether an expression ever matches


class BadSchedule(ValueError):
    """Not an expression, or one that never matches; the text says which."""


class UnknownZone(ValueError):
    """Not the name of a time zone of this machine."""


def expression(text: str) -> str:
    """`text` as five or six fields with single spaces, nicknames written out. Raises BadSchedule."""
    fields = " ".join(text.split())
    fields = NICKNAMES.get(fields.lower(), fields)
    try:
        next(CronSim(fields, _SOME_DAY))
    except CronSimError as error:
        raise BadSchedule(str(error).lower()) from error
    except StopIteration:
        raise BadSchedule("it never matches") from None
    return fields


@cache
def zone(name: str) -> tzinfo:
    """The time zone of that name. Raises UnknownZone."""
    if name == "UTC":
        return UTC
    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # not there, not a name, a folder
        raise UnknownZone(name) from error


@dataclass(frozen=True, slots=True)
class Schedule:
    """`fields` as `expression` returns them, `timezone` as `zone` takes it."""

    fields: str
    timezone: str = "UTC"

    def __str__(self) -> str:
        """What the last tick is stored with: an entry with another schedule starts anew."""
        return f"{self.fields} {self.timezone}"

    def after(self, ms: int) -> int | None:
        """The first tick later than `ms`; None if there is none for fifty years."""
        ticks = CronSim(self.fields, self.local(ms))
        # In the hour that a change from summer time repeats, the first tick named may lie in the past.
        return next((found for tick in ticks if (found := int(tick.timestamp()) * 1000) > ms), None)

    def latest(self, after: int, upto: int) -> int | None:
        """The last tick in (after, upto], however many there are: by halving, not by counting."""
        found = self.after(after)
        if found is None or found > upto:
            return None
        low, high = found, upto
        while (following := self.after(low)) is not None and following <= upto:
            low, middle = following, (following + high) // 2
            beyond = self.after(middle)
            if beyond is not None and beyond <= upto:
                low = beyond
            else:
                high = middle
        return low

    def local(self, ms: int) -> datetime:
        """That moment on the schedule's clock."""
        return datetime.fromtimestamp(ms // 1000, zone(self.timezone))


@dataclass(frozen=True, slots=True)
class Due:
    """`tick`: to be pushed now; None: nothing is. `look_at`: when to ask again; None: never."""

    tick: int | None
    look_at: int | None


def due(schedule: Schedule, last: int, now: int, catch_up: CatchUp) -> Due:
    """What follows the tick `last` at `now`. Of several that were missed it is the latest, and it stands for all."""
    tick = schedule.latest(last, now)
    if tick is not None and catch_up == "none" and now - tick > LATE_MS:
        tick = None
    return Due(tick, schedule.after(max(last, now)))
