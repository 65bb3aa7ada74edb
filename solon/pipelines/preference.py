"""The preference stage: candidates sampled for one prompt, judged by a drawn principle (Bai et al. 2022, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Any

from solon.cast import Cast, together
from solon.constitution import Constitution
from solon.errors import Aside
from solon.generators import respond
from solon.judges import TEMPLATES as JUDGE_TEMPLATES
from solon.judges import Pairwise, Verdict
from solon.pipelines.story import Step
from solon.rows import Draft, Pair, Row, SetAside, Vote

__all__ = ["Preference"]


@dataclass(frozen=True)
class Preference:
    """`await Preference(constitution)(row, cast)`.

    candidates: answers sampled for one prompt. Two, as in the paper, make one comparison; more are compared each
                with each, and the pair is the best against the worst by their mean probability of winning.
    """

    constitution: Constitution
    judge: Pairwise = Pairwise()
    candidates: int = 2

    def draws(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return (("judge", ("preference",)),)

    def steps(self, cast: Cast) -> tuple[Step, ...]:
        judge = cast.judge
        answers = [(f"respond.{number}", "responder") for number in range(1, self.candidates + 1)]
        judged = [
            step
            for one, other in combinations(range(self.candidates), 2)
            for step in self.judge.steps(self._step(one, other), judge.can, judge.form, judge.name)
        ]
        return (*answers, *judged)

    def digest(self) -> dict[str, Any]:
        return {
            "kind": "preference",
            "candidates": self.candidates,
            "judge": self.judge.model_dump(mode="json"),
            "templates": [JUDGE_TEMPLATES],
        }

    async def __call__(self, row: Row, cast: Cast) -> Pair | SetAside:
        prompt = row.prompt.messages
        drafts: list[Draft] = []
        votes: tuple[Vote, ...] = ()
        try:
            said = await together(
                *(
                    respond(cast.responder, prompt, step=f"respond.{number}", sample=number - 1)
                    for number in range(1, self.candidates + 1)
                )
            )
            drafts = [
                Draft(f"candidate.{number}", answer.text, trimmed=answer.trimmed)
                for number, answer in enumerate(said, 1)
            ]
            places = _distinct(drafts)
            if len(places) < 2:
                raise Aside("equal_candidates", f"all {self.candidates}")
            drawn = row.drawn("judge")
            wording = self.constitution.wording(self.constitution.principle(drawn.principle), "preference")
            duels = list(combinations(places, 2))
            verdicts = await together(
                *(
                    self.judge(
                        cast.judge, prompt, drafts[one].text, drafts[other].text, wording,
                        step=self._step(one, other),
                    )
                    for one, other in duels
                )
            )  # fmt: skip
            best, worst = _extremes(dict(zip(duels, verdicts, strict=True)), places)
            verdict = verdicts[duels.index((min(best, worst), max(best, worst)))]
            votes = verdict.votes
            first, second = drafts[min(best, worst)], drafts[max(best, worst)]
            chosen, rejected, p = verdict.order(first, second, tie=self.judge.tie)
        except Aside as problem:
            return SetAside(row, problem.reason, problem.detail, tuple(drafts), votes)
        return Pair(
            row, chosen.text, rejected.text, chosen.name, rejected.name, p, drawn.principle, drawn.digest,
            cast.judge.name, votes, tuple(drafts),
        )  # fmt: skip

    def _step(self, one: int, other: int) -> str:
        return "judge" if self.candidates == 2 else f"judge.{one + 1}-{other + 1}"


def _distinct(drafts: list[Draft]) -> list[int]:
    """Return the places of the drafts whose words differ, the first of each kind."""
    seen: dict[tuple[str, ...], int] = {}
    for place, draft in enumerate(drafts):
        seen.setdefault(tuple(draft.text.split()), place)
    return sorted(seen.values())


def _extremes(verdicts: dict[tuple[int, int], Verdict], places: list[int]) -> tuple[int, int]:
    """Return the places with the highest and the lowest mean probability of winning.

    With two candidates that is the one comparison there is. Raises Aside("judge_silent") where the judge did not
    say in any comparison: a mean over unequal opponents would not compare like with like.
    """
    if len(places) > 2:
        for verdict in verdicts.values():
            if verdict.p is None:
                verdict.order(0, 1)
    wins = dict.fromkeys(places, 0.0)
    for (one, other), verdict in verdicts.items():
        p = 0.5 if verdict.p is None else verdict.p
        wins[one] += p
        wins[other] += 1.0 - p
    ordered = sorted(places, key=lambda place: (-wins[place], place))
    return ordered[0], ordered[-1]
