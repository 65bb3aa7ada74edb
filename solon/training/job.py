"""What is asked of a trainer, and what comes back.

    Job       task, runs, model, options, where to  ->  sft.py | reward.py | dpo.py  ->  Trained

The finished folder holds the model as `from_pretrained` wants it, its tokenizer with the chat template, the curves,
and `solon.json`, written last: a folder without it is one that training did not finish.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from solon.errors import BadInput, StorageError

__all__ = ["LIBRARIES", "NOTE", "TASKS", "Given", "Job", "Trained", "installed", "place_for", "write_note"]

TASKS = ("sft", "reward", "dpo")
NOTE = "solon.json"
LIBRARIES = ("torch", "transformers", "trl", "peft", "accelerate", "datasets")


@dataclass(frozen=True)
class Given:
    """One option that a person wrote, and where: "--set", or "dpo.yaml:3"."""

    value: Any
    place: str


@dataclass(frozen=True)
class Job:
    """One training that somebody asked for.

    task:    "sft", "reward" or "dpo"
    runs:    run folders or dataset folders, concatenated in this order
    model:   what the user wrote: a hub id, a folder, or an embedded model's name
    output:  the folder to write
    cache:   a folder for the rows as `datasets` keeps them, gone when the training ends
    given:   the user's options by name, with the place where each was written
    lora:    train a LoRA adapter instead of all weights
    limit:   use only the first rows of each split; None for all
    say:     takes one line for people
    """

    task: str
    runs: tuple[Path, ...]
    model: str
    output: Path
    cache: Path
    given: Mapping[str, Given] = field(default_factory=dict)
    lora: bool = False
    limit: int | None = None
    say: Callable[[str], None] = lambda line: None


@dataclass(frozen=True)
class Trained:
    """A finished training.

    folder:   the saved model, or LoRA adapter
    curves:   PNG; None where nothing was logged
    log:      JSONL, one logged record a line, with TRL's names
    metrics:  what the curves end at: "train loss", "test accuracy", ...
    rows:     rows trained on, after what TRL left out
    left_out: rows that did not fit into `max_length`
    steps:    optimizer steps taken
    seconds:  wall time from the first step to the saved model
    """

    folder: Path
    curves: Path | None
    log: Path
    metrics: dict[str, float]
    rows: int
    left_out: int
    steps: int
    seconds: float


def installed(library: str) -> str:
    """Return the installed version of a library, "" if there is none."""
    try:
        return version(library)
    except PackageNotFoundError:
        return ""


def place_for(runs: tuple[Path, ...], task: str, model: str, output: Path | None, *, lora: bool, resumes: bool) -> Path:
    """Return the folder to write: `output`, or a new one in `models/` beside the first dataset.

    Raises:
        BadInput: `output` is a file, or holds a finished model that a new one would overwrite.
    """
    if output is not None:
        if output.exists() and not output.is_dir():
            raise BadInput(f"--output {output}: is a file; name a folder")
        if (output / NOTE).exists() and not resumes:
            raise BadInput(f"--output {output}: already holds a trained model; name another folder, or remove it")
        return output
    first = runs[0]
    home = first if (first / "dataset").is_dir() else first.parent
    if home.is_symlink():
        # runs/latest moves on; what is printed and kept should not
        home = home.parent / home.readlink()
    name = "-".join([task, Path(model).name or "model", *(["lora"] if lora else [])])
    number, folder = 1, home / "models" / name
    while (folder / NOTE).exists() and not resumes:
        number += 1
        folder = home / "models" / f"{name}-{number}"
    return folder


def write_note(folder: Path, note: Mapping[str, Any]) -> None:
    """Write `solon.json`, whole or not at all. Raises StorageError."""
    path = folder / NOTE
    try:
        draft = path.with_suffix(".part")
        draft.write_text(json.dumps(note, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        draft.replace(path)
    except OSError as error:
        raise StorageError(
            f"{path}: cannot be written ({error.strerror}); free some space, or choose another --output"
        ) from error
