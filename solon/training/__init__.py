"""From preference data to a trained model, through TRL.

    train("dpo", [Path("runs/latest")], model="smollm2", sets=["learning_rate=1e-5"], say=print)

`sft.py`, `reward.py` and `dpo.py` each read from the dataset to the saved model; what they share stands beside them:

    job.py      what is asked, what comes back          views.py    folders to rows
    options.py  TRL's config: ours, a file's, --set     base.py     the model to start from
    guards.py   options that TRL would ignore           lora.py     adapters, and merging them
    curves.py   JSONL and PNG                           saving.py   the steps, Ctrl-C, solon.json
    faults.py   the libraries' errors in one line

Nothing here knows how a dataset was made: a folder with a card comes in. torch and TRL are loaded by `train`.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from solon.errors import BadInput, SolonError, StorageError
from solon.training.job import TASKS, Job, Trained, installed, place_for

__all__ = ["TASKS", "Trained", "merge", "train"]


def train(
    task: str,
    runs: Iterable[Path],
    *,
    model: str,
    output: Path | None = None,
    lora: bool = False,
    sets: Iterable[str] = (),
    options_file: Path | None = None,
    limit: int | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> Trained:
    """Train `model` on exported runs and return what came out.

    Args:
        task: "sft" (imitate the revisions), "reward" (learn to score) or "dpo" (learn from pairs).
        runs: run folders, or dataset folders; several are concatenated.
        model: a hub id, a folder, or "smollm2".
        output: where to save; by default `models/<task>-<model>` in the first run folder.
        lora: train a LoRA adapter instead of all weights.
        sets: options as "key=value", fields of TRL's config; they win over the file's.
        options_file: a YAML file of the same.
        limit: use only the first rows of each split.
        say: takes progress and warnings, a line at a time.

    Raises:
        BadInput: a folder, model or option that cannot be used; each problem in one line.
        NotInstalled: the `train` extra is missing.
        StorageError: the output cannot be written.
        SolonError: the loss became nan.
    """
    from solon.models.weights import prepare_torch
    from solon.training import faults, options

    runs = tuple(Path(run) for run in runs)
    if task not in TASKS:
        raise BadInput(f"unknown training {task!r}; choose from {', '.join(TASKS)}")
    if not runs:
        raise BadInput(f"train {task}: name at least one run folder")
    if limit is not None and limit < 1:
        raise BadInput(f"--limit {limit}: must be 1 or more")
    given = options.read(sets, options_file)
    # TRL reports every training to its makers; whoever wants that sets the variable to 0
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    prepare_torch()
    faults.needs("torch", "transformers", "accelerate", "trl", "matplotlib", "peft")
    options.warn_of_trl(installed("trl"), say)

    folder = place_for(runs, task, model, output, lora=lora, resumes="resume_from_checkpoint" in given)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        cache = tempfile.TemporaryDirectory(dir=folder, prefix=".cache-", ignore_cleanup_errors=True)
    except OSError as error:
        raise StorageError(f"{folder}: cannot be written ({error.strerror}); choose another --output") from error
    try:
        with cache, faults.quiet():
            job = Job(task, runs, model, folder, Path(cache.name), given, lora, limit, say)
            return importlib.import_module(f"solon.training.{task}").train(job)
    except SolonError:
        with contextlib.suppress(OSError):
            folder.rmdir()  # only where nothing was written
        raise


def merge(adapter: str | Path, output: str | Path) -> Path:
    """Fold a LoRA adapter into its base and save the model; see solon.training.lora.merge."""
    from solon.training import lora

    return lora.merge(adapter, output)
