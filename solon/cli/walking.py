"""`solon run`: progress while it walks, a clean end on Ctrl-C, one closing table, an exit code that tells."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import sys
import time
from pathlib import Path
from typing import Literal, Protocol

from rich.console import Console
from rich.live import Live

from solon.cli.panel import one_line, panel
from solon.cli.screen import console, counted, plain
from solon.cli.tables import print_done
from solon.commands import Done, run_recipe
from solon.commands.process import walk_alone
from solon.errors import FAILED_ROWS, OverBudget
from solon.pipelines.run import RunFolder
from solon.pipelines.standing import Standing
from solon.pipelines.walk import FAILED

__all__ = ["Shown", "walk_recipe"]

Shown = Literal["auto", "bar", "plain", "json", "none"]

INTERRUPTED = 130
PLAIN_SECONDS = 15.0
"""How often a run tells where it stands when nobody watches a terminal (a log file, CI)."""
JSON_SECONDS = 1.0


def walk_recipe(
    path: Path,
    *,
    limit: int | None,
    offline: bool,
    refresh: bool,
    processes: int = 1,
    shown: Shown = "auto",
    texts: bool = False,
) -> int:
    """Walk the recipe, print its closing table, and return the exit code.

    texts: questions and answers stand in the OpenTelemetry spans, where there are any
    """
    walk_alone()
    told = console(stderr=True)
    view = _view(shown, told)
    go_on = f"solon run {shlex.quote(str(path))}" + (f" --limit {limit}" if limit else "")
    go_on += f" --processes {processes}" if processes > 1 else ""
    try:
        done = asyncio.run(
            _walk(path, view, limit=limit, offline=offline, refresh=refresh, processes=processes, texts=texts)
        )
    except asyncio.CancelledError:
        told.print(f"interrupted before anything was asked; start again with  {go_on}")
        return INTERRUPTED
    finally:
        view.close()
    print_done(done)
    code, line = _end_of(done, go_on)
    if line:
        told.print(plain(line))
    return code


def _end_of(done: Done, go_on: str) -> tuple[int, str]:
    """Return the exit code of a run that came to its end, and the line that says what may be done about it."""
    progress = done.progress
    if progress.over_budget:
        return OverBudget.exit_code, f"{progress.over_budget}; go on with  {go_on}"
    if progress.interrupted:
        return INTERRUPTED, f"interrupted: what is finished is kept; go on with  {go_on}"
    failed = sum(progress.aside[reason] for reason in FAILED)
    if failed:
        return FAILED_ROWS, f"{counted(failed, 'row')} failed; the same command walks them again:  {go_on}"
    return (0 if done.pairs else 1), ""


async def _walk(
    path: Path, view: _View, *, limit: int | None, offline: bool, refresh: bool, processes: int, texts: bool
) -> Done:
    stop, walking = asyncio.Event(), False
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if not walking:
            task.cancel()
        elif stop.is_set():  # asked twice: no waiting for calls in flight
            view.close()
            os._exit(INTERRUPTED)
        else:
            view.say("stopping: waiting for calls in flight, they are paid for (Ctrl-C again to leave at once)")
            stop.set()

    def ready(folder: RunFolder, planned: int) -> None:
        nonlocal walking
        walking = True
        view.say(f"{counted(planned, 'row')} into {folder.path}")

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return await run_recipe(
        path, limit=limit, offline=offline, refresh=refresh, processes=processes, stop=stop, ready=ready,
        watch=view.watch, texts=texts,
    )  # fmt: skip


class _View(Protocol):
    """What shows a run while it walks. `watch` is told where it stands four times a second, and when it ends."""

    def say(self, text: str) -> None: ...

    def watch(self, standing: Standing) -> None: ...

    def close(self) -> None: ...


def _view(shown: Shown, out: Console) -> _View:
    if shown == "auto":
        shown = "bar" if out.is_terminal and not out.is_dumb_terminal else "plain"
    if shown == "bar":
        return _Bar(out)
    if shown == "plain":
        return _Plain(out)
    return _Json() if shown == "json" else _Nothing()


class _Nothing:
    """`--progress none`: the closing table alone."""

    def say(self, text: str) -> None:
        pass

    def watch(self, standing: Standing) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """A line now and then, and one for each event: for a log."""

    def __init__(self, out: Console) -> None:
        self.out = out
        self._heard = 0
        self._told = time.monotonic()

    def say(self, text: str) -> None:
        self.out.print(plain(text))

    def watch(self, standing: Standing) -> None:
        for event in standing.events:
            if event.number > self._heard:
                self._heard = event.number
                self.say(f"{time.strftime('%H:%M:%S', time.localtime(event.at))} {event.line}")
        self.show(standing)

    def show(self, standing: Standing) -> None:
        if time.monotonic() - self._told >= PLAIN_SECONDS:
            self._told = time.monotonic()
            self.say(one_line(standing))

    def close(self) -> None:
        pass


class _Bar(_Plain):
    """A few lines that stay in place; what is said, and events, are lines above them that stay."""

    def __init__(self, out: Console) -> None:
        # not soft: the block must know where its lines are folded
        super().__init__(console(stderr=True, soft_wrap=False, force_terminal=True))
        self._live = Live(console=self.out, auto_refresh=False, transient=True)

    def show(self, standing: Standing) -> None:
        if not self._live.is_started:
            self._live.start()
        self._live.update(panel(standing), refresh=True)

    def close(self) -> None:
        self._live.stop()


class _Json(_Nothing):
    """A JSON object a line, about once a second, at each event and at the end. What is said is in `state`."""

    def __init__(self) -> None:
        self._told = float("-inf")
        self._before: tuple[int, str] = (0, "")

    def watch(self, standing: Standing) -> None:
        now = (standing.events[-1].number if standing.events else 0, standing.state)
        if now != self._before or time.monotonic() - self._told >= JSON_SECONDS:
            self._told, self._before = time.monotonic(), now
            sys.stderr.write(standing.to_json() + "\n")
            sys.stderr.flush()
