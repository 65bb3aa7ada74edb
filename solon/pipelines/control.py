"""Steering a run that walks: `control.json` in its folder says how it should go, and the run looks there once a second.

    steer(folder, paused=True)                        # any process: nothing new is asked from now on
    steer(folder, concurrency=32, rpm=500)            # ... at most 32 calls at once, 500 requests a minute
    for line in Control(folder, paces).poll(): ...    # the run itself: what it did about it

The file holds what is wanted, not what to do, so that the last word counts and none is lost:

    {"paused": true, "concurrency": 32, "rpm": 500, "models": {"openai:gpt-5-mini": {"concurrency": 8}}}

A key that is not there leaves things as they are; `rpm` 0 takes that limit away. The file is gone when the next walk
begins: it steers the process that walks, never the recipe.
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from solon.calls import Ask, Call, Reply
from solon.cast import Cast
from solon.complaints import one_of, short
from solon.errors import StorageError

__all__ = ["Control", "Steered", "steer"]

FILE = "control.json"


class Steered(Protocol):
    """What one model's pace lets itself be told (`solon.models.pace.Pace` is one)."""

    @property
    def name(self) -> str: ...

    @property
    def in_flight(self) -> int: ...

    def pause(self) -> None:
        """Begin no further attempt; those in flight go on."""
        ...

    def resume(self) -> None: ...

    def tune(self, *, concurrency: int | None = None, rpm: float | None = None) -> None:
        """Take a new ceiling on calls in flight, on requests a minute (0: none); None leaves it as it is."""
        ...


@dataclass(frozen=True)
class Wanted:
    """How fast one model is to be asked; None where nobody said."""

    concurrency: int | None = None
    rpm: int | None = None


class Control:
    """Applies what `control.json` in `folder` says to the paces of a run. Make one when a walk begins.

    part: this is one of so many processes that walk together: each takes its part of every limit, and leaves the file
          of an earlier walk to the one that began them
    """

    def __init__(self, folder: Path, paces: Sequence[Steered], *, part: int = 1) -> None:
        self.paused = False
        self._part = part
        self._file = folder / FILE
        self._paces = tuple(paces)
        self._seen: tuple[int, int, int] | None = None
        self._applied = [Wanted()] * len(self._paces)
        self._open = asyncio.Event()
        self._open.set()
        if part == 1:
            self._file.unlink(missing_ok=True)  # it steered an earlier walk

    @property
    def idle(self) -> bool:
        """Return whether it is paused and nothing is in flight: no call is worth waiting for."""
        return self.paused and not any(pace.in_flight for pace in self._paces)

    def poll(self) -> list[str]:
        """Look whether the file is another one, do as it says, and return a line for each thing done, or not done."""
        try:
            facts = self._file.stat()
        except FileNotFoundError:
            return []
        seen = (facts.st_mtime_ns, facts.st_ino, facts.st_size)
        if seen == self._seen:
            return []
        self._seen = seen
        try:
            paused, wanted = _read(self._file.read_text(encoding="utf-8"), [pace.name for pace in self._paces])
        except ValueError as problem:
            return [f"{FILE}: {problem}; nothing was changed"]
        return [*self._tuned(wanted), *self._held(paused)]

    def toggle(self) -> list[str]:
        """Pause, or resume, as `solon pause` and `solon resume` would."""
        steer(self._file.parent, paused=not self.paused)
        return self.poll()

    def gated(self, cast: Cast) -> Cast:
        """Return the cast, asking nobody while the run is paused, whether its models have a pace or not."""
        return Cast(*(replace(player, ask=self._gate(player.ask)) for player in cast.players()))

    def _gate(self, ask: Ask) -> Ask:
        async def gated(call: Call) -> Reply:
            if self.paused:
                await self._open.wait()
            return await ask(call)

        return gated

    def _tuned(self, wanted: dict[str, Wanted]) -> list[str]:
        told = []
        if not self._paces and wanted[""] != Wanted():
            return ["no server is asked here, so there is no pace to change"]
        for place, pace in enumerate(self._paces):  # two servers of one model have one name
            now, before = wanted[pace.name], self._applied[place]
            if now == before:
                continue
            self._applied[place] = now
            words = []
            if now.concurrency is not None and now.concurrency != before.concurrency:
                pace.tune(concurrency=max(1, now.concurrency // self._part))
                words.append(f"at most {now.concurrency:,} calls in flight")
            if now.rpm is not None and now.rpm != before.rpm:
                pace.tune(rpm=now.rpm / self._part)
                words.append(f"at most {now.rpm:,} requests a minute" if now.rpm else "no stated requests a minute")
            told.append(f"{pace.name}: {', '.join(words)}")
        return told

    def _held(self, paused: bool | None) -> list[str]:
        if paused is None or paused == self.paused:
            return []
        self.paused = paused
        for pace in self._paces:
            if paused:
                pace.pause()
            else:
                pace.resume()
        if paused:
            self._open.clear()
            return ["paused: calls in flight are finished, nothing new is asked; go on with  solon resume"]
        self._open.set()
        return ["resumed"]


def steer(
    folder: Path,
    *,
    paused: bool | None = None,
    concurrency: int | None = None,
    rpm: int | None = None,
    model: str | None = None,
) -> None:
    """Write down how the run in `folder` should go; what is not given stays as it was said before.

    model: whom concurrency and rpm are meant for; all where None, in place of what was said of one before

    Raises StorageError where the file cannot be written.
    """
    file = folder / FILE
    try:
        page: Any = {}
        with suppress(FileNotFoundError, ValueError):  # a broken page says nothing that could be kept
            page = json.loads(file.read_text(encoding="utf-8"))
        page = page if isinstance(page, dict) and isinstance(page.get("models", {}), dict) else {}
        models = {name: dict(one) for name, one in page.get("models", {}).items() if isinstance(one, dict)}
        for key, value in {"concurrency": concurrency, "rpm": rpm}.items():
            if value is None:
                continue
            if model is not None:
                models.setdefault(model, {})[key] = value
                continue
            page[key] = value
            for one in models.values():
                one.pop(key, None)
        if paused is not None:
            page["paused"] = paused
        page["models"] = {name: one for name, one in models.items() if one}
        new = file.with_name(f"{FILE}.{os.getpid()}")
        new.write_text(json.dumps(page) + "\n", encoding="utf-8")
        new.replace(file)
    except OSError as problem:
        told = f"cannot be written ({problem.strerror or problem}); check its rights and the disk"
        raise StorageError(f"{file}: {told}") from problem


def _read(text: str, names: Sequence[str]) -> tuple[bool | None, dict[str, Wanted]]:
    """Return whether to pause, and what is wanted of each named model, and of all ("").

    Raises ValueError, in one line.
    """
    try:
        page = json.loads(text)
    except ValueError:
        raise ValueError(f"no JSON: {short(text, 60)!r}") from None
    if not isinstance(page, dict):
        raise ValueError("no JSON object")
    _check(page, {"paused", "concurrency", "rpm", "models"})
    paused, models = page.get("paused"), page.get("models", {})
    if paused is not None and not isinstance(paused, bool):
        raise ValueError(f"paused is true or false, not {paused!r}")
    if not isinstance(models, dict):
        raise ValueError(f"models is an object by model, not {models!r}")
    general = _limits(page)
    wanted = dict.fromkeys([*names, ""], general)
    for name, one in models.items():
        if name not in names:
            raise ValueError(f"no model {name!r} is asked here; {one_of(name, sorted(names))}")
        if not isinstance(one, dict):
            raise ValueError(f"models: {name!r} has an object, not {one!r}")
        _check(one, {"concurrency", "rpm"})
        own = _limits(one)
        wanted[name] = Wanted(
            general.concurrency if own.concurrency is None else own.concurrency,
            general.rpm if own.rpm is None else own.rpm,
        )
    return paused, wanted


def _check(page: dict[str, Any], known: set[str]) -> None:
    for key in page:
        if key not in known:
            raise ValueError(f"unknown key {key!r}; {one_of(key, sorted(known))}")


def _limits(page: dict[str, Any]) -> Wanted:
    for key, least in (("concurrency", 1), ("rpm", 0)):
        value = page.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < least):
            raise ValueError(f"{key} is a whole number of at least {least}, not {value!r}")
    return Wanted(page.get("concurrency"), page.get("rpm"))
