"""What cannot be trained, or not here, is said in one line; and nothing else is said."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from training_kit import make_model, small_run, tried

from solon.errors import BadInput, NotInstalled, StorageError
from solon.training import train

pytest.importorskip("trl")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_run(tmp_path_factory.mktemp("runs") / "harmless-3f2a")


@pytest.mark.parametrize(
    ("task", "what"),
    [("grpo", "unknown training 'grpo'; choose from sft, reward, dpo"), ("dpo", "no such folder")],
)
def test_what_is_not_there_is_said_in_one_line(task: str, what: str, tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=what):
        train(task, [tmp_path / "nowhere"], model=str(tiny), output=tmp_path / "out")
    with pytest.raises(BadInput, match="name at least one run folder"):
        train("dpo", [], model=str(tiny))


def test_a_folder_without_the_dataset_the_view_or_a_column_is_named(tiny: Path, run: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match=r"holds no dataset .*solon export"):
        tried("dpo", tmp_path / "empty", tiny, tmp_path / "a")
    odd = shutil.copytree(run, tmp_path / "odd")
    card = odd / "dataset" / "README.md"
    card.write_text(card.read_text().replace("config_name: sft", "config_name: revisions"))
    with pytest.raises(BadInput, match="has no view 'sft', only 'preference', 'reward', 'revisions'"):
        tried("sft", odd, tiny, tmp_path / "b")
    card.write_text(card.read_text().replace("data/preference/", "data/revisions/").replace("data/sft", "data/x"))
    (odd / "dataset" / "data" / "sft").rename(odd / "dataset" / "data" / "revisions")
    with pytest.raises(BadInput, match="'preference', split 'train' has no column 'chosen', 'rejected'"):
        tried("dpo", odd, tiny, tmp_path / "c")
    (odd / "dataset" / "data" / "reward" / "train.parquet").write_bytes(b"PAR1 torn")
    with pytest.raises(BadInput, match="view 'reward' cannot be read"):
        tried("reward", odd, tiny, tmp_path / "d")


def test_a_model_that_cannot_be_trained_is_named_before_it_is_loaded(tiny: Path, run: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"--model \./nothing: no such folder"):
        train("dpo", [run], model="./nothing", output=tmp_path / "a")
    bare = make_model(tmp_path / "bare", template=None)
    with pytest.raises(BadInput, match=r"no chat template.*instruction-tuned.*train sft first"):
        tried("dpo", run, bare, tmp_path / "b")
    assert not (tmp_path / "b").exists()
    scorer, _ = tried("reward", run, tiny, tmp_path / "scorer")
    with pytest.raises(BadInput, match="LlamaForSequenceClassification, and dpo trains a causal language model"):
        tried("dpo", run, scorer.folder, tmp_path / "c")
    torn = shutil.copytree(tiny, tmp_path / "torn")
    (torn / "model.safetensors").write_bytes(b"torn")
    with pytest.raises(BadInput, match=r"dpo of .* failed in TRL"):
        tried("dpo", run, torn, tmp_path / "d")
    (torn / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="cannot be opened"):
        tried("dpo", run, torn, tmp_path / "e")


def test_memory_and_disk_that_do_not_suffice_end_in_one_line_with_a_remedy(tmp_path: Path) -> None:
    from solon.training.faults import translated
    from solon.training.job import Job

    job = Job("dpo", (tmp_path,), "big", tmp_path, tmp_path)
    for error in (
        MemoryError(),
        RuntimeError("CUDA out of memory. Tried to allocate"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ):
        with pytest.raises(BadInput, match=r"does not fit into memory; try .*--lora"), translated(job):
            raise error
    with pytest.raises(StorageError, match="cannot be written"), translated(job):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    with pytest.raises(BadInput, match=r"failed in TRL .*: KeyError: 'chosen_ids'"), translated(job):
        raise KeyError("chosen_ids")


def test_without_the_extra_the_pip_command_is_told(
    tiny: Path, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    with pytest.raises(NotInstalled, match=r"training needs trl: pip install 'solon\[train\]'"):
        tried("dpo", run, tiny, tmp_path / "out")


def test_importing_the_door_loads_neither_torch_nor_trl() -> None:
    code = "import sys, solon.training; print([m for m in ('torch', 'trl', 'datasets') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_nothing_is_written_to_the_screen_but_what_is_said(
    tiny: Path, run: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tried("dpo", run, tiny, tmp_path / "out")
    assert capfd.readouterr() == ("", "")
    tried("dpo", run, tiny, tmp_path / "bars", "disable_tqdm=false")
    assert "2/2" in capfd.readouterr().err
