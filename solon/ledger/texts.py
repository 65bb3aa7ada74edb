"""What many calls say is kept once: texts by content, and the parts that a message is made of.

A message is cut at its paragraphs, and at the marks by which prompts quote (`Human: `, a line in brackets, `[[[`), so
that an answer is the same text wherever it stands: as a turn, in a document, inside a judge's question. What is shorter
than SHORT stays where it is. A long beginning that several documents share (worked examples, a constitution) becomes
one text made of others, so that a document that begins with it holds a single number for it.

How a message is cut matters to its size alone: reading puts together whatever parts are there.
"""

from __future__ import annotations

import re
import sqlite3
from collections import deque
from collections.abc import Iterator

from solon.ledger.packing import Part, name_of, pack_text, unpack_text
from solon.ledger.sheet import in_rows

__all__ = ["Reading", "Texts"]

SHORT = 80
"""Characters below which a number and a row of its own would be longer than the words."""
LONG, BEGINNING = 2048, 1024
"""Characters of a content whose beginning may be shared as one text, and the least of such a beginning."""
BEGINNINGS, RECENT = 24, 8
REMEMBERED = 2_000_000
"""Characters of texts whose numbers are known without a look into the file; twice as many at most."""

_NAME = re.compile(r"[A-Z][A-Za-z]{0,20}: ")
_QUOTES = re.compile(r"(\[\[\[|\]\]\]|(?:^|\n)\[[^\]\n]{1,60}\](?:\n|$))")


class Texts:
    """The shared texts as the writer of a ledger knows them: which parts a content is made of."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Know nothing any more: a transaction was taken back, or texts were removed."""
        self._young: dict[str, int] = {}
        self._old: dict[str, int] = {}
        self._room = REMEMBERED
        self._beginnings: dict[str, int] = {}
        self._recent: deque[str] = deque(maxlen=RECENT)
        self._new: list[tuple[int, int, bytes]] = []
        self._last = -1

    def write(self, db: sqlite3.Connection) -> None:
        """Write the new texts of a transaction."""
        for rows in in_rows(self._new):
            marks = ",".join(["(?,?,?)"] * len(rows))
            db.execute(f"INSERT INTO texts (id, name, body) VALUES {marks}", [value for row in rows for value in row])
        self._new = []
        self._last = -1  # whoever writes next may be another process

    def parts(self, db: sqlite3.Connection, content: str) -> list[Part]:
        """Return what `content` is made of; inside a transaction that writes, before `write`."""
        if len(content) < SHORT:
            return [content]
        parts: list[Part] = []
        if len(content) >= LONG:
            beginning = self._beginning(db, content)
            if beginning:
                parts.append(self._beginnings[beginning])
                content = content[len(beginning) :]
        return self._cut(db, content, parts)

    def _cut(self, db: sqlite3.Connection, content: str, parts: list[Part]) -> list[Part]:
        words = ""
        for place, paragraph in enumerate(content.split("\n\n")):
            if place:
                words += "\n\n"
            if len(paragraph) < SHORT:
                words += paragraph
                continue
            number = self._young.get(paragraph)
            for piece in _pieces(paragraph) if number is None else (paragraph,):
                if len(piece) < SHORT:
                    words += piece
                    continue
                if words:
                    parts.append(words)
                    words = ""
                parts.append(self._number(db, piece))
        if words:
            parts.append(words)
        return parts

    def _number(self, db: sqlite3.Connection, text: str) -> int:
        number = self._young.get(text)
        if number is None:
            number = self._old.get(text)
            if number is None:
                number = self._kept(db, name_of(text), pack_text(text))
            if self._room < 0:
                self._young, self._old, self._room = {}, self._young, REMEMBERED
            self._young[text] = number
            self._room -= len(text)
        return number

    def _kept(self, db: sqlite3.Connection, name: int, body: bytes) -> int:
        """Return the number of a text in the file; two texts of one name are told apart by what they say."""
        row = db.execute("SELECT id FROM texts WHERE name = ? AND body = ?", (name, body)).fetchone()
        if row is not None:
            return int(row[0])
        if self._last < 0:
            row = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'texts'").fetchone()
            self._last = row[0] if row else 0
        self._last += 1
        self._new.append((self._last, name, body))
        return self._last

    def _beginning(self, db: sqlite3.Connection, content: str) -> str:
        """Return the longest known beginning of `content`, or a new one that it shares with a recent content."""
        best = ""
        for text in self._beginnings:
            if len(text) > len(best) and content.startswith(text):
                best = text
        if best:
            return best
        # the shortest: what a few calls of one row share would be too much
        shared = min(
            (text for text in (_shared(content, other) for other in self._recent) if text), key=len, default=""
        )
        self._recent.append(content)
        if shared:
            parts = self._cut(db, shared, [])
            if len(self._beginnings) >= BEGINNINGS:
                del self._beginnings[next(iter(self._beginnings))]
            self._beginnings[shared] = self._kept(db, name_of(shared), pack_text(parts))
        return shared


def _pieces(paragraph: str) -> Iterator[str]:
    for piece in _QUOTES.split(paragraph) if "[" in paragraph or "]]]" in paragraph else (paragraph,):
        name = _NAME.match(piece)
        if name:
            yield name[0]
            piece = piece[name.end() :]
        yield piece


def _shared(content: str, other: str) -> str:
    """Return what both begin with, up to the end of a paragraph or a line; "" where that is too short."""
    if content[:BEGINNING] != other[:BEGINNING]:
        return ""
    low, high = BEGINNING, min(len(content), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if content.startswith(other[:middle]):
            low = middle
        else:
            high = middle - 1
    end = max(content.rfind("\n\n", BEGINNING, low), BEGINNING)
    end = end if end > BEGINNING else content.rfind("\n", BEGINNING, low)
    return content[:end] if end > 0 else ""


class Reading:
    """The shared texts as a reader knows them: numbers are never given twice, so what was read once stays true."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self._known: dict[int, str] = {}
        self._room = REMEMBERED

    def text(self, parts: list[Part]) -> str:
        """Return parts put together. Raises LookupError where a text is not there, ValueError where it is damaged."""
        return "".join([part if isinstance(part, str) else self._text(part) for part in parts])

    def _text(self, number: int, *, within: bool = False) -> str:
        text = self._known.get(number)
        if text is None:
            row = self._db.execute("SELECT name, body FROM texts WHERE id = ?", (number,)).fetchone()
            if row is None:
                raise LookupError(f"text {number} is not there")
            body = unpack_text(row[1])
            if isinstance(body, str):
                text = body
            elif within:
                raise ValueError(f"text {number} is made of texts that are made of texts")
            else:
                text = "".join([part if isinstance(part, str) else self._text(part, within=True) for part in body])
            if name_of(text) != row[0]:
                raise ValueError(f"text {number} does not bear the name of its words")
            if self._room < 0:
                self._known, self._room = {}, REMEMBERED
            self._known[number] = text
            self._room -= len(text)
        return text
