"""What a server says about its limits in the headers of an answer, and how long it asks us to wait.

    read(headers)          {"requests": Told(limit=600, remaining=599, reset=0.1), "tokens": ...}, or {}
    retry_after(headers)   seconds, or None

Two families of names are known, and every compatible server that was seen uses one of them:

    x-ratelimit-limit-requests, -remaining-requests, -reset-requests, and the same with tokens      OpenAI, vLLM's
        proxies, LiteLLM, Groq, Azure; a reset is a duration ("1s", "6m0s", "250ms")
    anthropic-ratelimit-requests-limit, -remaining, -reset, and the same with tokens, input-tokens and
        output-tokens      Anthropic; a reset is a point in time (RFC 3339)

A point in time is taken against the answer's own `Date`, so that neither our wall clock nor a jump of it matters; only
where there is none is our clock asked, once, and what comes out is held to a day.
"""

from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

__all__ = ["Told", "read", "retry_after", "seconds_of"]

LONGEST = 86_400.0
"""Seconds. A point in time that is further away than a day is a clock that is wrong."""

UNITS = {"d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
PART = re.compile(r"(\d+(?:\.\d+)?)(ms|us|µs|ns|[dhms])")
DURATION = re.compile(rf"(?:{PART.pattern})+")

OPENAI = re.compile(r"x-ratelimit-(limit|remaining|reset)-(requests|tokens)")
ANTHROPIC = re.compile(r"anthropic-ratelimit-(requests|tokens|input-tokens|output-tokens)-(limit|remaining|reset)")


@dataclass(frozen=True, slots=True)
class Told:
    """One limit as the server tells it.

    limit:     so much in its period, which it does not tell
    remaining: so much of it is left
    reset:     seconds until all of it is there again
    """

    limit: float
    remaining: float
    reset: float


def read(headers: Mapping[str, str]) -> dict[str, Told]:
    """Return what `headers` say of "requests", "tokens", "input-tokens" and "output-tokens"; what is unreadable is left
    out. A limit without its remainder, or the other way round, says too little to go by.
    """
    found: dict[str, dict[str, str]] = {}
    for name in headers:
        lower = name.lower()
        if "ratelimit" not in lower:
            continue
        if match := OPENAI.fullmatch(lower):
            found.setdefault(match[2], {})[match[1]] = headers[name]
        elif match := ANTHROPIC.fullmatch(lower):
            found.setdefault(match[1], {})[match[2]] = headers[name]
    told = {}
    for what, said in found.items():
        try:
            limit, remaining = float(said["limit"]), float(said["remaining"])
        except (KeyError, ValueError):
            continue
        reset = seconds_of(said.get("reset", ""), headers)
        if 0 < limit < float("inf") and 0 <= remaining <= limit:
            told[what] = Told(limit, remaining, 60.0 if reset is None else reset)
    return told


def seconds_of(text: str, headers: Mapping[str, str]) -> float | None:
    """Return the seconds that "6m0s", "250ms", "0.5" or an RFC 3339 time mean, or None for anything else."""
    text = text.strip()
    if DURATION.fullmatch(text):
        return sum(float(number) * UNITS[unit] for number, unit in PART.findall(text))
    try:
        seconds = float(text)
    except ValueError:
        pass
    else:
        return seconds if 0 <= seconds <= LONGEST else None
    try:
        moment = datetime.fromisoformat(text.replace("Z", "+00:00"))
    except ValueError:
        return None
    return None if moment.tzinfo is None else _until(moment.timestamp(), headers)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds that `retry-after-ms` or `retry-after` (seconds or an HTTP date) asks for, or None."""
    for name, unit in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        try:
            seconds = float(_header(headers, name)) / unit
        except ValueError:
            continue
        if 0 <= seconds < float("inf"):
            return seconds
    moment = _date(_header(headers, "retry-after"))
    return None if moment is None else _until(moment, headers)


def _header(headers: Mapping[str, str], name: str) -> str:
    # a plain mapping knows a name in its own case only
    return headers.get(name) or next((headers[each] for each in headers if each.lower() == name), "")


def _until(moment: float, headers: Mapping[str, str]) -> float:
    now = _date(_header(headers, "date"))
    return min(LONGEST, max(0.0, moment - (time.time() if now is None else now)))


def _date(text: str) -> float | None:
    try:
        return email.utils.parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, OverflowError):
        return None
