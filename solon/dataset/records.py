"""The formats of a prompts source: each is a generator of records, with a place that people can go to.

Every reader hands over what it can read and notes what it cannot (`Mistakes.add`), so that one bad line does
not hide the next; where nothing after a mistake could be trusted (an open quote, a torn archive) it notes
that and ends. No reader holds more than one line, one CSV record or one small batch.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import BufferedIOBase
from pathlib import Path
from typing import Any, NamedTuple

from solon import yamls
from solon.complaints import closest, words_of
from solon.errors import BadInput

__all__ = [
    "LONGEST_LINE",
    "Mistakes",
    "Record",
    "did_you_mean",
    "file_records",
    "hub_records",
    "kind",
    "listed",
    "misspelt",
]

LONGEST_LINE = 8 << 20
"""Bytes. A prompt of the most characters fits, escaped as JSON may escape it."""
SHOWN = 20
BATCH = 64
TORN = (EOFError, gzip.BadGzipFile, zlib.error)

Choose = Callable[[list[str]], list[str]]
"""Which of these columns are worth reading; a table of a hundred columns is not read for one."""


class Record(NamedTuple):
    """One record of a source: its place as people say it, and its columns."""

    place: str
    columns: Mapping[str, Any]


class Mistakes:
    """The mistakes of one source: the first 20 in words, the others as a count."""

    def __init__(self) -> None:
        self.count = 0
        self._shown: list[str] = []

    def add(self, place: str, what: str) -> None:
        self.count += 1
        if self.count <= SHOWN:
            self._shown.append(f"{place}: {what}")

    def check(self) -> None:
        """Raise BadInput where there was a mistake."""
        rest = self.count - SHOWN
        if self.count:
            raise BadInput([*self._shown, f"and {rest:,} more"] if rest > 0 else self._shown)


def file_records(path: Path, choose: Choose, mistakes: Mistakes) -> Iterator[Record]:
    """Yield the records of a file, read by its ending. Raises BadInput where it cannot be read as a whole."""
    packed = path.name.lower().endswith(".gz")
    ending = path.name.lower().removesuffix(".gz").rpartition(".")[2]
    if path.is_dir():
        raise BadInput(f"{path}: is a folder; give a file, or `dataset:` for a folder that `datasets` wrote")
    if not path.exists():
        raise BadInput(f"{path}: no such file{_near_file(path)}")
    try:
        if ending == "parquet" and not packed:
            yield from _parquet(path, choose, mistakes)
        elif ending in ("jsonl", "ndjson", "csv", "tsv", "txt"):
            with gzip.open(path) if packed else path.open("rb") as stream:
                if ending in ("jsonl", "ndjson"):
                    yield from _jsonl(stream, path, mistakes)
                elif ending == "txt":
                    yield from _text(stream, path, mistakes)
                else:
                    yield from _csv(stream, path, mistakes, "\t" if ending == "tsv" else ",")
        else:
            choices = ".jsonl, .ndjson, .csv, .tsv, .txt (each also as .gz), .parquet"
            raise BadInput(f"{path}: unknown kind of file; choose from {choices}")
    except OSError as error:
        why = error.strerror or error
        raise BadInput(f"{path}: cannot be read ({why}); check the file and its rights") from error


def _near_file(path: Path) -> str:
    names = [near.name for near in path.parent.iterdir()] if path.parent.is_dir() else []
    return did_you_mean(path.name, names) or "; a relative path starts at the recipe's folder"


def _lines(
    stream: BufferedIOBase, path: Path, mistakes: Mistakes, *, joined: bool = False
) -> Iterator[tuple[int, str]]:
    """Yield (number, line without its end) of the lines that are UTF-8 and not too long.

    `joined` is for CSV, whose records may span lines: a line that is not UTF-8 is noted and handed on all the
    same, and one that is too long ends the reading.
    """
    number = 0
    while True:
        number += 1
        place = f"{path}:{number}"
        try:
            raw = stream.readline(LONGEST_LINE + 1)
            if not raw:
                return
            if len(raw) > LONGEST_LINE:
                remedy = "a prompt is one question; keep other columns out of the file"
                mistakes.add(place, f"the line is longer than {LONGEST_LINE >> 20} MiB; {remedy}")
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(LONGEST_LINE)
                if joined:
                    return
                continue
        except TORN as error:
            mistakes.add(place, f"the archive is torn, or no gzip ({error}); pack it again")
            return
        if number == 1:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        raw = raw.removesuffix(b"\n").removesuffix(b"\r")
        try:
            yield number, raw.decode()
        except UnicodeDecodeError as error:
            byte = f"byte 0x{raw[error.start]:02x} at byte {error.start + 1}"
            mistakes.add(place, f"not UTF-8 ({byte}); save the file as UTF-8")
            if joined:
                yield number, raw.decode(errors="replace")


def _jsonl(stream: BufferedIOBase, path: Path, mistakes: Mistakes) -> Iterator[Record]:
    for number, line in _lines(stream, path, mistakes):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            what = error.msg.removesuffix(" at")
            mistakes.add(place, f"not JSON ({what} at column {error.colno}); write one object a line")
            continue
        except (RecursionError, ValueError) as error:  # nested without end, or a number of 5,000 digits
            mistakes.add(place, f"JSON that cannot be read ({error}); write one plain object a line")
            continue
        if isinstance(value, dict):
            yield Record(place, value)
        else:
            mistakes.add(place, f'{kind(value)}, not an object; write {{"prompt": "..."}}, one a line')


def _text(stream: BufferedIOBase, path: Path, mistakes: Mistakes) -> Iterator[Record]:
    for number, line in _lines(stream, path, mistakes):
        if line.strip():
            yield Record(f"{path}:{number}", {"prompt": line})


def _csv(stream: BufferedIOBase, path: Path, mistakes: Mistakes, delimiter: str) -> Iterator[Record]:
    csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
    lines = (line + "\n" for _, line in _lines(stream, path, mistakes, joined=True))
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    header: list[str] | None = None
    begins = 1
    while True:
        noted = mistakes.count
        place = f"{path}:{begins}"
        try:
            cells = next(reader, None)
        except csv.Error as error:
            remedy = "is a quote opened here and never closed? double a quote inside a text"
            mistakes.add(place, f"not CSV ({error}); {remedy}")
            return
        begins = reader.line_num + 1
        if cells is None:
            return
        if not cells:
            continue
        if header is None:
            header = [name.strip() for name in cells]
            twice = sorted({name for name in header if header.count(name) > 1})
            if twice:
                raise BadInput(f"{place}: the column {twice[0]!r} is there twice; rename one of them")
        elif len(cells) != len(header):
            remedy = "quote a text that holds the delimiter"
            mistakes.add(place, f"{len(cells)} cells under {len(header)} columns; {remedy}")
        elif mistakes.count == noted:  # a record with a line that is not UTF-8 is noted already
            yield Record(place, dict(zip(header, cells, strict=True)))


def _parquet(path: Path, choose: Choose, mistakes: Mistakes) -> Iterator[Record]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except pa.ArrowInvalid as error:
        raise BadInput(f"{path}: not a Parquet file ({words_of(error)}); write it again") from error
    with file:
        names = list(file.schema_arrow.names)
        # one column at least, since a batch without columns has no rows to place a message at
        chosen = choose(names) or names[:1]
        number = 0
        try:
            for batch in file.iter_batches(batch_size=BATCH, columns=chosen):
                for row in range(batch.num_rows):
                    number += 1
                    place = f"{path}: row {number}"
                    try:
                        values = {name: batch.column(name)[row].as_py() for name in chosen}
                    except UnicodeDecodeError:
                        mistakes.add(place, "not UTF-8; write the column again, as text")
                        continue
                    yield Record(place, {**dict.fromkeys(names), **values})
        except (pa.ArrowException, OSError) as error:
            mistakes.add(f"{path}: row {number + 1}", f"damaged from here on ({words_of(error)}); write it again")


def hub_records(name: str, config: str | None, split: str | None, base: Path, choose: Choose) -> Iterator[Record]:
    """Yield the records of what `datasets` knows as `name`, or of a folder that its `save_to_disk` wrote."""
    import datasets
    import pyarrow as pa

    folder = yamls.located(name, base)
    saved = any((folder / mark).is_file() for mark in ("state.json", "dataset_dict.json"))
    known = (OSError, ValueError, RuntimeError, ImportError, datasets.exceptions.DatasetsError, pa.ArrowException)
    try:
        with _quiet():
            if saved:
                loaded: Any = datasets.load_from_disk(folder)
            else:
                loaded = datasets.load_dataset(str(folder) if folder.is_dir() else name, config)
        rows = _split(loaded, name, split)
        names = list(rows.column_names)
        number = 0
        for batch in rows.select_columns(choose(names) or names[:1]).iter(batch_size=BATCH):
            for row in range(len(next(iter(batch.values())))):
                number += 1
                values = {column: cells[row] for column, cells in batch.items()}
                yield Record(f"{name}: row {number}", {**dict.fromkeys(names), **values})
    except known as error:
        remedy = "check the name and `config`, and the network or the folder"
        raise BadInput(f"{name}: cannot be loaded ({words_of(error)}); {remedy}") from error


def _split(loaded: Any, name: str, split: str | None) -> Any:
    if not hasattr(loaded, "keys"):
        if split is not None:
            raise BadInput(f"{name}: one table without splits; leave `split` out")
        return loaded
    splits = list(loaded.keys())
    if split is None and "train" not in splits and len(splits) != 1:
        raise BadInput(f"{name}: no split 'train'; say which one (`split: ...`): {listed(splits)}")
    if split is None:
        split = "train" if "train" in splits else splits[0]
    if split not in splits:
        near = did_you_mean(split, splits)
        raise BadInput(f"{name}: no split {split!r}; splits there: {listed(splits)}{near}")
    return loaded[split]


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the loading bars of `datasets` out of our own output, and put its setting back."""
    import datasets

    hidden = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        yield
    finally:
        if not hidden:
            datasets.enable_progress_bars()


def listed(names: Iterable[str]) -> str:
    """Return up to 20 names for a message."""
    every = [str(name) for name in names]
    more = f" and {len(every) - 20} more" if len(every) > 20 else ""
    return ", ".join(every[:20]) + more if every else "none"


def did_you_mean(wanted: str, names: Iterable[str]) -> str:
    """Return "; did you mean 'prompt'?", or nothing where no name is near."""
    near = closest(wanted, [str(name) for name in names])
    return f"; did you mean {near!r}?" if near else ""


def misspelt(wanted: str, names: Iterable[str]) -> str:
    """Return "; is 'promt' misspelt?" where a name in a file is nearly the one that was looked for."""
    near = closest(wanted, [str(name) for name in names])
    return f"; is {near!r} misspelt?" if near else ""


def kind(value: Any) -> str:
    """Return what a value is, in words for people."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    words = {int: "a number", float: "a number", str: "a text", dict: "a mapping", list: "a list"}
    return words.get(type(value), f"a {type(value).__name__}")
