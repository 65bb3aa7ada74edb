"""Steering a run that walks: what `control.json` says is done, what it says wrongly is told, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, Solon, data_of, desk, finished, started
from wire import Answer, Wire, chat

from solon.calls import Call, Reply
from solon.cast import Cast, Player
from solon.commands import run_recipe
from solon.commands.status import status_of, steer_run
from solon.errors import BadInput, StorageError
from solon.pipelines.control import Control, steer
from solon.pipelines.standing import Standing, read_standing


class Pace:
    """What a pace lets itself be told, written down."""

    def __init__(self, name: str = "openai:tiny") -> None:
        self.name = name
        self.in_flight = 0
        self.told: list[Any] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def tune(self, *, concurrency: int | None = None, rpm: float | None = None) -> None:
        self.told.append({"concurrency": concurrency} if rpm is None else {"rpm": rpm})


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def pace() -> Pace:
    return Pace()


@pytest.fixture
def control(tmp_path: Path, pace: Pace) -> Control:
    return Control(tmp_path, [pace])


def write(folder: Path, page: object) -> None:
    (folder / "control.json").write_text(page if isinstance(page, str) else json.dumps(page))


# -- what is done --------------------------------------------------------------------------------------------


def test_without_a_file_nothing_is_done(control: Control, pace: Pace) -> None:
    assert control.poll() == []
    assert pace.told == []


def test_a_pause_and_a_resume_reach_every_pace_once(tmp_path: Path, control: Control, pace: Pace) -> None:
    steer(tmp_path, paused=True)
    (line,) = control.poll()
    assert line.startswith("paused: calls in flight are finished")
    assert control.poll() == [] and control.paused
    steer(tmp_path, paused=True)
    assert control.poll() == []
    steer(tmp_path, paused=False)
    assert control.poll() == ["resumed"]
    assert pace.told == ["pause", "resume"] and not control.paused


def test_a_new_ceiling_and_a_new_rate_reach_the_pace(tmp_path: Path, control: Control, pace: Pace) -> None:
    steer(tmp_path, concurrency=32, rpm=500)
    assert control.poll() == ["openai:tiny: at most 32 calls in flight, at most 500 requests a minute"]
    steer(tmp_path, rpm=0)
    assert control.poll() == ["openai:tiny: no stated requests a minute"]
    assert pace.told == [{"concurrency": 32}, {"rpm": 500}, {"rpm": 0}]


def test_one_model_alone_is_tuned_by_its_name(tmp_path: Path) -> None:
    tiny, large = Pace("openai:tiny"), Pace("openai:large")
    control = Control(tmp_path, [tiny, large])
    steer(tmp_path, concurrency=8, model="openai:large")
    assert control.poll() == ["openai:large: at most 8 calls in flight"]
    assert tiny.told == []
    steer(tmp_path, concurrency=4)  # all of them, in place of what was said of one
    control.poll()
    assert (tiny.told, large.told) == ([{"concurrency": 4}], [{"concurrency": 8}, {"concurrency": 4}])


def test_two_servers_of_one_name_are_both_tuned(tmp_path: Path) -> None:
    twins = [Pace(), Pace()]
    control = Control(tmp_path, twins)
    steer(tmp_path, concurrency=8)
    control.poll()
    assert [twin.told for twin in twins] == [[{"concurrency": 8}]] * 2


def test_what_was_said_before_still_holds_after_another_word(tmp_path: Path, control: Control, pace: Pace) -> None:
    """A pause that follows a tuning before the run has looked takes nothing back."""
    steer(tmp_path, concurrency=8)
    steer(tmp_path, paused=True)
    assert len(control.poll()) == 2
    assert pace.told == [{"concurrency": 8}, "pause"]


def test_a_run_that_asks_no_server_says_that_it_has_no_pace_to_change(tmp_path: Path) -> None:
    control = Control(tmp_path, [])
    steer(tmp_path, concurrency=8)
    assert control.poll() == ["no server is asked here, so there is no pace to change"]
    steer(tmp_path, paused=True)
    control.poll()
    assert control.paused


def test_a_file_that_steered_an_earlier_walk_is_gone_when_the_next_begins(tmp_path: Path, pace: Pace) -> None:
    steer(tmp_path, paused=True)
    control = Control(tmp_path, [pace])
    assert control.poll() == [] and not control.paused
    assert not (tmp_path / "control.json").exists()


def test_a_signal_toggles_what_the_file_says(tmp_path: Path, control: Control) -> None:
    assert control.toggle()[0].startswith("paused")
    steer(tmp_path, concurrency=2)  # another word: the pause stays
    control.poll()
    assert control.paused
    assert control.toggle() == ["resumed"]


async def test_nobody_is_asked_through_the_gate_while_it_is_shut(tmp_path: Path) -> None:
    asked: list[Call] = []

    async def ask(call: Call) -> Reply:
        asked.append(call)
        return Reply("yes")

    player = Player("judge", ask, "m", "m")
    control = Control(tmp_path, [])
    ask_through = control.gated(Cast(player, player, player, player)).judge.ask
    control.toggle()
    waiting = asyncio.ensure_future(ask_through(Call("m", ())))
    for _ in range(5):
        await asyncio.sleep(0)
    assert asked == []
    control.toggle()
    assert (await waiting).text == "yes"
    assert len(asked) == 1


# -- what is wrong -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("{", "no JSON: '{'"),
        ([1], "no JSON object"),
        ({"puased": True}, "unknown key 'puased'; did you mean 'paused'?"),
        ({"paused": 1}, "paused is true or false, not 1"),
        ({"concurrency": 0}, "concurrency is a whole number of at least 1, not 0"),
        ({"concurrency": True}, "concurrency is a whole number of at least 1, not True"),
        ({"rpm": -1}, "rpm is a whole number of at least 0, not -1"),
        ({"rpm": "many"}, "rpm is a whole number of at least 0, not 'many'"),
        ({"models": []}, "models is an object by model, not []"),
        ({"models": {"openai:tony": {}}}, "no model 'openai:tony' is asked here; did you mean 'openai:tiny'?"),
        ({"models": {"": {"rpm": 1}}}, "no model '' is asked here"),
        ({"models": {"openai:tiny": 8}}, "models: 'openai:tiny' has an object, not 8"),
        ({"models": {"openai:tiny": {"paused": True}}}, "unknown key 'paused'"),
    ],
)
def test_a_wrong_page_is_told_in_a_line_and_changes_nothing(
    tmp_path: Path, control: Control, pace: Pace, page: object, told: str
) -> None:
    write(tmp_path, page)
    (line,) = control.poll()
    assert line.startswith(f"control.json: {told}")
    assert line.endswith("; nothing was changed")
    assert pace.told == [] and control.poll() == []


@pytest.mark.parametrize("page", ["{", "[]", '{"models": 3}', '{"models": {"m": 3}}'])
def test_a_broken_page_does_not_keep_the_next_word_from_being_said(tmp_path: Path, page: str) -> None:
    control = Control(tmp_path, [])
    write(tmp_path, page)
    steer(tmp_path, paused=True)
    control.poll()
    assert control.paused


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"control\.json: cannot be written"):
        steer(tmp_path / "gone", paused=True)


# -- a run of its own ----------------------------------------------------------------------------------------


def until(reached: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what `reached` returns once that is true."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < end, "too slow"
        time.sleep(0.02)
    return found


def stands(made: Desk) -> Standing | None:
    return read_standing(made.latest) if made.latest.is_dir() else None


def test_a_run_is_paused_looked_at_and_resumed_from_another_shell(
    tmp_path: Path, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    made, whole = desk(tmp_path / "desk", prompts=12, window=4), desk(tmp_path / "whole", prompts=12, window=4)
    process = started("run", made.recipe, "--progress", "plain", cwd=made.path, env={"MODEL_DELAY": "0.15"})
    until(lambda: len(made.asked()) > 8)
    monkeypatch.chdir(made.path)
    told = solon("pause")
    assert (told.code, told.out.startswith("paused: calls in flight are finished")) == (0, True)
    until(lambda: len(made.remembered()) == len(made.asked()))  # those in flight are finished and written down
    asked = len(made.asked())
    assert "paused, process" in solon("status").out
    assert len(made.asked()) == asked < 60
    assert solon("pause").out == "paused already\n"
    assert solon("resume").out == "resumed\n"
    assert solon("resume").out == "not paused\n"
    ended = finished(process)
    assert ended.code == 0
    assert [line.split(" ", 1)[1] for line in ended.err.splitlines()[1:3]] == [told.out.strip(), "resumed"]
    assert solon("run", whole.recipe, "-q").code == 0
    assert data_of(made.latest) == data_of(whole.latest)
    assert sorted(made.asked()) == sorted(whole.asked())


def test_a_signal_pauses_a_run_and_a_second_one_resumes_it(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=8, window=4)
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.1"})
    until(lambda: len(made.asked()) > 4)
    process.send_signal(signal.SIGUSR1)
    until(lambda: (now := stands(made)) and now.state == "paused")
    process.send_signal(signal.SIGUSR1)
    assert finished(process).code == 0
    now = stands(made)
    assert now is not None
    assert [event.line.split(":")[0] for event in now.events] == ["paused", "resumed"]


def test_ctrl_c_ends_a_paused_run_at_once_and_keeps_what_is_finished(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=8, window=4)
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.1"})
    until(lambda: len(made.asked()) > 4)
    process.send_signal(signal.SIGUSR1)
    until(lambda: (now := stands(made)) and now.state == "paused" and len(made.remembered()) == len(made.asked()))
    process.send_signal(signal.SIGINT)
    assert finished(process, timeout=15).code == 130  # not after the grace of calls in flight: there are none
    assert len(made.remembered()) == len(made.asked())


async def test_a_server_is_paused_and_tuned_while_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-secret")
    monkeypatch.setattr("solon.commands.standing.WRITE_SECONDS", 0.1)
    monkeypatch.setattr("solon.commands.standing.TICK_SECONDS", 0.1)
    async with Wire(Answer(chat("Words."), delay=0.05)) as wire:
        model = {"use": "openai:tiny", "base_url": f"{wire.url}/v1", "concurrency": 2, "key_env": "TINY_KEY"}
        made = desk(tmp_path / "desk", prompts=40, model=model, judging={"verdict": "parsed"})
        running = asyncio.create_task(run_recipe(made.recipe))

        async def standing(so: Callable[[Standing], Any]) -> Standing:
            while not ((now := stands(made)) and so(now)):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
            return now

        (server,) = (await standing(lambda now: now.calls.asked)).servers
        assert (server.model, server.ceiling, server.state) == ("openai:tiny", 2, "open")
        assert await steer_run(made.latest, paused=True)
        now = await standing(lambda now: now.state == "paused" and not now.servers[0].in_flight)
        assert (now.servers[0].state, now.eta) == ("paused", None)
        asked = len(wire.requests)
        told = await steer_run(made.latest, concurrency=9, rpm=100_000)
        assert told == ("openai:tiny: at most 9 calls in flight, at most 100,000 requests a minute",)
        with pytest.raises(BadInput, match="asks no such model; did you mean 'openai:tiny'"):
            await steer_run(made.latest, concurrency=9, model="openai:tny")
        assert len(wire.requests) == asked
        assert await steer_run(made.latest, paused=False) == ("resumed",)
        assert (await running).progress.done == 40
    last = stands(made)
    assert last is not None and last.servers[0].ceiling == 9


async def test_processes_that_walk_together_are_looked_at_steered_and_paid_for_as_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-secret")
    async with Wire(Answer(chat("Words."), delay=0.05)) as wire:
        model = {
            "use": "openai:tiny", "base_url": f"{wire.url}/v1", "concurrency": 2, "key_env": "TINY_KEY",
            "price": {"input": 1_000_000, "output": 0},
        }  # fmt: skip
        made = desk(tmp_path / "desk", prompts=50, model=model, judging={"verdict": "parsed"})
        running = asyncio.create_task(run_recipe(made.recipe, processes=2))

        async def standing(so: Callable[[Standing], Any]) -> Standing:
            while not ((now := stands(made)) and so(now)):
                assert not running.done(), running.exception()
                await asyncio.sleep(0.02)
            return now

        (server,) = (await standing(lambda now: now.calls.asked and now.servers[0].in_flight)).servers
        assert (server.model, server.ceiling, server.limit) == ("openai:tiny", 2, 2)
        assert await steer_run(made.latest, paused=True)
        await standing(lambda now: now.servers[0].state == "paused" and not now.servers[0].in_flight)
        asked = len(wire.requests)
        await asyncio.sleep(0.3)
        assert len(wire.requests) == asked
        assert await steer_run(made.latest, concurrency=10, paused=False)
        await standing(lambda now: now.servers[0].ceiling == 10)
        done = await running
        assert done.progress.asked == len(wire.requests) and done.progress.done == 50
        assert done.dollars == pytest.approx(7 * len(wire.requests))  # 7 tokens a question
    last = stands(made)
    assert last is not None and last.money.spent == done.dollars


def test_nobody_can_be_steered_who_does_not_walk(tmp_path: Path, solon: Solon, monkeypatch: pytest.MonkeyPatch) -> None:
    made = desk(tmp_path / "desk", prompts=1)
    monkeypatch.chdir(made.path)
    assert solon("run", "recipe.yaml", "-q").code == 0
    for command in (["pause"], ["resume"], ["tune", "--rpm", "5"]):
        told = solon(*command)
        assert told.code == 2
        assert "nobody walks this run (done); start it with  solon run recipe.yaml" in told.err
    assert not (made.latest / "control.json").exists()
    told = solon("tune")
    assert (told.code, told.err) == (2, "solon: nothing to change: give --concurrency or --rpm\n")


def test_a_run_without_a_server_has_no_pace_to_tune(tmp_path: Path, solon: Solon) -> None:
    made = desk(tmp_path / "desk", prompts=8, window=2)
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.2"})
    until(lambda: (now := stands(made)) and now.calls.asked)
    told = solon("tune", made.latest, "--concurrency", "4")
    assert (told.code, "asks no server, so there is no pace to change" in told.err) == (2, True)
    assert status_of(made.recipe).alive
    process.send_signal(signal.SIGINT)
    assert finished(process).code == 130
