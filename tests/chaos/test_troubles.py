"""Troubles that are nobody's answer: names that do not resolve, clocks that jump, ledgers that two share or are cut.

Full disks and read-only folders stand in `tests/test_faults.py` and `tests/test_ledger_processes.py`, SIGTERM in
`tests/test_kill.py`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos_kit import Load, committed, http_desk, run, size
from run_kit import Desk, Told, data_of, desk, finished, started

ROWS = size(12, 400)


@pytest.fixture(scope="module")
def server() -> Iterator[Load]:
    with Load() as load:
        yield load


@pytest.fixture(scope="module")
def unbroken(server: Load, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    made = http_desk(tmp_path_factory.mktemp("unbroken"), server, rows=ROWS)
    assert run(made).code == 0
    return made


def run_with(made: Desk, patch: str) -> Told:
    """Run a recipe in a process that `patch` was done to before anything else."""
    script = f"{patch}\nimport runpy, sys\nsys.argv = ['solon', 'run', 'recipe.yaml', '-q']\n"
    script += "runpy.run_module('solon', run_name='__main__', alter_sys=True)\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=made.path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    return finished(process, timeout=120)


# -- names ---------------------------------------------------------------------------------------------------


def test_a_server_whose_name_nobody_knows_stops_the_run_at_once_and_is_named(tmp_path: Path) -> None:
    made = desk(tmp_path, model={"use": "openai:tiny", "base_url": "http://no-such-host.invalid/v1"})
    told = run(made)
    (line,) = told.err.splitlines()
    assert told.code == 3
    assert "no-such-host.invalid" in line
    assert "nobody answers" in line


DNS = """
import socket
real, calls = socket.getaddrinfo, 0


def sometimes(host, *given, **more):
    global calls
    calls += 1
    # the first one is answered: a name that never resolved stops the run
    if calls % 3 == 2:
        raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
    return real(host, *given, **more)


socket.getaddrinfo = sometimes
"""


def test_names_that_resolve_only_now_and_then_cost_time_and_no_row(
    tmp_path: Path, server: Load, unbroken: Desk
) -> None:
    """Each connection is broken after its first answer or before it, so that names are looked up all the time."""
    server.change(faults={"reset": 0.15}, seed=5)
    made = http_desk(tmp_path, server, rows=ROWS)
    made.write(model={"use": "openai:tiny", "base_url": server.url.replace("127.0.0.1", "localhost") + "/v1",
                      "identity": "tiny", "concurrency": 4})  # fmt: skip
    assert run_with(made, DNS).code == 0
    assert data_of(made.latest) == data_of(unbroken.latest) != {}


# -- clocks --------------------------------------------------------------------------------------------------

CLOCK = """
import time
real, calls = time.time, 0


def jumping():
    global calls
    calls += 1
    return real() + (86_400, -86_400, 0, 3_600)[calls % 4]


time.time = jumping
"""


def test_a_clock_that_jumps_by_days_changes_no_byte_and_stops_nothing(
    tmp_path: Path, server: Load, unbroken: Desk
) -> None:
    server.change(faults={"503": 0.1, "429": 0.02}, retry_after=0.05, seed=6)
    made = http_desk(tmp_path, server, rows=ROWS)
    assert run_with(made, CLOCK).code == 0
    assert server.books.again == 0
    assert data_of(made.latest) == data_of(unbroken.latest) != {}
    # and the time of day is right again
    server.change()
    assert run(made).code == 0
    assert server.books.requests == 0


# -- ledgers -------------------------------------------------------------------------------------------------


def test_two_runs_on_one_ledger_ask_a_server_each_question_once(tmp_path: Path, server: Load, unbroken: Desk) -> None:
    server.change(latency=0.05)
    made = http_desk(tmp_path, server, rows=ROWS)
    other = made.path / "other.yaml"
    other.write_text(made.recipe.read_text() + "name: other\n")
    server.change(latency=0.05)
    both = [started("run", recipe, "-q", cwd=made.path) for recipe in (made.recipe, other)]
    assert [finished(process, timeout=120).code for process in both] == [0, 0]
    assert server.books.requests == server.books.distinct == len(committed(made))
    folders = [path for path in (made.path / "runs").iterdir() if path.is_dir() and not path.is_symlink()]
    assert len(folders) == 2
    assert all(data_of(folder) == data_of(unbroken.latest) for folder in folders)


@pytest.mark.parametrize("share", [0.2, 0.8])
def test_a_ledger_that_was_cut_short_is_one_clear_line_and_never_taken_for_the_whole(
    tmp_path: Path, server: Load, share: float
) -> None:
    server.change()
    made = http_desk(tmp_path, server, rows=ROWS)
    assert run(made).code == 0
    ledger = made.path / ".solon" / "ledger.db"
    os.truncate(ledger, int(ledger.stat().st_size * share))
    made.write(name="again")
    asked = server.books.requests
    told = run(made)
    (line,) = told.err.splitlines()
    assert told.code == 4
    assert line.startswith(f"solon: {ledger}: ")
    assert server.books.requests == asked, "something was asked that nobody could have written down"


def test_a_journal_that_was_cut_short_loses_what_it_held_and_nothing_else(
    tmp_path: Path, server: Load, unbroken: Desk
) -> None:
    """What a power cut does to the last pages: calls of the cut part are asked again, the rest is remembered."""
    server.change(latency=0.05)
    made = http_desk(tmp_path, server, rows=ROWS)
    server.change(latency=0.05)
    process = started("run", made.recipe, "-q", cwd=made.path)
    until = time.monotonic() + 60
    while server.books.answered < 2 * ROWS:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    process.kill()
    process.communicate()
    journal = made.path / ".solon" / "ledger.db-wal"
    os.truncate(journal, journal.stat().st_size * 2 // 3)
    # reading mends the file as far as it goes
    known = {digest: server.books.questions[digest].asked for digest in committed(made)}
    assert run(made).code == 0
    assert {digest: server.books.questions[digest].asked for digest in known} == known
    assert committed(made) == set(server.books.questions)
    assert data_of(made.latest) == data_of(unbroken.latest) != {}
