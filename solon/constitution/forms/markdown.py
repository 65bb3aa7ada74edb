"""A constitution as a page for readers, with every field in it, that reads back to the same constitution.

Every text stands in a quotation, so that no sign in it is taken for the page's own; signs that an editor could not
show or would change (control characters, a carriage return) stand as `&#13;`.

    # Good counsel

    - version: 1

    > What it is for.

    ## no-harm

    > Give no help that would make serious harm easier.

    - weight: 2.0

    **Why**

    > ...
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

from solon.complaints import Loc, one_of, short
from solon.constitution.forms.files import Draft, Form, Source
from solon.constitution.principles import Case, Constitution, Exemplar, Principle, Turn

__all__ = ["MARKDOWN"]

MARK = "<!-- solon constitution"
ODD = re.compile("&(?=#\\d+;)|[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]")
CODED = re.compile(r"&#(\d{1,7});")

ABOVE = {"Source": "source", "Preamble": "preamble"}
LABELS = {"Why": "rationale", "Critique": "critique", "Revision": "revision", "Preference": "preference"}
SHOWN = {"Example": "exemplars", "Case": "cases", "Prompt": "prompts"}
PARTS = {"exemplars": ("response", "critique", "revision"), "cases": ("better", "worse"), "prompts": ()}
TURNS = ("system", "user", "assistant")


def _coded(text: str) -> str:
    return ODD.sub(lambda sign: f"&#{ord(sign[0])};", text)


def _decoded(text: str) -> str:
    def sign(code: re.Match[str]) -> str:
        number = int(code[1])
        return chr(number) if number < 0x110000 and not 0xD800 <= number < 0xE000 else code[0]

    return CODED.sub(sign, text)


def _quoted(text: str) -> str:
    return "\n".join(f"> {line}" if line else ">" for line in _coded(text).split("\n"))


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    blocks = [f"{MARK}: `solon constitution import` reads this page back -->", f"# {_coded(constitution.name)}"]
    blocks += _listed((("version", constitution.version), ("licence", constitution.licence)))
    blocks += [_quoted(constitution.description)] if constitution.description else []
    blocks += _labelled(constitution, ABOVE)
    for each in constitution.principles:
        blocks += [f"## {each.id}", *([_quoted(each.text)] if each.text else [])]
        blocks += _listed(_facts(each))
        blocks += _labelled(each, LABELS)
        blocks += [
            block for label, field in SHOWN.items() for one in getattr(each, field) for block in _shown(label, one)
        ]
    return "\n\n".join(blocks) + "\n", list(constitution.principles)


def _facts(principle: Principle) -> Iterator[tuple[str, Any]]:
    """Return what decides how often a principle is met, where it is not the default."""
    yield "kind", principle.kind if principle.kind != "principle" else None
    yield "rank", principle.rank
    yield "weight", principle.weight if principle.weight != 1 else None
    yield from (("tag", tag) for tag in principle.tags)
    yield from (("applies to", tag) for tag in principle.applies_to)


def _listed(facts: Iterable[tuple[str, Any]]) -> list[str]:
    lines = [f"- {key}: {_coded(str(value))}" for key, value in facts if value is not None]
    return ["\n".join(lines)] if lines else []


def _labelled(holder: Constitution | Principle, labels: dict[str, str]) -> Iterator[str]:
    for label, field in labels.items():
        if getattr(holder, field):
            yield from (f"**{label}**", _quoted(getattr(holder, field)))


def _shown(label: str, one: Exemplar | Case | tuple[Turn, ...]) -> Iterator[str]:
    """Return one example, case or prompt as blocks: each text under the name of who says it or what it is."""
    yield f"**{label}**"
    for turn in one if isinstance(one, tuple) else one.prompt:
        yield from (f"*{turn.role}*", _quoted(turn.content))
    for part in PARTS[SHOWN[label]]:
        yield from (f"*{part}*", _quoted(getattr(one, part)))


class _Page:
    """Reads a page line by line. `here` is the constitution or principle that is being told of."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.draft = Draft({"principles": []})
        self.here = self.draft.values
        self.loc: Loc = ()
        self.ids: set[str] = set()
        self.slot: str | None = None  # the field, part or turn that the next quotation is
        self.shown: dict[str, Any] | list[dict[str, str]] | None = None  # the example, case or prompt it belongs to
        self.shown_loc: Loc = ()

    def read(self) -> Draft:
        lines = self.source.text.split("\n")
        number = 0
        while number < len(lines):
            line = lines[number].rstrip() if not lines[number].startswith(">") else lines[number]
            number += 1
            if line and not line.startswith(("# ", "<!--")) and "name" not in self.draft.values:
                raise self.source.wrong("no line above this one names the constitution; add `# its name`", number)
            if line.startswith(">"):
                quotation = [line]
                while number < len(lines) and lines[number].startswith(">"):
                    quotation.append(lines[number])
                    number += 1
                self.quotation(quotation, number - len(quotation) + 1)
            elif line and not line.startswith("<!--"):
                self.line(line, number)
        if "name" not in self.draft.values:
            raise self.source.wrong("no line names the constitution; add `# its name`")
        return self.draft

    def line(self, line: str, number: int) -> None:
        if line.startswith("# ") and not self.loc and "name" not in self.here:
            self.here["name"], self.slot = _decoded(line[2:]), "description"
        elif line.startswith("## "):
            id = _decoded(line[3:]).strip()
            if id in self.ids:
                raise self.source.wrong(
                    f"id {short(id)!r} is taken already; give every principle an id of its own", number
                )
            self.ids.add(id)
            self.here, self.slot, self.shown = {"id": id}, "text", None
            self.loc = ("principles", len(self.draft.values["principles"]))
            self.draft.values["principles"].append(self.here)
            self.draft.lines[self.loc] = number
        elif fact := re.fullmatch(r"- (version|licence|kind|rank|weight|tag|applies to): (.+)", line):
            self.fact(fact[1], _decoded(fact[2]), number)
        elif label := re.fullmatch(r"\*\*(.+)\*\*", line):
            self.label(label[1], number)
        elif (part := re.fullmatch(r"\*(.+)\*", line)) and self.shown is not None:
            self.slot = part[1]
        else:
            raise self.source.wrong(
                f"{short(line)!r} has no place here; expected `## id`, `- key: value`, `**Label**` or a text, each of "
                "its lines after `> `",
                number,
            )

    def fact(self, key: str, value: str, number: int) -> None:
        if (key in ("version", "licence")) != (not self.loc):
            raise self.source.wrong(f"`{key}` has no place here; it belongs {_BELONGS[not self.loc]}", number)
        field = {"tag": "tags", "applies to": "applies_to"}.get(key, key)
        self.draft.lines.setdefault((*self.loc, field), number)
        if key in ("tag", "applies to"):
            self.here.setdefault(field, []).append(value)
            return
        kind = {"weight": float, "rank": int}.get(key, str)
        try:
            self.once(field, kind(value), number)
        except ValueError:
            raise self.source.wrong(f"`{key}` is {short(value)!r}; expected a number", number) from None

    def label(self, label: str, number: int) -> None:
        known = {**LABELS, **SHOWN} if self.loc else ABOVE
        if label not in known:
            raise self.source.wrong(f"unknown label {short(label)!r}; {one_of(label, list(known))}", number)
        self.slot, self.shown = known[label], None
        if label in SHOWN:
            shown: Any = [] if label == "Prompt" else {"prompt": []}
            self.here.setdefault(SHOWN[label], []).append(shown)
            self.shown, self.slot = shown, None
            self.shown_loc = (*self.loc, SHOWN[label], len(self.here[SHOWN[label]]) - 1)
            self.draft.lines[self.shown_loc] = number

    def quotation(self, lines: list[str], number: int) -> None:
        text = _decoded("\n".join(line[2:] if line.startswith("> ") else line[1:] for line in lines))
        if self.slot is None:
            raise self.source.wrong("a text that nothing names; put `**Why**` or another label above it", number)
        if self.shown is None:
            self.once(self.slot, text, number)
            self.draft.lines[*self.loc, self.slot] = number
        elif self.slot in TURNS:
            turns = self.shown if isinstance(self.shown, list) else self.shown["prompt"]
            turns.append({"role": self.slot, "content": text})
        elif isinstance(self.shown, dict):
            self.once(self.slot, text, number, self.shown)
            self.draft.lines[*self.shown_loc, self.slot] = number
        else:
            raise self.source.wrong(f"unknown part {short(self.slot)!r}; {one_of(self.slot, TURNS)}", number)
        self.slot = None

    def once(self, field: str, value: Any, number: int, holder: dict[str, Any] | None = None) -> None:
        holder = self.here if holder is None else holder
        if field in holder:
            raise self.source.wrong(f"`{field}` is given a second time; keep one", number)
        holder[field] = value


def _read(source: Source) -> Draft:
    return _Page(source).read()


def _fits(text: str) -> bool:
    return text.lstrip().startswith(MARK)


_BELONGS = {True: "under the `## id` of a principle", False: "under the name of the constitution"}

MARKDOWN = Form("a page for readers, with every field; reads back to the same", _write, _read, _fits)
