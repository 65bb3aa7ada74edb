"""Where a run stands: one frozen snapshot of it, shown while it goes on and read from any shell.

    standing = Standing(run="colours-1f2e3d", pid=4711, ...)
    write_standing(folder, standing)         # <run folder>/status.json, whole or not at all
    read_standing(folder)                    # the same object, or None where no run has written one

`to_json` is what `status.json`, `solon run --progress json` and `solon status --json` hold, one JSON object with these
names; what is not known is null, never 0. Names are only ever added. No text of a prompt, an answer or an error of a
single row is in it, and no key.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

from solon.calls import Usage
from solon.errors import StorageError

__all__ = [
    "ENDS",
    "Batches",
    "Calls",
    "Event",
    "Money",
    "Pulse",
    "Rows",
    "Server",
    "Standing",
    "read_standing",
    "write_standing",
]

FILE = "status.json"
FORMAT = 1

State = Literal[
    "walking", "paused", "waiting", "stopping", "exporting",
    "done", "interrupted", "over_budget", "halted", "failed", "killed",
]  # fmt: skip

ENDS = ("done", "interrupted", "over_budget", "halted", "failed", "killed")
"""The states after which no process walks: done; interrupted by a signal; the budget is used up; halted by a model that
no later call can fare better with; failed on something else (a full disk); killed, which only a reader can find out."""

RECENT_SECONDS = 10.0
"""What "now" means in calls a second."""
EVIDENCE_SECONDS = 60.0
EVIDENCE_ROWS = 10
"""Rows end in bursts: the time that is left is told from at least a minute and ten rows, where there were as many."""
REMEMBERED_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of a run. `pairs` and `aside` (by reason) count over all walks; the others are of this one.

    planned:     rows of the whole plan
    total, done: rows that this walk is to finish (`--limit`), and those that are finished, before it or by it
    begun_with:  those that were finished before it
    not_known:   rows that memory alone could not finish (`--offline`)
    """

    planned: int = 0
    total: int = 0
    done: int = 0
    begun_with: int = 0
    pairs: int = 0
    aside: Mapping[str, int] = field(default_factory=dict)
    not_known: int = 0

    @property
    def left(self) -> int:
        return max(0, self.total - self.done)

    @property
    def set_aside(self) -> int:
        return sum(self.aside.values())


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls of this walk: asked of a model, known to the ledger, failed for good; `rate` and `mean_rate` of the asked
    ones a second, over the last ten seconds and over all. `answers`: asked ones in words (no log-probabilities) by what
    came: good, refused, empty, cut, repetition."""

    asked: int = 0
    known: int = 0
    failed: int = 0
    rate: float = 0.0
    mean_rate: float = 0.0
    answers: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Server:
    """One model's server as its pace sees it: how hard it is asked, and what it allows.

    in_flight, waiting: calls that are being asked, and that wait for a turn
    limit, ceiling:     calls there may be in flight now, and the most there may ever be
    requests_per_minute, tokens_per_minute: in the last minute
    share:     how much of what the endpoint gives is used, 0 to 1: of its tightest known limit a minute, else of the
               calls it takes at once
    share_of:  that limit in words ("600 requests a minute"), "" for calls at once
    throttled: how often it said "too many requests"
    state, since: "open", or why nobody is asked just now ("outage", "paused", "told to wait"), and for how many seconds
    """

    model: str
    server: str = ""
    in_flight: int = 0
    waiting: int = 0
    limit: int = 0
    ceiling: int = 0
    requests_per_minute: float = 0.0
    tokens_per_minute: float = 0.0
    share: float | None = None
    share_of: str = ""
    throttled: int = 0
    state: str = "open"
    since: float = 0.0


@dataclass(frozen=True, slots=True)
class Money:
    """Dollars; None where a price is unknown.

    spent:     paid by this walk
    saved:     what the answers that it had from the ledger would have cost
    lost, reserved: attempts of the run that may have been billed in vain, and calls in flight, each at its most
    budget, left: the cap and what it leaves, in its own words; "" without one
    projected: what the walk will have cost at its end; None until there is something to go by
    """

    spent: float | None = None
    saved: float | None = None
    lost: float | None = None
    reserved: float | None = None
    budget: str = ""
    left: str = ""
    projected: float | None = None


@dataclass(frozen=True, slots=True)
class Batches:
    """Provider batch jobs: rows that wait for them, calls in jobs, jobs, and seconds until they are looked at again."""

    parked: int = 0
    in_jobs: int = 0
    jobs: int = 0
    next_poll: float | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """Something worth a line that stays: an outage, a pause, a new ceiling. Numbered from 1 within a walk."""

    number: int
    at: float
    line: str


@dataclass(frozen=True, slots=True)
class Standing:
    """One snapshot of a run. Times are seconds since 1970, `seconds` and `eta` durations; `eta` None while unknown."""

    run: str
    recipe: str
    pid: int
    host: str
    started: float
    updated: float
    seconds: float = 0.0
    state: State = "walking"
    line: str = ""
    rows: Rows = Rows()
    calls: Calls = Calls()
    tokens: Usage = Usage()
    money: Money = Money()
    servers: tuple[Server, ...] = ()
    batches: Batches | None = None
    eta: float | None = None
    events: tuple[Event, ...] = ()

    @property
    def ended(self) -> bool:
        return self.state in ENDS

    def to_dict(self) -> dict[str, Any]:
        return {"format": FORMAT, **asdict(self)}

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> Standing:
        """Return what `to_json` wrote; names of a newer Solon are passed over. Raises ValueError where it is none."""
        try:
            given = json.loads(text)
            if given["state"] not in get_args(State):
                raise ValueError(f"unknown state {given['state']!r}")
            batches = given.get("batches")
            return _built(
                cls,
                given,
                rows=_built(Rows, given.get("rows", {})),
                calls=_built(Calls, given.get("calls", {})),
                tokens=_built(Usage, given.get("tokens", {})),
                money=_built(Money, given.get("money", {})),
                servers=tuple(_built(Server, one) for one in given.get("servers", ())),
                batches=None if batches is None else _built(Batches, batches),
                events=tuple(_built(Event, one) for one in given.get("events", ())),
            )
        except (KeyError, TypeError, AttributeError) as problem:
            raise ValueError(f"no standing of a run ({problem!r})") from problem


T = TypeVar("T")


def _built(kind: type[T], given: Mapping[str, Any], **made: Any) -> T:
    """Return an object of the given names that it knows; `made` takes the place of those that were built before."""
    known = {one.name for one in fields(kind)}  # type: ignore[arg-type]
    return kind(**{**{name: value for name, value in given.items() if name in known}, **made})


def write_standing(folder: Path, standing: Standing) -> None:
    """Write `status.json`, whole or not at all. Raises OSError."""
    new = folder / f"{FILE}.new"
    new.write_text(standing.to_json() + "\n", encoding="utf-8")
    new.replace(folder / FILE)


def read_standing(folder: Path) -> Standing | None:
    """Return what the last run in `folder` wrote, None where none did. Raises StorageError where it is damaged."""
    try:
        return Standing.from_json((folder / FILE).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as problem:
        told = f"cannot be read ({problem}); delete it, nothing of the run hangs on it"
        raise StorageError(f"{folder / FILE}: {told}") from problem


class Pulse:
    """How fast a walk goes, from a look at its counts now and then: `beat` it, then ask.

    Until as many rows have ended as are walked at once, or half of all, the first ones to end say nothing about the
    pace of the rest: `seconds_left` is None.
    """

    def __init__(self, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._under_way = 1
        self._looks: deque[tuple[float, int, int]] = deque(maxlen=REMEMBERED_SECONDS + 1)
        self._first: tuple[float, int, int] | None = None

    def beat(self, asked: int, walked: int, under_way: int = 0) -> None:
        """Take note of the calls that this walk asked, the rows that it finished, and those under way."""
        look = (self._clock(), asked, walked)
        self._under_way = max(self._under_way, under_way)
        self._first = self._first or look
        if not self._looks or look[0] - self._looks[-1][0] >= 1.0:
            self._looks.append(look)
        self._now = look

    def forget(self) -> None:
        """Start afresh: after a pause, what was before says nothing."""
        self._looks.clear()
        self._first = None

    def rate(self) -> float:
        """Return calls a second over the last ten seconds."""
        if self._first is None:
            return 0.0
        now, asked, _ = self._now
        then, before, _ = next((look for look in self._looks if now - look[0] <= RECENT_SECONDS), self._now)
        return (asked - before) / (now - then) if now > then else 0.0

    def seconds_left(self, left: int) -> float | None:
        """Return how long `left` more rows take at the pace of late, or None while there is too little to go by."""
        if left <= 0:
            return 0.0
        if self._first is None:
            return None
        now, _, walked = self._now
        ended = walked - self._first[2]
        if ended < max(1, min(self._under_way, (ended + left) // 2)):
            return None
        then = self._first
        for look in reversed(self._looks):
            if now - look[0] >= EVIDENCE_SECONDS and walked - look[2] >= EVIDENCE_ROWS:
                then = look
                break
        return left * (now - then[0]) / (walked - then[2])
