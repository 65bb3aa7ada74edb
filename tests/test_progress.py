"""What a person sees of a run while it walks: a block on a terminal, lines in a log, JSON for machines, exit codes."""

from __future__ import annotations

import asyncio
import io
import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from run_kit import Desk, Solon, desk

from solon.calls import Usage
from solon.cli import walking
from solon.cli.panel import clock, duration, money_told, one_line, panel, shortened
from solon.commands import run_recipe
from solon.pipelines.standing import Batches, Calls, Event, Money, Rows, Server, Standing

FULL = Standing(
    run="colours-1f2e3d4c5b6a",
    recipe="colours",
    pid=4711,
    host="here",
    started=1000.0,
    updated=1400.0,
    seconds=400.0,
    rows=Rows(100_000, 100_000, 48_123, 0, 44_210, {"tie": 2_100, "unchanged": 900, "refused": 610}),
    calls=Calls(240_615, 12_030, 3, 131.24, 128.9, {"good": 240_000, "refused": 610, "cut": 5}),
    tokens=Usage(121_000_000, 40_200_000, 0, 32_000_000),
    money=Money(12.34, 1.5, 0.02, 0.3, "25 USD", "12.66 USD", 24.1),
    servers=(
        Server("openai:small", "", 63, 900, 64, 256, 485.0, 9e5, 0.97, "500 requests a minute", 12),
        Server("openai:large", "", 0, 40, 16, 16, 0.0, 0.0, 0.0, "", 0, "outage", 75.0),
    ),
    batches=Batches(512, 2_048, 2, 90.0),
    eta=3_900.0,
)


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk in the current folder."""
    folder = desk(tmp_path / "desk")
    monkeypatch.chdir(folder.path)
    return folder


def drawn(standing: Standing, width: int) -> list[str]:
    """Return the block's lines on a terminal of this width."""
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False, markup=False, emoji=False, highlight=False).print(
        panel(standing)
    )
    return [line.rstrip() for line in out.getvalue().splitlines()]


def changed(**given: Any) -> Standing:
    return replace(FULL, **given)


# -- the block -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [80, 120, 200])
def test_every_figure_is_there_at_every_width_and_no_line_is_wider(width: int) -> None:
    lines = drawn(FULL, width)
    assert max(map(len, lines)) <= width
    text = " ".join(" ".join(lines).split())
    for figure in (
        "48,123/100,000", "48 %", "6:40", "eta 1 h 05 min",
        "44,210, set aside 3,610: tie 2,100, unchanged 900, refused 610",
        "131.2/s (128.9/s in all), 240,615 asked, 12,030 known, 3 failed; of no use: refused 610, cut 5",
        "openai:small 63 of 64 in flight, 97 % of 500 requests a minute, 12 x 429",
        "openai:large 0 of 16 in flight, 0 % of what it takes at once, outage for 1 min 15 s",
        "2,048 calls in 2 jobs, 512 rows waiting; looked at again in 1 min 30 s",
        "121.0M in (32.0M cached), 40.2M out",
        "$12.34 of 25 USD, about $24.10 when done; $0.02 perhaps lost; memory saved $1.50",
    ):  # fmt: skip
        assert figure in text, figure
    assert "…" not in text


def test_the_labels_stand_in_one_column() -> None:
    lines = drawn(FULL, 200)
    labels = [line[:8].strip() for line in lines]
    assert labels == ["rows", "pairs", "calls", "server", "server", "batch", "tokens", "spent"]


def test_many_servers_are_counted_not_shown() -> None:
    many = changed(servers=tuple(Server(f"openai:m{number}") for number in range(11)))
    lines = drawn(many, 120)
    assert sum("openai:m" in line for line in lines) == 8
    assert any("and 3 more servers" in line for line in lines)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"eta": None}, "eta ?"),
        ({"state": "paused", "eta": None}, "paused"),
        ({"state": "stopping", "eta": None}, "stopping"),
        ({"state": "exporting", "eta": None}, "writing the dataset"),
        ({"state": "over_budget"}, "budget used up"),
    ],
)
def test_what_is_not_known_is_not_told_and_a_state_is(given: dict[str, Any], told: str) -> None:
    assert drawn(changed(**given), 120)[0].endswith(told)


def test_a_walk_with_rows_left_is_never_at_100_percent() -> None:
    assert "99 %" in drawn(changed(rows=Rows(1000, 1000, 999, 0, 999)), 120)[0]
    assert "100 %" in drawn(changed(rows=Rows(1000, 1000, 1000, 0, 1000)), 120)[0]
    assert " %" not in drawn(changed(rows=Rows()), 120)[0]


def test_a_run_that_ended_has_no_servers_any_more() -> None:
    text = "\n".join(drawn(changed(state="done"), 120))
    assert "in flight" not in text
    assert "calls   240,615 asked (128.9/s)" in text


def test_a_model_s_name_cannot_draw(made: Desk) -> None:
    odd = changed(servers=(Server("[red]x[/red] \x1b[31m:smile:"),))
    text = "\n".join(drawn(odd, 120))
    assert "[red]x[/red]" in text and ":smile:" in text and "\x1b" not in text


def test_an_unknown_price_is_said_to_be_unknown() -> None:
    assert money_told(Money()) == "price unknown (give `price:` with the model)"
    assert money_told(Money(0.0)) == "$0.00"
    assert money_told(Money(budget="5,000 calls", left="2,000 calls")).endswith("of 5,000 calls, 2,000 calls left")


def test_one_line_says_the_same_for_a_log() -> None:
    assert one_line(changed(servers=FULL.servers[:1], batches=None)) == (
        "48,123/100,000 rows, 240,615 calls asked (131.2/s), 12,030 known, 3 failed, 161,200,000 tokens, "
        "3,610 set aside, openai:small 63 of 64 in flight (97 % of 500 requests a minute), "
        "$12.34 of 25 USD, about $24.10 when done; $0.02 perhaps lost; memory saved $1.50, eta 1 h 05 min"
    )


@pytest.mark.parametrize(
    ("seconds", "told"),
    [(0.4, "0 s"), (59.6, "1 min 00 s"), (3_900, "1 h 05 min"), (200_000, "2.3 days")],
)
def test_durations_read_as_people_say_them(seconds: float, told: str) -> None:
    assert duration(seconds) == told


def test_clocks_and_large_numbers_are_short() -> None:
    assert (clock(6), clock(3_723)) == ("0:06", "1:02:03")
    assert (shortened(999_999), shortened(12_345_678), shortened(2_340_000_000)) == ("999,999", "12.3M", "2.34B")


# -- the views -----------------------------------------------------------------------------------------------


def test_events_are_lines_that_stay_above_the_block(capsys: pytest.CaptureFixture[str]) -> None:
    view = walking._Bar(Console(stderr=True))
    view.watch(changed(events=(Event(1, 1000.0, "openai:large: outage"),)))
    view.watch(changed(events=(Event(1, 1000.0, "openai:large: outage"), Event(2, 1001.0, "paused"))))
    view.close()
    said = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().err)
    assert said.count("openai:large: outage\n") == 1
    assert said.index("openai:large: outage") < said.index("paused")


def test_json_is_one_object_a_line_each_second_and_at_once_where_something_happens(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("solon.cli.walking.time.monotonic", lambda: now[0])
    view = walking._Json()
    for _ in range(9):  # two seconds and a bit, four looks a second
        view.watch(FULL)
        now[0] += 0.25
    view.watch(changed(events=(Event(1, 1.0, "paused"),)))
    view.watch(changed(events=(Event(1, 1.0, "paused"),), state="done"))
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [(line["state"], len(line["events"])) for line in lines] == [("walking", 0)] * 3 + [
        ("walking", 1),
        ("done", 1),
    ]


def test_progress_json_holds_nothing_but_json_and_ends_with_how_it_ended(made: Desk, solon: Solon) -> None:
    told = solon("run", "recipe.yaml", "--progress", "json")
    assert told.code == 0
    lines = [json.loads(line) for line in told.err.splitlines()]
    assert (lines[-1]["state"], lines[-1]["rows"]["pairs"], lines[-1]["calls"]["asked"]) == ("done", 4, 20)
    assert told.out.startswith("rows ")


def test_progress_plain_none_and_bar_are_turned_by_the_option(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "--progress", "none").err == ""
    assert solon("run", "recipe.yaml", "--progress", "plain").err.startswith("4 rows into runs/")
    assert "━" in solon("run", "recipe.yaml", "--progress", "bar").err
    assert "━" not in solon("run", "recipe.yaml").err  # nobody watches a terminal here
    assert solon("run", "recipe.yaml", "--progress", "json", "--quiet").err == ""
    assert solon("run", "recipe.yaml", "--progress", "loud").code == 2


async def test_who_watches_is_told_a_few_times_a_second_whatever_the_number_of_calls(made: Desk) -> None:
    (made.path / "prompts.txt").write_text("".join(f"Number {number}?\n" for number in range(100)))
    seen: list[Standing] = []
    done = await run_recipe(made.recipe, watch=seen.append)
    assert done.progress.asked == 500
    seconds = done.progress.seconds
    assert len(seen) <= 4 + seconds / 0.25
    assert (seen[-1].state, seen[-1].rows.done, seen[-1].calls.asked) == ("done", 100, 500)


# -- the closing table ---------------------------------------------------------------------------------------


def test_the_closing_table_counts_answers_of_no_use_by_kind(made: Desk, solon: Solon) -> None:
    assert "of no use" not in solon("run", "recipe.yaml", "-q").out
    (made.path / "model.py").write_text(
        "async def answer(call):\n    return '' if 'number 1?' in str(call.messages) else 'Words.'\nLOGPROBS = True\n"
    )
    told = solon("run", "recipe.yaml", "-q").out
    assert re.search(r"of no use +1 +answers: empty 1", told)


# -- exit codes ----------------------------------------------------------------------------------------------


def test_0_is_done_and_1_is_done_without_a_pair(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    (made.path / "model.py").write_text("async def answer(call):\n    return ''\nLOGPROBS = True\n")
    told = solon("run", "recipe.yaml", "-q")
    assert (told.code, told.err) == (1, "")


def test_6_is_a_budget_that_is_used_up_with_everything_kept(made: Desk, solon: Solon) -> None:
    made.write(budget="7 calls")
    told = solon("run", "recipe.yaml", "-q")
    assert told.code == 6
    assert re.search(r"calls asked +7 ", told.out)
    (line,) = told.err.splitlines()
    assert "7 calls" in line and line.endswith("go on with  solon run recipe.yaml")
    assert len(made.remembered()) == 7
    made.write(budget=None)
    told = solon("run", "recipe.yaml", "-q")
    assert told.code == 0
    assert len(made.asked()) == 20


def test_7_is_done_but_for_rows_that_failed(made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same command walks them again, and nothing else."""
    answer = "    return said(call)\n\n\nasync def noted"
    fails = '    if os.environ.get("DOWN") and "number 2" in str(call.messages):\n'
    fails += '        raise CallFailed("no_answer", "away")\n'
    script = (made.path / "model.py").read_text()
    assert answer in script
    head = "from solon.errors import CallFailed\n"
    (made.path / "model.py").write_text(head + script.replace(answer, fails + answer))
    monkeypatch.setenv("DOWN", "1")
    told = solon("run", "recipe.yaml", "-q")
    assert told.code == 7
    assert told.err == "1 row failed; the same command walks them again:  solon run recipe.yaml\n"
    assert re.search(r"set aside +1 +no_answer", told.out)
    status = json.loads(solon("status", "--json").out)
    assert (status["state"], status["failed"], status["go_on"]) == ("done", 1, "solon run recipe.yaml")
    monkeypatch.delenv("DOWN")
    asked = len(made.asked())
    assert solon("run", "recipe.yaml", "-q").code == 0
    assert 0 < len(made.asked()) - asked <= 5
    assert solon("run", "recipe.yaml", "-q").code == 0


def test_the_help_names_every_code_a_run_can_end_with(solon: Solon) -> None:
    told = " ".join(solon("--help").out.split())
    for words in ("6 the budget is used up", "7 done but rows failed", "130 interrupted"):
        assert words in told


async def test_a_run_without_anybody_who_watches_is_walked_the_same(made: Desk) -> None:
    assert (await asyncio.wait_for(run_recipe(made.recipe), 30)).pairs == 4
