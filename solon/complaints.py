"""What a validator finds, in the words of somebody who edits a file: the name, what stands there, the remedy.

`complaints` turns pydantic's errors into (place, sentence) pairs; it knows nothing of files and lines. Where a
value may have several forms, pydantic tells a mistake once for each form and names the forms in its places; both
are undone here.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

__all__ = ["Loc", "closest", "complaints", "counted", "one_of", "short", "visible", "words_of"]

MOST_MISSPELT = 200
"""A longer word is no misspelling of ours, and comparing it letter by letter would take its time."""

MOST_SAID = 600

Loc = tuple[str | int, ...]
"""Where a value stands: ("principles", 2, "weight"). The whole document is ()."""


def closest(word: str, known: Iterable[str]) -> str | None:
    """Return the member of `known` that `word` was probably meant to be, or None."""
    if len(word) > MOST_MISSPELT:
        return None
    plain = {each.lower().replace("-", "_"): each for each in known}
    near = difflib.get_close_matches(word.lower().replace("-", "_"), plain, n=1, cutoff=0.6)
    return plain[near[0]] if near else None


def one_of(word: str, known: Sequence[str]) -> str:
    """Return the remedy for an unknown word: "did you mean 'x'?", or the whole choice."""
    near = closest(word, known)
    return f"did you mean {near!r}?" if near else f"choose from: {', '.join(known)}"


def short(text: str, most: int = 60) -> str:
    """Return `text` on one line, at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def counted(count: int, noun: str, nouns: str | None = None) -> str:
    """Return "1 row", "2 rows", "0 rows"."""
    return f"{count:,} {noun if count == 1 else nouns or noun + 's'}"


def visible(text: str) -> str:
    """Return `text` with control characters and signs of direction as signs that can be seen; tab and line end stay.

    A terminal would obey them, and a reader would take one text for another.
    """
    return _UNSEEN.sub(_sign, text)


def _sign(found: re.Match[str]) -> str:
    code = ord(found[0])
    if code < 0x20:
        return chr(0x2400 + code)  # the picture of the control character
    return "\N{SYMBOL FOR DELETE}" if code == 0x7F else "\N{REPLACEMENT CHARACTER}"


_UNSEEN = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def words_of(error: BaseException, most: int = 300) -> str:
    """Return what a library's error says, on one line to stand within ours; its class's name where it says nothing."""
    return short(str(error), most).rstrip(".") or type(error).__name__


def complaints(
    model: type[Any], tree: Any, errors: Sequence[Mapping[str, Any]], written: Mapping[Loc, str]
) -> list[tuple[Loc, str]]:
    """Return what to tell about each of pydantic's `errors`: where, and one sentence with the remedy.

    tree:    the plain values that were validated
    written: numbers and booleans as they stood in the file, by place
    """
    teller = _Teller(tree, written)
    told: list[tuple[Loc, str]] = []
    unknown: dict[tuple[Loc, str], None] = {}
    missing: dict[tuple[Loc, str], None] = {}
    wanted: dict[Loc, dict[str, None]] = {}
    holders = _holders(tree, errors)
    # where either a word or another form would do, a text is told about the words, and all else about the form
    words, forms = (
        {_within(tree, each["loc"]) for each in errors if each["type"] in kinds} for kinds in (_WORDS, _WANTED)
    )
    for error in errors:
        kind, loc = error["type"], tuple(error["loc"])
        if kind in ("missing", "extra_forbidden"):
            place = _within(tree, loc[:-1])
            (missing if kind == "missing" else unknown)[place, str(loc[-1])] = None
            continue
        place = _within(tree, loc)
        if place in words & forms and kind in (_WANTED if isinstance(_at(tree, place), str) else _WORDS):
            continue
        if kind in _WANTED:
            # the value may also have another form, which it fitted better: something inside it is wrong instead
            if len(place) == len(loc) or place not in holders:
                wanted.setdefault(place, {})[_WANTED[kind]] = None
        elif kind != "too_short" or _size(_at(tree, place)) < error["ctx"]["min_length"]:
            # (pydantic counts only the items that are right)
            told.append((place, f"{teller.name(place)}{_sentence(error, teller.found(place))}"))
    for place, key in unknown:
        known = _keys(model, place)
        remedy = one_of(key, known) if known else "no keys are read there"
        told.append(((*place, key), f"unknown key {short(key)!r}{teller.inside(place)}; {remedy}"))
        # a misspelt key is one mistake, not two
        near = closest(key, known)
        if near is not None:
            missing.pop((place, near), None)
    for place, key in missing:
        told.append((place, f"{key!r} is missing{teller.inside(place)}; add `{key}: ...`"))
    for place, phrases in wanted.items():
        told.append((place, teller.wanted(place, tuple(phrases))))
    return told


class _Teller:
    """Names places and values of one document."""

    def __init__(self, tree: Any, written: Mapping[Loc, str]) -> None:
        self.tree = tree
        self.written = written

    def name(self, place: Loc) -> str:
        """Return e.g. "'weight' in principle 'no-harm'", "item 2 of 'tags'", "the file"."""
        if not place:
            return "the file"
        if isinstance(place[-1], str):
            return f"{place[-1]!r}{self.inside(place[:-1])}"
        value = _at(self.tree, place)
        own = value.get("id") if isinstance(value, dict) else None
        if isinstance(own, str) and own.strip() and isinstance(place[-2], str):
            return f"{place[-2].removesuffix('s')} {short(own)!r}"
        return f"item {place[-1] + 1} of {self.name(place[:-1])}"

    def inside(self, place: Loc) -> str:
        return f" in {self.name(place)}" if place else ""

    def found(self, place: Loc) -> str:
        """Return what stands at `place`: "nothing", "the number 3", "the text 'x'", "a list", "a mapping"."""
        value = _at(self.tree, place)
        if value is None:
            return "nothing"
        if isinstance(value, dict | list):
            return ("an empty " if not value else "a ") + ("list" if isinstance(value, list) else "mapping")
        if isinstance(value, str):
            return f"the text {short(value)!r}"
        return f"{'' if isinstance(value, bool) else 'the number '}{self.written.get(place, value)}"

    def wanted(self, place: Loc, phrases: Sequence[str]) -> str:
        value = _at(self.tree, place)
        remedy = ""
        if "a text" in phrases and isinstance(value, int | float):
            remedy = f'; put it in quotes: "{self.written.get(place, value)}"'
        elif "a list" in phrases and isinstance(value, str | int | float):
            shown = short(value, 30) if isinstance(value, str) else self.written.get(place, value)
            remedy = f"; write it as a list: [{shown}]"
        return f"{self.name(place)}: expected {' or '.join(phrases)}, found {self.found(place)}{remedy}"


def _sentence(error: Mapping[str, Any], found: str) -> str:
    """Return what is wrong with the value itself, to stand behind its name."""
    kind, context = error["type"], error.get("ctx", {})
    if kind in ("value_error", "assertion_error"):
        return f": {short(str(context.get('error', error['msg'])), MOST_SAID)}"  # it may quote a value of 5 MB
    if kind in _WORDS:
        known = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        given = error["input"]
        remedy = f"; {one_of(given, known)}" if isinstance(given, str) and closest(given, known) else ""
        return f": expected one of {', '.join(known)}, found {found}{remedy}"
    if kind in _BOUNDS:
        words, key = _BOUNDS[kind]
        bound = context[key]
        whole = int(bound) if isinstance(bound, float) and bound.is_integer() else bound
        return f" must be {words} {whole}, found {found}"
    if kind in ("string_too_short", "too_short"):
        least = context.get("min_length", 1)
        return " must not be empty" if least == 1 else f" needs at least {least}, found {found}"
    if kind == "finite_number":
        return f" must be a finite number, found {found}"
    message = f": {error['msg'][:1].lower()}{error['msg'][1:]}"
    return message if isinstance(error["input"], dict | list | tuple) else f"{message}, found {found}"


def _within(tree: Any, loc: Iterable[str | int]) -> Loc:
    """Return `loc` without the parts that pydantic put in: they name forms of a value, not places."""
    kept: list[str | int] = []
    for part in loc:
        known: Any = range(len(tree)) if isinstance(tree, list) else tree if isinstance(tree, dict) else ()
        if part in known:
            kept.append(part)
            tree = tree[part]
    return tuple(kept)


def _at(tree: Any, place: Loc) -> Any:
    for part in place:
        tree = tree[part]
    return tree


def _size(value: Any) -> int:
    return len(value) if isinstance(value, dict | list | str) else 0


def _holders(tree: Any, errors: Sequence[Mapping[str, Any]]) -> set[Loc]:
    """Return the places inside which something is wrong."""
    holders: set[Loc] = set()
    for error in errors:
        place = _within(tree, error["loc"])
        # a key that is missing or unknown stands inside its mapping
        depth = len(place) + (error["type"] == "missing")
        holders.update(place[:end] for end in range(depth))
    return holders


def _keys(model: type[Any], place: Loc) -> list[str]:
    """Return the keys that `model` reads at `place`, over all forms that the value there may have."""
    forms = _forms(model)
    for part in place:
        forms = [inner for form in forms for inner in _inner(form, part)]
    return [key for form in forms for key in _fields(form)]


def _fields(form: Any) -> dict[str, Any]:
    fields = getattr(form, "model_fields", {}) if isinstance(form, type) else {}
    return {field.alias or name: field.annotation for name, field in fields.items()}


def _inner(form: Any, part: str | int) -> list[Any]:
    arguments = [each for each in typing.get_args(form) if each is not Ellipsis]
    if isinstance(part, str) and arguments and typing.get_origin(form) in (dict, Mapping):
        return _forms(arguments[-1])
    if isinstance(part, int):
        return [inner for each in arguments for inner in _forms(each)]
    return _forms(_fields(form)[part]) if part in _fields(form) else []


def _forms(annotation: Any) -> list[Any]:
    """Return the plain types that a value may have, with unions and Annotated taken apart."""
    origin = typing.get_origin(annotation)
    if origin is typing.Annotated:
        return _forms(typing.get_args(annotation)[0])
    if origin in (typing.Union, types.UnionType):
        return [form for each in typing.get_args(annotation) for form in _forms(each)]
    return [annotation]


_WANTED = {
    "string_type": "a text",
    "path_type": "a path",
    "float_type": "a number",
    "float_parsing": "a number",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
    "list_type": "a list",
    "tuple_type": "a list",
    "set_type": "a list",
    "frozen_set_type": "a list",
    "dict_type": "a mapping (`key: value` lines)",
    "mapping_type": "a mapping (`key: value` lines)",
    "model_type": "a mapping (`key: value` lines)",
    "model_attributes_type": "a mapping (`key: value` lines)",
    "none_required": "nothing",
}
"""pydantic's names for "another type than expected", and what to say was expected."""

_WORDS = ("literal_error", "enum")
_BOUNDS = {
    "greater_than": ("more than", "gt"),
    "greater_than_equal": ("at least", "ge"),
    "less_than": ("less than", "lt"),
    "less_than_equal": ("at most", "le"),
}
