"""`solon constitution infer` on the command line: what it writes, what it remembers, what it asks before it is paid."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import pytest
from infer_kit import MODEL, dataset
from run_kit import Solon, desk, finished, started, twice

from solon.constitution import load


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def folder(path: Path, count: int = 120) -> Path:
    path.mkdir(exist_ok=True)
    (path / "model.py").write_text(MODEL, encoding="utf-8")
    rows = [
        {"prompt": pair.prompt.messages[0].content, "chosen": pair.chosen, "rejected": pair.rejected}
        for pair in dataset(count).pairs
    ]
    rows.insert(3, {**rows[0], "rejected": rows[0]["chosen"]})
    (path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


INFER = ("constitution", "infer", "pairs.jsonl", "--model", "scripted:model.py:answer")


def asked_in(path: Path) -> list[str]:
    file = path / "asked.txt"
    return file.read_text().splitlines() if file.exists() else []


def test_the_constitution_loads_tests_itself_and_comes_from_memory_the_second_time(
    solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder(tmp_path))
    first = solon(*INFER, "--to", "one.yaml", "--report", "one.json")
    assert first.code == 0, first.err
    assert "1 equal_candidates, first pairs.jsonl:4: chosen and rejected are the same text" in first.err
    constitution = load(tmp_path / "one.yaml")
    assert [each.id for each in constitution.principles] == ["be-polite-to-whoever-asks", "keep-answers-short"]
    assert "explain the labels better than every baseline" in constitution.description
    assert "shorter wins: " in constitution.description
    assert all(
        len(each.cases) == 2 and each.weight > 0 and "Proposed from" in each.rationale
        for each in constitution.principles
    )
    assert solon("constitution", "test", "one.yaml", "--model", "scripted:model.py:answer").code == 0
    calls = asked_in(tmp_path)
    second = solon(*INFER, "--to", "two.yaml", "--report", "two.json")
    assert second.code == 0 and asked_in(tmp_path) == calls
    assert "nothing new to ask" in second.err and "0 calls asked" in second.out
    assert "these pairs chose what is kept, so its figures flatter" in second.out
    assert (tmp_path / "one.yaml").read_bytes() == (tmp_path / "two.yaml").read_bytes()
    assert (tmp_path / "one.json").read_bytes() == (tmp_path / "two.json").read_bytes()
    numbers = json.loads((tmp_path / "one.json").read_text())
    assert numbers["explains"] is True and len(numbers["candidates"]) == 3 and len(numbers["held_out"]) == 7
    printed = solon(*INFER)
    assert printed.out == (tmp_path / "one.yaml").read_text()


def test_a_killed_inference_goes_on_from_memory_and_ends_in_the_same_bytes(tmp_path: Path) -> None:
    whole, cut = folder(tmp_path / "whole", 60), folder(tmp_path / "cut", 60)
    arguments = (*INFER, "--to", "out.yaml", "--report", "out.json")
    unbroken = finished(started(*arguments, cwd=whole))
    process = started(*arguments, cwd=cut, env={"MODEL_DELAY": "0.3"})
    while len(asked_in(cut)) < 150 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL and not (cut / "out.yaml").exists()
    finished_before = desk(cut).remembered()
    (cut / "model.py").write_text(MODEL, encoding="utf-8")
    before = asked_in(cut)
    assert finished(started(*arguments, cwd=cut)).code == unbroken.code
    after = asked_in(cut)[len(before) :]
    assert finished_before and not finished_before & set(after) and not twice(after)
    assert set(before) | set(after) == set(asked_in(whole))
    for name in ("out.yaml", "out.json"):
        assert (cut / name).read_bytes() == (whole / name).read_bytes()


def test_an_interrupt_keeps_what_is_answered(tmp_path: Path) -> None:
    path = folder(tmp_path, 60)
    process = started(*INFER, cwd=path, env={"MODEL_DELAY": "0.3"})
    while len(asked_in(path)) < 100 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    told = finished(process)
    assert told.code == 130 and "interrupted; what is finished is kept" in told.err
    calls = asked_in(path)
    assert desk(path).remembered() == set(calls)  # those in flight were waited for: they are paid for


def test_a_recipe_lends_its_critic_its_judge_and_its_ledger(
    solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    made = desk(
        tmp_path / "desk", story={"kind": "preference"}, model="scripted:model.py:nobody",
        cast={"critic": {"model": "scripted:model.py:critic"}, "judge": {"model": "scripted:model.py:judge"}},
    )  # fmt: skip
    folder(made.path, 60)
    (made.path / "model.py").write_text(MODEL + "\n\ndef nobody(call):\n    raise AssertionError\n", encoding="utf-8")
    told = solon("constitution", "infer", made.path / "pairs.jsonl", "--recipe", made.recipe, "--keep", 1)
    assert "be-polite-to-whoever-asks" in told.out, told.err
    assert "model:critic proposes, model:judge judges" in told.err
    assert len(made.remembered()) == len(set(made.asked())) > 100


def test_what_costs_is_asked_for_first_and_refused_where_nobody_can_be_asked(
    solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder(tmp_path, 60))
    made = desk(tmp_path / "desk", story={"kind": "preference"})
    (made.path / "model.py").write_text(MODEL, encoding="utf-8")
    made.write(model={"use": "scripted:model.py:answer", "price": {"input": 1.0, "output": 2.0}})
    arguments = ("constitution", "infer", "pairs.jsonl", "--recipe", made.recipe)
    refused = solon(*arguments)
    assert refused.code == 2 and "give --yes" in refused.err and "at most about $" in refused.err
    assert made.asked() == []
    assert solon(*arguments, "--yes").code in (0, 1)
    assert "$0.0" in solon(*arguments).err  # nothing new is no price: no question


@pytest.mark.parametrize("answer", ["y", "n"])
def test_on_a_terminal_the_answer_counts(
    answer: str, solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder(tmp_path, 60))
    made = desk(tmp_path / "desk", model={"use": "scripted:model.py:answer", "price": {"input": 1.0, "output": 2.0}})
    (made.path / "model.py").write_text(MODEL, encoding="utf-8")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda text, err: answer == "y")
    solon("constitution", "infer", "pairs.jsonl", "--recipe", made.recipe)
    assert bool(made.asked()) == (answer == "y")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pairs.jsonl",), "give --recipe or --model"),
        (("pairs.jsonl", "--model", "smollm2", "--recipe", "r.yaml"), "not both"),
        (("pairs.jsonl", "--model", "gpt"), "unknown model 'gpt'"),
        (("none.jsonl", "--model", "smollm2"), "none.jsonl: no such file"),
        (("pairs.jsonl", "--model", "smollm2", "--to", "there.yaml"), "there.yaml: is there already"),
        (("pairs.jsonl", "--model", "smollm2", "--to", "no/such.yaml"), "no: no such folder"),
        (("pairs.jsonl", "--model", "smollm2", "--report", "."), "is a folder"),
        (("pairs.jsonl", "--model", "smollm2", "--split", "test"), "leave --split out"),
        (("pairs.jsonl", "--model", "smollm2", "--test-fraction", "2"), "give a share between 0 and 1"),
        (("pairs.jsonl", "--model", "scripted:model.py:answer", "--limit", "1"), "1 pairs of 1 prompts are too few"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_line(
    arguments: tuple[str, ...], message: str, solon: Solon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder(tmp_path, 5))
    (tmp_path / "there.yaml").write_text("name: mine\n")
    told = solon("constitution", "infer", *arguments)
    assert told.code == 2 and message in told.err
    assert (tmp_path / "there.yaml").read_text() == "name: mine\n"
    assert asked_in(tmp_path) == []
