"""Whole runs with `batch: true`: the command, its run folder, its dataset, money, kills and several processes."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_kit import BatchServer, words_for
from run_kit import Desk, Solon, Told, data_of, desk

from solon.jobs import Jobs
from solon.ledger import Ledger
from solon.models.batch import desk as pace
from solon.spend import Spend

QUICK = "import solon.models.batch.desk as desk; desk.PAUSES, desk.LAG_SECONDS = (0.01, 0.05), 0.0; "
COMMAND = [sys.executable, "-c", QUICK + "from solon.cli import main; main()"]
PRICES = {"input": 1000.0, "output": 1000.0, "batch": 0.5}
"""12 tokens of an answered call are 1.2 cents live, and 0.6 in a batch job."""


@pytest.fixture(params=["openai", "anthropic"])
def server(request: pytest.FixtureRequest) -> Iterator[BatchServer]:
    with BatchServer(request.param) as running:
        running.answer = judged
        yield running


@pytest.fixture
def openai() -> Iterator[BatchServer]:
    with BatchServer("openai") as running:
        running.answer = judged
        yield running


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "PAUSES", (0.01, 0.05))
    monkeypatch.setattr(pace, "LAG_SECONDS", 0.0)


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def judged(body: dict[str, Any]) -> str:
    """Return an answer to anything: a judge's verdict where one is asked for, else words that hang on the question."""
    asked = body["messages"][-1]["content"]
    if "Answer: A" not in asked:
        return words_for(body)
    first, second = (re.search(rf"\[response {letter} \w+\]\n(.*?)\n\[end", asked, re.DOTALL) for letter in "AB")
    assert first
    assert second
    return "Answer: A" if first[1] > second[1] else "Answer: B"


def made(tmp_path: Path, server: BatchServer, *, model: dict[str, Any] | None = None, **recipe: Any) -> Desk:
    spec = {"use": f"{server.provider}:tiny", "base_url": server.url, **(model or {})}
    page = {"model": spec, "judging": {"verdict": "parsed"}, "cast": {"everyone": {"batch": True}}, **recipe}
    return desk(tmp_path, prompts=5, **page)


def sizes(server: BatchServer) -> list[int]:
    return [len(batch.requests) for batch in server.batches.values()]


def started(*arguments: object, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # a shell that starts the tests in the background lets its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip


def ended(process: subprocess.Popen[str]) -> Told:
    out, err = process.communicate(timeout=60)
    assert "Traceback" not in err, err
    return Told(process.returncode, out, err)


def wait_for(server: BatchServer, batches: int) -> None:
    until = time.monotonic() + 60
    while len(server.batches) < batches:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_run_by_batch_jobs_ends_as_a_live_one_does(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    """Respond, critique, revise, and the judge in both orders at once: four waves, five calls a row, none live."""
    by_batch = made(tmp_path / "batch", server)
    told = solon("run", by_batch.recipe, "-q")
    assert told.code == 0, told.err + told.out
    assert re.search(r"calls asked +25 +0 more answered from the ledger", told.out)
    assert "parked" not in told.out
    assert sizes(server) == [5, 5, 5, 10]
    assert server.live == []
    live = made(tmp_path / "live", server, cast={})
    assert solon("run", live.recipe, "-q").code == 0
    assert len(server.live) == 25
    assert data_of(by_batch.latest) == data_of(live.latest) != {}
    assert solon("run", by_batch.recipe, "-q").code == 0
    assert len(server.live) == 25, "it was all known"
    assert sizes(server) == [5, 5, 5, 10]


def test_live_and_batch_mix_in_one_recipe(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    """The judge alone waits: one wave of both its orders, behind three live calls a row."""
    mixed = made(tmp_path, server, cast={"judge": {"batch": True}})
    assert solon("run", mixed.recipe, "-q").code == 0
    assert sizes(server) == [10]
    assert len(server.live) == 15


def test_what_the_judge_can_do_is_asked_live_and_once(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    """A probe before the first row does not wait a day."""
    recipe = made(tmp_path, server, judging={}).recipe
    assert solon("run", recipe, "-q").code in (0, 1)
    assert 1 <= len(server.live) <= 2


def test_a_run_that_is_killed_while_its_jobs_are_out_ends_as_an_unbroken_one(
    tmp_path: Path, openai: BatchServer
) -> None:
    broken, whole = made(tmp_path / "broken", openai), made(tmp_path / "whole", openai)
    for wave in (1, 2):
        openai.held = wave == 1
        process = started("run", broken.recipe, "-q", cwd=broken.path)
        wait_for(openai, wave)
        openai.held = True
        time.sleep(0.2)
        process.kill()
        process.communicate()
    openai.held = False
    assert ended(started("run", broken.recipe, "-q", cwd=broken.path)).code == 0
    assert sizes(openai) == [5, 5, 5, 10]
    assert set(openai.billed.values()) == {1}
    openai.batches.clear()
    assert ended(started("run", whole.recipe, "-q", cwd=whole.path)).code == 0
    assert data_of(broken.latest) == data_of(whole.latest) != {}


def test_ctrl_c_leaves_at_once_and_the_same_command_takes_the_jobs_up(tmp_path: Path, openai: BatchServer) -> None:
    run = made(tmp_path, openai)
    openai.held = True
    process = started("run", run.recipe, "-q", cwd=run.path)
    wait_for(openai, 1)
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    assert ended(process).code == 130
    openai.held = False
    assert ended(started("run", run.recipe, "-q", cwd=run.path)).code == 0
    assert sizes(openai) == [5, 5, 5, 10]


def test_half_the_price_is_paid(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    run = made(tmp_path, server, model={"price": PRICES})
    told = solon("run", run.recipe, "-q")
    assert told.code == 0
    assert "0.15" in told.out, told.out  # 25 calls of 0.6 cents


def test_a_budget_is_kept_across_jobs_and_a_raised_one_goes_on(
    tmp_path: Path, server: BatchServer, solon: Solon
) -> None:
    """Each job puts by the most that it can cost before it is sent, so the cap holds whatever comes back."""
    run = made(tmp_path, server, budget="7 calls")
    told = solon("run", run.recipe, "-q")
    assert told.code == 6, told.out + told.err
    assert sizes(server) == [5, 2]
    assert account(run) == (7, 0, 0)
    run.write(budget="25 calls")
    assert solon("run", run.recipe, "-q").code == 0
    assert set(server.billed.values()) == {1}
    assert account(run) == (25, 0, 0)


def account(run: Desk) -> tuple[int, int, int]:
    """Return the calls that the run has spent, put by and lost."""
    ledger = Ledger.open(run.path / ".solon" / "ledger.db")
    purse = ledger.account(run.latest.name)
    return purse.spent.calls, purse.reserved.calls, purse.lost.calls


def test_a_kill_leaves_nothing_put_by_for_good(tmp_path: Path, openai: BatchServer, solon: Solon) -> None:
    """What an open job may cost stays put by while it is out; what a kill left of no job is given back."""
    run = made(tmp_path, openai, budget="100 calls")
    openai.held = True
    process = started("run", run.recipe, "-q", cwd=run.path)
    wait_for(openai, 1)
    time.sleep(0.2)
    process.kill()
    process.communicate()
    assert account(run) == (0, 5, 0)

    async def leak() -> None:
        ledger = Ledger.open(run.path / ".solon" / "ledger.db")
        await ledger.reserve(run.latest.name, Spend(60, 60, 60))
        await ledger.close()

    import asyncio

    asyncio.run(leak())
    openai.held = False
    assert solon("run", run.recipe, "-q").code == 0
    assert account(run) == (25, 0, 0)
    assert sizes(openai) == [5, 5, 5, 10]


def test_several_processes_share_the_rows_and_the_jobs(tmp_path: Path, openai: BatchServer, solon: Solon) -> None:
    run = made(tmp_path, openai)
    told = solon("run", run.recipe, "-q", "--processes", "2")
    assert told.code == 0, told.out + told.err
    assert sizes(openai) == [5, 5, 5, 10]
    assert re.search(r"calls asked +25 ", told.out)


def test_refresh_asks_every_call_anew_once(tmp_path: Path, server: BatchServer, solon: Solon) -> None:
    run = made(tmp_path, server)
    assert solon("run", run.recipe, "-q").code == 0
    assert solon("run", run.recipe, "-q", "--refresh").code == 0
    assert sizes(server) == [5, 5, 5, 10] * 2


def test_refresh_is_refused_where_new_processes_would_ask_anew_for_ever(
    tmp_path: Path, openai: BatchServer, solon: Solon
) -> None:
    run = made(tmp_path, openai)
    told = solon("run", run.recipe, "--refresh", "--processes", "2")
    assert told.code == 2
    assert told.err.endswith("leave out --processes or --refresh\n")
    assert sizes(openai) == []


def test_offline_submits_nothing(tmp_path: Path, openai: BatchServer, solon: Solon) -> None:
    run = made(tmp_path, openai)
    assert solon("run", run.recipe, "-q", "--offline").code == 1
    assert sizes(openai) == []
    assert not Jobs(run.path / ".solon" / "ledger.db").exists


# -- solon batch ---------------------------------------------------------------------------------------------


def test_jobs_are_listed_and_given_up(tmp_path: Path, openai: BatchServer, solon: Solon) -> None:
    """What is given up may be billed all the same, so it is counted as lost; the next run asks it again."""
    run = made(tmp_path, openai)
    ledger = run.path / ".solon" / "ledger.db"
    assert solon("batch", "list", run.path / "nowhere").err.startswith(f"solon: {run.path}/nowhere: no run folder")
    openai.held = True
    process = started("run", run.recipe, "-q", cwd=run.path)
    wait_for(openai, 1)
    time.sleep(0.2)
    process.kill()
    process.communicate()
    listed = solon("batch", "list", run.latest).out
    assert re.fullmatch(r" +1  [-\d]+ [\d:]+  tiny  submitted .*5 calls, 0 answered  batch_000000\n", listed)
    told = solon("batch", "give-up", ledger)
    assert told.code == 2
    assert "no job is being looked for; to give up another, name it (open jobs: 1 (submitted))" in told.err
    told = solon("batch", "give-up", run.latest, "1")
    assert (
        told.out
        == "job 1 given up: 5 calls will be asked again; cancel batch_000000 at the provider, if it still runs\n"
    )
    assert account(run) == (0, 0, 5)
    told = solon("batch", "give-up", run.latest, "1")
    assert "job 1 is given up, and only open jobs can be given up (open jobs: none)" in told.err
    openai.held = False
    assert solon("run", run.recipe, "-q").code == 0
    assert sizes(openai) == [5, 5, 5, 5, 10]
    assert "given up" in solon("batch", "list", ledger).out


def test_a_ledger_without_batch_jobs_says_so(tmp_path: Path, openai: BatchServer, solon: Solon) -> None:
    run = made(tmp_path, openai, cast={})
    assert solon("run", run.recipe, "-q").code == 0
    assert solon("batch", "list", run.latest).out == "no batch jobs\n"
    assert not (run.path / ".solon" / "ledger.db.jobs").exists()


def test_keys_stand_in_no_jobs_file(
    tmp_path: Path, openai: BatchServer, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MY_KEY", "sk-not-to-be-seen-0123456789")
    run = made(tmp_path, openai, model={"key_env": "MY_KEY"})
    assert solon("run", run.recipe, "-q").code == 0
    for file in (run.path / ".solon").iterdir():
        assert b"sk-not-to-be-seen" not in file.read_bytes()
    assert json.dumps([batch.metadata for batch in openai.batches.values()]).count("sk-") == 0
