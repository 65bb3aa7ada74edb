"""`solon run`: progress while it walks, a clean end on Ctrl-C, one closing table."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from solon.cli.tables import print_done
from solon.commands import Done, run_recipe
from solon.pipelines.run import Progress as Walked
from solon.pipelines.run import RunFolder

__all__ = ["walk_recipe"]

QUIET_TERMINAL_SECONDS = 15.0
"""How often a run tells where it stands when nobody watches a terminal (a log file, CI)."""


def walk_recipe(path: Path, *, limit: int | None, offline: bool, refresh: bool, quiet: bool) -> int:
    """Walk the recipe, print its closing table, and return the exit code."""
    console = Console(stderr=True)
    done = asyncio.run(_walk(path, console, limit=limit, offline=offline, refresh=refresh, quiet=quiet))
    print_done(done)
    if done.progress.interrupted:
        console.print(f"interrupted: what is finished is kept; go on with  solon run {path}", highlight=False)
        return 130
    return 0 if done.pairs else 1


async def _walk(path: Path, console: Console, *, limit: int | None, offline: bool, refresh: bool, quiet: bool) -> Done:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def interrupt() -> None:
        if stop.is_set():  # asked twice: no waiting for calls in flight
            os._exit(130)
        console.print("stopping: waiting for calls in flight, they are paid for (Ctrl-C again to leave at once)")
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    line = _Line(console, quiet=quiet)
    try:
        return await run_recipe(
            path, limit=limit, offline=offline, refresh=refresh, stop=stop, tell=line.tell, ready=line.ready
        )
    finally:
        line.close()


class _Line:
    """The progress line: a live bar on a terminal, a plain line now and then elsewhere."""

    def __init__(self, console: Console, *, quiet: bool) -> None:
        self.console = console
        self.quiet = quiet
        self.told = time.monotonic()
        self.bar: Progress | None = None
        if console.is_terminal and not quiet:
            self.bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[facts]}"),
                TimeElapsedColumn(),
                TextColumn("eta"),
                TimeRemainingColumn(),
                console=console,
                transient=True,
            )
            self.task = self.bar.add_task("rows", total=None, facts="")

    def ready(self, folder: RunFolder, planned: int) -> None:
        if not self.quiet:
            self.console.print(f"{planned} rows into {folder.path}", highlight=False)
        if self.bar:
            self.bar.start()

    def tell(self, walked: Walked) -> None:
        if self.bar:
            self.bar.update(self.task, total=walked.total, completed=walked.done, facts=_facts(walked))
        elif not self.quiet and time.monotonic() - self.told > QUIET_TERMINAL_SECONDS:
            self.told = time.monotonic()
            print(f"{walked.done}/{walked.total} rows, {_facts(walked)}", file=sys.stderr, flush=True)  # noqa: T201

    def close(self) -> None:
        if self.bar:
            self.bar.stop()


def _facts(walked: Walked) -> str:
    rate = walked.asked / walked.seconds if walked.seconds > 0 else 0.0
    aside = sum(walked.aside.values())
    return (
        f"{walked.asked} calls asked ({rate:.1f}/s), {walked.known} known, "
        f"{walked.usage.input + walked.usage.output:,} tokens, {aside} set aside"
    )
