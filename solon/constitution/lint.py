"""What the wordings of a constitution alone give reason to advise; structural mistakes are told by the reader.

    for each in lint(resolve("constitution.yaml")):
        print(f"{each.file}:{each.line}: {each.severity}: {each.text} [{each.rule}]")

Each rule is one short function here and one entry of `rules.RULES`, which says why. What goes by English words finds
them in `english`, and is silent where it cannot know: a rule that cries wolf is switched off with all the others. What
needs a recipe's prompts is `solon.review.advice`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from solon import yamls
from solon.complaints import short
from solon.constitution import english
from solon.constitution.english import telling, words_of
from solon.constitution.inherit import Resolved
from solon.constitution.principles import ROLES, Case, Principle
from solon.constitution.rules import RULES, Advice, heed

__all__ = ["RULES", "Advice", "lint"]

ALIKE = 0.9
"""The Indel similarity of two wordings' sorted telling words (common words, twice, as a share of both wordings'; Dice
1945) from which they are nearly the same. On the 275 statements of Collective Constitutional AI, where it was chosen,
all above are doubles, and pairs like "give no advice" and "give no medical advice" stay below."""
MOST_COMPARED = 2000
"""Near-duplicates are sought among so many principles, equal ones among all."""
FEW = 10
LEAST_SHARE = 0.001

Found = tuple[str, yamls.Loc, str]
"""A rule, the place in the resolved constitution where it speaks, and what it says."""


def lint(resolved: Resolved) -> list[Advice]:
    """Return what may be better in a constitution, by file and line, less what its comments silence.

    What is wholly about inherited principles is said at their own file, and not at all where that is shipped or
    installed, so that nobody could act on it.
    """
    ours = {resolved.document.name, *map(str, resolved.files)}
    advice = []
    for check in (_near_duplicates, _cases, _accusing, _no_comparisons, _too_general, _caseless, _uncured, _draws):
        advice += [Advice.by(rule, resolved.place(*loc), text) for rule, loc, text in check(resolved)]
    done = [name for name, rule in RULES.items() if rule.asks == "wordings" or name == "unknown-rule"]
    documents = [resolved.document, *(yamls.read(file) for file in resolved.files[1:])]
    return heed([each for each in advice if each.file in ours], documents, done)


# -- one principle beside another ------------------------------------------------------------------------------------


def _near_duplicates(resolved: Resolved) -> Iterator[Found]:
    principles = resolved.constitution.principles
    told: set[int] = set()
    for later, earlier, field in (*_equal(principles), *_alike(principles)):
        if later in told:
            continue
        told.add(later)
        # of an own and an inherited one, the own one can be changed
        here = resolved.document.name
        if resolved.place("principles", later, field)[0] != here == resolved.place("principles", earlier, field)[0]:
            later, earlier = earlier, later
        one, other = principles[later], principles[earlier]
        file, line = resolved.place("principles", earlier, field)
        where = f"line {line}" if file == resolved.place("principles", later, field)[0] else f"{file}:{line}"
        same = words_of(getattr(one, field)) == words_of(getattr(other, field))
        yield (
            "near-duplicate",
            ("principles", later, field),
            f"{field!r} of {one.id!r} says {'word for word' if same else 'in nearly the same words'} what {other.id!r} "
            f"says ({where}); merge them, or say what differs",
        )


def _equal(principles: Sequence[Principle]) -> Iterator[tuple[int, int, str]]:
    """Yield (later, earlier, field) where one wording is another's; one way of revising may serve many principles."""
    for field in ("text", "critique", "preference"):
        first: dict[tuple[str, ...], int] = {}
        for index, principle in enumerate(principles):
            words = tuple(words_of(getattr(principle, field) or ""))
            if words and first.setdefault(words, index) != index:
                yield index, first[words], field


def _alike(principles: Sequence[Principle]) -> Iterator[tuple[int, int, str]]:
    """Yield (later, earlier, field) where the texts, or without texts all wordings that both have, are nearly equal."""
    import numpy as np
    from rapidfuzz.distance import Indel
    from rapidfuzz.process import cdist

    compared = principles[:MOST_COMPARED]
    fields = ("text", "critique", "preference", "revision")
    said = {field: [telling(getattr(each, field)) for each in compared] for field in fields}
    there = {field: np.array([bool(words) for words in said[field]]) for field in fields}
    both = {field: np.logical_and.outer(there[field], there[field]) for field in fields}
    double = np.tri(len(compared), k=-1, dtype=bool) & (both["text"] | both["critique"] | both["preference"])
    for field in fields:
        asked = both[field] if field == "text" else both[field] & ~both["text"]
        if (double & asked).any():
            near = cdist(
                said[field], said[field], scorer=Indel.normalized_similarity, score_cutoff=ALIKE, dtype=np.float32
            )
            double &= ~asked | (near > 0)
    for later in np.flatnonzero(double.any(axis=1)).tolist():
        earlier = int(double[later].argmax())
        yield later, earlier, next(field for field in fields if both[field][later, earlier])


def _cases(resolved: Resolved) -> Iterator[Found]:
    for index, principle in enumerate(resolved.constitution.principles):
        first: dict[tuple[str, ...], int] = {}
        for number, case in enumerate(principle.cases):
            loc = ("principles", index, "cases", number)
            prompt, better, worse = _said(case)
            line = resolved.place("principles", index, "cases", first.get((prompt, better, worse), number))[1]
            turned = first.get((prompt, worse, better))
            if better == worse:
                yield "idle-case", (*loc, "worse"), "'better' and 'worse' are the same words; change one of them"
            elif (prompt, better, worse) in first:
                yield "idle-case", loc, f"this case of {principle.id!r} is there already (line {line}); keep one"
            elif turned is not None:
                line = resolved.place("principles", index, "cases", turned)[1]
                yield (
                    "case-upside-down",
                    loc,
                    f"this case of {principle.id!r} prefers what the one on line {line} rejects; turn one of them",
                )
            first.setdefault((prompt, better, worse), number)


def _said(case: Case) -> tuple[str, str, str]:
    prompt = "\n".join(f"{turn.role}: {' '.join(turn.content.split())}" for turn in case.prompt)
    return prompt, " ".join(case.better.split()), " ".join(case.worse.split())


# -- how a wording asks ----------------------------------------------------------------------------------------------


def _accusing(resolved: Resolved) -> Iterator[Found]:
    for index, principle in enumerate(resolved.constitution.principles):
        words = " ".join((principle.critique or "").split())
        found = next((match for pattern in english.ACCUSES if (match := pattern.search(words))), None)
        if found and not english.OPEN.search(words):
            yield (
                "accusing-critique",
                ("principles", index, "critique"),
                f"'critique' of {principle.id!r} takes a fault for granted ({short(found[0])!r}); ask whether there "
                "is one, or add what to say where there is none",
            )


def _no_comparisons(resolved: Resolved) -> Iterator[Found]:
    for index, principle in enumerate(resolved.constitution.principles):
        words = principle.preference or ""
        # a hard constraint's own wording for the judge is stated, not asked
        if principle.kind != "hard_constraint" and english.ENGLISH.search(words) and not english.COMPARES.search(words):
            yield (
                "no-comparison",
                ("principles", index, "preference"),
                f"'preference' of {principle.id!r} compares nothing; ask which of the two responses is better in it",
            )


def _too_general(resolved: Resolved) -> Iterator[Found]:
    for index, principle in enumerate(resolved.constitution.principles):
        derived = principle.kind == "hard_constraint" or any(getattr(principle, role) is None for role in ROLES)
        for field in ("text", "preference"):
            words = set(words_of(getattr(principle, field) or "")) if field != "text" or derived else set()
            if words & english.VALUES and not words - english.VALUES - english.EMPTY - english.PLAIN:
                yield (
                    "too-general",
                    ("principles", index, field),
                    f"{field!r} of {principle.id!r} names no behaviour, and only a strong judge can fill it; say what "
                    "a response does that follows it",
                )


# -- the constitution as a whole -------------------------------------------------------------------------------------


def _caseless(resolved: Resolved) -> Iterator[Found]:
    living = _living(resolved)
    shown = sum(bool(each.cases or each.exemplars) for each in living)
    if len(living) > FEW and shown * 10 < len(living):
        yield (
            "rules-without-cases",
            ("principles",),
            f"{len(living)} principles, {shown or 'none'} of them with `cases` or `exemplars`; long lists of bare "
            "rules make models less helpful: show what is meant where it could be taken wrongly",
        )


def _uncured(resolved: Resolved) -> Iterator[Found]:
    living = _living(resolved)
    own = [[words for field in ("text", *ROLES) if (words := getattr(each, field))] for each in living]
    of_harm = sum(any(english.HARM.search(words) for words in said) for said in own)
    everything = [resolved.constitution.preamble or "", *(words for said in own for words in said)]
    if of_harm * 4 >= len(living) and of_harm and not any(english.CURE.search(words) for words in everything):
        yield (
            "over-refusal-uncured",
            ("principles",),
            f"{of_harm} of {len(living)} principles speak of harm, and none for helping or against refusing, evading "
            "or preaching; models trained on it turn evasive: add a principle, or a half-sentence, that does",
        )


def _draws(resolved: Resolved) -> Iterator[Found]:
    principles = resolved.constitution.principles
    drawn = [each for each in principles if each.kind != "hard_constraint" and each.weight > 0]
    if not drawn:
        told = "nothing here can be drawn: every principle is a hard constraint or has a weight of 0"
        yield "nothing-to-draw", ("principles",), f"{told}; give one a weight, unless others extend this"
    by_tag: dict[str, float] = defaultdict(float)  # what is drawn for every prompt stands under ""
    for each in drawn:
        for tag in set(each.applies_to) or {""}:
            by_tag[tag] += each.weight
    usual = sum(each.weight for each in drawn) / max(len(drawn), 1)
    for index, principle in enumerate(principles):
        loc = ("principles", index, "weight")
        if principle.kind == "hard_constraint":
            for key in sorted({"weight", "applies_to"} & principle.model_fields_set):
                told = f"{key!r} of the hard constraint {principle.id!r} decides nothing: it stands in every wording"
                yield "without-effect", ("principles", index, key), f"{told}; take {key!r} out, or change its 'kind'"
        elif principle.weight == 0:
            if drawn:
                yield "never-drawn", loc, f"{principle.id!r} has a weight of 0 and is never drawn"
        else:
            # the share where it is greatest: for prompts with the tag for which least else is drawn
            share = principle.weight / (by_tag[""] + min((by_tag[tag] for tag in principle.applies_to), default=0))
            if share < LEAST_SHARE and principle.weight * 10 < usual:
                told = f"the weight of {principle.id!r}, {principle.weight:g}, is {100 * share:.2g} % of what is drawn"
                yield "hardly-drawn", loc, f"{told} with it, so that most runs never meet it; give it more"


def _living(resolved: Resolved) -> list[Principle]:
    """Return the principles that stand in wordings."""
    return [each for each in resolved.constitution.principles if each.kind == "hard_constraint" or each.weight > 0]
