"""Prose with headings, as the constitution of 2026 is written: an outline of it, with every paragraph kept.

Each heading with text below it becomes a principle. Its `text` is the first paragraph where that is short, else the
first sentence; its `rationale` is the section as it stands, heading and markup included, so that nothing is lost and
the prose can be written again. What the prose says of order is taken over:

    a list under "Hard constraints"               each item a hard constraint; the section itself is never drawn
    a numbered list "in the order ... listed"     each item a priority, ranked
    headings under an empty "Hard constraints", "Priorities", "Priorities, in order", "Principles" or "Traits"
                                                  principles of that kind

A heading that is an id already (`## no-harm`) is how Solon writes: the paragraph below it is the whole `text`, and
what follows the `rationale`, in a quotation where it would otherwise be taken apart.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

from solon.constitution.forms import lists
from solon.constitution.forms.files import ID, Draft, Form, Ids, Source
from solon.constitution.principles import Constitution, Principle

__all__ = ["PROSE", "read_prose"]

SHORT = 240
"""A first paragraph of at most this many characters is a `text` as it stands."""

LONGEST = 20_000
"""Markup in a longer paragraph is not looked for: brackets that nobody closes take the parser long."""

GROUPS = {
    "Hard constraints": "hard_constraint",
    "Priorities, in order": "priority",
    "Priorities": "priority",
    "Principles": "principle",
    "Traits": "trait",
}
HARD = re.compile(r"\bhard[ -]constraints?\b", re.IGNORECASE)
ORDERED = re.compile(r"\bin (?:the|this|that|decreasing|descending) order\b|\bin order of\b", re.IGNORECASE)
SENTENCE = re.compile(r"(?<!\be\.g\.)(?<!\bi\.e\.)(?<!\bvs\.)(?<!\bcf\.)(?<=[.!?…])[\"”’')\]]*(?=\s+[^\sa-z])")
MARKUP = re.compile(r"[\\`*_\[\]<>&#!]")
NEVER = re.compile(r"\b(never|not):$")
CONTENTS = re.compile(r"\s*(?:[-*+]\s+|\d+[.)]\s+)?\[[^\]\n]*\]\(#[^)\n]*\)\s*")
BLANK = re.compile(r"\A(?:[ \t]*\n)+")
ANCHOR = re.compile(r"\{#([\w.-]+)[^{}]*\}$")

_BLOCKS = MarkdownIt("commonmark").disable("inline")
_INLINE = MarkdownIt("commonmark")


@dataclass(frozen=True)
class _Section:
    """A heading and what stands below it, up to the next heading. `source` is both, as they stand."""

    level: int
    title: str
    line: int
    source: str
    body: str
    tokens: Sequence[Token] = ()

    def paragraphs(self) -> Iterator[str]:
        """Yield the top paragraphs, markup taken off."""
        for token, inline in itertools.pairwise(self.tokens):
            if token.type == "paragraph_open" and token.level == 0:
                yield _plain(inline.content)

    def lists(self) -> Iterator[tuple[str, bool, list[str]]]:
        """Yield every top list: the paragraph above it, whether it is numbered, and its items, markup taken off."""
        above, items, numbered, fresh = "", list[str](), False, False
        for token in self.tokens:
            if token.type == "inline" and token.level == 1:
                above = _plain(token.content)
            elif token.type == "inline" and fresh:
                items.append(_plain(token.content))
                fresh = False
            elif token.type == "list_item_open" and token.level == 1:
                fresh = True
            elif token.level == 0 and token.type.endswith("list_open"):
                items, numbered = [], token.type == "ordered_list_open"
            elif token.level == 0 and token.type.endswith("list_close"):
                yield above, numbered, [item for item in items if item]
                fresh = False


def _plain(markup: str) -> str:
    """Return one line of text without its markup; a line that is longer than any paragraph as it stands."""
    if len(markup) > LONGEST:
        return " ".join(markup.split())
    children = _INLINE.parseInline(markup)[0].children or []
    texts = (child.content if child.type in ("text", "code_inline", "image") else " " * child.type.endswith("break")
             for child in children)  # fmt: skip
    return " ".join("".join(texts).split())


def _sections(text: str) -> tuple[str, list[_Section]]:
    """Return what stands above the first heading, and the sections."""
    tokens, lines = _BLOCKS.parse(text), text.split("\n")
    starts = [number for number, token in enumerate(tokens) if token.type == "heading_open" and token.level == 0]
    found = []
    for start, end in itertools.pairwise([*starts, len(tokens)]):
        first, below = tokens[start].map or [0, 0]
        last = (tokens[end].map or [0])[0] if end < len(tokens) else len(lines)
        found.append(
            _Section(
                int(tokens[start].tag[1:]), tokens[start + 1].content.strip(), first + 1,
                "\n".join(lines[first:last]).rstrip(), BLANK.sub("", "\n".join(lines[below:last])).rstrip("\n"),
                tokens[start + 3 : end],
            )
        )  # fmt: skip
    above = lines[: (tokens[starts[0]].map or [0])[0]] if starts else lines
    return "\n".join(above).strip("\n"), found


@dataclass
class _Outline:
    """Makes principles of sections, one after the other. What it knows of those above is little, and can be copied."""

    ids: Ids = field(default_factory=Ids)
    groups: list[tuple[int, str, bool]] = field(default_factory=list)  # (level, kind, whether its order ranks)
    ranked: int = 0
    waiting: list[str] = field(default_factory=list)  # headings without text, for the next section to begin with
    preamble: str | None = None
    outlined: bool = False

    def copy(self) -> _Outline:
        return replace(self, ids=self.ids.copy(), groups=[*self.groups], waiting=[*self.waiting])

    def take(self, section: _Section) -> list[dict[str, Any]]:
        """Return the principles of one section; the first is the section itself."""
        while self.groups and self.groups[-1][0] >= section.level:
            self.groups.pop()
        if section.title == "Preamble" and section.body.strip() and self.preamble is None and not self.waiting:
            self.preamble = _unframed(section.body)
            return []
        if not section.body.strip():
            kind = next((each for each in GROUPS if each.lower() == section.title.lower()), None)
            if kind is not None:
                self.groups.append((section.level, GROUPS[kind], "order" in kind))
                self.ranked = 0
            if kind != section.title or section.level != 2:
                self.waiting.append(section.source)
            return []
        _, kind, ranks = self.groups[-1] if self.groups else (0, "principle", False)
        principle = self._ours(section) or self._theirs(section)
        principle["kind"] = kind
        if ranks:
            self.ranked += 1
            principle["rank"] = self.ranked
        return [principle, *self._listed(section, principle)]

    def _ours(self, section: _Section) -> dict[str, Any] | None:
        """Return the principle of a section as Solon writes it, if it is one."""
        if self.waiting or not ID.fullmatch(section.title) or section.tokens[0].type != "paragraph_open":
            return None
        start, end = section.tokens[0].map or (0, 0)
        lines = section.body.split("\n")
        lines, rest = lines[: end - start], "\n".join(lines[end - start :]).strip("\n")
        text = _unescaped(" ".join(" ".join(lines).split()))
        return {"id": self.ids(section.title), "text": text, **({"rationale": _unframed(rest)} if rest.strip() else {})}

    def _theirs(self, section: _Section) -> dict[str, Any]:
        anchor = ANCHOR.search(section.title)
        title = _plain(ANCHOR.sub("", section.title)) or section.title
        items = "; ".join(item for _, _, items in section.lists() for item in items)
        words = next((_excerpt(each) for each in section.paragraphs() if each), f"{title}: {items}" if items else title)
        self.outlined = True
        source, self.waiting = "\n\n".join([*self.waiting, section.source]), []
        return {"id": self.ids(anchor[1].lower() if anchor else title), "text": words, "rationale": source}

    def _listed(self, section: _Section, principle: dict[str, Any]) -> Iterator[dict[str, Any]]:
        """Yield the principles that stand in a section's lists."""
        hard = HARD.search(section.title)
        in_order = ORDERED.search(section.body)
        if ID.fullmatch(section.title) or not (hard or in_order):
            return
        for above, numbered, items in section.lists():
            if not hard and not numbered:
                continue
            lead = _sentences(above)[-1] if above.endswith(":") else ""
            never = NEVER.search(lead)
            for rank, item in enumerate(items, start=1):
                said = re.sub(r"[;,](?: and| or)?$", "", item)
                words = {
                    "id": self.ids((f"{never[1]} " if never else "") + said.partition(":")[0]),
                    "text": f"{lead} {said}".strip(),
                }
                if hard:
                    principle["weight"] = 0.0
                yield {**words, "kind": "hard_constraint"} if hard else {**words, "kind": "priority", "rank": rank}
            if not hard:
                return


def _excerpt(paragraph: str) -> str:
    return paragraph if len(paragraph) <= SHORT else _sentences(paragraph)[0]


def _sentences(paragraph: str) -> list[str]:
    ends = [0, *(end.end() for end in SENTENCE.finditer(paragraph)), len(paragraph)]
    found = [paragraph[start:end].strip() for start, end in itertools.pairwise(ends)]
    return [sentence for sentence in found if sentence] or [paragraph]


def read_prose(source: Source) -> Draft:
    """Return the outline of a prose."""
    above, sections = _sections(source.text)
    draft = Draft({"name": source.stem, "principles": []})
    if sections and not above.strip() and sections[0].level == 1 and _is_title(sections):
        title = sections.pop(0)
        draft.values["name"] = _plain(title.title) or source.stem
        above = title.body
    if not sections:
        return _without_headings(above, draft, source)
    if above.strip():
        draft.values["description"] = _unframed(above)
    outline = _Outline()
    principles = draft.values["principles"]
    for section in sections:
        for principle in outline.take(section):
            draft.lines["principles", len(principles)] = section.line
            principles.append(principle)
    if outline.preamble:
        draft.values["preamble"] = outline.preamble
    if not principles:
        raise source.wrong("no heading has a text below it, so there is no principle; a list needs `--form list`")
    draft.notes += [f"the heading {each!r} has no text below it and is left out" for each in outline.waiting]
    draft.notes += _notes(principles) if outline.outlined else []
    return draft


def _notes(principles: list[dict[str, Any]]) -> list[str]:
    hard = sum(each["kind"] == "hard_constraint" for each in principles)
    ranked = sum("rank" in each for each in principles)
    return [
        f"an outline: {len(principles)} principles, {hard} of them hard constraints, {ranked} ranked; each section "
        "stands whole in `rationale`",
        "a section that explains and asks nothing of the assistant needs `weight: 0`",
    ]


def _is_title(sections: list[_Section]) -> bool:
    """Return whether the first heading names the whole: no other stands as high, or it has only contents below it."""
    if all(each.level > 1 for each in sections[1:]):
        return True
    return all(CONTENTS.fullmatch(line) for line in sections[0].body.split("\n") if line.strip())


def _without_headings(text: str, draft: Draft, source: Source) -> Draft:
    """Return a principle for each paragraph; lists and quotations go with the paragraph above them."""
    ids, lines, principles, rests = Ids(), text.split("\n"), draft.values["principles"], list[list[str]]()
    for number, token in enumerate(tokens := _BLOCKS.parse(text)):
        if token.level or not token.map or token.nesting < 0:
            continue
        start, end = token.map
        if token.type == "paragraph_open":
            paragraph = _plain(tokens[number + 1].content)
            words = _excerpt(paragraph)
            principles.append({"id": ids(words), "text": words})
            rests.append([])
            rest = paragraph[len(words) :].strip()
        else:
            rest = "\n".join(lines[start:end]).rstrip()
        if rest and rests:
            rests[-1].append(rest)
    for principle, told in zip(principles, rests, strict=True):
        principle |= {"rationale": "\n\n".join(told)} if told else {}
    if not principles:
        raise source.wrong("no heading and no paragraph; a list needs `--form list`")
    return draft


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    parts = [_titled(constitution.name)]
    parts += [_framed(constitution.description)] if constitution.description else []
    parts += ["## Preamble", _framed(constitution.preamble)] if constitution.preamble else []
    kept = [each for each in constitution.principles if each.text]
    outline, number = _Outline(), 0
    while number < len(kept):
        part, outline, count = max(_tries(kept[number:], outline), key=lambda each: each[0])[1:]
        parts.append(part)
        number += count
    return "\n\n".join(parts) + "\n", kept


def _tries(ahead: Sequence[Principle], outline: _Outline) -> Iterator[tuple[int, str, _Outline, int]]:
    """Yield the ways to write the next principle: (how well it reads back, text, outline after it, principles told)."""
    each = ahead[0]
    bodies = [_escaped(each.text or ""), *([_framed(each.rationale)] if each.rationale else [])]
    ways = ["\n\n".join([f"### {each.id}", *bodies])]
    if each.rationale:
        ways.insert(0, Source.of("", "", each.rationale).text)
    run = [other.rank for other in itertools.takewhile(lambda other: other.kind == each.kind, ahead)]
    in_order = run == [*range(1, len(run) + 1)]
    groups = [
        f"## {title}\n\n" for title, kind in GROUPS.items() if kind == each.kind and in_order >= ("order" in title)
    ]
    for way in [f"{group}{way}" for way in ways for group in ["", *groups]]:
        after = outline.copy()
        above, sections = _sections(way)
        read = [principle for section in sections for principle in after.take(section)]
        same = [
            all(told.get(name, default) == getattr(written, name) for name, default in _DEFAULTS.items())
            for told, written in zip(read, ahead, strict=False)
        ]
        if not above and read and not after.waiting and all(same[1:]) and len(same) == len(read):
            told = {name for name, default in _ALL.items() if read[0].get(name, default) == getattr(each, name)}
            # a kind weighs more than all the rest: what is absolute must not come back as what is weighed
            yield len(told) + len(_ALL) * ("kind" in told), way, after, len(read)
    # what no way reads back, as it stands
    yield -1, ways[-1], outline.copy(), 1


def _titled(name: str) -> str:
    """Return a heading that reads back as `name`, with its signs taken for themselves where they are markup."""
    plain = _sections(f"# {name}")[1]
    return f"# {name}" if plain and _plain(plain[0].title) == name else "# " + MARKUP.sub(r"\\\g<0>", name)


def _framed(text: str) -> str:
    """Return a text that stands between headings as it is, or as a quotation where it would not."""
    text = Source.of("", "", text).text  # its lines as the file will have them
    above, sections = _sections(f"{text}\n\n# x")
    if above == text and len(sections) == 1 and not text.startswith(">"):
        return text
    return "\n".join(f"> {line}" if line else ">" for line in text.split("\n"))


def _unframed(text: str) -> str:
    lines = text.split("\n")
    if not all(line.startswith(">") for line in lines):
        return text
    return "\n".join(line[2:] if line.startswith("> ") else line[1:] for line in lines)


def _escaped(text: str) -> str:
    """Return a text of one line as a paragraph, whatever sign it begins with."""
    return re.sub(r"^(?:(\d+)(?=[.)\\])|(?=[!-/:-@\[-`{-~]))", r"\1\\", text)


def _unescaped(text: str) -> str:
    return re.sub(r"^(\d*)\\(?=[!-/:-@\[-`{-~])", r"\1", text)


def _fits(text: str) -> bool:
    above, sections = _sections(text)
    if len(sections) > 1 or (sections and above.strip()):
        return True
    # under one heading or none: paragraphs, which lines of a list may be too
    body = sections[0].body if sections else above
    return not lists.fits(text) or (not lists.has_marks(text) and "\n\n" in body.strip())


_DEFAULTS = {"text": None, "kind": "principle", "weight": 1.0}
_ALL = {**_DEFAULTS, "id": None, "rank": None, "rationale": None}

PROSE = Form("headings and paragraphs: an outline, each heading a principle", _write, read_prose, _fits)
