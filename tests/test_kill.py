"""Killed, interrupted, started twice: real processes, and no finished call is ever asked again."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import json
import math
import os
import random
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from aiohttp import web
from run_kit import Desk, Told, data_of, desk, finished, started, twice

SLOW = {"MODEL_DELAY": "0.2"}


def wait_for(reached: Callable[[], bool], process: subprocess.Popen[str], seconds: float = 60) -> None:
    """Wait until `reached`; fail where the process ends before."""
    until = time.monotonic() + seconds
    while not reached():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until, "too slow"
        time.sleep(0.005)


def killed(made: Desk, asked: Callable[[], list[str]], more: int, env: dict[str, str]) -> tuple[list[str], set[str]]:
    """Start a run, kill -9 it after `more` calls were asked; return all asked by then and what is finished."""
    before = len(asked())
    process = started("run", made.recipe, "-q", cwd=made.path, env=env)
    wait_for(lambda: len(asked()) >= before + more, process)
    process.kill()
    process.wait()
    process.communicate()
    return asked(), made.remembered()


def run(made: Desk, *options: str, env: dict[str, str] | None = None) -> Told:
    return finished(started("run", made.recipe, *options, cwd=made.path, env=env))


def survives_three_kills(
    made: Desk, asked: Callable[[], list[str]], seed: int, env: dict[str, str], *, flying: int
) -> None:
    """Kill a run three times at moments that dice choose, finish it, and look for calls asked twice."""
    dice = random.Random(seed)
    kills = [killed(made, asked, dice.randint(1, 9), env) for _ in range(3)]
    assert run(made, "-q", env={**env, "MODEL_DELAY": "0"}).code == 0
    everything = asked()
    for asked_then, finished_then in kills:
        later = everything[len(asked_then) :]
        assert not set(later) & finished_then, "a finished call was asked again"
        assert len(set(asked_then) - finished_then) <= flying
    assert made.remembered() == set(everything)
    assert len(everything) - len(set(everything)) <= 3 * flying


def test_a_run_killed_three_times_ends_as_an_unbroken_one_does(tmp_path: Path) -> None:
    """The same bytes in every data file, and a call is asked twice only if it was in flight at a kill."""
    made = desk(tmp_path / "killed", prompts=8, window=3)
    survives_three_kills(made, made.asked, 1, SLOW, flying=6)
    unbroken = desk(tmp_path / "unbroken", prompts=8)
    assert run(unbroken, "-q").code == 0
    assert twice(unbroken.asked()) == set()
    assert data_of(made.latest) == data_of(unbroken.latest) != {}


def test_killed_from_its_first_instant_to_its_export_it_ends_as_an_unbroken_one_does(tmp_path: Path) -> None:
    """While it starts, plans, walks and exports: wherever the kill falls, the same command goes on."""
    made = desk(tmp_path / "killed", prompts=40)
    for tenths in range(2, 13, 2):
        process = started("run", made.recipe, "-q", cwd=made.path)
        with suppress(subprocess.TimeoutExpired):  # the last ones may be too late: that run is done
            process.wait(tenths / 10)
        process.kill()
        process.communicate()
    # once more at the moment when the last call is remembered, and the export begins
    made.write(export={"test_fraction": 0.5})
    process = started("run", made.recipe, "-q", "--refresh", cwd=made.path)
    before = len(made.asked())
    wait_for(lambda: len(made.asked()) == before + 40 * 5, process)
    process.kill()
    process.communicate()
    assert run(made, "-q").code == 0
    unbroken = desk(tmp_path / "unbroken", prompts=40, export={"test_fraction": 0.5})
    assert run(unbroken, "-q").code == 0
    assert data_of(made.latest) == data_of(unbroken.latest) != {}
    assert [path.name for path in (made.path / "runs").iterdir() if path.name.startswith(".planning")] == []


# -- the same over HTTP --------------------------------------------------------------------------------------


class Echo:
    """An OpenAI-compatible server whose answers hang on the whole request; it notes what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.delay = 0.0
        self.url = ""
        self._ready = threading.Event()

    def __enter__(self) -> Echo:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(30)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._answer)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
        self._ready.set()
        await self._over.wait()
        await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
        self.asked.append(digest)
        assert body.get("temperature") in (0.0, None)
        await asyncio.sleep(self.delay * (1 + int(digest[-1], 16)) / 16)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": f"Words {digest}."}}
        if body.get("logprobs"):
            p = (1 + int(digest[:4], 16)) / 0x10001
            tops = [{"token": "A", "logprob": math.log(p)}, {"token": "B", "logprob": math.log(1 - p)}]
            choice["logprobs"] = {"content": [{**tops[0], "top_logprobs": tops}]}
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        told = {"id": "c", "object": "chat.completion", "created": 1, "model": "echo", "choices": [choice]}
        return web.json_response({**told, "usage": usage})


@pytest.fixture
def echo() -> Iterator[Echo]:
    with Echo() as server:
        yield server


def test_the_same_over_http_at_temperature_nought(tmp_path: Path, echo: Echo) -> None:
    cast = {"everyone": {"temperature": 0.0}}
    model = {"use": "openai:echo", "base_url": echo.url}
    made = desk(tmp_path / "killed", prompts=6, window=3, model=model, cast=cast)
    # what the judge can do is asked once, and recorded
    assert finished(started("plan", made.recipe, cwd=made.path)).code == 0
    assert len(echo.asked) == 1
    probe = echo.asked.pop()
    echo.delay = 0.1
    dice = random.Random(3)
    for _ in range(3):
        killed(made, lambda: list(echo.asked), dice.randint(1, 8), {})
        time.sleep(0.15)  # calls of the dead process reach their end
    echo.delay = 0.0
    assert run(made, "-q").code == 0
    assert probe not in echo.asked
    asked_in_all, keys = len(echo.asked), len(made.remembered())
    assert keys == len(set(echo.asked)) == 30
    assert asked_in_all - keys <= 3 * 6
    unbroken = desk(tmp_path / "unbroken", prompts=6, model=model, cast=cast)
    assert run(unbroken, "-q").code == 0
    assert data_of(made.latest) == data_of(unbroken.latest) != {}


# -- Ctrl-C --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_an_interrupt_ends_cleanly_says_how_to_go_on_and_loses_no_call(tmp_path: Path, number: signal.Signals) -> None:
    made = desk(tmp_path, window=2)
    process = started("run", made.recipe, cwd=made.path, env={"MODEL_DELAY": "0.4"})
    wait_for(lambda: len(made.asked()) >= 3, process)
    process.send_signal(number)
    told = finished(process)
    assert told.code == 130
    last = told.err.splitlines()[-1]
    assert last == f"interrupted: what is finished is kept; go on with  solon run {made.recipe}"
    assert told.err.count("stopping:") == 1
    assert "unfinished" in told.out
    # calls in flight were waited for: they are paid for
    assert set(made.asked()) == made.remembered()
    assert not (made.latest / "dataset").exists()
    assert run(made, "-q").code == 0
    assert twice(made.asked()) == set()


def test_a_second_interrupt_leaves_at_once(tmp_path: Path) -> None:
    made = desk(tmp_path, window=2)
    process = started("run", made.recipe, cwd=made.path, env={"MODEL_DELAY": "60"})
    wait_for(lambda: len(made.asked()) >= 2, process)
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    while "stopping" not in process.stderr.readline():
        pass
    process.send_signal(signal.SIGINT)
    assert process.wait(10) == 130
    process.communicate()
    assert run(made, "-q").code == 0


def test_an_interrupt_while_planning_leaves_nothing_behind(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=200_000)
    process = started("run", made.recipe, cwd=made.path)
    wait_for(lambda: any((made.path / "runs").glob(".planning-*")), process)
    process.send_signal(signal.SIGINT)
    told = finished(process)
    assert told.code == 130
    assert told.err.splitlines()[-1].startswith("interrupted before anything was asked")
    assert list((made.path / "runs").iterdir()) == []
    assert made.asked() == []


def test_an_interrupted_plan_ends_without_a_traceback(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=200_000)
    process = started("plan", made.recipe, cwd=made.path)
    wait_for(lambda: any((made.path / "runs").glob(".planning-*")), process)
    process.send_signal(signal.SIGINT)
    told = finished(process)
    assert told.code == 130
    assert told.err == "solon: interrupted; what is finished is kept, start again to go on\n"


# -- two at once ---------------------------------------------------------------------------------------------


def test_a_second_run_of_one_folder_is_told_who_walks_it(tmp_path: Path) -> None:
    made = desk(tmp_path, window=1)
    first = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.3"})
    wait_for(lambda: len(made.asked()) >= 1, first)
    second = run(made)
    assert second.code == 5
    folder = made.path / "runs" / made.latest.name
    told = f"solon: {folder}: process {first.pid} walks this run; wait for its end, or stop it\n"
    assert second.err == told
    # looking and planning are not refused
    assert finished(started("show", "0", cwd=made.path)).code == 0
    assert finished(started("plan", made.recipe, cwd=made.path)).code == 0
    assert finished(first).code == 0


def test_the_lock_of_a_killed_process_blocks_nobody(tmp_path: Path) -> None:
    made = desk(tmp_path, window=1)
    killed(made, made.asked, 2, SLOW)
    with (made.latest / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nobody holds it
        assert re.fullmatch(r"\d+", lock.read())
    assert run(made, "-q").code == 0


def test_two_recipes_share_one_ledger_at_the_same_time_and_ask_each_question_once(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=6, window=2)
    other = made.path / "other.yaml"
    other.write_text(made.recipe.read_text() + "export: {test_fraction: 0.0}\n")
    both = [started("run", recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.05"}) for recipe in (made.recipe, other)]
    assert [finished(process).code for process in both] == [0, 0]
    assert len(list((made.path / "runs").glob("*-*"))) == 2
    assert twice(made.asked()) == set()


def test_what_a_pipe_does_not_want_is_no_mistake(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=40)
    assert run(made, "-q").code == 0
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(
        ["python", "-m", "solon", "pairs", "-n", "40"], cwd=made.path, stdout=writer, stderr=subprocess.PIPE, text=True
    )
    os.close(writer)
    _, err = process.communicate(timeout=60)
    assert "Traceback" not in err
    assert "Exception ignored" not in err
