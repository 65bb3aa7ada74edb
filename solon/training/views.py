"""From folders to rows: one view of one or more exported datasets, ready for TRL.

    runs/harmless-3f2a/            a run folder: its export lies in dataset/
    runs/harmless-3f2a/dataset/    or the export itself: README.md (the card) and data/<view>/<split>.parquet

The views are configurations in the card, so that `datasets.load_dataset(folder, "preference")` reads what is read
here. Several folders are laid end to end; a prompt that stands in one folder's test split and in another's train
split is taken out of the test, which would otherwise praise what was learned by heart.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from solon.complaints import words_of
from solon.errors import BadInput

if TYPE_CHECKING:
    from datasets import Dataset

    from solon.training.job import Job

__all__ = ["View", "count_kept", "dataset_folder", "read"]


@dataclass(frozen=True)
class View:
    """Rows of one view.

    name:    "preference", "reward" or "sft"
    train:   rows to learn from, at least one
    test:    rows held out, None where there are none
    folders: the dataset folders, in order
    """

    name: str
    train: Dataset
    test: Dataset | None
    folders: tuple[Path, ...]

    @property
    def test_rows(self) -> int:
        return len(self.test) if self.test is not None else 0


def dataset_folder(given: Path) -> Path:
    """Return the folder with the card for a run folder, or for a dataset folder itself. Raises BadInput."""
    if not given.exists():
        raise BadInput(f"{given}: no such folder; give a run folder (runs/<name>) or an exported dataset")
    for folder in (given / "dataset", given):
        if (folder / "README.md").is_file() and (folder / "data").is_dir():
            return folder
    raise BadInput(f"{given}: holds no dataset (README.md and data/); write one with `solon export {given}`")


def read(job: Job, name: str, columns: Sequence[str], optional: Sequence[str] = ()) -> View:
    """Return the view `name` of all the job's folders.

    columns, optional: what the trainer reads; every other column (ids, scores, provenance) stays behind.

    Raises:
        BadInput: no such folder, view, split or column; nothing to train on; a margin in some rows only.
    """
    from datasets import concatenate_datasets

    folders = tuple(dataset_folder(run) for run in job.runs)
    parts = [_load(folder, name, columns, job.cache / str(place)) for place, folder in enumerate(folders)]
    kept: list[str] = [*columns]
    for column in optional:
        with_it = [split for part in parts for split in part.values() if column in split.column_names]
        if with_it and len(with_it) < sum(len(part) for part in parts):
            raise BadInput(f"column {column!r} is in some of {_named(folders)} only; export all with it, or none")
        kept += [column] if with_it else []
    splits: dict[str, Any] = {}
    for split in ("train", "test"):
        rows = [part[split].select_columns(kept) for part in parts if split in part and len(part[split])]
        if rows:
            splits[split] = concatenate_datasets(rows)
    if "train" not in splits:
        raise BadInput(f"{_named(folders)}: view {name!r} has no rows to train on")
    train, test = splits["train"], splits.get("test")
    if test is not None:
        test = _unseen(train, test, job)
    if job.limit is not None:
        train = train.select(range(min(job.limit, len(train))))
        test = test.select(range(min(job.limit, len(test)))) if test is not None else None
    return View(name, train, test, folders)


def count_kept(job: Job, view: View, trainer: Any, *, packed: bool = False) -> int:
    """Say how many rows the trainer left out or cut for their length; return how many it left out of training.

    TRL drops without an error: the reward trainer every pair with a text above `max_length`, DPO and SFT the rows
    whose prompt alone fills it.

    packed: rows were joined into blocks, so that they cannot be counted

    Raises:
        BadInput: nothing is left to train on.
    """
    most = trainer.args.max_length
    left_out = 0 if packed else len(view.train) - len(trainer.train_dataset)
    what = "a text" if job.task == "reward" else "a prompt alone"
    if not len(trainer.train_dataset):
        raise BadInput(
            f"max_length={most} leaves none of {len(view.train):,} rows to train on: {what} is longer in each; "
            "raise it with --set max_length=..., or set it to null"
        )
    if left_out:
        job.say(
            f"{left_out:,} of {len(view.train):,} rows are left out: {what} is longer than max_length={most} tokens"
        )
    if job.task == "dpo" and most is not None:
        lengths = zip(
            *(trainer.train_dataset[name] for name in ("prompt_ids", "chosen_ids", "rejected_ids")), strict=True
        )
        cut = sum(len(prompt) + max(len(chosen), len(rejected)) > most for prompt, chosen, rejected in lengths)
        if cut:
            job.say(f"{cut:,} of {len(trainer.train_dataset):,} pairs are cut at max_length={most} tokens")
    if view.test is not None and not len(trainer.eval_dataset):
        job.say(f"the test split is left out whole: {what} is longer than max_length={most} tokens in each row")
        trainer.eval_dataset = None
    return left_out


def _load(folder: Path, name: str, columns: Sequence[str], cache: Path) -> Any:
    """Return {split: rows} of one folder's view."""
    from datasets import get_dataset_config_names, load_dataset
    from datasets.exceptions import DatasetsError

    try:
        views = get_dataset_config_names(str(folder))
        if name not in views:
            raise BadInput(f"{folder}: has no view {name!r}, only {_listed(views)}; `solon export` writes the views")
        # never from the shared cache: datasets 5.2 finds an entry there by the folder's last name and its card's
        # configs, so that two folders called `dataset`, or one exported anew, are taken for each other
        rows = load_dataset(str(folder), name, cache_dir=str(cache))
    except (DatasetsError, ValueError, OSError) as error:
        why = words_of(error.__cause__ or error)
        raise BadInput(f"{folder}: view {name!r} cannot be read ({why}); export the run again") from error
    for split, part in rows.items():
        missing = [column for column in columns if column not in part.column_names]
        if missing:
            raise BadInput(
                f"{folder}: view {name!r}, split {split!r} has no column {_listed(missing)}, only "
                f"{_listed(part.column_names)}; export the run again"
            )
    return rows


def _unseen(train: Dataset, test: Dataset, job: Job) -> Dataset | None:
    """Return the rows of `test` whose prompt is not in `train`."""
    learned = {_asked(row) for row in train}
    places = [place for place, row in enumerate(test) if _asked(row) not in learned]
    if len(places) < len(test):
        job.say(f"{len(test) - len(places):,} of {len(test):,} test rows are left out: their prompt is trained on")
    return test.select(places) if places else None


def _asked(row: dict[str, Any]) -> str:
    """Return the prompt of a row as text; an implicit prompt is all but the last turn of the chosen one."""
    return json.dumps(row["prompt"] if "prompt" in row else row["chosen"][:-1], sort_keys=True, default=str)


def _listed(names: Sequence[str]) -> str:
    return ", ".join(repr(each) for each in names) or "none"


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
