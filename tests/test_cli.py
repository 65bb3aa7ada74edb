"""The command line: what a person types, sees and gets back."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from run_kit import Desk, Solon, data_of, desk, finished, started

from solon.cli import screen
from solon.cli.tables import print_row
from solon.commands import show_row


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """Return a desk in the current folder."""
    folder = desk(tmp_path / "desk")
    monkeypatch.chdir(folder.path)
    return folder


# -- the door ------------------------------------------------------------------------------------------------


def test_help_names_every_command_and_the_exit_codes(solon: Solon) -> None:
    told = solon("--help")
    assert told.code == 0
    commands = ("init", "check", "plan", "run", "show", "pairs", "export", "train", "models", "ledger")
    assert [name for name in commands if f"  {name} " not in told.out] == []
    assert "Exit codes: 0 done" in told.out


def test_nothing_typed_is_help(solon: Solon) -> None:
    assert "Usage: solon" in solon().out + solon().err


def test_the_version_is_told(solon: Solon) -> None:
    from solon import __version__

    assert solon("--version").out == f"solon {__version__}\n"


@pytest.mark.parametrize(
    "arguments", [["runn"], ["run"], ["run", "x.yaml", "--limt", "3"], ["run", "x", "--limit", "0"]]
)
def test_what_cannot_be_typed_is_told_and_ends_with_2(solon: Solon, arguments: list[str]) -> None:
    told = solon(*arguments)
    assert told.code == 2
    assert told.err


def test_python_dash_m_solon_is_solon(tmp_path: Path) -> None:
    assert finished(started("--version", cwd=tmp_path)).out.startswith("solon ")


def test_a_start_loads_no_library_that_it_does_not_need() -> None:
    """`solon --help` needs the parser of options alone, and `import solon` nothing at all."""
    code = (
        "import sys; sys.argv = ['solon', '--help']\n"
        "try:\n    from solon.cli import main; main()\n"
        "except SystemExit: pass\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    heavy = {"torch", "transformers", "datasets", "openai", "anthropic", "pydantic", "pyarrow", "rich", "yaml", "trl"}
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert not heavy & set(out.rpartition("LOADED")[2].split())
    out = subprocess.run(
        [sys.executable, "-c", "import solon, sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout
    assert not (heavy | {"typer"}) & {name.split(".")[0] for name in out.split()}


# -- init, check ---------------------------------------------------------------------------------------------


def test_init_writes_a_folder_that_check_finds_good(tmp_path: Path, solon: Solon) -> None:
    told = solon("init", tmp_path / "new")
    assert told.code == 0
    assert f"next: solon plan {tmp_path / 'new' / 'recipe.yaml'}" in told.out
    recipe, constitution = tmp_path / "new" / "recipe.yaml", tmp_path / "new" / "constitution.yaml"
    told = solon("check", recipe, constitution)
    assert (told.code, told.err) == (0, "")
    assert "a revision recipe, 4 prompts, 3 principles" in told.out
    assert "a constitution of 3 principles, digest" in told.out
    assert solon("init", tmp_path / "new").code == 2


def test_check_tells_every_mistake_of_every_file_and_ends_with_1(made: Desk, solon: Solon) -> None:
    made.constitution.write_text("name: x\nprinciples:\n  - {id: a, txt: y}\n  - {id: a, text: y, weight: -1}\n")
    bad = made.path / "bad.yaml"
    bad.write_text("modle: x\n")
    told = solon("check", "recipe.yaml", "constitution.yaml", "bad.yaml", "nowhere.yaml")
    assert told.code == 1
    for words in (
        "constitution.yaml:3: unknown key 'txt' in principle 'a'; did you mean 'text'?",
        "constitution.yaml:4: id 'a' is already taken on line 3",
        "'weight' in principle 'a' must be at least 0",
        "bad.yaml:1: unknown key 'modle'; did you mean 'model'?",
        "nowhere.yaml: no such file",
    ):
        assert words in told.err
    assert re.search(r"^\d+ mistakes$", told.err, re.MULTILINE)


def test_check_tells_of_constitution_and_prompts_at_once(made: Desk, solon: Solon) -> None:
    made.constitution.write_text("name: x\nprinciples: [{id: a, text: y, weight: -1}]\n")
    (made.path / "prompts.txt").write_bytes(b"Hi\n\xff\n")
    told = solon("check", "recipe.yaml")
    assert "must be at least 0" in told.err
    assert "prompts.txt:2: not UTF-8" in told.err


def test_one_mistake_is_a_mistake(made: Desk, solon: Solon) -> None:
    made.write(window=0)
    assert solon("check", "recipe.yaml").err.splitlines()[-1] == "1 mistake"


def test_a_constitution_with_misspelt_principles_is_still_checked_as_one(made: Desk, solon: Solon) -> None:
    made.constitution.write_text("name: x\nversion: '1'\nprincples: [{id: a, text: y}]\n")
    told = solon("check", "constitution.yaml")
    assert "did you mean 'principles'?" in told.err
    assert "prompts" not in told.err


def test_a_folder_stands_for_its_recipe(made: Desk, solon: Solon) -> None:
    assert "a revision recipe" in solon("check", ".").out
    assert solon("run", ".", "-q").code == 0


# -- plan, run -----------------------------------------------------------------------------------------------


def test_plan_prints_rows_calls_tokens_and_price(made: Desk, solon: Solon) -> None:
    made.write(model={"use": "scripted:model.py:answer", "price": {"input": 100, "output": 1000}})
    told = solon("plan", "recipe.yaml")
    assert told.code == 0
    assert "4 rows; no run of it yet" in told.out
    assert re.search(r"tokens: new ones about [\d,]+ in and [\d,]+ out\n", told.out)
    assert "about: every later step once" in told.out
    assert re.search(
        r"plan \w{12}: 20 of 20 calls are new \(certain 4, at most 20\), about \$\d+\.\d\d, time unkn", told.out
    )
    assert re.search(r"respond +model:answer +0 +4 +4 +4\n", told.out)
    assert re.search(r"judge.ab +model:answer +0 +0 +4 +4\n", told.out)
    solon("run", "recipe.yaml", "-q")
    told = solon("plan", "recipe.yaml")
    assert re.search(r"against runs/recipe-\w+: no difference\nplan \w+: 0 of 20 calls are new, nothing to", told.out)
    assert "4 rows; 4 finished in runs/recipe-" in told.out


def test_plan_says_1_row_and_unknown_prices(made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-none")
    made.write(cast={"critic": {"model": "openai:gpt-x"}})
    told = solon("plan", "recipe.yaml", "--limit", "1")
    assert "1 row; no run of it yet" in told.out
    assert ", price unknown (give `price:` with the model), time unknown until something was asked\n" in told.out
    assert "$0" not in told.out


def test_the_closing_table_says_it_all_once(made: Desk, solon: Solon) -> None:
    with (made.path / "prompts.txt").open("a") as file:
        file.write("How do I do thing number 0?\n")
    told = solon("run", "recipe.yaml")
    assert told.code == 0
    lines = {line.split("  ")[0]: line for line in told.out.splitlines()}
    assert "1 duplicate prompt fell together" in lines["rows"]
    assert "mean P(chosen is better) 0." in lines["pairs"]
    assert "0 more answered from the ledger" in lines["calls asked"]
    assert {"tokens", "spent", "same slot", "time"} <= set(lines)
    assert f"dataset runs/{made.latest.name}/dataset" in told.out
    assert "preference 4" in told.out
    assert told.err == f"4 rows into runs/{made.latest.name}\n"


def test_what_was_set_aside_and_what_is_left_stand_in_the_table(made: Desk, solon: Solon) -> None:
    with (made.path / "model.py").open("a") as file:
        file.write('\ndef odd(call):\n    return "" if "number 1" in call.messages[0].content else said(call)\n')
    made.write(model="scripted:model.py:odd")
    told = solon("run", "recipe.yaml", "--limit", "2", "-q")
    assert re.search(r"set aside +1 +empty_answer: the model answered nothing", told.out)
    assert re.search(r"unfinished +2 +start again to go on", told.out)
    shutil.rmtree(made.path / "runs")
    told = solon("run", "recipe.yaml", "--offline", "-q")
    assert re.search(r"not known +2 +to the ledger; start again without --offline", told.out)
    assert "unfinished" not in told.out


def test_offline_and_refresh_are_turned_by_their_flags(made: Desk, solon: Solon) -> None:
    assert solon("run", "recipe.yaml", "--offline", "-q").code == 1
    assert made.asked() == []
    assert solon("run", "recipe.yaml", "-q").code == 0
    assert solon("run", "recipe.yaml", "--refresh", "-q").code == 0
    assert len(made.asked()) == 40
    told = solon("run", "recipe.yaml", "--refresh", "--offline")
    assert (told.code, told.err.count("\n")) == (2, 1)


def test_quiet_prints_the_closing_table_alone(made: Desk, solon: Solon) -> None:
    told = solon("run", "recipe.yaml", "--quiet")
    assert told.err == ""
    assert told.out.startswith("rows ")


def test_a_run_from_another_folder_is_the_same_run(
    made: Desk, solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert solon("run", "recipe.yaml", "-q").code == 0
    monkeypatch.chdir(tmp_path)
    told = solon("run", "desk/recipe.yaml", "-q")
    assert "desk/runs/" in told.out
    assert len(made.asked()) == 20


@pytest.mark.parametrize("columns", ["30", "200"])
def test_narrow_and_wide_terminals_lose_no_figure(
    made: Desk, solon: Solon, columns: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    for arguments in (
        ["plan", "recipe.yaml"],
        ["run", "recipe.yaml", "-q"],
        ["show", "0"],
        ["models", "check", "recipe.yaml"],
    ):
        told = solon(*arguments)
        assert told.code == 0
        assert "…" not in told.out.replace("interrupted…", "")
    assert solon("pairs").code == 0


def on_a_terminal(made: Desk, *arguments: str, env: dict[str, str]) -> str:
    """Return what a command prints on a terminal of its own."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "solon", *arguments],
        cwd=made.path,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "160", **env},
    )
    os.close(slave)
    said = b""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        ready, _, _ = select.select([master], [], [], 0.1)
        if ready:
            try:
                said += os.read(master, 65536)
            except OSError:  # the other end is closed
                break
        elif process.poll() is not None:
            break
    assert process.wait(10) == 0
    os.close(master)
    return said.decode("utf-8", "replace")


def test_on_a_terminal_a_few_lines_show_how_far_it_is(made: Desk) -> None:
    said = on_a_terminal(made, "run", "recipe.yaml", env={"MODEL_DELAY": "0.3"})
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", said)
    assert re.search(r"rows +[━╸╺]+ +[0-3]/4 +\d+ %", plain)
    assert re.search(r"calls +\d+\.\d/s \(\d+\.\d/s in all\), \d+ asked", plain)
    assert " eta " in plain
    assert "\x1b[?25h" in said  # the cursor is back
    quiet = on_a_terminal(made, "run", "recipe.yaml", "--quiet", env={})
    assert " eta " not in quiet


def test_without_a_terminal_a_plain_line_is_told_now_and_then(
    made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("solon.cli.walking.PLAIN_SECONDS", 0.0)
    lines = solon("run", "recipe.yaml").err.splitlines()
    assert lines[1].startswith("0/")
    assert re.fullmatch(r"4/4 rows, 20 calls asked \(.*/s\), 0 known, .* tokens, 0 set aside, done", lines[-1])
    assert not any("\x1b" in line for line in lines)


# -- show, pairs, export -------------------------------------------------------------------------------------


def test_show_prints_the_walk_of_a_row_by_place_or_by_id(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q")
    by_place = solon("show", "2")
    assert by_place.code == 0
    assert "How do I do thing number 2?" in by_place.out
    for words in (
        "critique by ",
        "revision.1",
        "vote ab by logprobs",
        "P(chosen is better) = 0.",
        "call judge.ba (judge): c1:",
    ):
        assert words in by_place.out
    row = re.search(r"row 2  ([0-9a-f]{32})", by_place.out)
    assert row is not None
    assert solon("show", row[1][:10]).out == by_place.out
    assert solon("show", "2", "--run", made.latest).out == by_place.out


def test_show_with_calls_prints_every_question_and_answer_whole(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q")
    short, whole = solon("show", "0").out, solon("show", "0", "--calls").out
    assert "Write the critique only" in whole
    assert "Write the critique only" not in short
    assert "Reply with one letter, A or B" in whole


@pytest.mark.parametrize(("wanted", "told"), [("9", "no such row"), ("zz", "no such row"), ("", "no such row")])
def test_a_row_that_is_not_there_is_told(made: Desk, solon: Solon, wanted: str, told: str) -> None:
    solon("run", "recipe.yaml", "-q")
    shown = solon("show", wanted)
    assert shown.code == 2
    assert told in shown.err


def test_show_without_a_run_is_one_line(made: Desk, solon: Solon) -> None:
    for arguments in (["show", "0"], ["export"], ["pairs"]):
        told = solon(*arguments)
        assert (told.code, told.err) == (
            4,
            "solon: runs/latest: no such run folder; give runs/<name>, or start one with `solon run`\n",
        )
    assert list(made.path.glob(".solon")) == []


def test_show_prints_what_an_unfinished_row_has_drawn(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q", "--limit", "1")
    told = solon("show", "3").out
    assert "it is unfinished" in told
    assert re.search(r"drawn for revision\.1: \w+ \([0-9a-f]{16}\)", told)
    assert "drawn for judge: " in told


def test_show_prints_why_a_row_was_set_aside_and_what_there_was_of_it(made: Desk, solon: Solon) -> None:
    with (made.path / "model.py").open("a") as file:
        file.write('\ndef odd(call):\n    return "" if "response only" in call.messages[-1].content else said(call)\n')
    made.write(model="scripted:model.py:odd")
    assert solon("run", "recipe.yaml", "-q").code == 1
    told = solon("show", "0").out
    assert "set aside: empty_answer, the model answered nothing, or only white space (model:odd at revise.1)" in told
    assert "Words" in told
    assert "call critique.1 (critic): c1:" in told


def test_show_still_tells_a_row_when_the_ledger_forgot_its_calls(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q")
    assert solon("ledger", "forget", "--text", "number 0").out == "5 calls forgotten\n"
    told = solon("show", "0", "--calls").out
    assert told.count("not in the ledger any more") == 5
    assert "revision.1" in told
    shutil.rmtree(made.path / ".solon")
    told = solon("show", "0").out
    assert "the ledger is not there; calls are shown where it is" in told
    assert "not in the ledger any more" not in told
    assert len(re.findall(r"^call \S+ \(\w+\): c1:[0-9a-f]{64}$", told, re.M)) == 5
    assert "revision.1" in told
    assert not (made.path / ".solon").exists()


def test_brackets_are_printed_as_they_are_everywhere(
    tmp_path: Path, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = desk(tmp_path / "[red]desk", prompts=1)
    (made.path / "prompts.txt").write_text("[bold]Is [/] or :smile: eaten?[/bold]\n")
    monkeypatch.chdir(made.path)
    made.write(model={"use": "scripted:model.py:answer", "identity": "[blue]x"}, name="n")
    out = solon("run", made.recipe)
    assert "[red]desk/runs/n-" in out.err
    assert "[red]desk/runs/n-" in out.out
    assert "[red]desk/runs/n-" in solon("plan", made.recipe).out
    for arguments in (["show", "0"], ["pairs"]):
        assert "[bold]Is [/] or :smile: eaten?[/bold]" in solon(*arguments).out
    assert "[blue]x" in solon("models", "check", made.recipe).out
    assert "[red]nowhere" in solon("run", "[red]nowhere.yaml").err


def test_pairs_prints_chosen_beside_rejected(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q")
    told = solon("pairs", "-n", "2")
    assert told.out.count("P(chosen is better)") == 2
    assert solon("pairs", made.latest, "-n", "9").out.count("chosen (") == 4


def test_export_writes_what_is_finished_here_or_elsewhere(made: Desk, solon: Solon, tmp_path: Path) -> None:
    solon("run", "recipe.yaml", "-q", "--limit", "2")
    data = data_of(made.latest)
    assert "preference 2" in solon("export").out
    assert data_of(made.latest) == data
    told = solon("export", made.latest, "--to", tmp_path / "out")
    assert told.code == 0
    assert f"dataset {tmp_path}/out" in told.out
    shutil.copytree(tmp_path / "out", tmp_path / "run" / "dataset")
    assert data_of(tmp_path / "run") == data


def test_export_before_any_row_is_finished_says_so(made: Desk, solon: Solon) -> None:
    made.write(export={"views": ["preference"]})
    assert solon("run", "recipe.yaml", "-q", "--offline").code == 1
    assert "no rows to write yet" in solon("export").out


# -- models, ledger ------------------------------------------------------------------------------------------


def test_models_check_tells_what_each_role_can_do(made: Desk, solon: Solon) -> None:
    told = solon("models", "check", "recipe.yaml")
    assert told.code == 0
    assert re.search(r"judge +model:answer +in \d\.\d\d s +yes +no", told.out)
    assert "the ledger knows responder, critic, reviser, judge as scripted:model:answer@1" in told.out


def test_models_check_ends_with_3_where_one_is_away(made: Desk, solon: Solon) -> None:
    made.write(cast={"judge": {"model": {"use": "openai:gone", "base_url": "http://127.0.0.1:9/v1", "patience": 0.0}}})
    told = solon("models", "check", "recipe.yaml")
    assert told.code == 3
    assert re.search(r"judge +gone +no", told.out)
    assert "judge: openai:gone at http://127.0.0.1:9/v1: nobody answers" in told.out
    made.write(cast=None, model={"use": "openai:gone", "base_url": "http://127.0.0.1:9/v1", "patience": 0.0})
    told = solon("models", "check", "recipe.yaml")
    assert "responder, critic, reviser, judge: openai:gone at" in told.out
    assert told.out.count("nobody answers") == 1


def test_ledgers_are_merged(made: Desk, solon: Solon, tmp_path: Path) -> None:
    other = desk(tmp_path / "other", prompts=6)
    solon("run", "recipe.yaml", "-q")
    solon("run", other.recipe, "-q")
    theirs = other.path / ".solon" / "ledger.db"
    told = solon("ledger", "merge", ".solon/ledger.db", theirs)
    assert told.out == "10 taken over, 20 known already, 0 differed (the earlier reply stays)\n"
    assert solon("ledger", "merge", "new/ledger.db", theirs).out.startswith("30 taken over")
    told = solon("ledger", "merge", "fresh.db", "nowhere.db")
    assert (told.code, told.err) == (2, "solon: nowhere.db: no such ledger; give the path of a ledger.db\n")
    assert not (made.path / "fresh.db").exists()


def test_the_ledger_forgets_by_model_time_and_text(made: Desk, solon: Solon) -> None:
    solon("run", "recipe.yaml", "-q")
    assert solon("ledger", "forget", "--model", "nobody").out == "0 calls forgotten\n"
    assert solon("ledger", "forget", "--before", "2020-01-31").out == "0 calls forgotten\n"
    assert solon("ledger", "forget", "--before", "2999-01-31", "--text", "number 3").out == "5 calls forgotten\n"
    assert solon("ledger", "forget", "--model", "scripted:model:answer@1").out == "15 calls forgotten\n"
    for arguments, words in (
        ([], "nothing to forget"),
        (["--text", ""], "would match any call"),
        (["--before", "soon"], "'soon' is no day"),
    ):
        told = solon("ledger", "forget", *arguments)
        assert told.code == 2
        assert words in told.err
    told = solon("ledger", "forget", "nowhere.db", "--text", "x")
    assert "nowhere.db: no ledger there" in told.err


# -- the screen ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b]0;title\x07", "␛]0;title␇"),
        ("a\rb", "a␍b"),
        ("\x7f\x9b31m", "␡\N{REPLACEMENT CHARACTER}31m"),
        ("\ud800", "\N{REPLACEMENT CHARACTER}"),
        ("naïve 日本 🙂", "naïve 日本 🙂"),
    ],
)
def test_a_text_does_nothing_to_the_screen(given: str, shown: str) -> None:
    assert screen.plain(given) == shown


@pytest.mark.parametrize(
    ("dollars", "shown"),
    [(None, "price unknown"), (0, "$0.00"), (0.00004, "under $0.0001"), (0.0042, "$0.0042"), (1234.5, "$1,234.50")],
)
def test_money_is_never_nought_for_what_nobody_said(dollars: float | None, shown: str) -> None:
    assert screen.money(dollars).startswith(shown)


def test_one_is_one() -> None:
    assert [screen.counted(number, "row") for number in (0, 1, 2, 1000)] == ["0 rows", "1 row", "2 rows", "1,000 rows"]


def test_a_stream_that_cannot_hold_a_letter_gets_another(made: Desk, solon: Solon) -> None:
    """A log in ASCII is no reason to lose a walk."""
    (made.path / "prompts.txt").write_text("Wie heißt 日本?\n", encoding="utf-8")
    solon("run", "recipe.yaml", "-q")
    told = finished(started("show", "0", cwd=made.path, env={"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}))
    assert told.code == 0
    assert "Wie hei" in told.out


def test_show_is_a_function_too(made: Desk, solon: Solon, capsys: pytest.CaptureFixture[str]) -> None:
    solon("run", "recipe.yaml", "-q")
    print_row(asyncio.run(show_row(made.latest, "1")), calls=False)
    assert capsys.readouterr().out == solon("show", "1").out
