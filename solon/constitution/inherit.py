"""From a page and the constitutions that it extends to one Constitution, with the place of every value.

The parents' principles come first, in the order of `extends`, overridden where they stand; then the page's own. What
two parents say alike falls together; what they say differently has to be decided by whoever writes the page. `load`
finds and reads the parents; nothing here opens a file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from solon import yamls
from solon.complaints import closest, one_of, short
from solon.constitution.pages import ConstitutionPage, Override, WholePage
from solon.constitution.principles import Constitution, Principle
from solon.yamls import Loc

__all__ = ["Asked", "Resolved", "asked", "inherit", "show"]

Place = tuple[str, int]
MOST_PARENTS = 100


@dataclass(frozen=True)
class Part:
    """A principle, and (file, line) of its values by their places in it."""

    principle: Principle
    places: Mapping[Loc, Place]

    @property
    def where(self) -> str:
        file, line = self.places[()]
        return f"{file}:{line}"


@dataclass(frozen=True)
class Resolved:
    """A constitution and where each part of it stands.

    document: the file that was asked for; what it inherits stands in other files
    places:   (file, line) by place in the resolved constitution: ("name",), ("principles", 2, "text")
    files:    every file on disk that decides it, the one that was asked for first
    """

    constitution: Constitution
    document: yamls.Document
    places: Mapping[Loc, Place]
    files: tuple[Path, ...] = ()

    def place(self, *loc: str | int) -> Place:
        """Return (file, line) of the value at `loc`, or of the nearest one around it."""
        while loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]

    @cached_property
    def parts(self) -> list[Part]:
        """Return every principle with its places as seen from itself."""
        places = _parts(self.places, "principles")
        return [Part(each, places[number]) for number, each in enumerate(self.constitution.principles)]


@dataclass(frozen=True)
class Asked:
    """One parent as a page asks for it: the reference, ids with their indices, and where it stands in the page."""

    loc: Loc
    use: str
    without: Mapping[str, int]
    only: Mapping[str, int]


def asked(document: yamls.Document) -> list[Asked]:
    """Return what a page extends, as far as it can be read; the rest is told when the page is built."""
    given = document.tree.get("extends")
    items = given if isinstance(given, list) else [given]
    found = []
    for index, item in enumerate(items[:MOST_PARENTS]):
        loc: Loc = ("extends", index) if isinstance(given, list) else ("extends",)
        page = item if isinstance(item, dict) else {"use": item}
        if isinstance(page.get("use"), str):
            found.append(Asked(loc, page["use"].strip(), _ids(page.get("without")), _ids(page.get("only"))))
    return found


def inherit(document: yamls.Document, parents: Sequence[tuple[Asked, Resolved]], problems: Sequence[str]) -> Resolved:
    """Return the constitution of a page and its parents.

    problems: why parents are not among `parents`; they are told along with the page's own.

    Raises BadInput with every mistake as "file:line: what is wrong; the remedy", the parents' first.
    """
    heir = _Heir(document, parents)
    # (a misspelt key is one mistake: it does not make principles missing too)
    model = ConstitutionPage if heir.extends else WholePage
    page = yamls.build(model, document, checks=[lambda _: problems, _repeated_ids, heir.problems])
    return heir.resolved(page)


def show(resolved: Resolved) -> list[tuple[str, Place | None]]:
    """Return the whole constitution as lines of YAML, and where what each line says was written.

    A line goes with a place where a comment may follow it: lines within a text have None.
    """
    text = yamls.dump(yamls.parse(resolved.constitution.to_yaml(), "").value, folded=True)
    starts = {line: loc for loc, line in yamls.parse(text, "").lines.items()}  # the innermost value comes last
    lines = text.removesuffix("\n").split("\n")
    places: list[Place | None] = [None] * len(lines)
    for number, loc in starts.items():
        last = number
        if not _BLOCK.fullmatch(lines[number - 1]):
            # a comment cannot stand within a quoted text of several lines, but behind it
            while last < len(lines) and last + 1 not in starts:
                last += 1
        places[last - 1] = resolved.place(*loc)
    return list(zip(lines, places, strict=True))


class _Heir:
    """Puts a page together with its parents. `problems` reads the page as it stands, whatever types are in it."""

    def __init__(self, document: yamls.Document, parents: Sequence[tuple[Asked, Resolved]]) -> None:
        self.document = document
        self.parents = parents
        given = document.tree.get("extends")
        self.extends = _extends(document)
        wanted = len(given) if isinstance(given, list) else self.extends
        # where a parent is missing, nobody knows what it would have brought
        self.complete = len(parents) == wanted
        self.own = dict(_own_ids(document))
        places = {loc: (document.name, line) for loc, line in document.lines.items()}
        self.written = {key: _parts(places, key) for key in ("override", "principles")}
        self.around = {loc: place for loc, place in places.items() if loc[:1] not in _OTHERS}
        self.principles: dict[str, Part] = {}
        self.left_out: dict[str, str] = {}
        self.remedies = 0

    def problems(self, document: yamls.Document) -> Iterator[str]:
        yield from self._gather()
        yield from self._own()
        yield from self._override()
        preambles = {one.constitution.preamble: one for _, one in self.parents}
        if "preamble" not in document.tree and len(preambles) > 1:
            told = [
                "{}:{}".format(*one.place("preamble")) if preamble else f"none in {one.document.name}"
                for preamble, one in preambles.items()
            ]
            yield document.problem(
                ("extends",),
                f"what is extended has different preambles ({_few(told)}); write the one that holds here, "
                "`preamble: ...`, or `preamble: null` for none",
            )
        if "extends" in document.tree and not document.tree.get("principles") and self.complete and not self.principles:
            yield document.problem(
                ("extends",), "no principle is left; extend a constitution, take fewer out, or add `principles: ...`"
            )

    def _gather(self) -> Iterator[str]:
        """Take over the parents' principles."""
        given = self.document.tree.get("extends")
        if isinstance(given, list) and len(given) > MOST_PARENTS:
            yield self.document.problem(("extends",), f"more than {MOST_PARENTS} are extended; extend fewer")
        for asked, parent in self.parents:
            ids = {each.id: None for each in parent.constitution.principles}
            for key, listed in (("without", asked.without), ("only", asked.only)):
                for id in listed:
                    if id not in ids:
                        told = f"{short(asked.use)!r} has no principle {short(id)!r}; {self._remedy(id, ids)}"
                        yield self.document.problem((*asked.loc, key, listed[id]), told)
            if asked.without and asked.only:
                told = f"both `without` and `only` are given for {short(asked.use)!r}; keep one"
                yield self.document.problem((*asked.loc, "only"), told)
            differ = []
            for each in parent.parts:
                id = each.principle.id
                if id in asked.without or (asked.only and id not in asked.only):
                    self.left_out[id] = asked.use
                    continue
                first = self.principles.setdefault(id, each)
                if first.principle != each.principle:
                    differ.append(f"{short(id)!r} ({first.where}, {each.where})")
            if differ:
                yield self.document.problem(
                    asked.loc,
                    f"{short(asked.use)!r} says something else than what is extended before it under {_few(differ)}; "
                    "leave these out here or there by `without: [...]`, or give them another id",
                )

    def _own(self) -> Iterator[str]:
        """Tell which of the page's own principles are inherited already."""
        for id, index in self.own.items():
            if id in self.principles:
                name, where = short(id), self.principles[id].where
                yield self.document.problem(
                    ("principles", index, "id"),
                    f"principle {name!r} is inherited from {where}; change it under `override`, or leave the inherited "
                    f"one out by `without: [{name}]`",
                )

    def _override(self) -> Iterator[str]:
        """Change inherited principles as the page says."""
        override = self.document.tree.get("override")
        for id, given in override.items() if isinstance(override, dict) else ():
            loc: Loc = ("override", id)
            if id in self.principles:
                yield from self._overridden(id, given)
            elif self.complete:
                yield self.document.problem(loc, f"override of {short(id)!r}: {self._dangling(id)}")

    def _overridden(self, id: str, given: Any) -> Iterator[str]:
        loc: Loc = ("override", id)
        try:
            changes = Override.model_validate(given)
        except ValidationError:
            return  # told with the page
        old, fields = self.principles[id], changes.model_fields_set
        values = {field: getattr(old.principle, field) for field in old.principle.model_fields_set - fields}
        values |= {field: value for field, value in changes if field in fields and value is not None}
        places = {place: at for place, at in old.places.items() if not place or place[0] not in fields}
        for place, at in self.written["override"][id].items():
            if place and place[0] in values:
                places[place] = at
        try:
            self.principles[id] = Part(Principle.model_validate(values), places)
        except ValidationError as error:
            for each in error.errors(include_url=False):
                told = each.get("ctx", {}).get("error", each["msg"])
                yield self.document.problem(loc, f"override of {short(id)!r}: {told}")

    def _dangling(self, id: str) -> str:
        if id in self.own:
            return "the principle is this file's own; change it where it stands"
        if id in self.left_out:
            return f"the principle is left out of {short(self.left_out[id])!r}; let it in, or remove the override"
        if not self.principles:
            return "nothing is inherited; add `extends: ...`, or remove the override"
        return f"no such principle is inherited; {self._remedy(id, self.principles)}"

    def _remedy(self, id: str, known: Mapping[str, object]) -> str:
        self.remedies += 1
        # a file can hold many thousand names, of any length: only so many are compared, and fewer listed
        names = [each for each in known if len(each) <= 60] if self.remedies <= 20 and len(known) <= 1000 else []
        if names and (len(names) <= 25 or closest(id, names)):
            return one_of(id, names)
        return "look its id up there, or remove this one"

    def resolved(self, page: ConstitutionPage) -> Resolved:
        """Return the constitution of the page, once it is known to be without mistakes."""
        own = {field: value for field, value in page if field in page.model_fields_set & set(Constitution.model_fields)}
        places = dict(self.around)
        for field in ("licence", "source", "preamble"):
            given = [one for _, one in self.parents if getattr(one.constitution, field)]
            if given and field not in own:
                texts = [getattr(one.constitution, field) for one in given]
                # (a parent's own may be several, joined; preambles agree)
                parts = texts if field == "preamble" else [part for text in texts for part in text.split("; ")]
                own[field] = "; ".join(dict.fromkeys(parts))
                places[(field,)] = given[0].place(field)
        principles = [each.principle for each in self.principles.values()]
        inside = [each.places for each in self.principles.values()]
        inside += [self.written["principles"][number] for number in range(len(page.principles))]
        list_loc = ("principles" if page.principles else "extends",)
        places[("principles",)] = (self.document.name, self.document.line(list_loc))
        for number, part in enumerate(inside):
            places |= {("principles", number, *loc): place for loc, place in part.items()}
        constitution = Constitution.model_validate({**own, "principles": (*principles, *page.principles)})
        return Resolved(constitution, self.document, places)


def _extends(document: yamls.Document) -> bool:
    """Return whether a page extends others, or means to."""
    known = ConstitutionPage.model_fields
    return "extends" in document.tree or any(
        closest(key, known) == "extends" for key in document.tree if key not in known
    )


def _few(listed: Sequence[str]) -> str:
    return ", ".join(listed[:20]) + (f" and {len(listed) - 20:,} more" if len(listed) > 20 else "")


def _ids(given: Any) -> dict[str, int]:
    listed = given if isinstance(given, list) else ()
    return {each.strip(): index for index, each in enumerate(listed) if isinstance(each, str)}


def _parts(places: Mapping[Loc, Place], key: str) -> dict[str | int, dict[Loc, Place]]:
    """Return the places inside each part of `key`, as seen from that part."""
    parts: dict[str | int, dict[Loc, Place]] = {}
    for loc, place in places.items():
        if len(loc) > 1 and loc[0] == key:
            parts.setdefault(loc[1], {})[loc[2:]] = place
    return parts


def _own_ids(document: yamls.Document) -> Iterator[tuple[str, int]]:
    principles = document.tree.get("principles")
    for index, each in enumerate(principles if isinstance(principles, list) else ()):
        id = each.get("id") if isinstance(each, dict) else None
        if isinstance(id, str) and id.strip():
            yield id.strip(), index


def _repeated_ids(document: yamls.Document) -> Iterator[str]:
    first: dict[str, int] = {}
    for id, index in _own_ids(document):
        loc = ("principles", index, "id")
        if id in first:
            where = f"id {id!r} is already taken on line {first[id]}"
            yield document.problem(loc, f"{where}; give every principle an id of its own")
        first.setdefault(id, document.line(loc))


_OTHERS: tuple[Loc, ...] = (("extends",), ("override",), ("principles",))
_BLOCK = re.compile(r"[ -]*(?:[a-z_]+: )?[|>][0-9]?[-+]?")
"""The first line of a text that is written as a block."""
