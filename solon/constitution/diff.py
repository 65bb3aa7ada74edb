"""What an edit did to a constitution, principle by principle: the words, the weights, the order; nobody is asked.

    difference = diff(load("before.yaml"), load("after.yaml"))
    difference.summary                          "1 principle reworded, 1 added, 15 untouched"
    difference.edits[2].wordings                what critic, reviser and judge are told now, and were told before
    word_diff("Be kind.", "Be brief.")          [("equal", "Be "), ("delete", "kind"), ("insert", "brief"), ...]

Principles are matched by id, since draws go by id; lines of the file say nothing. What an edit means for the rows of
a recipe needs prompts, and is told in `review/edits`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

from solon.constitution.principles import ROLES, Constitution, Principle, Role

__all__ = ["DRAWS", "KINDS", "Change", "Difference", "Edit", "Op", "Piece", "diff", "told", "word_diff"]

Op = Literal["equal", "delete", "insert"]
Piece = tuple[Op, str]
Shares = dict[str, tuple[float, float]]

KINDS = (
    "added",
    "removed",
    "renamed",
    "of another kind",
    "reworded",
    "reweighted",
    "with another scope",
    "moved",
    "with other exemplars",
    "with other notes",
)
"""What can become of a principle, in the order of telling. Notes are what no draw and no wording has in it."""

DRAWS: dict[str, tuple[Role, ...]] = {"rounds": ("critique", "revision"), "judge": ("preference",)}
"""Where principles are drawn, with the wordings that are needed there: a revision's rounds, and the judge."""

NEAR = 90.0
"""Likeness (rapidfuzz's ratio, 0 to 100) from which a removed and an added principle are one that was renamed."""
MOST_NEAR = 250_000
LONGEST_NEAR = 20_000
"""Beyond so many comparisons, or characters in one, only the very same words are a renaming."""
MOST_TOKENS = 400_000_000
"""Tokens of the one text times tokens of the other beyond which lines are compared, not words."""


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that differs. `old` or `new` is None where there was none, or is none any more."""

    name: str
    old: Any
    new: Any

    @property
    def words(self) -> list[Piece]:
        """Return the word difference of two texts."""
        return word_diff(self.old or "", self.new or "")


@dataclass(frozen=True)
class Edit:
    """What became of one principle.

    old, new: the principle, None where it was added or removed; their ids differ where it was renamed
    kinds:    out of KINDS, in their order; empty where it is untouched
    written:  text, critique, revision and preference as they stand in the file, where they changed
    wordings: what a role is told of it (its own words, given or derived from `text`), where that changed
    settings: every other value that changed: weight, applies_to, kind, rank, place (from 1), tags, ...
    shares:   {"rounds" or "judge": its share of the draws before and after, in [0, 1]}, for prompts that it applies
              to, where its own chances of being drawn were edited; 0 where it is not drawn there
    """

    old: Principle | None
    new: Principle | None
    kinds: tuple[str, ...] = ()
    written: tuple[Change, ...] = ()
    wordings: tuple[Change, ...] = ()
    settings: tuple[Change, ...] = ()
    shares: Shares | None = None

    @property
    def id(self) -> str:
        """Return the principle's id, the new one of a renamed principle."""
        principle = self.new or self.old
        assert principle is not None
        return principle.id

    @property
    def feeds(self) -> tuple[str, ...]:
        """Return the roles whose words changed just because `text` did: neither side has words of their own."""
        old, new = self.old, self.new
        if old is None or new is None or _form(old) != _form(new) or not any(it.name == "text" for it in self.written):
            return ()
        return tuple(it.name for it in self.wordings if getattr(old, it.name) is None and getattr(new, it.name) is None)


@dataclass(frozen=True)
class Difference:
    """What an edit did. True where it did anything.

    edits: every principle of both once: those of the new constitution in their order, then those that are gone
    facts: name, version, description, licence, source, preamble, where they changed
    """

    old: Constitution
    new: Constitution
    edits: tuple[Edit, ...]
    facts: tuple[Change, ...]

    def __bool__(self) -> bool:
        return bool(self.facts) or any(edit.kinds for edit in self.edits)

    @property
    def touched(self) -> tuple[str, ...]:
        """Return the ids of the principles that were edited in any way."""
        return tuple(edit.id for edit in self.edits if edit.kinds)

    @cached_property
    def everywhere(self) -> bool:
        """Return whether every wording changed: preamble and hard constraints stand in each."""
        return _around(self.old) != _around(self.new)

    @cached_property
    def draws(self) -> bool:
        """Return whether any row may meet another principle than before."""
        return {_bid(each) for each in self.old.principles} != {_bid(each) for each in self.new.principles}

    @cached_property
    def worked(self) -> bool:
        """Return whether the worked examples changed, which stand in every critique and revision of a base model."""
        old, new = _worked(self.old), _worked(self.new)
        return old != new or bool(new and self.everywhere)

    @property
    def summary(self) -> str:
        """Return one line: "1 principle reworded, 1 added, 15 untouched"."""
        if not self:
            return "no difference"
        told = [f"{fact.name} {'reworded' if fact.old and fact.new else 'changed'}" for fact in self.facts]
        order = {kind: place for place, kind in enumerate(KINDS)}
        counts = Counter(edit.kinds for edit in self.edits)
        noun = True
        for kinds in sorted(counts, key=lambda kinds: [len(order) if not kinds else order[kinds[0]], *map(str, kinds)]):
            count = counts[kinds]
            what = f" {'principle' if count == 1 else 'principles'}" if noun else ""
            told.append(f"{count:,}{what} {' and '.join(kinds) or 'untouched'}")
            noun = False
        return ", ".join(told)


def diff(old: Constitution, new: Constitution) -> Difference:
    """Return what became of each principle, and of what stands around them, from `old` to `new`."""
    before = {each.id: each for each in old.principles}
    after = {each.id: each for each in new.principles}
    was = {id: id for id in after if id in before}
    gone, fresh = [before[id] for id in before if id not in after], [after[id] for id in after if id not in before]
    was |= {to: start for start, to in _renamed(gone, fresh).items()}
    stayed = _in_place(list(before), [was.get(id, "") for id in after])
    then, now = ({id: place for place, id in enumerate(ids, 1)} for ids in (before, after))
    shares = _Shares(old), _Shares(new)
    edits = []
    for id, principle in after.items():
        start = was.get(id)
        edit = _edit(before.get(start) if start else None, principle, *shares)
        if start and start not in stayed:
            edit = _with(edit, "moved", Change("place", then[start], now[id]))
        edits.append(edit)
    kept = set(was.values())
    edits += [_edit(principle, None, *shares) for id, principle in before.items() if id not in kept]
    facts = [
        Change(name, getattr(old, name), getattr(new, name))
        for name in Constitution.model_fields
        if name != "principles" and getattr(old, name) != getattr(new, name)
    ]
    return Difference(old, new, tuple(edits), tuple(facts))


def told(value: Any) -> str:
    """Return `old` or `new` of a Change as people read it."""
    if isinstance(value, tuple):
        return f"{len(value):,} of them" if value and not isinstance(value[0], str) else ", ".join(value) or "none"
    return f"{value:g}" if isinstance(value, float) else "none" if value is None else str(value)


def word_diff(old: str, new: str) -> list[Piece]:
    """Return how `old` becomes `new`, word by word, blanks kept: the longest common subsequence of words stays, but
    for what is slight between two greater changes.

    All pieces but the inserted ones make `old` when put together, all but the deleted ones `new`; where words were
    replaced, what is deleted comes first. Where both texts are very long, lines are compared instead of words, and
    at last the whole.
    """
    from rapidfuzz.distance import LCSseq

    # difflib takes minutes over texts that repeat a word, as the answers of models do
    a, b = next((a, b) for a, b in _cuts(old, new) if len(a) * len(b) <= MOST_TOKENS)
    pieces: list[Piece] = []
    out, same, into = "", "", ""  # a change, and what stayed after it
    for block in LCSseq.opcodes(a, b):
        gone, come = "".join(a[block.src_start : block.src_end]), "".join(b[block.dest_start : block.dest_end])
        if block.tag == "equal":
            same += gone
            continue
        if same and not _slight(same, max(len(out), len(into)), max(len(gone), len(come))):
            pieces += _pieces(out, into, same)
            out = same = into = ""
        out, same, into = out + same + gone, "", into + same + come
    return pieces + _pieces(out, into, same)


def _slight(same: str, before: int, after: int) -> bool:
    """Return whether what stayed is no likeness, but a chance between two changes of so many characters."""
    return before > 0 and (same.isspace() or 2 * len(same) < min(before, after))


def _pieces(out: str, into: str, same: str) -> list[Piece]:
    pieces: list[Piece] = [("delete", out), ("insert", into), ("equal", same)]
    return [piece for piece in pieces if piece[1]]


def _cuts(old: str, new: str) -> Iterator[tuple[list[str], list[str]]]:
    """Yield both texts in ever coarser pieces."""
    yield _TOKEN.findall(old), _TOKEN.findall(new)
    yield old.splitlines(True), new.splitlines(True)
    yield [old] if old else [], [new] if new else []


def _edit(old: Principle | None, new: Principle | None, before: _Shares, after: _Shares) -> Edit:
    if old is None or new is None:
        return Edit(old, new, ("added" if new else "removed",), shares=_shares(old, new, before, after))
    written = _changes(old, new, ("text", *ROLES))
    told = [Change(role, old.own(role), new.own(role)) for role in ROLES]
    settings = _changes(old, new, [name for name in Principle.model_fields if name not in ("id", "text", *ROLES)])
    kinds = {_KIND.get(setting.name, "with other notes") for setting in settings}
    kinds |= {"renamed"} if old.id != new.id else set()
    kinds |= {"reworded"} if written else set()
    return Edit(
        old,
        new,
        tuple(kind for kind in KINDS if kind in kinds),
        tuple(written),
        tuple(change for change in told if change.old != change.new),
        tuple(settings),
        _shares(old, new, before, after) if _bid(old) != _bid(new) else None,
    )


def _with(edit: Edit, kind: str, setting: Change) -> Edit:
    kinds = {*edit.kinds, kind}
    ordered = tuple(each for each in KINDS if each in kinds)
    return Edit(edit.old, edit.new, ordered, edit.written, edit.wordings, (*edit.settings, setting), edit.shares)


def _changes(old: Principle, new: Principle, names: Collection[str]) -> list[Change]:
    pairs = [(name, getattr(old, name), getattr(new, name)) for name in names]
    return [Change(*pair) for pair in pairs if pair[1] != pair[2]]


class _Shares:
    """The shares of draws of one constitution's principles; rivals are gathered once, not for each of them."""

    def __init__(self, constitution: Constitution) -> None:
        self.constitution = constitution
        self._rivals: dict[tuple[Any, ...], tuple[set[str], float, float]] = {}

    def of(self, principle: Principle | None, roles: tuple[Role, ...]) -> float:
        """Return its share where `roles` are needed, among prompts that it applies to; 0 where it is not drawn."""
        if principle is None:
            return 0.0
        key = roles, principle.applies_to
        if key not in self._rivals:
            rivals = self.constitution.drawable(roles, principle.applies_to)
            # a weight may be so great that the sum of two is none
            most = max((each.weight for each in rivals), default=1.0)
            self._rivals[key] = {each.id for each in rivals}, most, sum(each.weight / most for each in rivals)
        ids, most, total = self._rivals[key]
        return principle.weight / most / total if principle.id in ids else 0.0


def _shares(old: Principle | None, new: Principle | None, before: _Shares, after: _Shares) -> Shares:
    pairs = {where: (before.of(old, roles), after.of(new, roles)) for where, roles in DRAWS.items()}
    return {where: pair for where, pair in pairs.items() if any(pair)}


def _renamed(gone: Sequence[Principle], fresh: Sequence[Principle]) -> dict[str, str]:
    """Return {id before: id after} of principles that have the same or nearly the same words under another id."""
    found: dict[str, str] = {}
    free = {each.id: _words(each) for each in fresh}
    by_words = {words: id for id, words in reversed(free.items())}
    for each in gone:
        if (id := by_words.pop(_words(each), None)) is not None:
            found[each.id] = id
            del free[id]
    left = [each for each in gone if each.id not in found and len(_words(each)) <= LONGEST_NEAR]
    free = {id: words for id, words in free.items() if len(words) <= LONGEST_NEAR}
    if len(left) * len(free) > MOST_NEAR:
        return found
    from rapidfuzz import fuzz, process

    near = [
        (score, each.id, id)
        for each in left
        for _, score, id in process.extract(_words(each), free, scorer=fuzz.ratio, score_cutoff=NEAR, limit=None)
    ]
    for _, start, to in sorted(near, key=lambda one: (-one[0], *one[1:])):
        if start not in found and to in free:
            found[start] = to
            del free[to]
    return found


def _words(principle: Principle) -> str:
    return "\n".join(words for name in ("text", *ROLES) if (words := getattr(principle, name)))


def _in_place(before: list[str], after: list[str]) -> set[str]:
    """Return the ids that kept their order, as many as can be: one principle put in front moves none."""
    from rapidfuzz.distance import LCSseq

    return {
        id
        for block in LCSseq.opcodes(before, after)
        if block.tag == "equal"
        for id in before[block.src_start : block.src_end]
    }


def _form(principle: Principle) -> str:
    """Return what decides how `text` becomes words for a role."""
    return principle.kind if principle.kind in ("trait", "hard_constraint") else "principle"


def _bid(principle: Principle) -> tuple[Any, ...]:
    """Return all of a principle that decides which rows draw it."""
    if principle.kind == "hard_constraint" or not principle.weight:
        return ()
    roles = tuple(role for role in ROLES if principle.own(role) is not None)
    return principle.id, principle.weight, frozenset(principle.applies_to), roles


def _around(constitution: Constitution) -> tuple[Any, ...]:
    always = [each for each in constitution.in_order() if each.kind == "hard_constraint"]
    return constitution.preamble, *(tuple(each.own(role) for each in always) for role in ROLES)


def _worked(constitution: Constitution) -> list[tuple[Any, ...]]:
    shown = constitution.exemplars()
    return [(exemplar, principle.own("critique"), principle.own("revision")) for principle, exemplar in shown]


# a word with its apostrophes and hyphens, a sign, or blanks; scripts that write no blanks are compared by character
_TOKEN = re.compile(
    r"[\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]"
    r"|[^\W\u0e00-\u0eff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+(?:['’-][^\W\u3400-\u9fff]+)*|\s+|[^\w\s]"
)

_KIND = {
    "kind": "of another kind",
    "weight": "reweighted",
    "applies_to": "with another scope",
    "rank": "moved",
    "exemplars": "with other exemplars",
}
