"""The rules of advice: what each speaks against and why, and how a comment silences one.

    # solon: ignore[near-duplicate, too-general]     at the end of the line that the advice names, or alone above it;
                                                     on a principle's `id:` line it holds for the whole principle
    # solon: ignore-file[accusing-critique]: why     anywhere in the file

A mistake is told by the reader of a file and cannot be silenced; advice is what works and may still be meant. Every
rule rests on evidence or on what the draw does. None speaks about positive against negative wording: judges agree
better with the one, trained models follow the other (arXiv 2502.15861).
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Literal

from solon import yamls
from solon.complaints import one_of, short

__all__ = ["RULES", "Advice", "Rule", "Severity", "heed"]

Severity = Literal["warning", "note"]


@dataclass(frozen=True)
class Advice:
    """One piece of advice: which rule gives it, where it holds (line from 1), and what to do."""

    rule: str
    severity: Severity
    file: str
    line: int
    text: str

    @classmethod
    def by(cls, rule: str, place: tuple[str, int], text: str) -> Advice:
        """Return what `rule` (a key of RULES) says about `place`, (file, line)."""
        return cls(rule, RULES[rule].severity, *place, text)


@dataclass(frozen=True)
class Rule:
    """What a rule speaks against and why, with its source.

    asks: "wordings", what stands in a constitution is enough; "recipe", it takes a recipe's prompts; "comments"
    """

    severity: Severity
    asks: Literal["wordings", "recipe", "comments"]
    why: str


def heed(advice: Iterable[Advice], documents: Iterable[yamls.Document], done: Collection[str] = ()) -> list[Advice]:
    """Return what the documents' comments leave of `advice`, by file and line, and what is wrong with the comments.

    done: the rules that have been asked about these documents; where it is empty, nothing is said of comments
    """
    comments = _Comments()
    for document in documents:
        comments.read(document)
    left = [each for each in [*advice, *(comments.wrong if done else ())] if not comments.silence(each)]
    for place, rule in comments.useless() if done else ():
        told = Advice.by("useless-ignore", place, f"there is nothing here to ignore [{rule}] for; remove it")
        if rule in done and not comments.silence(told):
            left.append(told)
    return sorted(dict.fromkeys(left), key=lambda each: (each.file, each.line, each.rule))


class _Comments:
    """What comments silence, and which of them did.

    wrong: advice about those that name no rule
    """

    def __init__(self) -> None:
        self.wrong: list[Advice] = []
        self._places: dict[tuple[str, str, int], tuple[str, int]] = {}
        self._given: list[tuple[tuple[str, int], str]] = []
        self._used: set[tuple[tuple[str, int], str]] = set()

    def read(self, document: yamls.Document) -> None:
        """Take over what a document's comments silence."""
        if not _MARK.search(document.text):
            return
        lines, spans = sorted(set(document.lines.values())), _spans(document)
        for line, comment in yamls.comments(document):
            found = _MARK.match(comment)
            if not found:
                continue
            place = (document.name, line)
            names = [name.strip() for name in (found["rules"] or "").split(",") if name.strip()]
            if not names:
                told = "this comment ignores nothing; name the rules: `# solon: ignore[near-duplicate]`"
                self.wrong.append(Advice.by("unknown-rule", place, told))
            # alone on its line, it speaks of the next value below
            at = min(bisect_left(lines, line), len(lines) - 1)
            covered = (WHOLE_FILE,) if found["file"] else spans.get(lines[at], (lines[at],))
            for name in names:
                if name in RULES:
                    self._silence(name, place, covered)
                else:
                    told = f"no rule {short(name)!r}; {one_of(name, list(RULES))}"
                    self.wrong.append(Advice.by("unknown-rule", place, told))

    def _silence(self, rule: str, place: tuple[str, int], lines: Iterable[int]) -> None:
        self._given.append((place, rule))
        for line in lines:
            if self._places.setdefault((place[0], rule, line), place) != place:
                break  # an earlier comment says this of the same lines

    def silence(self, advice: Advice) -> bool:
        """Return whether a comment silences this advice, and remember that it did."""
        found = [self._places.get((advice.file, advice.rule, line)) for line in (advice.line, WHOLE_FILE)]
        self._used |= {(place, advice.rule) for place in found if place}
        return any(found)

    def useless(self) -> list[tuple[tuple[str, int], str]]:
        """Return (place, rule) of what silenced nothing."""
        return [each for each in self._given if each not in self._used]


def _spans(document: yamls.Document) -> dict[int, range]:
    """Return the lines of each principle, by the line of its id; those of an override, by the line of its key."""
    heads: dict[yamls.Loc, int] = {}
    ends: dict[yamls.Loc, int] = {}
    for loc, line in document.lines.items():
        part = loc[:2]
        if len(part) == 2 and part[0] in ("principles", "override"):
            ends[part] = max(ends.get(part, 0), line)
            if loc == ((*part, "id") if part[0] == "principles" else part):
                heads[part] = line
    return {head: range(document.lines[part], ends[part] + 1) for part, head in heads.items()}


WHOLE_FILE = 0
_MARK = re.compile(r"solon:\s*ignore(?P<file>-file)?\b(?:\s*\[(?P<rules>[^\]]*)\])?")

RULES: dict[str, Rule] = {
    "accusing-critique": Rule("warning", "wordings",
        "A `critique` of its own takes for granted that the response is at fault, and leaves no way to say that it is "
        "not. The paper that asks so finds its critiques often inaccurate or overstated, and shows good responses in "
        "two of its five worked examples (Bai et al. 2022, arXiv 2212.08073). Ask whether. English only; derived "
        "wordings presuppose nothing."),
    "no-comparison": Rule("warning", "wordings",
        "A `preference` of its own compares nothing, or speaks of one response alone. A judge is shown two responses "
        "and must choose one (arXiv 2212.08073, section 4.1). English only."),
    "near-duplicate": Rule("warning", "wordings",
        "Two principles say the same in nearly the same words: together they are drawn twice as often as either was "
        "meant to be. Compared are like with like, `text` with `text`, `critique` with `critique`: a wording that is "
        "another's word for word, `text`s that share 90 % of their telling words, or, without texts, all wordings of "
        "which that is true (`revision` alone does not count). What is nearly the same is sought among the first 2,000 "
        "principles."),
    "too-general": Rule("note", "wordings",
        "The wording names no behaviour, only that the response be good. A general principle needs a strong judge, "
        "specific ones give control (arXiv 2310.13798, whose judge has 175B parameters). English only."),
    "rules-without-cases": Rule("note", "wordings",
        "More than 10 principles, and fewer than one in ten of them with `cases` or `exemplars`. Long code-like rule "
        "lists made open models less helpful, simple rules with cases did not (arXiv 2601.08000); about 10 bare traits "
        "are known to work (arXiv 2511.01689). Cases are also what `solon constitution test` asks."),
    "over-refusal-uncured": Rule("warning", "wordings",
        "A quarter of the principles or more speak of harm, and no wording speaks for helping, or against refusing, "
        "evading or preaching. Models trained against harm alone turn harsh or evasive; principles that discourage "
        "over-reactive and accusatory answers helped (arXiv 2212.08073; arXiv 2310.13798: evasive after about 250 "
        "steps without helpfulness data). English only."),
    "hardly-drawn": Rule("warning", "wordings",
        "By its weight the principle has less than 0.1 % of the draws, even for the prompts that suit it best, and "
        "less than a tenth of what it would have among equals: most runs never meet it."),
    "never-drawn": Rule("note", "wordings",
        "A weight of 0: the principle is never drawn, and stands in no wording either."),
    "nothing-to-draw": Rule("note", "wordings",
        "Every principle is a hard constraint or has a weight of 0, so that no recipe can use this constitution alone; "
        "one that others extend may be meant so."),
    "without-effect": Rule("warning", "wordings",
        "`weight` or `applies_to` of a hard constraint: it is never drawn, and stands in every wording, for every "
        "prompt."),
    "idle-case": Rule("warning", "wordings",
        "A case whose `better` and `worse` are the same words, so that no judge can tell them apart, or that stands "
        "there twice, so that it counts double."),
    "case-upside-down": Rule("warning", "wordings",
        "Two cases of one principle prefer opposite answers to one prompt: one of them is the wrong way round."),
    "unmet": Rule("warning", "recipe",
        "No prompt of the recipe carries a tag of the principle's `applies_to`, so that it is never drawn. Principles "
        "that its prompts never triggered were a lesson of Collective Constitutional AI (2023)."),
    "not-drawn": Rule("note", "recipe",
        "The dice of this recipe, all thrown, draw the principle for none of its rows: too few rows, too small a "
        "weight, or no words for what the story asks."),
    "unknown-rule": Rule("warning", "comments", "A comment silences a rule that does not exist, or names none."),
    "useless-ignore": Rule("note", "comments",
        "A comment silences advice that is not given here (any more). Rules that take a recipe are not counted."),
}  # fmt: skip
"""Every rule by name. The sources are arXiv numbers."""
