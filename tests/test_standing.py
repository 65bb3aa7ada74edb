"""Where a run stands: while it walks, from another shell, and after every way to end; and nothing of it is made up."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, Solon, desk, finished, started
from wire import Answer, Wire, chat, error

from solon.calls import Usage
from solon.commands import run_recipe
from solon.commands.standing import server_of
from solon.commands.status import find_run, status_of
from solon.errors import Halt, StorageError
from solon.models.pace import PaceFacts
from solon.pipelines.standing import (
    Batches,
    Calls,
    Event,
    Money,
    Pulse,
    Rows,
    Server,
    Standing,
    read_standing,
    write_standing,
)

PROMPT = "How do I do thing number"
ANSWER = "Words "


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk in the current folder."""
    folder = desk(tmp_path / "desk")
    monkeypatch.chdir(folder.path)
    return folder


def standing(**given: Any) -> Standing:
    said = {"run": "r-1", "recipe": "r", "pid": os.getpid(), "host": socket.gethostname()}
    return Standing(**{**said, "started": 1.0, "updated": time.time(), **given})


def until(reached: Callable[[], Any], seconds: float = 30) -> Any:
    """Return what `reached` returns once that is true."""
    end = time.monotonic() + seconds
    while not (found := reached()):
        assert time.monotonic() < end, "too slow"
        time.sleep(0.02)
    return found


# -- the object ----------------------------------------------------------------------------------------------

FULL = standing(
    state="paused",
    line="why",
    rows=Rows(10, 8, 4, 1, 3, {"tie": 1}, 2),
    calls=Calls(40, 5, 1, 2.5, 2.0, {"good": 39, "cut": 1}),
    tokens=Usage(100, 50, 10, 20),
    money=Money(1.5, 0.5, 0.01, 0.02, "25 USD", "23.49 USD", 4.0),
    servers=(Server("openai:tiny", "openai tiny", 3, 9, 4, 8, 100.0, 2000.0, 0.97, "600 requests a minute", 2),),
    batches=Batches(5, 20, 1, 30.0),
    eta=12.5,
    events=(Event(1, 3.0, "paused"),),
)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    for one in (FULL, standing()):
        assert Standing.from_json(one.to_json()) == one
        write_standing(tmp_path, one)
        assert read_standing(tmp_path) == one
    assert [file.name for file in tmp_path.iterdir()] == ["status.json"]


def test_the_names_of_the_json_stay_what_they_are() -> None:
    """Others read them: a name may be added here, none may go."""
    page = json.loads(FULL.to_json())
    names = {
        "": "format run recipe pid host started updated seconds state line rows calls tokens money servers batches eta "
        "events",
        "rows": "planned total done begun_with pairs aside not_known",
        "calls": "asked known failed rate mean_rate answers",
        "tokens": "input output thinking cached",
        "money": "spent saved lost reserved budget left projected",
        "batches": "parked in_jobs jobs next_poll",
    }
    for key, said in names.items():
        assert set(said.split()) <= set(page[key] if key else page), key
    server = (
        "model server in_flight waiting limit ceiling requests_per_minute tokens_per_minute share share_of throttled"
    )
    assert set(f"{server} state since".split()) <= set(page["servers"][0])
    assert set(page["events"][0]) == {"number", "at", "line"}
    assert page["format"] == 1


def test_names_of_a_newer_solon_are_passed_over_and_missing_ones_are_unknown() -> None:
    page = json.loads(FULL.to_json())
    page["weather"] = "fine"
    page["rows"]["wet"] = 3
    page["servers"][0]["mood"] = "good"
    assert Standing.from_json(json.dumps(page)) == FULL
    for name in ("rows", "calls", "tokens", "money", "servers", "batches", "eta", "events", "format"):
        del page[name]
    assert Standing.from_json(json.dumps(page)).eta is None


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "{}", '{"state": "gone"}', '{"state": "done"}'])
def test_what_is_no_standing_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(ValueError):
        Standing.from_json(text)
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(StorageError, match=r"status\.json: cannot be read .* delete it"):
        read_standing(tmp_path)


# -- the pulse -----------------------------------------------------------------------------------------------


class Watch:
    """A clock that tests turn."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def watch() -> Watch:
    return Watch()


def beating(watch: Watch, seconds: int, *, calls: float, rows: float, under_way: int = 1, pulse: Pulse) -> None:
    """Beat once a second; `calls` and `rows` a second go on from where the pulse is."""
    _, asked, walked = pulse._now if pulse._first else (0.0, 0, 0)
    for second in range(1, seconds + 1):
        watch.now += 1
        pulse.beat(round(asked + second * calls), round(walked + second * rows), under_way)


def test_the_rate_is_that_of_the_last_ten_seconds(watch: Watch) -> None:
    pulse = Pulse(clock=watch)
    assert pulse.rate() == 0
    pulse.beat(0, 0)
    assert pulse.rate() == 0
    beating(watch, 100, calls=50, rows=1, pulse=pulse)
    assert pulse.rate() == pytest.approx(50)
    beating(watch, 5, calls=0, rows=0, pulse=pulse)
    assert pulse.rate() == pytest.approx(25)
    beating(watch, 5, calls=0, rows=0, pulse=pulse)
    assert pulse.rate() == 0


def test_the_time_left_is_unknown_until_as_many_rows_ended_as_are_walked_at_once(watch: Watch) -> None:
    """The first of a window to end say nothing about how many end a second."""
    pulse = Pulse(clock=watch)
    assert pulse.seconds_left(10) is None
    pulse.beat(0, 0, 64)
    beating(watch, 9, calls=60, rows=7, under_way=64, pulse=pulse)
    assert pulse.seconds_left(1000) is None
    beating(watch, 1, calls=60, rows=7, under_way=64, pulse=pulse)
    assert pulse.seconds_left(1000) == pytest.approx(1000 / 7)
    assert pulse.seconds_left(0) == 0


def test_of_a_few_rows_that_are_all_under_way_half_must_have_ended(watch: Watch) -> None:
    pulse = Pulse(clock=watch)
    pulse.beat(0, 0, 4)
    watch.now += 2
    pulse.beat(5, 1, 3)
    assert pulse.seconds_left(3) is None
    pulse.beat(10, 2, 2)
    assert pulse.seconds_left(2) == pytest.approx(2)


def test_the_time_left_goes_by_the_last_minute_where_the_pace_changed(watch: Watch) -> None:
    pulse = Pulse(clock=watch)
    pulse.beat(0, 0)
    beating(watch, 120, calls=0, rows=100, pulse=pulse)  # known rows
    beating(watch, 30, calls=5, rows=1, pulse=pulse)
    assert pulse.seconds_left(60) is not None
    beating(watch, 40, calls=5, rows=1, pulse=pulse)
    assert pulse.seconds_left(60) == pytest.approx(60)


def test_rows_that_take_minutes_are_told_from_ten_of_them(watch: Watch) -> None:
    pulse = Pulse(clock=watch)
    pulse.beat(0, 0)
    beating(watch, 590, calls=1, rows=1 / 30, pulse=pulse)
    assert pulse.seconds_left(10) == pytest.approx(300, rel=0.1)


def test_after_a_pause_what_was_before_counts_no_more(watch: Watch) -> None:
    pulse = Pulse(clock=watch)
    pulse.beat(0, 0)
    beating(watch, 70, calls=10, rows=2, pulse=pulse)
    pulse.forget()
    assert (pulse.rate(), pulse.seconds_left(10)) == (0, None)
    watch.now += 500
    pulse.beat(700, 140)
    beating(watch, 20, calls=10, rows=2, pulse=pulse)
    assert pulse.seconds_left(10) == pytest.approx(5)


# -- how a run ends ------------------------------------------------------------------------------------------


async def test_a_run_that_is_done_says_so_with_its_figures(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    status = status_of(made.latest)
    told = status.standing
    assert told is not None
    assert (told.state, told.line, told.rows.done, told.rows.total, told.rows.pairs) == ("done", "", 4, 4, 4)
    assert (told.calls.asked, told.calls.answers) == (20, {"good": 12}), "8 were votes by log-probabilities"
    assert told.tokens == done.progress.usage
    assert told.money.spent == 0
    assert (status.alive, status.go_on, status.failed) == (False, "", 0)
    again = await run_recipe(made.recipe)
    assert again.progress.asked == 0
    told = status_of(made.latest).standing
    assert told is not None
    assert (told.rows.begun_with, told.rows.pairs, told.calls.asked) == (4, 4, 0)


async def test_where_a_run_stands_adds_what_earlier_walks_set_aside(made: Desk) -> None:
    script = (
        'async def answer(call):\n    return "" if "number 2" in str(call.messages) else "Words."\nLOGPROBS = True\n'
    )
    (made.path / "model.py").write_text(script)
    made.write(judging={"verdict": "parsed"})
    await run_recipe(made.recipe, limit=3)
    seen: list[Standing] = []
    await run_recipe(made.recipe, watch=seen.append)
    assert seen[-1].rows.aside == {"unchanged": 3, "empty_answer": 1}
    assert seen[-1].calls.answers.keys() == {"good"}


async def test_an_interrupted_run_says_what_is_left_and_how_to_go_on(made: Desk) -> None:
    made.write(window=1)
    stop = asyncio.Event()
    await run_recipe(made.recipe, stop=stop, tell=lambda progress: stop.set() if progress.done == 1 else None)
    status = status_of(made.recipe)
    assert status.standing is not None
    assert status.standing.state == "interrupted"
    assert status.standing.rows.left == 4 - status.rows.done > 0
    assert status.go_on == "solon run recipe.yaml"


async def test_a_run_of_the_first_rows_goes_on_with_its_limit(made: Desk) -> None:
    made.write(window=1)
    stop = asyncio.Event()
    await run_recipe(made.recipe, stop=stop, limit=3, tell=lambda progress: stop.set() if progress.done == 1 else None)
    assert status_of(made.recipe).go_on == "solon run recipe.yaml --limit 3"


async def test_a_halted_run_says_why(made: Desk) -> None:
    async with Wire(Answer(error("Incorrect API key provided: sk-secret", code="invalid_api_key"), 401)) as wire:
        made.write(model={"use": "openai:tiny", "base_url": f"{wire.url}/v1"}, judging={"verdict": "parsed"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("OPENAI_API_KEY", "sk-secret")
            patch.setenv("OPENAI_BASE_URL", f"{wire.url}/v1")
            with pytest.raises(Halt) as halt:
                await run_recipe(made.recipe)
    told = status_of(made.recipe).standing
    assert told is not None
    assert (told.state, told.line) == ("halted", str(halt.value))
    assert "sk-secret" not in (made.latest / "status.json").read_text()


async def test_a_run_whose_budget_is_used_up_says_so(made: Desk) -> None:
    made.write(budget="7 calls")
    await run_recipe(made.recipe)
    status = status_of(made.recipe)
    told = status.standing
    assert told is not None
    assert (told.state, told.calls.asked, told.money.budget) == ("over_budget", 7, "7 calls")
    assert told.line and status.go_on == "solon run recipe.yaml"


def test_a_killed_run_is_told_from_one_that_walks(made: Desk, solon: Solon) -> None:
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.4"})
    until(lambda: made.latest.is_dir() and (now := read_standing(made.latest)) and now.calls.asked)
    status = status_of(made.recipe)
    assert status.alive and status.standing and status.standing.pid == process.pid and status.go_on == ""
    assert f"walking, process {process.pid}, begun 20" in solon("status").out
    process.kill()
    process.communicate()
    status = status_of(made.recipe)
    assert status.standing is not None
    assert (status.alive, status.standing.state, status.go_on) == (False, "killed", "solon run recipe.yaml")
    told = solon("status").out
    assert f"killed: process {process.pid} is gone, and was last heard of" in told
    assert "go on   solon run recipe.yaml" in told


def test_rows_of_a_run_that_is_over_are_read_from_its_rows(made: Desk, solon: Solon) -> None:
    """A kill may come between a finished row and the next note of where the run stands."""
    assert solon("run", "recipe.yaml", "-q").code == 0
    old = read_standing(made.latest)
    assert old is not None
    write_standing(made.latest, replace(old, state="walking", pid=2**22 + 1, rows=Rows(4, 4, 1, 0, 1)))
    told = status_of(made.latest).standing
    assert told is not None
    assert (told.state, told.rows.done, told.rows.pairs, told.rows.left) == ("killed", 4, 4, 0)


def test_a_process_that_writes_nothing_is_told_and_so_is_another_machine(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    old = read_standing(made.latest)
    assert old is not None
    walking = replace(old, state="walking", pid=os.getpid(), updated=time.time() - 100)
    write_standing(made.latest, walking)
    assert "it wrote nothing for 1 min 40 s: does it hang?" in solon("status").out
    write_standing(made.latest, replace(walking, host="elsewhere", updated=time.time()))
    assert f"process {os.getpid()} on elsewhere" in solon("status").out
    assert status_of(made.latest).alive is None


def test_a_run_without_a_status_is_told_from_its_rows(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    (made.latest / "status.json").unlink()
    told = solon("status")
    assert told.code == 0
    assert "no process has written where it stands" in told.out
    assert "4 of 4 rows" in told.out
    assert json.loads(solon("status", "--json").out)["rows"]["pairs"] == 4


# -- finding it, and the command -----------------------------------------------------------------------------


def test_a_recipe_means_its_own_last_run_whatever_runs_beside_it(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    first = made.latest
    other = made.path / "other.yaml"
    other.write_text(made.recipe.read_text() + "seed: 5\n")
    assert solon("run", "other.yaml", "-q").code == 0
    assert made.latest != first
    assert find_run(made.recipe).path == first
    assert find_run(other).path == find_run(Path("runs/latest")).path == made.latest
    made.write(seed=7)
    assert solon("run", "recipe.yaml", "-q").code == 0
    assert find_run(made.recipe).path == made.latest


@pytest.mark.parametrize(
    ("place", "told"),
    [("runs/latest", "no such run folder"), ("recipe.yaml", "no run of it in runs yet; start one with  solon run")],
)
def test_a_run_that_is_not_there_ends_in_one_line(made: Desk, solon: Solon, place: str, told: str) -> None:
    for command in (["status"], ["pause"], ["resume"], ["tune", "--rpm", "1"]):
        said = solon(*command, place)
        assert (said.code, said.err.count("\n")) == (4, 1)
        assert told in said.err


def test_status_in_json_has_every_fact_on_one_line(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    told = solon("status", "--json").out
    page = json.loads(told)
    assert told.count("\n") == 1
    assert (page["state"], page["alive"], page["rows"]["done"], page["go_on"]) == ("done", False, 4, "")
    assert page["folder"] == str(made.latest)


def test_following_ends_when_the_run_does(made: Desk) -> None:
    made.write(window=1)
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.25"})
    until(lambda: made.latest.is_dir() and read_standing(made.latest))
    following = started("status", "--follow", "--json", cwd=made.path)
    plain = started("status", "-f", cwd=made.path)
    assert finished(process).code == 0
    lines = [json.loads(line) for line in finished(following).out.splitlines()]
    assert [line["state"] for line in lines][-1] == "done" and lines[0]["alive"]
    assert len({line["updated"] for line in lines}) == len(lines)
    told = finished(plain).out
    assert "rows, " in told.splitlines()[0] and "state   done" in told


def test_looking_at_a_run_ends_with_ctrl_c_and_the_run_goes_on(made: Desk) -> None:
    made.write(window=2)
    process = started("run", made.recipe, "-q", cwd=made.path, env={"MODEL_DELAY": "0.3"})
    until(lambda: made.latest.is_dir() and read_standing(made.latest))
    following = started("status", "--follow", "--json", cwd=made.path)
    assert following.stdout is not None
    following.stdout.readline()
    following.send_signal(signal.SIGINT)
    assert finished(following).code == 130
    assert finished(process).code == 0


# -- what must not be ----------------------------------------------------------------------------------------


async def test_a_standing_that_cannot_be_written_is_said_once_and_ends_no_run(
    made: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solon.commands.standing.WRITE_SECONDS", 0.0)
    monkeypatch.setattr("solon.commands.standing.TICK_SECONDS", 0.01)
    monkeypatch.setenv("MODEL_DELAY", "0.05")
    await run_recipe(made.recipe, limit=1)
    (made.latest / "status.json").unlink()
    (made.latest / "status.json").mkdir()
    seen: list[Standing] = []
    done = await run_recipe(made.recipe, watch=seen.append)
    assert done.pairs == 4
    (event,) = seen[-1].events
    assert event.line.startswith("cannot be written down just now: ")


def test_no_key_and_no_text_stands_in_what_tells_of_a_run(made: Desk, solon: Solon) -> None:
    """Standing, notes and JSON lines hold figures, names and reasons alone."""
    told = solon("run", "recipe.yaml", "--progress", "json")
    assert told.code == 0
    said = [told.err, solon("status", "--json").out, solon("status").out]
    said += [(made.latest / name).read_text() for name in ("status.json", "walks.jsonl")]
    for text in said:
        assert PROMPT not in text and ANSWER not in text and "plain words" not in text
        assert "sk-" not in text


async def test_no_answer_of_a_server_stands_there_either(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TINY_KEY", "sk-secret-key")
    seen: list[Standing] = []
    async with Wire(Answer(chat("A very private answer.", finish="content_filter")), Answer("A broken body")) as wire:
        server = {"use": "openai:tiny", "base_url": f"{wire.url}/v1", "key_env": "TINY_KEY", "patience": 1}
        made.write(model=server, judging={"verdict": "parsed"})
        await run_recipe(made.recipe, watch=seen.append)
    text = seen[-1].to_json() + (made.latest / "walks.jsonl").read_text()
    assert seen[-1].rows.set_aside == 4
    for secret in ("private answer", "broken body", "sk-secret-key", PROMPT):
        assert secret not in text


# -- servers -------------------------------------------------------------------------------------------------


def facts(**given: Any) -> PaceFacts:
    said: dict[str, Any] = {
        "name": "openai:tiny", "server": "tiny at home", "in_flight": 8, "waiting": 2, "limit": 16, "ceiling": 64,
        "requests_per_minute": 0.0, "tokens_per_minute": 0.0, "requests_limit": None, "tokens_limit": None,
        "used_share": None, "used_of": "", "throttled": 0, "state": "open", "since": 3.0,
    }  # fmt: skip
    return PaceFacts(**{**said, **given})


def test_without_a_known_limit_the_share_is_that_of_the_calls_it_takes_at_once() -> None:
    server = server_of(facts())
    assert (server.model, server.in_flight, server.share, server.share_of) == ("openai:tiny", 8, 0.5, "")


@pytest.mark.parametrize("what", ["requests", "tokens"])
def test_in_its_first_minute_a_server_at_its_limit_is_at_all_of_it(what: str) -> None:
    """Ten seconds at 100 a second are a sixth of a minute's 6,000, and all that could be had."""
    used = {f"{what}_per_minute": 6000.0, f"{what}_limit": 6000.0}
    server = server_of(facts(**used, used_share=1 / 6, used_of=f"6,000 {what} a minute"))
    assert (server.share, server.share_of) == (1.0, f"6,000 {what} a minute")


def test_a_limit_on_one_side_of_the_tokens_is_told_as_the_pace_tells_it() -> None:
    server = server_of(facts(used_share=0.4, used_of="9,000 output tokens a minute", tokens_per_minute=1.0))
    assert (server.share, server.share_of) == (0.4, "9,000 output tokens a minute")


class Away:
    """A pace whose server is away for a while."""

    name, in_flight = "openai:tiny", 0

    def __init__(self) -> None:
        self.states = ["open", "told to wait", "outage", "outage", "outage", "open", "paused"]

    def facts(self) -> PaceFacts:
        return facts(state=self.states.pop(0) if len(self.states) > 1 else self.states[0])


async def test_an_outage_and_its_end_are_lines_that_stay(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    away = Away()
    monkeypatch.setattr("solon.workshop.Workshop.paces", lambda shop: [away])
    monkeypatch.setattr("solon.commands.standing.TICK_SECONDS", 0.01)
    monkeypatch.setenv("MODEL_DELAY", "0.1")
    seen: list[Standing] = []
    await run_recipe(made.recipe, watch=seen.append)
    assert [event.line for event in seen[-1].events] == ["openai:tiny: outage", "openai:tiny: answers again"]
    assert seen[-1].servers[0].state == "paused"
