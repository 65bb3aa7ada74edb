"""One walk in several processes: the same bytes as in one, every question once, and no child outlives its parent."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from run_kit import Desk, data_of, desk, finished, started, twice

from solon.commands import run_recipe
from solon.errors import BadInput, Halt, StorageError


def children_of(pid: int) -> list[int]:
    """Return the processes that `pid` started."""
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(each) for each in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def until(reached: object, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not reached():  # type: ignore[operator]
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk", prompts=12)


async def test_three_processes_write_the_bytes_that_one_writes_and_ask_each_question_once(
    made: Desk, tmp_path: Path
) -> None:
    alone = desk(tmp_path / "alone", prompts=12)
    one = await run_recipe(alone.recipe)
    three = await run_recipe(made.recipe, processes=3)
    assert data_of(three.folder.path) == data_of(one.folder.path)
    assert not twice(made.asked())
    assert sorted(made.asked()) == sorted(alone.asked())
    assert (three.pairs, three.reasons) == (one.pairs, one.reasons)
    assert (three.progress.done, three.progress.total) == (12, 12)
    assert three.progress.asked == one.progress.asked
    assert three.progress.usage == one.progress.usage
    assert three.progress.answers == one.progress.answers


async def test_what_one_process_left_is_finished_by_two(made: Desk) -> None:
    await run_recipe(made.recipe, limit=5)
    done = await run_recipe(made.recipe, processes=2)
    assert done.progress.done == 12
    assert done.progress.begun_with == 5
    assert not twice(made.asked())


async def test_the_first_rows_alone_are_walked_by_several_too(made: Desk) -> None:
    done = await run_recipe(made.recipe, limit=7, processes=3)
    assert (done.progress.done, done.progress.total) == (7, 7)


async def test_a_model_that_halts_one_process_ends_the_run_with_its_words(made: Desk) -> None:
    halting = "from solon.errors import Halt\n\n\nasync def halting(call):\n    raise Halt('wrong key, it says')\n"
    (made.path / "model.py").write_text(halting)
    made.write(model="scripted:model.py:halting", judging={"verdict": "parsed"})
    with pytest.raises(Halt, match="wrong key, it says"):
        await run_recipe(made.recipe, processes=2)


async def test_a_stop_reaches_every_process_and_nothing_is_lost(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DELAY", "0.3")
    stop = asyncio.Event()

    def tell(progress: object) -> None:
        if made.asked():
            stop.set()

    done = await run_recipe(made.recipe, processes=2, stop=stop, tell=tell)
    assert done.progress.interrupted
    assert set(made.asked()) == made.remembered(), "calls in flight are paid for: they were waited for"
    monkeypatch.setenv("MODEL_DELAY", "0")
    assert (await run_recipe(made.recipe, processes=2)).progress.done == 12
    assert not twice(made.asked())


@pytest.fixture
def slow(made: Desk) -> Iterator[subprocess.Popen[str]]:
    process = started("run", made.recipe, "--processes", "2", cwd=made.path, env={"MODEL_DELAY": "0.4"})
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


def test_no_child_outlives_a_killed_parent(made: Desk, slow: subprocess.Popen[str]) -> None:
    until(lambda: len(children_of(slow.pid)) == 2 and made.asked())
    children = children_of(slow.pid)
    slow.send_signal(signal.SIGKILL)
    slow.wait()
    until(lambda: not any(map(alive, children)))
    told = finished(started("run", made.recipe, "--processes", "2", cwd=made.path))
    assert told.code == 0, told.err


def test_a_killed_child_is_told_and_the_same_command_goes_on(made: Desk, slow: subprocess.Popen[str]) -> None:
    until(lambda: len(children_of(slow.pid)) == 2 and made.asked())
    os.kill(children_of(slow.pid)[0], signal.SIGKILL)
    told = finished(slow)
    assert told.code == StorageError.exit_code
    assert "ended early" in told.err
    assert "start the same command again" in told.err
    assert finished(started("run", made.recipe, "--processes", "2", cwd=made.path)).code == 0


async def test_a_local_model_is_not_loaded_by_every_process(made: Desk) -> None:
    made.write(model="smollm2")
    with pytest.raises(BadInput, match=r"computes on this machine.*leave out --processes"):
        await run_recipe(made.recipe, processes=2)


async def test_no_processes_walk_nothing(made: Desk) -> None:
    with pytest.raises(BadInput, match="give 1 or more"):
        await run_recipe(made.recipe, processes=0)
