"""The unit tests of a constitution: its cases, judged under their own principle and under all of them at once.

    tried = await try_cases(constitution, judge, Pairwise())
    [each for each in tried if each.outcome == "fail"]

A case says which of two answers a principle prefers. Each is asked in both orders, and passes only where both prefer
the better answer: where the orders disagree the judge went by the place (Zheng et al. 2023, arXiv 2306.05685, count
such a comparison as a tie). A judge that did not answer has said nothing, and its case is neither passed nor failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from solon.calls import Message
from solon.cast import Player
from solon.complaints import one_of
from solon.constitution import Case, Constitution, Principle
from solon.errors import Aside, BadInput
from solon.judges import Pairwise, Verdict
from solon.judges.verdict import aggregate
from solon.review.asking import ask_all
from solon.rows import Vote

__all__ = ["BY_PLACE", "OUTCOMES", "Outcome", "Scope", "Tried", "tally", "try_cases"]

BY_PLACE = "the two orders disagree: the judge went by the place"
Outcome = Literal["pass", "fail", "unsure", "unanswered"]
Scope = Literal["own", "whole"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)


@dataclass(frozen=True)
class Tried:
    """One case under one wording.

    principle: whose case it is
    number:    its place among the principle's cases, from 1
    scope:     "own": judged by its principle; "whole": judged by all principles together
    outcome:   "pass" and "fail": both orders prefer the better, or the worse answer; "unsure": they disagree, or the
               votes are within the judge's tie of 0.5; "unanswered": no verdict
    p:         P(the better answer is better), the mean of both orders before any clamp; None where unanswered
    detail:    why it is unsure or unanswered; "" else
    """

    principle: str
    number: int
    scope: Scope
    case: Case
    outcome: Outcome
    p: float | None
    votes: tuple[Vote, ...]
    detail: str = ""


async def try_cases(
    constitution: Constitution,
    judge: Player,
    judging: Pairwise,
    *,
    principles: Collection[str] = (),
    window: int = 64,
    tell: Callable[[Tried], None] = lambda tried: None,
) -> list[Tried]:
    """Return every case of the constitution (of `principles` alone, where given), tried under both wordings, in order.

    judging: how the judge compares; both orders are asked whatever it says
    window:  most cases at once
    tell:    told of each as soon as it is judged

    Raises BadInput where there is no case, an id is unknown, or a principle with cases has no words for a judge; Halt
    where the judge can answer nothing.
    """
    wanted = _with_cases(constitution, principles)
    judging = judging.model_copy(update={"both_orders": True})
    whole = constitution.whole_wording()
    scopes: tuple[tuple[Scope, Callable[[Principle], str]], ...] = (
        ("own", constitution.judged_by),
        ("whole", lambda principle: whole),
    )
    asked = (
        (principle.id, number, case, scope, wording(principle))
        for principle in wanted
        for number, case in enumerate(principle.cases, start=1)
        for scope, wording in scopes
    )
    return await ask_all(
        asked, lambda case: _tried(judge, judging, *case), window=window, tell=lambda tried, done: tell(tried)
    )


async def _tried(
    judge: Player, judging: Pairwise, principle: str, number: int, case: Case, scope: Scope, wording: str
) -> Tried:
    prompt = [Message(turn.role, turn.content) for turn in case.prompt]
    step = f"case.{principle}.{number}.{scope}"
    try:
        verdict = await judging(judge, prompt, case.better, case.worse, wording, step=step)
    except Aside as problem:
        return Tried(principle, number, scope, case, "unanswered", None, (), str(problem))
    outcome, p, detail = _outcome(verdict, judging.tie)
    return Tried(principle, number, scope, case, outcome, p, verdict.votes, detail)


def _outcome(verdict: Verdict, tie: float) -> tuple[Outcome, float | None, str]:
    """Return the outcome, P(better is better) and why it is no clear one."""
    p = aggregate(verdict.votes).p  # before any clamp
    # a vote of exactly 0.5 is on neither side
    sides = {(vote.p_first > 0.5) - (vote.p_first < 0.5) for vote in verdict.votes if vote.p_first is not None}
    try:
        won = verdict.order(True, False, tie=tie)[0]
    except Aside as problem:
        if problem.reason != "tie":
            return "unanswered", None, str(problem)
        return "unsure", p, BY_PLACE if len(sides) > 1 else f"a tie: within {tie:g} of 0.5"
    return ("unsure", p, BY_PLACE) if len(sides) > 1 else ("pass" if won else "fail", p, "")


def _with_cases(constitution: Constitution, ids: Collection[str]) -> list[Principle]:
    known = [principle.id for principle in constitution.principles]
    problems = [f"no principle {id!r} in {constitution.name!r}; {one_of(id, known)}" for id in ids if id not in known]
    wanted = [each for each in constitution.principles if each.cases and (not ids or each.id in ids)]
    if not wanted and not problems:
        of = f"principle {', '.join(sorted(ids))}" if ids else f"constitution {constitution.name!r}"
        problems.append(f"{of} has no cases to test; write some, or cut them from a run: solon show ROW --as-case")
    for each in wanted:
        if each.own("preference") is None:
            problems.append(
                f"principle {each.id!r} has cases but no words for a judge; give it `preference: ...` or `text: ...`"
            )
    if problems:
        raise BadInput(problems)
    return wanted


def tally(tried: Sequence[Tried]) -> dict[str, dict[Scope, Counter[Outcome]]]:
    """Return how often each outcome came, by principle (in order) and scope."""
    counts: dict[str, dict[Scope, Counter[Outcome]]] = {}
    for each in tried:
        scopes = counts.setdefault(each.principle, {"own": Counter(), "whole": Counter()})
        scopes[each.scope][each.outcome] += 1
    return counts
