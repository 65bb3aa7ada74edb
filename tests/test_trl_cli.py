"""The stock `trl` commands train on an exported folder, as it stands, and on every row of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from training_kit import make_model

from solon.calls import Message
from solon.dataset import CardFacts, Exported, ExportSpec, RowStore, export
from solon.rows import Draft, Pair, Prompt

ROWS = 24
FACTS = CardFacts("trl", "0" * 12, "Revision", "Small", "1", "abc", 0, (), "made up", "solon run", "0.1.0")
EVERY = """
import runpy, sys
for command, *rest in (line.split("\\x1f") for line in sys.stdin.read().splitlines()):
    print(f"== {command}", flush=True)
    print(f"== {command}", file=sys.stderr, flush=True)
    sys.argv = [f"trl {command}", *rest]
    runpy.run_module(f"trl.scripts.{command}", run_name="__main__")
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    folder = tmp_path_factory.mktemp("run")
    with RowStore.create(folder / "rows.db") as store:
        for number in range(ROWS):
            first = Message("system", "Be kind.") if number % 2 else Message("user", "Hello.")
            second = () if number % 2 else (Message("assistant", "Hello, what is it?"),)
            store.add(Prompt((first, *second, Message("user", f"What is {number} and {number}?"))), [])
        for row in store.rows():
            drafts = (Draft("response", "No."), Draft("revision.1", f"It is {2 * row.index}.", "p", "d", "Be helpful."))
            names = ("revision.1", "response")
            texts = (drafts[1].text, drafts[0].text)
            store.finish(Pair(row, *texts, *names, 0.9, "p", "d", "tiny", (), drafts))
        return export(store, folder / "dataset", ExportSpec(margin=True, test_fraction=0.25), FACTS)


def test_trl_dpo_reward_sft_and_kto_train_on_the_folder(exported: Exported, model: Path, tmp_path: Path) -> None:
    commands = {"dpo": None, "reward": "reward", "sft": "sft", "kto": "kto"}
    flags = ["--use_cpu", "--bf16", "false", "--report_to", "none", "--max_steps", "2", "--save_strategy", "no",
             "--per_device_train_batch_size", "4", "--logging_steps", "1", "--log_level", "info",
             "--eval_strategy", "steps", "--eval_steps", "2"]  # fmt: skip
    lines = []
    for command, config in commands.items():
        named = ["--dataset_config", config] if config else []  # dpo takes the default configuration
        where = ["--dataset_name", str(exported.folder), "--model_name_or_path", str(model)]
        lines.append("\x1f".join([command, *where, *named, "--output_dir", str(tmp_path / command), *flags]))
    offline = {
        "HF_HUB_OFFLINE": "1",
        "HF_HOME": str(tmp_path / "hf"),
        "OMP_NUM_THREADS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
    done = subprocess.run(
        [sys.executable, "-c", EVERY], input="\n".join(lines), env={**os.environ, **offline}, cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-4000:]
    told = dict(zip(commands, re.split(r"^== \w+$", done.stderr, flags=re.M)[1:], strict=True))
    logged = dict(zip(commands, re.split(r"^== \w+$", done.stdout, flags=re.M)[1:], strict=True))
    for command, config in commands.items():
        counts = exported.counts[config or "preference"]
        # TRL drops and truncates without a word: what it trained on must be every row that was exported
        trained, tested = (int(n.replace(",", "")) for n in re.findall(r"Num examples = ([\d,]+)", told[command])[:2])
        assert (trained, tested) == (counts["train"], counts["test"]), command
        assert re.search(r"'loss': '?\d", logged[command]) and "'eval_loss'" in logged[command], command
        assert (tmp_path / command / "model.safetensors").is_file()
