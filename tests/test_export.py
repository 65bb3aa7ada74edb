"""An export is what TRL trains on as it stands: whole or not there, the same bytes for the same data, nothing hidden.

Defects of peers that are proven absent here (PEERS 1): distilabel's equal ratings that became chosen == rejected
and its one bad rating that blanked the whole batch; NeMo-Aligner's judge errors that were dropped without a count.
"""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from solon.calls import Message
from solon.dataset import VIEWS, CardFacts, CardModel, ExportSpec, RowStore, Spend, export
from solon.dataset.views import margin
from solon.digests import whole
from solon.errors import REASONS, BadInput, StorageError
from solon.rows import Asked, Draft, Draw, Pair, Prompt, Row, SetAside, Vote

FACTS = CardFacts(
    name="first",
    plan="0123456789ab",
    story="Revision, 2 rounds",
    constitution="Small",
    version="1",
    digest="abcdef",
    seed=7,
    models=(CardModel("responder", "tiny", "local:tiny@1"), CardModel("judge", "wise", "openai:wise")),
    prompts="prompts.jsonl",
    reproduce="solon run recipe.yaml",
    solon="0.1.0",
    licence="MIT",
    source="written for this test",
    licence_note="The prompts are made up.",
)
COUNT = 60


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def assistant(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def outcome(row: Row) -> Pair | SetAside:
    """Every fifth row is a tie, every third of the others prefers its first answer."""
    number = row.index
    drafts = (
        Draft("response", f"First {number}."),
        Draft("revision.1", f"Second {number}.", "p1", "d1", "Too short.", stripped=True),
        Draft("revision.2", f"Third {number}.", "p2", "d2", "Still too short.", trimmed=True),
    )
    votes = (Vote("ab", 0.1, "logprobs", 0.9, "", f"c1:{number}"), Vote("ba", None, "parsed", None, "Hm.", "c1:x"))
    asked = (Asked("respond", "responder", "c1:r"), Asked("judge.ab", "judge", f"c1:{number}"))
    if number % 5 == 0:
        return SetAside(row, "tie", "P = 0.5", drafts, votes, asked)
    first = number % 3 == 0
    texts = (drafts[0].text, drafts[2].text) if first else (drafts[2].text, drafts[0].text)
    names = ("response", "revision.2") if first else ("revision.2", "response")
    return Pair(row, *texts, *names, 0.75 if number % 2 else 1.0, "better", "e", "wise", votes, drafts, asked)


@contextmanager
def plan(path: Path, count: int = COUNT) -> Iterator[RowStore]:
    with RowStore.create(path) as store:
        for number in range(count):
            messages = (Message("system", "Be kind."), Message("user", f"Question {number}?"))
            store.add(Prompt(messages, ("a", "b")), [Draw("critique.1", "p1", "d1"), Draw("judge", "better", "e")])
    with RowStore.open(path) as store:
        yield store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RowStore]:
    with plan(tmp_path / "rows.db") as store:
        for row in store.rows():
            store.finish(outcome(row))
        yield store


def rows_of(folder: Path, view: str, split: str | None = None) -> list[dict[str, Any]]:
    files = [folder / "data" / view / f"{name}.parquet" for name in ([split] if split else ["train", "test"])]
    return [row for file in files if file.exists() for row in pq.read_table(file).to_pylist()]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def datasets_of(folder: Path, cache: Path, *args: Any, **kwargs: Any) -> Any:
    from datasets import load_dataset

    return load_dataset(str(folder), *args, cache_dir=str(cache), **kwargs)


# the views


def test_every_view_loads_and_preference_is_the_default(store: RowStore, tmp_path: Path) -> None:
    done = export(store, tmp_path / "out", ExportSpec(), FACTS)
    assert list(done.counts) == list(VIEWS)
    for view in VIEWS:
        loaded = datasets_of(done.folder, tmp_path / "cache", view)
        assert {split: len(rows) for split, rows in loaded.items()} == done.counts[view]
        assert list(loaded) == ["train", "test"]
    assert datasets_of(done.folder, tmp_path / "cache")["train"].column_names == ["prompt", "chosen", "rejected"]


def test_the_columns_are_what_trl_asks_for(store: RowStore, tmp_path: Path) -> None:
    folder = export(store, tmp_path / "out", ExportSpec(), FACTS).folder
    ask = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Question 1?"}]

    def of_one(view: str) -> list[dict[str, Any]]:
        return [row for row in rows_of(folder, view) if row["prompt"] == ask]

    both = {"prompt": ask, "chosen": assistant("Third 1."), "rejected": assistant("First 1.")}
    assert of_one("preference") == of_one("reward") == [both]
    assert of_one("sft") == [{"prompt": ask, "completion": assistant(text)} for text in ("Second 1.", "Third 1.")]
    assert of_one("kto") == [
        {"prompt": ask, "completion": assistant("Third 1."), "label": True},
        {"prompt": ask, "completion": assistant("First 1."), "label": False},
    ]
    assert of_one("prompts") == [{"prompt": ask}]
    (pair,) = of_one("pairs")
    assert pair["row"] == store.row(1).id and pair["tags"] == ["a", "b"]
    assert (pair["chosen"], pair["rejected"]) == ("Third 1.", "First 1.")
    assert (pair["chosen_draft"], pair["rejected_draft"], pair["p_chosen"]) == ("revision.2", "response", 0.75)
    assert (pair["principle"], pair["digest"], pair["judge"]) == ("better", "e", "wise")
    assert pair["draws"][0] == {"step": "critique.1", "principle": "p1", "digest": "d1"}
    assert pair["drafts"][1]["critique"] == "Too short." and pair["drafts"][1]["stripped"] is True
    assert pair["votes"][1] == {
        "order": "ba", "p_first": None, "source": "parsed", "mass": None, "said": "Hm.", "key": "c1:x"
    }  # fmt: skip
    assert pair["asked"][1] == {"step": "judge.ab", "role": "judge", "key": "c1:1"}


def test_what_was_set_aside_is_counted_and_readable(store: RowStore, tmp_path: Path) -> None:
    """NeMo-Aligner drops samples whose judging failed without a count; here each one is a row, and in the card."""
    folder = export(store, tmp_path / "out", ExportSpec(), FACTS).folder
    aside = rows_of(folder, "set_aside")
    assert len(aside) == COUNT // 5 == store.set_aside
    assert {row["reason"] for row in aside} == {"tie"} and {row["detail"] for row in aside} == {"P = 0.5"}
    assert aside[0]["drafts"][0]["text"].startswith("First ")
    assert aside[0]["votes"] and aside[0]["asked"] and aside[0]["draws"]
    assert f"| `tie` | 12 | {REASONS['tie']} |" in (folder / "README.md").read_text()
    assert len(rows_of(folder, "preference")) + len(aside) == len(rows_of(folder, "prompts")) == COUNT


def test_chosen_equals_rejected_is_never_exported(tmp_path: Path) -> None:
    """distilabel 1.5.3 makes chosen == rejected of equal ratings; here such a pair cannot pass the store's door."""
    with plan(tmp_path / "rows.db", 6) as store:
        for row in store.rows():
            same = f"The same {row.index}."
            texts = (same, f"{same}\n") if row.index % 2 else (same, "Another.")
            store.finish(Pair(row, *texts, "candidate.1", "candidate.2", 1.0, "p", "d", "j", (), ()))
        done = export(store, tmp_path / "out", ExportSpec(), FACTS)
    pairs = rows_of(done.folder, "preference")
    assert len(pairs) == 3 and all(pair["chosen"] != pair["rejected"] for pair in pairs)
    assert {row["reason"] for row in rows_of(done.folder, "set_aside")} == {"equal_candidates"}


def test_an_equal_pair_that_another_program_wrote_is_set_aside_too(tmp_path: Path) -> None:
    import sqlite3

    with plan(tmp_path / "rows.db", 2) as store:
        for row in store.rows():
            store.finish(Pair(row, "A", "B", "candidate.1", "candidate.2", 1.0, "p", "d", "j", (), ()))
    with sqlite3.connect(tmp_path / "rows.db") as connection:
        connection.execute("UPDATE walks SET content = CAST(replace(content, '\"B\"', '\"A\"') AS BLOB) WHERE idx = 0")
    connection.close()
    with RowStore.open(tmp_path / "rows.db") as store:
        done = export(store, tmp_path / "out", ExportSpec(test_fraction=0), FACTS)
    assert done.counts["pairs"] == done.counts["set_aside"] == {"train": 1}


def test_one_bad_row_never_blanks_others(tmp_path: Path) -> None:
    """distilabel 1.5.3 blanks a whole batch for one None; here one row is set aside, and the others stand."""
    with plan(tmp_path / "rows.db", 9) as store:
        for row in store.rows():
            bad: Any = {3: None, 4: "", 5: "half \ud83d"}.get(row.index, f"Good {row.index}.")
            drafts = (Draft("candidate.1", bad or "", critique="\udfff"), Draft("candidate.2", "Worse."))
            vote = Vote("ab", 0.9, "parsed", None, "A \ud83d", "k")
            store.finish(Pair(row, bad, "Worse.", "candidate.1", "candidate.2", 0.9, "p", "d", "j", (vote,), drafts))
        done = export(store, tmp_path / "out", ExportSpec(test_fraction=0), FACTS)
    good = [row["chosen"][0]["content"] for row in rows_of(done.folder, "preference")]
    assert good == [f"Good {number}." for number in (0, 1, 2, 6, 7, 8)]
    aside = rows_of(done.folder, "set_aside")
    assert [row["reason"] for row in aside] == ["empty_answer", "empty_answer", "unreadable_answer"]
    assert aside[2]["drafts"][0]["text"] == "half \ufffd"  # what no file can hold is shown as such


@given(st.text())
def test_whole_characters_are_left_alone(text: str) -> None:
    assert whole(text) == text
    assert whole(f"{text}\ud83dx") == f"{text}\ufffdx"


def test_kto_neighbours_answer_different_prompts(store: RowStore, tmp_path: Path) -> None:
    """TRL's KTO takes its KL term from each row with its neighbour's completion."""
    folder = export(store, tmp_path / "out", ExportSpec(), FACTS).folder
    for split in ("train", "test"):
        rows = rows_of(folder, "kto", split)
        assert all(one["prompt"] != other["prompt"] for one, other in pairwise(rows))
        assert sum(row["label"] for row in rows) == len(rows) / 2


# the options


def test_sft_last_takes_the_chosen_text_alone(store: RowStore, tmp_path: Path) -> None:
    every = rows_of(export(store, tmp_path / "all", ExportSpec(sft="all"), FACTS).folder, "sft")
    last = rows_of(export(store, tmp_path / "last", ExportSpec(sft="last"), FACTS).folder, "sft")
    chosen = {row["chosen"][0]["content"] for row in rows_of(tmp_path / "all", "preference")}
    assert {row["completion"][0]["content"] for row in last} == chosen and len(last) == store.pairs
    first_won = store.quality().original_chosen
    assert first_won and len(every) == first_won + 2 * (store.pairs - first_won)
    assert not any("Second" in row["completion"][0]["content"] for row in last)


def test_margin_is_there_on_option_alone(store: RowStore, tmp_path: Path) -> None:
    without = export(store, tmp_path / "a", ExportSpec(), FACTS).folder
    with_it = export(store, tmp_path / "b", ExportSpec(margin=True), FACTS).folder
    assert "margin" not in pq.read_schema(without / "data/reward/train.parquet").names
    assert "margin" not in pq.read_schema(with_it / "data/preference/train.parquet").names
    margins = {row["margin"] for row in rows_of(with_it, "reward")}
    assert sorted(margins) == pytest.approx([math.log(3), 5.0])
    assert margin(0.5000001) > 0 and margin(1 - 1e-12) == 5.0


def test_test_fraction_holds_out_prompts_by_their_hash(store: RowStore, tmp_path: Path) -> None:
    def test_side(fraction: float) -> set[str]:
        folder = export(store, tmp_path / "out", ExportSpec(test_fraction=fraction), FACTS).folder
        sides = {
            split: {
                row["prompt"][1]["content"] for view in ("pairs", "set_aside") for row in rows_of(folder, view, split)
            }
            for split in ("train", "test")
        }
        assert not sides["train"] & sides["test"]
        return sides["test"]

    assert test_side(0) == set()
    tenth, half = test_side(0.1), test_side(0.5)
    assert 0 < len(tenth) < len(half) < COUNT and tenth < half  # a larger share moves nothing back


def test_views_can_be_left_out(store: RowStore, tmp_path: Path) -> None:
    done = export(store, tmp_path / "out", ExportSpec(views=("sft", "preference")), FACTS)
    assert list(done.counts) == ["preference", "sft"]
    assert sorted(path.name for path in (done.folder / "data").iterdir()) == ["preference", "sft"]
    with pytest.raises(ValidationError, match=r"unknown view 'preferences'; did you mean 'preference'"):
        ExportSpec(views=("preferences",))
    for bad in ({"test_fraction": 1.0}, {"test_fraction": -0.1}, {"sft": "first"}, {"views": ()}, {"view": "sft"}):
        with pytest.raises(ValidationError):
            ExportSpec(**bad)


def test_empty_splits_and_views_are_left_out_so_that_the_others_load(tmp_path: Path) -> None:
    with plan(tmp_path / "rows.db", 3) as store:
        done = export(store, tmp_path / "out", ExportSpec(test_fraction=0), FACTS)
        assert done.counts == {"prompts": {"train": 3}}
        for row in store.rows():
            store.finish(SetAside(row, "tie", ""))
        done = export(store, tmp_path / "out", ExportSpec(test_fraction=0), FACTS)
    assert done.counts == {"prompts": {"train": 3}, "set_aside": {"train": 3}}
    loaded = datasets_of(done.folder, tmp_path / "cache", "set_aside")
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 3}
    with pytest.raises(ValueError, match=r"'preference' not found. Available"):
        datasets_of(done.folder, tmp_path / "cache", "preference")


def test_an_empty_plan_has_a_card_and_no_files(tmp_path: Path) -> None:
    with plan(tmp_path / "rows.db", 0) as store:
        done = export(store, tmp_path / "out", ExportSpec(), FACTS)
    assert done.counts == {} and [path.name for path in done.folder.iterdir()] == ["README.md"]
    assert "There are no rows yet" in (done.folder / "README.md").read_text()


# the bytes


def test_equal_data_is_equal_bytes_in_whatever_order_rows_finished(store: RowStore, tmp_path: Path) -> None:
    first = files_of(export(store, tmp_path / "first", ExportSpec(), FACTS).folder)
    again = files_of(export(store, tmp_path / "again", ExportSpec(), FACTS).folder)
    with plan(tmp_path / "other.db") as other:
        for row in reversed(list(other.rows())):
            other.finish(SetAside(row, "no_answer", "a first try"))
        other.reopen({"no_answer"})
        for row in sorted(other.rows(), key=lambda row: row.id):
            other.finish(outcome(row))
        spent = Spend(calls=9, remembered=1, input_tokens=10, output_tokens=20, dollars=0.5)
        facts = CardFacts(
            **{name: getattr(FACTS, name) for name in FACTS.__slots__} | {"spend": spent, "made": "today"}
        )
        others = files_of(export(other, tmp_path / "first", ExportSpec(), facts).folder)
    assert {name.replace("again", "first") for name in again} == set(first) and len(first) == 15
    for name, content in first.items():
        if name != "README.md":
            assert content == again[name] == others[name], name
    assert others["README.md"] != first["README.md"]  # spend and time stand in the card alone


def test_row_groups_end_by_rows_and_by_text(store: RowStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = rows_of(export(store, tmp_path / "a", ExportSpec(), FACTS).folder, "pairs")
    for name, value in (("GROUP_ROWS", 7), ("GROUP_BYTES", 400)):
        with monkeypatch.context() as patch:
            patch.setitem(export.__globals__, name, value)  # the module's own name is its function's
            folder = export(store, tmp_path / "b", ExportSpec(), FACTS).folder
        assert pq.ParquetFile(folder / "data/pairs/train.parquet").num_row_groups > 4
        assert rows_of(folder, "pairs") == whole
    assert len(datasets_of(folder, tmp_path / "cache", "pairs")["train"]) == len(rows_of(folder, "pairs", "train"))


def test_no_cache_takes_one_export_for_another(tmp_path: Path) -> None:
    """`datasets` keeps what it loaded by folder name and YAML alone; more rows, or another run, must not be hidden."""
    with plan(tmp_path / "rows.db", 20) as store:
        for limit, wanted in ((10, 8), (20, 16)):
            for row in store.rows(limit):
                store.finish(outcome(row))
            folder = export(store, tmp_path / "a" / "dataset", ExportSpec(test_fraction=0), FACTS).folder
            assert len(datasets_of(folder, tmp_path / "cache", "preference")["train"]) == wanted
    with plan(tmp_path / "other.db", 20) as other:
        for row in other.rows():
            first, second = Draft("candidate.1", "One."), Draft("candidate.2", "Two.")
            other.finish(Pair(row, "One.", "Two.", first.name, second.name, 0.9, "p", "d", "j", (), (first, second)))
        folder = export(other, tmp_path / "b" / "dataset", ExportSpec(test_fraction=0), FACTS).folder
        loaded = datasets_of(folder, tmp_path / "cache", "preference")["train"]
    assert {row["chosen"][0]["content"] for row in loaded} == {"One."}


# whole, or not there


@contextmanager
def no_disk_left(room: int) -> Iterator[None]:
    """Let no file of this process grow beyond `room` bytes; the kernel refuses the write as a full disk would."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100, 2000])
def test_a_full_disk_leaves_the_export_before(
    store: RowStore, tmp_path: Path, capfd: pytest.CaptureFixture[str], room: int
) -> None:
    before = files_of(export(store, tmp_path / "out", ExportSpec(), FACTS).folder)
    with pytest.raises(StorageError, match=r"out: cannot be written \(File too large\); the export before") as caught:
        with no_disk_left(room):
            export(store, tmp_path / "out", ExportSpec(margin=True, test_fraction=0.5), FACTS)
    assert "\n" not in str(caught.value)
    assert files_of(tmp_path / "out") == before
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["out"]
    assert capfd.readouterr().err == ""


KILLED = """
import os, sys
from pathlib import Path
sys.path.insert(0, sys.argv[4])
from test_export import FACTS, ExportSpec, RowStore, export
step = int(sys.argv[3])
rename = Path.rename
def killed(self, target):
    global step
    step -= 1
    if step == 0:
        os.kill(os.getpid(), 9)
    return rename(self, target)
Path.rename = killed
with RowStore.open(Path(sys.argv[1]), read_only=True) as store:
    export(store, Path(sys.argv[2]), ExportSpec(test_fraction=0.5), FACTS)
"""


@pytest.mark.parametrize(("step", "left"), [(1, "old"), (2, "none")])
def test_a_kill_leaves_the_old_export_or_none_and_the_next_one_mends(
    store: RowStore, tmp_path: Path, step: int, left: str
) -> None:
    out = tmp_path / "out"
    before = files_of(export(store, out, ExportSpec(), FACTS).folder)
    args = [sys.executable, "-c", KILLED, str(store.path), str(out), str(step), str(Path(__file__).parent)]
    store.flush()
    assert subprocess.run(args, check=False).returncode == -signal.SIGKILL
    if left == "old":
        assert files_of(out) == before
    else:
        assert not out.exists()
    after = files_of(export(store, out, ExportSpec(), FACTS).folder)
    assert after == before
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == ["out"]


def test_a_folder_with_other_things_is_never_replaced(store: RowStore, tmp_path: Path) -> None:
    out = tmp_path / "out"
    (out / "data").mkdir(parents=True)
    (out / "README.md").write_text("# My own project\n")
    with pytest.raises(BadInput, match=r"out: holds something that is no export of Solon's; give another folder"):
        export(store, out, ExportSpec(), FACTS)
    assert (out / "README.md").read_text() == "# My own project\n"
    shutil.rmtree(out)
    out.mkdir()
    export(store, out, ExportSpec(), FACTS)  # an empty folder holds nothing to lose
    (out / "notes.txt").write_text("mine")
    with pytest.raises(BadInput, match=r"out: 'notes.txt' would be lost; move it, or give another folder"):
        export(store, out, ExportSpec(), FACTS)
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match=r"file: holds something"):
        export(store, tmp_path / "file", ExportSpec(), FACTS)


def test_a_folder_that_cannot_be_written_is_one_line(store: RowStore) -> None:
    with tempfile.TemporaryDirectory() as folder:  # pytest's own is closed to others than root
        Path(folder).chmod(0o555)
        root = os.geteuid() == 0
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(StorageError, match=r"out: cannot be written \(Permission denied\)"):
                export(store, Path(folder) / "out", ExportSpec(), FACTS)
        finally:
            if root:
                os.seteuid(0)
            Path(folder).chmod(0o755)


# the card


def test_the_card_says_what_a_reader_needs(store: RowStore, tmp_path: Path) -> None:
    spent = Spend(calls=1234, remembered=5, input_tokens=10, output_tokens=20, dollars=None, seconds=90)
    facts = CardFacts(**{name: getattr(FACTS, name) for name in FACTS.__slots__} | {"spend": spent, "made": "1 May"})
    done = export(store, tmp_path / "out", ExportSpec(), facts)
    card = (done.folder / "README.md").read_text(encoding="utf-8")
    quality = store.quality()
    for told in (
        "Small, version 1, digest `abcdef`. Source: written for this test. Licence: MIT.",
        "| judge | wise | `openai:wise` |",
        "Providers' terms may restrict what their outputs may train",
        "| planned | 60 |",
        "| pairs | 48 |",
        f"| mean P(chosen is better) | {quality.mean_p:.3f} |",
        f"| the first answer beat its revision | {16 / 48:.1%} (16 of 48 pairs) |",
        "| ties, set aside | 20.0% (12 of 60 finished rows) |",
        "| the judge did not say | 50.0% (60 of 120 votes that decided a row) |",
        "| same slot: the place, first or second, won in both orders | no rows judged in both orders |",
        "| meta-preamble stripped | 50.0% (60 of 120 revisions) |",
        "| unfinished last sentence trimmed | 33.3% (60 of 180 texts) |",
        f"| `preference` (default) | {done.counts['preference']['train']} | {done.counts['preference']['test']} |",
        'load_dataset("out", "preference")',
        "trl reward --dataset_name out --dataset_config reward",
        "plan `0123456789ab`, seed 7",
        "solon run recipe.yaml",
        "1,234 calls answered by models and 5 from the ledger's memory",
        "price unknown, 1.5 minutes",
        "The prompts are made up.",
        "arxiv.org/abs/2212.08073",
        "10% of the prompts are held out",
        "on 1 May",
    ):
        assert told in card, told
    assert "language" not in card.split("---")[1] and "n<1K" in card.split("---")[1]


def test_importing_the_package_imports_no_heavy_library() -> None:
    code = (
        "import sys, solon.dataset; print(sorted({'pyarrow','datasets','torch','huggingface_hub'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
