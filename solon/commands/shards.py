"""One walk in several processes: each takes every n-th row of the plan, all share one ledger and one row store.

An event loop fills one core, so a fast endpoint can have more answers than one process can write down. The parent
plans, holds the run folder and exports; its children walk:

    main()                  one child: its errand is the first line on stdin
        stdin     closed by the parent: stop as Ctrl-C does (also when the parent was killed)
        stdout    a report a quarter of a second, as a line of JSON, and a last one with how it ended

What limits a server is divided among the children: each gets its share of concurrency and of the stated rates. Two
children never ask the same question, because the ledger's leases hold between processes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from solon import errors
from solon.calls import Usage
from solon.commands.process import GRACE_SECONDS, HALT_GRACE_SECONDS, walk_alone
from solon.commands.standing import Part, server_of, traced
from solon.errors import Halt, SolonError, StorageError
from solon.pipelines.control import Control
from solon.pipelines.plan import Plan
from solon.pipelines.run import RunFolder
from solon.pipelines.standing import Server
from solon.pipelines.walk import UNWALKED, Progress, walk
from solon.workshop import Workshop

__all__ = ["Errand", "walk_in_processes"]

REPORT_SECONDS = 0.25
ATTEND_SECONDS = 1.0
"""How often a child looks at `control.json`, and says how its servers stand."""
LEAVE_SECONDS = 30.0
"""How long a child may take to end once it was told to; then it is killed, and the ledger's leases end with it."""
LONGEST_LINE = 1 << 20
CHILD = "import sys; from solon.commands.shards import main; sys.exit(main())"


@dataclass(frozen=True)
class Errand:
    """What one child is to do: its share of the rows of the run in `folder`, whose recipe stood in `base`."""

    folder: str
    base: str
    number: int
    of: int
    limit: int | None
    again: tuple[str, ...]
    offline: bool
    refresh: bool
    texts: bool = False


# -- the parent ----------------------------------------------------------------------------------------------


async def walk_in_processes(
    errands: list[Errand], *, progress: Progress, stop: asyncio.Event, tell: Callable[[Progress], None],
    stands: Callable[[int, Part], None] = lambda number, part: None,
) -> None:  # fmt: skip
    """Let a process walk each errand; `progress` is their sum, on top of what it held before.

    stands: told of how each process stands, about once a second and at its end

    Raises what a child raised first, when all have ended; a child that was killed is a StorageError that says so.
    """
    before = _copy(progress)
    heard: dict[int, Progress] = {}

    def told(number: int, report: Progress, part: Part | None) -> None:
        heard[number] = report
        if part:
            stands(number, part)
        _sum(progress, before, list(heard.values()))
        tell(progress)

    enough = asyncio.Event()
    children = [asyncio.create_task(_child(errand, told, enough)) for errand in errands]
    stopping = asyncio.create_task(stop.wait())
    try:
        waiting: set[asyncio.Task[Any]] = {*children, stopping}
        while any(not child.done() for child in children):
            done, waiting = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set() or progress.over_budget or any(child in done and child.exception() for child in children):
                enough.set()
    finally:
        enough.set()
        stopping.cancel()
        ended = await asyncio.gather(*children, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, BaseException):
            raise outcome


async def _child(errand: Errand, told: Callable[[int, Progress, Part | None], None], enough: asyncio.Event) -> None:
    """Run one child to its end, and hand on what it reports. Raises what it raised."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD,
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        limit=LONGEST_LINE,
        start_new_session=True,  # Ctrl-C at the terminal is the parent's: it tells its children
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None
    ending = asyncio.create_task(_end(process, enough))
    last: dict[str, Any] = {}
    try:
        with suppress(ConnectionError):
            process.stdin.write(json.dumps(asdict(errand)).encode() + b"\n")
            await process.stdin.drain()
        async for line in process.stdout:
            last = json.loads(line)
            told(errand.number, _progress(last["progress"]), _part(last.get("part")))
        code = await process.wait()
    finally:
        ending.cancel()
        if process.returncode is None:
            process.kill()
            await process.wait()
    if problem := last.get("problem"):
        raise _raised(problem["kind"], problem["line"])
    if code or not last.get("ended"):
        raise StorageError(
            f"process {process.pid}, which walked part {errand.number + 1} of {errand.of}, ended early (status {code}):"
            " what was finished is kept; start the same command again"
        )


async def _end(process: asyncio.subprocess.Process, enough: asyncio.Event) -> None:
    """Tell a child to stop once it is enough; kill it where it does not."""
    await enough.wait()
    assert process.stdin is not None
    process.stdin.close()
    await asyncio.sleep(LEAVE_SECONDS)
    with suppress(ProcessLookupError):
        process.kill()


def _raised(kind: str, line: str) -> SolonError:
    known = getattr(errors, kind, Halt)
    return known(line) if issubclass(known, SolonError) and not issubclass(known, errors.Aside) else Halt(line)


def _copy(progress: Progress) -> Progress:
    return _progress(_report(progress))


def _sum(progress: Progress, before: Progress, parts: list[Progress]) -> None:
    """Set `progress` to what all parts say together, on top of what stood there before this walk."""
    for name in ("total", "done", "begun_with", "under_way"):
        setattr(progress, name, sum(getattr(part, name) for part in parts))
    for name in ("pairs", "known", "asked", "failed"):
        setattr(progress, name, getattr(before, name) + sum(getattr(part, name) for part in parts))
    for name in ("aside", "answers"):
        earlier = Counter({reason: count for reason, count in getattr(before, name).items() if reason not in UNWALKED})
        setattr(progress, name, sum((getattr(part, name) for part in parts), earlier))
    progress.usage = sum((part.usage for part in parts), before.usage)
    progress.interrupted = any(part.interrupted for part in parts)
    progress.over_budget = next((part.over_budget for part in parts if part.over_budget), "")


def _report(progress: Progress) -> dict[str, Any]:
    return {each.name: getattr(progress, each.name) for each in fields(progress)} | {"usage": asdict(progress.usage)}


def _progress(report: dict[str, Any]) -> Progress:
    counted = {name: Counter(report[name]) for name in ("aside", "answers")}
    return Progress(**{**report, **counted, "usage": Usage(**report["usage"])})


def _part(report: dict[str, Any] | None) -> Part | None:
    return Part(tuple(Server(**one) for one in report["servers"]), report["spent"]) if report else None


# -- the child -----------------------------------------------------------------------------------------------


async def _walk_part(errand: Errand, stop: asyncio.Event, report: Callable[..., None]) -> None:
    folder = RunFolder.open(Path(errand.folder))
    recipe = folder.recipe.model_copy(update={"name": folder.facts["recipe"]})
    constitution = folder.constitution.constitution
    progress = Progress()
    share = Workshop(recipe, Path(errand.base), offline=errand.offline, refresh=errand.refresh, share=errand.of)
    async with share as shop:
        await shop.begin(folder.path.name, stop)
        cast = await shop.cast()
        control = Control(folder.path, shop.paces(), part=errand.of)
        telemetry = traced(folder, texts=errand.texts, part=True)

        def stand() -> None:
            servers = [asdict(server_of(pace.facts())) for pace in shop.paces()]
            report(progress, last=True, part={"servers": servers, "spent": shop.spent()})

        async def attend() -> None:
            while True:
                control.poll()
                stand()
                await asyncio.sleep(ATTEND_SECONDS)

        story = recipe.story.story(constitution, recipe.judging)
        plan = Plan(folder.facts["plan"], recipe, constitution, story, folder.path / "rows.db")
        grace = HALT_GRACE_SECONDS
        with folder.store() as store:
            attending = asyncio.create_task(attend())
            try:
                await walk(
                    plan, store, control.gated(cast), progress=progress, limit=errand.limit,
                    part=(errand.number, errand.of), again=errand.again, stop=stop, tell=report,
                    appetite=shop.appetite, spans=telemetry,
                )  # fmt: skip
                grace = GRACE_SECONDS
            finally:
                attending.cancel()
                await shop.close(grace=0.0 if control.idle and shop.paces() else grace)
                shop.settle(progress)
                stand()
                if telemetry:
                    telemetry.end_rows()
                    await asyncio.to_thread(telemetry.close)


def main() -> int:
    """Walk the errand that stands on stdin."""
    walk_alone()
    errand = Errand(**json.loads(sys.stdin.readline()))
    told, reported = Progress(), 0.0

    def report(progress: Progress, *, last: bool = False, **more: Any) -> None:
        nonlocal told, reported
        told = progress
        if last or time.monotonic() - reported > REPORT_SECONDS:
            reported = time.monotonic()
            with suppress(BrokenPipeError):  # the parent is gone: stdin says so as well
                sys.stdout.write(json.dumps({"progress": _report(progress), **more}) + "\n")
                sys.stdout.flush()

    async def run() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), stop.set)  # nothing more is ever written to it: it was closed
        try:
            await _walk_part(errand, stop, report)
        finally:
            loop.remove_reader(sys.stdin.fileno())

    try:
        asyncio.run(run())
    except SolonError as problem:
        report(told, last=True, problem={"kind": type(problem).__name__, "line": str(problem)})
        return problem.exit_code
    report(told, last=True, ended=True)
    return 0
