"""What an inference came to, as a constitution that says how good it is, and as a report with every number.

The constitution's `description` carries its reconstruction accuracy, each principle's `rationale` what stands behind
it, and its `cases` are pairs that the principle and the label decided alike, so that `solon constitution test` has
something to go by. Nothing here depends on what was asked and what was remembered: equal inferences are equal bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from solon.complaints import short
from solon.constitution import Case, Constitution, Principle, Turn
from solon.errors import BadInput
from solon.review.infer.preferences import SET_ASIDE, Preference, Preferences
from solon.review.infer.proposals import ALIKE, Candidate
from solon.review.infer.reconstruct import Measure, percent
from solon.review.intervals import Interval

__all__ = [
    "COMBINED",
    "DRAWN",
    "WHOLE",
    "Heard",
    "InferSpec",
    "Inferred",
    "Rule",
    "constitution_of",
    "drafted",
    "principle_of",
    "report",
]

COMBINED, DRAWN, WHOLE = "weighed together", "one drawn principle", "the whole at once"
CASES = 2
LONGEST_CASE = 2000
"""Characters of prompt and answers together: a case is read by people."""


@dataclass(frozen=True)
class InferSpec:
    """How much is asked, and what decides it.

    keep:          most principles in the constitution
    candidates:    most rules that are voted by
    proposals:     most train pairs that rules are proposed from
    votes:         most train pairs that the candidates judge
    test_fraction: share of prompts that is held out
    seed:          decides the split, the order in which pairs are taken, and which principle a held-out pair meets
    """

    keep: int = 8
    candidates: int = 20
    proposals: int = 60
    votes: int = 120
    test_fraction: float = 0.3
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("keep", "candidates", "proposals", "votes"):
            if getattr(self, name) < 1:
                raise BadInput(f"{name} is {getattr(self, name)}; give at least 1")
        if not 0 < self.test_fraction < 1:
            raise BadInput(f"test_fraction is {self.test_fraction}; give a share between 0 and 1, such as 0.3")


@dataclass(frozen=True)
class Heard:
    """What a judge made of one pair by one wording.

    x:     2 P(the first answer is better) - 1; 0 where it did not say
    clear: both orders prefer the same answer
    why:   the reason where it did not say ("tie", "judge_silent", ...), else ""
    """

    x: float
    clear: bool = False
    why: str = ""


@dataclass(frozen=True)
class Rule:
    """A candidate, and what its votes on the train pairs say of it.

    right:   share of its votes that agree with the label
    speaks:  share of pairs of which it says anything; `silent` counts the others by reason
    typical: its typical vote, the root mean square of |x| where it speaks
    alone:   the log odds that such a vote adds where no other rule is heard; below 0 its reverse predicts
    weight:  the same beside the other principles; None where it was not kept
    fate:    "kept", "reversed", "silent" or "adds nothing"
    """

    id: str
    candidate: Candidate
    right: Interval
    speaks: Interval
    silent: dict[str, int]
    typical: float
    alone: float
    weight: float | None
    fate: str


@dataclass(frozen=True)
class Inferred:
    """What came of it.

    proposer, judge: what people call the models
    counts:       pairs by what they were used for
    proposals:    what became of the proposals: rules, pairs without any by reason, unusable lines by what is wrong
    rules:        every candidate, the kept ones first
    log_loss:     nats a pair, cross-validated on the pairs voted on: of no principle, the first, the first two, ...
    measures:     on the held-out pairs, baselines last
    silent:       votes on held-out pairs that said nothing, by reason
    failed:       questions that got no answer; another start asks them again
    explains:     whether the principles are shown to beat every baseline; `verdict` says it in a sentence
    constitution: None where no rule was kept
    """

    pairs: Preferences
    spec: InferSpec
    proposer: str
    judge: str
    counts: dict[str, int]
    proposals: dict[str, Any]
    rules: tuple[Rule, ...]
    log_loss: tuple[float, ...]
    measures: tuple[Measure, ...]
    silent: dict[str, int]
    failed: int
    explains: bool
    verdict: str
    constitution: Constitution | None = None


def drafted(candidates: Sequence[Candidate]) -> list[Principle]:
    """Return a principle for each candidate, its id made of its words."""
    taken: set[str] = set()
    drafts = []
    for candidate in candidates:
        words = re.findall(r"[a-z0-9]+", candidate.text.lower().replace("\u2019", "").replace("'", ""))
        slug = ""
        for word in words:
            if len(slug) + len(word) > 40:
                break
            slug += f"-{word}" if slug else word
        id, number = slug or "rule", 1
        while id in taken:
            number += 1
            id = f"{slug or 'rule'}-{number}"
        taken.add(id)
        drafts.append(Principle(id=id, text=candidate.text))
    return drafts


def principle_of(rule: Rule, draft: Principle, said: Sequence[tuple[Preference, Heard]], proposing: int) -> Principle:
    """Return a kept rule as it stands in the constitution.

    said:      what it said of each pair that it was weighed on
    proposing: pairs that rules were proposed from
    """
    told = [
        f"Proposed from {rule.candidate.support:,} of {proposing:,} pairs.",
        f"Of {rule.speaks.n:,} pairs that it was weighed on it decides {rule.right.n:,}, and agrees with the label in "
        f"{percent(rule.right)} of those.",
    ]
    if rule.candidate.wordings:
        told.append("Also proposed as: " + " / ".join(short(each, 160) for each in rule.candidate.wordings[:3]))
    return draft.model_copy(
        update={"weight": rule.weight, "rationale": " ".join(told), "cases": _cases(said, rule.typical)}
    )


def _cases(said: Sequence[tuple[Preference, Heard]], typical: float) -> tuple[Case, ...]:
    """Return the shortest pairs that the rule decided clearly and as their label does."""
    clear = [
        pair
        for pair, heard in said
        if heard.clear and (heard.x > 0) == pair.first_wins
        if abs(heard.x) >= typical - 1e-9 and _length(pair) <= LONGEST_CASE
    ]
    clear.sort(key=lambda pair: (_length(pair), pair.id))
    return tuple(
        Case(
            prompt=tuple(
                Turn.model_validate({"role": turn.role, "content": turn.content}) for turn in pair.prompt.messages
            ),
            better=pair.chosen,
            worse=pair.rejected,
        )
        for pair in clear[:CASES]
    )


def _length(pair: Preference) -> int:
    return sum(len(turn.content) for turn in pair.prompt.messages) + len(pair.chosen) + len(pair.rejected)


def constitution_of(inferred: Inferred, principles: Sequence[Principle]) -> Constitution:
    """Return the constitution of these principles, whose description says how well they reconstruct the labels."""
    counts = inferred.counts
    told = [
        inferred.verdict,
        f"Held out were {counts['held out']:,} of {counts['pairs']:,} pairs; {counts['proposed from']:,} were shown to "
        f"{inferred.proposer}, which proposed the rules, and {counts['voted on']:,} weighed them, judged by "
        f"{inferred.judge}. Score over all held-out pairs, where silence counts half, with its 95 % interval:",
    ]
    lines = []
    for each in inferred.measures:
        line = f"- {each.name}: {percent(each.score)}"
        if each.kind == "inferred":
            line += f"; right in {percent(each.right)} of the {each.right.n:,} that it decides"
        lines.append(line)
    source = f"Inferred from {inferred.pairs.source} by solon constitution infer, seed {inferred.spec.seed}"
    return Constitution(
        name=f"Inferred from {Path(inferred.pairs.source).name or inferred.pairs.source}",
        description="\n\n".join([*told, "\n".join(lines)]),
        source=f"{source}; the cases are pairs of that dataset, under its licence",
        principles=tuple(principles),
    )


def report(inferred: Inferred) -> str:
    """Return every number as JSON text (UTF-8, keys in a fixed order, no NaN)."""
    pairs = inferred.pairs
    content = {
        "source": pairs.source,
        "proposer": inferred.proposer,
        "judge": inferred.judge,
        "options": {**asdict(inferred.spec), "alike": ALIKE},
        "counts": inferred.counts,
        "set_aside": [
            {"reason": reason, "records": count, "means": SET_ASIDE[reason], "first": pairs.examples[reason]}
            for reason, count in sorted(pairs.set_aside.items())
        ],
        "proposals": inferred.proposals,
        "verdict": inferred.verdict,
        "explains": inferred.explains,
        "held_out": [asdict(each) for each in inferred.measures],
        "held_out_silent": inferred.silent,
        "failed": inferred.failed,
        "log_loss": inferred.log_loss,
        "candidates": [asdict(each) for each in inferred.rules],
        "principles": [each.id for each in inferred.constitution.principles] if inferred.constitution else [],
    }
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
