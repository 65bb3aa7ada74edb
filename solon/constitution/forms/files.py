"""What all forms share: the file that is read, a JSON value with its place, ids, and what a form is.

What stands in a file is looked at value by value, so that whatever does not fit is told with its place in JSON
(`$.constitutions[3].critic`) or its line in a text.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from solon.complaints import Loc, short
from solon.constitution.principles import Constitution, Principle
from solon.errors import BadInput

__all__ = ["ID", "Draft", "Form", "Ids", "Source", "Value", "read_source", "slug"]

MOST_BYTES = 1_000_000
MOST_LINES = 20_000
MOST_PRINCIPLES = 2_000
ID = re.compile(r"[a-z0-9]+(?:[._-][a-z0-9]+)*")


@dataclass(frozen=True)
class Source:
    """A file's text. `name` is what problems call it, `stem` what a constitution without a name is called."""

    name: str
    stem: str
    text: str

    @classmethod
    def of(cls, name: str, stem: str, text: str) -> Source:
        """Return a source whose lines end in line feeds alone."""
        return cls(name, stem, text.replace("\r\n", "\n").replace("\r", "\n"))

    def wrong(self, what: str, line: int | None = None) -> BadInput:
        """Return the problem `what`, to be raised."""
        return BadInput(f"{self.name}{f':{line}' if line else ''}: {what}")

    @property
    def is_json(self) -> bool:
        """Return whether the text begins as the JSON of a list or an object does."""
        return self.text.lstrip()[:1] in ("[", "{") and not self.name.lower().endswith((".md", ".markdown"))

    def json(self) -> Value:
        """Return the text's JSON. Raises BadInput: not JSON, keys given twice, NaN, nested too deep."""

        def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
            found = dict(pairs)
            if len(found) < len(pairs):
                twice = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
                raise self.wrong(f"the key {short(twice)!r} is given twice in one object; keep one")
            return found

        def number(word: str) -> Any:
            raise self.wrong(f"{word} is no JSON; remove it")

        try:
            return Value(self, "$", json.loads(self.text, object_pairs_hook=unique, parse_constant=number))
        except json.JSONDecodeError as error:
            raise self.wrong(
                f"not JSON: {error.msg}; check this line, or name the form of a text, `--form`", error.lineno
            ) from None
        except RecursionError:
            raise self.wrong("nested too deep for a constitution; write it flatter") from None
        except ValueError as error:  # a number of thousands of digits
            raise self.wrong(f"not JSON that can be read: {short(str(error))}") from None


def read_source(path: str | Path) -> Source:
    """Return the text file at `path`. Raises BadInput: missing, unreadable, too large, empty, not a text."""
    path = Path(path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file") from None
    except (OSError, ValueError) as error:
        raise BadInput(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise BadInput(f"{path}: larger than {MOST_BYTES // 1_000_000} MB; a constitution holds a few pages")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise BadInput(
            f"{path}:{line}: byte 0x{data[error.start]:02x} is not UTF-8; give a text file in UTF-8"
        ) from None
    if "\0" in text:
        raise BadInput(f"{path}: holds NUL bytes, so it is no text file; give one in UTF-8")
    if not text.strip():
        raise BadInput(f"{path}: the file is empty")
    if text.count("\n") > MOST_LINES:
        raise BadInput(f"{path}: more than {MOST_LINES:,} lines; a constitution holds a few pages")
    return Source.of(str(path), path.stem, text)


@dataclass(frozen=True)
class Value:
    """A JSON value, and its place as `$.constitutions[3].critic`."""

    source: Source
    path: str
    value: Any

    def wrong(self, expected: str) -> BadInput:
        """Return "expected ..., found ...", to be raised."""
        return self.source.wrong(f"{self.path}: expected {expected}, found {self.found}")

    @property
    def found(self) -> str:
        """Return what the value is: "a list", "an object with 'a', 'b'", "the text 'x'", "a number"."""
        if isinstance(self.value, dict) and self.value:
            more = ", ..." if len(self.value) > 3 else ""
            return f"an object with {', '.join(repr(short(key, 30)) for key in list(self.value)[:3])}{more}"
        if isinstance(self.value, str):
            return f"the text {short(self.value)!r}" if self.value.strip() else "no text"
        known = {dict: "an empty object", list: "a list", bool: "a truth value", type(None): "null"}
        return known.get(type(self.value), "a number")

    def items(self, expected: str) -> list[Value]:
        """Return the items of a list."""
        if not isinstance(self.value, list):
            raise self.wrong(expected)
        return [Value(self.source, f"{self.path}[{number}]", item) for number, item in enumerate(self.value)]

    def entries(self, expected: str) -> dict[str, Value]:
        """Return the values of an object by key."""
        if not isinstance(self.value, dict):
            raise self.wrong(expected)
        return {key: self._at(key, item) for key, item in self.value.items()}

    def __getitem__(self, key: str) -> Value:
        """Return an object's value by its key, which must be there."""
        if not isinstance(self.value, dict):
            raise self.wrong(f"an object with {key!r}")
        if key not in self.value:
            raise self.source.wrong(f"{self.path}: {key!r} is missing")
        return self._at(key, self.value[key])

    def text(self) -> str:
        """Return a text that says something."""
        if not isinstance(self.value, str) or not self.value.strip():
            raise self.wrong("a text")
        if any("\ud800" <= sign <= "\udfff" for sign in self.value):
            raise self.source.wrong(f"{self.path}: holds half a character (a lone surrogate); write it whole")
        return self.value

    def unread(self, *known: str) -> list[str]:
        """Return the keys of an object that are not among `known`."""
        return [key for key in self.value if key not in known]

    def _at(self, key: str, value: Any) -> Value:
        step = f".{key}" if re.fullmatch(r"\w+", key) else f"[{json.dumps(short(key), ensure_ascii=False)}]"
        return Value(self.source, self.path + step, value)


@dataclass
class Draft:
    """What a form tells of a constitution, before it is one.

    values: as in the YAML page
    notes:  what people should know of how it was read
    lines:  the line of each value, where the form has lines
    """

    values: dict[str, Any]
    notes: list[str] = field(default_factory=list)
    lines: dict[Loc, int] = field(default_factory=dict)

    def tell_unread(self, keys: Counter[str]) -> None:
        """Note the keys that no field of a principle stands for."""
        self.notes += [f"key {short(key)!r} is not read (found {count} times)" for key, count in keys.items()]


@dataclass(frozen=True)
class Form:
    """One form that a constitution can have.

    caption: one line for people
    write:   constitution -> (text, the principles that stand in it, in the order in which they are read again)
    read:    source -> draft; None where nothing can be read back field by field
    fits:    whether a JSON value, or a text, looks like this form
    is_json: which of the two it is
    carries: what `write` says, where nothing can be read back
    """

    caption: str
    write: Callable[[Constitution], tuple[str, list[Principle]]]
    read: Callable[[Source], Draft] | None = None
    fits: Callable[[Any], bool] = lambda _: False
    is_json: bool = False
    carries: frozenset[str] = frozenset()


class Ids:
    """Gives out ids, each once: what is asked for where it is one, else a slug of it; `-2` after a second one."""

    def __init__(self, given: Iterable[str] = ()) -> None:
        self._given = set(given)
        self._next: Counter[str] = Counter()

    def copy(self) -> Ids:
        """Return one that has given out the same ids."""
        return Ids(self._given)

    def __call__(self, wanted: str) -> str:
        name = id = wanted if ID.fullmatch(wanted) else slug(wanted)
        while id in self._given:
            self._next[name] += 1
            id = f"{name}-{self._next[name] + 1}"
        self._given.add(id)
        return id


def slug(words: str, most: int = 48) -> str:
    """Return the first words of a text as an id of at most `most` characters; "principle" where none can be read."""
    plain = (
        unicodedata.normalize("NFKD", words[:1000].replace("’", "").replace("'", "")).encode("ascii", "ignore").decode()
    )
    parts = re.findall(r"[a-z0-9]+", plain.lower())
    if not parts:
        return "principle"
    name = parts[0][:most]
    for part in parts[1:]:
        if len(name) + 1 + len(part) > most:
            break
        name += f"-{part}"
    return name
