"""Preference data of others is read in every form that it has; what is no pair is set aside by name and counted."""

from __future__ import annotations

import csv
import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from run_kit import Solon, desk
from story_kit import SHARED

from solon.errors import BadInput
from solon.review.infer.preferences import Preference, read_preferences

HH = SHARED / "hh_rlhf" / "harmless_base_test_dev.jsonl.gz"


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def told(pair: Preference) -> tuple[list[str], str, str]:
    return [f"{turn.role}: {turn.content}" for turn in pair.prompt.messages], pair.chosen, pair.rejected


def turn(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


ASKED = turn("user", "Why?")


@pytest.mark.parametrize(
    "record",
    [
        {"prompt": "Why?", "chosen": "So.", "rejected": "No."},
        {"question": "Why?", "chosen": "So.", "rejected": "No."},
        {"prompt": [ASKED], "chosen": [turn("assistant", "So.")], "rejected": [turn("assistant", "No.")]},
        {"prompt": "Why?", "chosen": [ASKED, turn("assistant", "So.")], "rejected": [ASKED, turn("assistant", "No.")]},
        {"chosen": [ASKED, turn("assistant", "So.")], "rejected": [ASKED, turn("assistant", "No.")]},
        {"chosen": "\n\nHuman: Why?\n\nAssistant: So.", "rejected": "\n\nHuman: Why?\n\nAssistant: No."},
        {"prompt": "\n\nHuman: Why?\n\nAssistant:", "chosen": "So.", "rejected": "No."},
        {
            "prompt": "Why?",
            "chosen": "\n\nHuman: Why?\n\nAssistant: So.",
            "rejected": "\n\nHuman: Why?\n\nAssistant: No.",
        },
    ],
)
def test_every_form_of_a_pair_is_the_same_pair(record: dict[str, Any], tmp_path: Path) -> None:
    pairs = read_preferences(lines(tmp_path / "pairs.jsonl", record)).pairs
    assert [told(pair) for pair in pairs] == [(["user: Why?"], "So.", "No.")]


def test_the_prompt_of_transcripts_goes_up_to_the_last_turn_that_both_begin(tmp_path: Path) -> None:
    start = "\n\nHuman: One?\n\nAssistant: 1\n\nHuman: Two?\n\nAssistant: The "
    file = lines(tmp_path / "hh.jsonl", {"chosen": f"{start}2.", "rejected": f"{start}3."})
    prompt = ["user: One?", "assistant: 1", "user: Two?"]
    assert told(read_preferences(file).pairs[0]) == (prompt, "The 2.", "The 3.")


def test_records_that_are_no_pair_are_set_aside_and_counted(tmp_path: Path) -> None:
    good = {"prompt": "Why?", "chosen": "So.", "rejected": "No."}
    one, two = "\n\nHuman: One?\n\nAssistant: 1", "\n\nHuman: Two?\n\nAssistant: 2"
    file = lines(
        tmp_path / "pairs.jsonl", good, good, {**good, "prompt": "When?"},
        {"prompt": "When?", "chosen": "No.", "rejected": "So."}, {**good, "chosen": " No. "}, {**good, "chosen": " "},
        {**good, "rejected": None}, {**good, "prompt": "Who?", "chosen": 3}, {"chosen": one, "rejected": two},
        {"chosen": one + two, "rejected": one + two + two}, {"chosen": "So.", "rejected": "No."},
        {**good, "prompt": [turn("assistant", "I")]}, {**good, "chosen": "\ud800 half"},
    )  # fmt: skip
    read = read_preferences(file)
    assert [told(pair) for pair in read.pairs] == [(["user: Why?"], "So.", "No.")]
    assert read.read == 13
    assert read.set_aside == {
        "duplicate": 1, "contradicted": 2, "equal_candidates": 1, "empty_answer": 2, "unreadable_record": 5,
        "several_turns": 1,
    }  # fmt: skip
    assert len(read.pairs) + sum(read.set_aside.values()) == read.read
    assert read.examples["duplicate"].startswith(f"{file}:2: ")
    assert "'chosen' is a number" in read.examples["unreadable_record"]


def write_csv(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ["prompt", "chosen", "rejected"])
        writer.writeheader()
        writer.writerows(rows)


def write_gzip(path: Path, rows: list[dict[str, str]]) -> None:
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


def write_parquet(path: Path, rows: list[dict[str, str]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist([{**row, "score": 1.0} for row in rows]), path)


def write_saved(path: Path, rows: list[dict[str, str]]) -> None:
    from datasets import Dataset, DatasetDict

    DatasetDict({"train": Dataset.from_list(rows), "test": Dataset.from_list(rows[:1])}).save_to_disk(path)


@pytest.mark.parametrize(
    ("name", "write"),
    [("p.csv", write_csv), ("p.jsonl.gz", write_gzip), ("p.parquet", write_parquet), ("saved", write_saved)],
)
def test_every_kind_of_file_is_read(name: str, write: Callable[..., None], tmp_path: Path) -> None:
    rows = [{"prompt": f"Why, {number}?", "chosen": "So, so.", "rejected": "No.\nNo."} for number in range(3)]
    write(tmp_path / name, rows)
    assert [told(pair) for pair in read_preferences(name, base=tmp_path).pairs] == [
        ([f"user: Why, {number}?"], "So, so.", "No.\nNo.") for number in range(3)
    ]
    assert len(read_preferences(name, base=tmp_path, limit=2).pairs) == 2


def test_a_split_is_taken_where_there_are_splits_and_refused_where_not(tmp_path: Path) -> None:
    rows = [{"prompt": f"{number}?", "chosen": "So.", "rejected": "No."} for number in range(3)]
    write_saved(tmp_path / "saved", rows)
    assert len(read_preferences(tmp_path / "saved", split="test").pairs) == 1
    with pytest.raises(BadInput, match=r"no split 'tset'.*did you mean 'test'"):
        read_preferences(tmp_path / "saved", split="tset")
    with pytest.raises(BadInput, match="has no splits"):
        read_preferences(lines(tmp_path / "p.jsonl", *rows), split="test")


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def test_a_run_and_its_exported_dataset_hold_the_same_pairs(solon: Solon, tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=12, export={"test_fraction": 0.4})
    assert solon("run", made.recipe).code == 0
    of_run, of_data = (read_preferences(made.latest / part).pairs for part in (".", "dataset"))
    assert len(of_run) > 3
    assert {pair.id: told(pair) for pair in of_run} == {pair.id: told(pair) for pair in of_data}
    test = read_preferences(made.latest / "dataset", split="test").pairs
    assert 0 < len(test) < len(of_run)
    with pytest.raises(BadInput, match="no split 'dev'; splits there: train, test"):
        read_preferences(made.latest / "dataset", split="dev")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no pairs in it; write at least one"),
        ('{"prompt": "a", "chosen": "b"}', r"p.jsonl:1: no column 'rejected'; columns there: prompt, chosen; a pref"),
        ('{"prompt": "a", "choosen": "b", "rejected": "c"}', "is 'choosen' misspelt"),
        ('{"prompt": "a", "chosen": "b", "rejected": "b"}', "no pairs in it that can be used .1 set aside.*same text"),
        ('{"chosen": "b", "rejected": "c"}', "there is no prompt: no column prompt, question, instruction"),
        ('{"prompt": "a", "chosen": "b", "rejected": "c"}\n{"prom', r"p.jsonl:2: not JSON"),
        ("[1]", "a list, not an object"),
    ],
)
def test_what_cannot_be_read_is_told_with_its_place(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text(text)
    with pytest.raises(BadInput, match=message):
        read_preferences(tmp_path / "p.jsonl")


def test_a_file_that_is_not_there_is_not_taken_for_a_dataset(tmp_path: Path) -> None:
    lines(tmp_path / "pairs.jsonl", {})
    with pytest.raises(BadInput, match=r"pair.jsonl: no such file; did you mean 'pairs.jsonl'"):
        read_preferences("pair.jsonl", base=tmp_path)


def test_a_folder_without_a_dataset_is_refused_and_one_of_files_is_read(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="holds no dataset; give a run folder"):
        read_preferences(tmp_path)
    write_parquet(tmp_path / "train.parquet", [{"prompt": "Why?", "chosen": "So.", "rejected": "No."}])
    assert len(read_preferences(tmp_path).pairs) == 1


def test_which_answer_stands_first_does_not_know_the_label(tmp_path: Path) -> None:
    rows = [{"prompt": f"{number}?", "chosen": f"a{number}", "rejected": f"b{number}"} for number in range(400)]
    pairs = read_preferences(lines(tmp_path / "p.jsonl", *rows)).pairs
    turned = [{"prompt": row["prompt"], "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    other = read_preferences(lines(tmp_path / "t.jsonl", *turned)).pairs
    assert [(pair.first, pair.second, pair.id) for pair in pairs] == [
        (pair.first, pair.second, pair.id) for pair in other
    ]
    assert [pair.first_wins for pair in pairs] == [not pair.first_wins for pair in other]
    assert 160 < sum(pair.first_wins for pair in pairs) < 240


@pytest.mark.skipif(not HH.is_file(), reason="hh-rlhf's rows are not beside the repository")
def test_prompts_of_hh_rlhf_are_what_both_transcripts_begin_with() -> None:
    read = read_preferences(HH, limit=60)
    with gzip.open(HH, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(read.read), strict=False)]
    by_texts = {(row["chosen"], row["rejected"]) for row in rows}
    assert len(read.pairs) == 60
    for pair in read.pairs:
        names = {"user": "Human", "assistant": "Assistant"}
        assert pair.prompt.messages[-1].role == "user"
        before = "".join(f"\n\n{names[turn.role]}: {turn.content}" for turn in pair.prompt.messages)
        whole = [f"{before}\n\nAssistant: {answer}" for answer in (pair.chosen, pair.rejected)]
        assert any(
            all("".join(mine.split()) == "".join(theirs.split()) for mine, theirs in zip(whole, texts, strict=True))
            for texts in by_texts
        )
