"""From finished rows to a folder that `load_dataset` and the `trl` command read as it stands.

    exported = export(store, Path("runs/first-1a2b/dataset"), ExportSpec(test_fraction=0.1), facts)

The folder holds `README.md` (the card, whose YAML names the views) and `data/<view>/<split>.parquet`. Files are
in the plan's order and hold nothing that differs between equal runs, so equal runs have equal bytes. A view or a
split without rows has no file and is not in the YAML: `datasets` (5.2) refuses an empty split wherever it stands,
and takes the whole view down with it.

`datasets` keeps what it has loaded, under the folder's own name and a hash of the YAML's configurations, and looks
at no path, time or content of the data files: two runs' folders of one name would be one dataset to it, and so
would an export before and after more rows. Each view's description in the YAML names its content for that reason.

Everything is written beside the folder and renamed into its place at the end: after a full disk or a kill there is
the export from before, or none, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from solon.complaints import one_of
from solon.dataset.card import MARK, CardFacts, card_text
from solon.dataset.encoding import gate
from solon.dataset.store import RowStore
from solon.dataset.views import VIEWS, Views, schema
from solon.digests import uniform
from solon.errors import BadInput, StorageError

__all__ = ["ExportSpec", "Exported", "export"]

GROUP_ROWS = 1_000
GROUP_BYTES = 500_000
"""A row group ends after so many rows, or bytes of them as JSON: a run's memory has its peak in its export."""


class ExportSpec(BaseModel):
    """How the data files are cut.

    test_fraction: the share of prompts whose rows stand in the test split; the hash of a prompt decides, so that
                   it never changes its side
    margin:        give the reward view a column `margin` = logit(P(chosen is better)), at most 5; TRL's reward
                   trainer acts on it as soon as it is there
    sft:           "all" revisions of a row whose revision was chosen, or the "last" alone; where the first answer won,
                   or nothing was revised, the chosen answer either way
    views:         which views to write
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    test_fraction: float = Field(0.1, ge=0, lt=1)
    margin: bool = False
    sft: Literal["all", "last"] = "all"
    views: tuple[str, ...] = Field(VIEWS, min_length=1)

    @field_validator("views")
    @classmethod
    def _known(cls, views: tuple[str, ...]) -> tuple[str, ...]:
        for view in views:
            if view not in VIEWS:
                raise ValueError(f"unknown view {view!r}; {one_of(view, VIEWS)}")
        return tuple(view for view in VIEWS if view in views)

    def split(self, row_id: str) -> str:
        """Return "test" or "train"."""
        return "test" if uniform("solon.split/1", row_id) < self.test_fraction else "train"


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written: `counts[view][split]` rows. Views and splits without rows are not in it."""

    folder: Path
    counts: dict[str, dict[str, int]]


def export(store: RowStore, folder: Path, spec: ExportSpec, card: CardFacts) -> Exported:
    """Write the data files and the card of `store` to `folder`, in place of an earlier export.

    Raises BadInput where `folder` holds something that is no export, StorageError where it cannot be written.
    """
    folder = folder.expanduser().resolve()
    fresh = folder.with_name(f".{folder.name}.new")
    old = folder.with_name(f".{folder.name}.old")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        if old.exists() and not folder.exists():
            old.rename(folder)  # an export was killed between its two renames
        _check_replaceable(folder)
        for left in (fresh, old):
            if left.exists():
                shutil.rmtree(left)
        fresh.mkdir()
        counts = _write_views(store, fresh / "data", spec)
        digests = {view: _digest(fresh / "data" / view) for view in counts}
        text = card_text(card, store, counts, digests, folder.name, spec.test_fraction)
        (fresh / "README.md").write_text(text, encoding="utf-8")
        _swap(fresh, folder, old)
    except OSError as error:
        why = error.strerror or str(error)
        raise StorageError(f"{folder}: cannot be written ({why}); the export before, if any, stands") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
    return Exported(folder, counts)


def _digest(folder: Path) -> str:
    """Return a name for the content of a view: 16 hex digits over its files."""
    content = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        content.update(f"{file.name}\n{file.stat().st_size}\n".encode())
        with file.open("rb") as stream:
            while chunk := stream.read(1 << 20):
                content.update(chunk)
    return content.hexdigest()[:16]


def _check_replaceable(folder: Path) -> None:
    if not folder.exists():
        return
    card = folder / "README.md"
    ours = folder.is_dir() and card.is_file() and MARK in card.read_text(encoding="utf-8", errors="replace")
    if not ours and (not folder.is_dir() or any(folder.iterdir())):
        raise BadInput(f"{folder}: holds something that is no export of Solon's; give another folder")
    others = sorted(entry.name for entry in folder.iterdir() if entry.name not in ("README.md", "data", ".cache"))
    if others:
        raise BadInput(f"{folder}: {others[0]!r} would be lost; move it, or give another folder")


def _swap(fresh: Path, folder: Path, old: Path) -> None:
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _write_views(store: RowStore, data: Path, spec: ExportSpec) -> dict[str, dict[str, int]]:
    wanted = frozenset(spec.views)
    views = {split: Views(wanted, sft=spec.sft, margin=spec.margin) for split in ("train", "test")}
    with _Files(data, spec.margin) as files:
        if "prompts" in wanted:
            for row in store.rows(unfinished=False):
                split = spec.split(row.id)
                for view, columns in views[split].of_row(row):
                    files.add(view, split, columns)
        for written in store.outcomes():
            outcome = gate(written)
            split = spec.split(outcome.row.id)
            for view, columns in views[split].of_outcome(outcome):
                files.add(view, split, columns)
        for split, made in views.items():
            for view, columns in made.rest():
                files.add(view, split, columns)
    counts = {(view, split): file.rows for (view, split), file in files.open.items()}
    return {
        view: {split: counts[view, split] for split in ("train", "test") if (view, split) in counts}
        for view in VIEWS
        if any(name == view for name, _ in counts)
    }


_JSON = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


class _Files:
    """The open data files, one a view and split; each is made when its first row comes."""

    def __init__(self, data: Path, margin: bool) -> None:
        self._data, self._margin = data, margin
        self.open: dict[tuple[str, str], _File] = {}

    def add(self, view: str, split: str, columns: dict[str, Any]) -> None:
        file = self.open.get((view, split))
        if file is None:
            path = self._data / view / f"{split}.parquet"
            file = self.open[view, split] = _File(path, schema(view, margin=self._margin))
        file.add(columns)

    def __enter__(self) -> _Files:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:  # one file that cannot be closed keeps no other one open
            for file in self.open.values():
                stack.callback(file.close, whole=kind is None)


class _File:
    """One Parquet file. Rows gather into a row group, which ends after so many rows, or so much text."""

    def __init__(self, path: Path, shape: Any) -> None:
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        self.rows = 0
        self._path, self._shape = path, shape
        self._stream = path.open("wb")
        self._writer = pq.ParquetWriter(self._stream, shape, compression="zstd")
        self._group: list[bytes] = []
        self._size = 0

    def add(self, columns: dict[str, Any]) -> None:
        self.rows += 1
        self._group.append(_JSON.encode(columns).encode())
        self._size += len(self._group[-1])
        if len(self._group) >= GROUP_ROWS or self._size >= GROUP_BYTES:
            self._end_group()

    def _end_group(self) -> None:
        # not Table.from_pylist: pyarrow would import pandas to ask what kind of list it was given, a third of a run's
        # memory; its own reader of JSON needs no Python object for every cell, and is faster
        from pyarrow import BufferReader
        from pyarrow import json as reader

        lines = b"\n".join(self._group)
        read = reader.ReadOptions(use_threads=False, block_size=len(lines) + 1)
        parse = reader.ParseOptions(explicit_schema=self._shape, unexpected_field_behavior="error")
        self._writer.write_table(reader.read_json(BufferReader(lines), read_options=read, parse_options=parse))
        self._group, self._size = [], 0

    def close(self, *, whole: bool) -> None:
        with self._stream:
            if whole:
                if self._group:
                    self._end_group()
                self._writer.close()
                self._stream.flush()
                os.fsync(self._stream.fileno())
            else:
                self._writer.is_open = False  # a writer that is open writes its end when it is collected
