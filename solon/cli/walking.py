"""`solon run`: progress while it walks, a clean end on Ctrl-C, one closing table."""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from solon.cli.screen import console, counted, plain
from solon.cli.tables import print_done
from solon.commands import Done, run_recipe
from solon.pipelines.run import Progress as Walked
from solon.pipelines.run import RunFolder

__all__ = ["walk_recipe"]

INTERRUPTED = 130
QUIET_TERMINAL_SECONDS = 15.0
"""How often a run tells where it stands when nobody watches a terminal (a log file, CI)."""


def walk_recipe(path: Path, *, limit: int | None, offline: bool, refresh: bool, quiet: bool) -> int:
    """Walk the recipe, print its closing table, and return the exit code."""
    told = console(stderr=True)
    line = _Line(told, quiet=quiet)
    go_on = f"solon run {shlex.quote(str(path))}" + (f" --limit {limit}" if limit else "")
    try:
        done = asyncio.run(_walk(path, line, limit=limit, offline=offline, refresh=refresh))
    except asyncio.CancelledError:
        told.print(f"interrupted before anything was asked; start again with  {go_on}")
        return INTERRUPTED
    finally:
        line.close()
    print_done(done)
    if done.progress.interrupted:
        told.print(f"interrupted: what is finished is kept; go on with  {go_on}")
        return INTERRUPTED
    return 0 if done.pairs else 1


async def _walk(path: Path, line: _Line, *, limit: int | None, offline: bool, refresh: bool) -> Done:
    stop = asyncio.Event()
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def interrupt() -> None:
        if not line.walking:
            task.cancel()
        elif stop.is_set():  # asked twice: no waiting for calls in flight
            line.close()
            os._exit(INTERRUPTED)
        else:
            line.say("stopping: waiting for calls in flight, they are paid for (Ctrl-C again to leave at once)")
            stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    return await run_recipe(
        path, limit=limit, offline=offline, refresh=refresh, stop=stop, tell=line.tell, ready=line.ready
    )


class _Line:
    """The progress line: a live bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, out: Console, *, quiet: bool) -> None:
        self.out = out
        self.quiet = quiet
        self.walking = False
        self.told = time.monotonic()
        self.bar: Progress | None = None

    def ready(self, folder: RunFolder, planned: int) -> None:
        self.walking = True
        if self.quiet:
            return
        self.say(f"{counted(planned, 'row')} into {folder.path}")
        if self.out.is_terminal:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=20),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}", markup=False),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                console=self.out,
                transient=True,
            )
            self.task = self.bar.add_task("rows", total=None, facts="")
            self.bar.start()

    def tell(self, walked: Walked) -> None:
        if self.bar:
            self.bar.update(self.task, total=walked.total, completed=walked.done, facts=_facts(walked))
        elif not self.quiet and time.monotonic() - self.told > QUIET_TERMINAL_SECONDS:
            self.told = time.monotonic()
            left = "" if walked.seconds_left is None else f", eta {walked.seconds_left:,.0f} s"
            self.say(f"{walked.done:,}/{walked.total:,} rows, {_facts(walked)}{left}")

    def say(self, text: str) -> None:
        self.out.print(plain(text))

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


def _facts(walked: Walked) -> str:
    rate = walked.asked / walked.seconds if walked.seconds > 0 else 0.0
    aside = sum(walked.aside.values())
    return (
        f"{counted(walked.asked, 'call')} asked ({rate:.1f}/s), {walked.known:,} known, "
        f"{walked.usage.input + walked.usage.output:,} tokens, {aside:,} set aside"
    )
