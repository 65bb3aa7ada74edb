"""A plain list: numbered, bulleted, or one principle a line.

# House rules                 a heading names the constitution

We answer like this:          what stands above the items describes it

1. Say what is so.
   Whoever asks.              an indented line goes on with its item
   - Also when it hurts.      an indented item says more about the one above: its rationale
2. Be brief.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from solon.complaints import short
from solon.constitution.forms.files import Draft, Form, Ids, Source
from solon.constitution.principles import Constitution, Principle

__all__ = ["LIST", "fits", "has_marks"]

ITEM = re.compile(r"([ \t]*)(?:[-*+•–]|\(?\d+[.)])[ \t]+(.*)")
HEADING = re.compile(r"#{1,6}[ \t]+(.*)")
RULE = re.compile(r"=+|-+|```.*|~~~.*")
"""Lines below a heading or around code, which no list has."""
LONGEST_LINE = 300
"""Where no line has a mark, a longer one is taken for a paragraph."""


@dataclass
class _Item:
    """An item, in the pieces that its lines are; each of the reasons is an item below it."""

    line: int
    words: list[str]
    reasons: list[list[str]] = field(default_factory=list)

    @property
    def text(self) -> str:
        return " ".join(self.words).strip()


@dataclass
class _Lines:
    """The lines of a text, told apart."""

    title: str = ""
    above: list[str] = field(default_factory=list)
    items: list[_Item] = field(default_factory=list)
    left: list[tuple[int, str]] = field(default_factory=list)


def _scan(text: str) -> _Lines:
    """Return a text's lines as a list; those of a text without any mark are an item each."""
    found = _Lines()
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if lines and (heading := HEADING.fullmatch(lines[0][1])):
        found.title = re.sub(r"(?<=[ \t])#+$", "", heading[1].strip()).strip()
        del lines[0]
    marks = [mark for _, line in lines if (mark := ITEM.fullmatch(line))]
    if not marks:
        found.items = [_Item(number, [line]) for number, line in lines]
        return found
    indent, last = len(marks[0][1]), 0
    for number, line in lines:
        mark = ITEM.fullmatch(line)
        if mark and mark[2].strip() and len(mark[1]) <= indent:
            found.items.append(_Item(number, [mark[2]]))
        elif not found.items:
            found.above.append(line.strip())
            continue
        elif mark and len(mark[1]) > indent:
            found.items[-1].reasons.append([line.strip()])
        elif not mark and (line[:1].isspace() or number == last + 1):
            # a line that goes on with the item above, which may have begun to give reasons
            item = found.items[-1]
            (item.reasons[-1] if item.reasons else item.words).append(line.strip())
        else:
            found.left.append((number, line))
            continue
        last = number
    return found


def _read(source: Source) -> Draft:
    found, ids = _scan(source.text), Ids()
    draft = Draft({"name": found.title or source.stem, "principles": []})
    if found.above:
        draft.values["description"] = "\n".join(found.above)
    for number, item in enumerate(found.items):
        draft.lines["principles", number] = item.line
        reasons = {"rationale": "\n".join(map(" ".join, item.reasons))} if item.reasons else {}
        draft.values["principles"].append({"id": ids(item.text), "text": item.text, **reasons})
    draft.notes += [f"line {number} is no item and is left out: {short(line)!r}" for number, line in found.left]
    return draft


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    kept = [each for each in constitution.principles if each.text]
    return "".join(f"{number}. {each.text}\n" for number, each in enumerate(kept, start=1)), kept


def fits(text: str) -> bool:
    """Return whether a text is a list and nothing else: items throughout, or short lines."""
    found = _scan(text)
    lines = [*found.above, *(item.text for item in found.items)]
    if found.left or any(HEADING.fullmatch(each) or RULE.fullmatch(each) for each in lines):
        return False
    return bool(found.items) and (has_marks(text) or all(len(item.text) <= LONGEST_LINE for item in found.items))


def has_marks(text: str) -> bool:
    """Return whether any line begins with a number or a bullet."""
    return any(ITEM.fullmatch(line) for line in text.split("\n"))


LIST = Form("a numbered or bulleted list, or one principle a line", _write, _read, fits)
