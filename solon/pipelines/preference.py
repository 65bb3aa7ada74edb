"""The preference stage: candidates sampled for one prompt, judged by a drawn principle (Bai et al. 2022, section 4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from solon.cast import RULES, Cast, together
from solon.constitution import Constitution, Role
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
                with each, and the pair is the best against the worst by their mean probability of winning. Where
                the worst wins against the best all the same, the row is set aside as a tie.
    """

    constitution: Constitution
    judge: Pairwise = Pairwise()
    candidates: int = 2

    def draws(self) -> tuple[tuple[str, tuple[Role, ...]], ...]:
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

    def goes_by(self, step: str) -> str | None:
        return "judge" if step.startswith("judge") else None

    def digest(self) -> dict[str, Any]:
        return {
            "kind": "preference",
            "candidates": self.candidates,
            "judge": self.judge.model_dump(mode="json"),
            "templates": [JUDGE_TEMPLATES, list(RULES)],
        }

    async def __call__(self, row: Row, cast: Cast) -> Pair | SetAside:
        answered: dict[int, Draft] = {}
        votes: tuple[Vote, ...] = ()
        try:
            await together(*(self._candidate(number, row, cast, answered) for number in range(self.candidates)))
            drafts = _in_order(answered)
            places = _distinct(drafts)
            if len(places) < 2:
                raise Aside("equal_candidates", f"all {self.candidates}")
            drawn = row.drawn("judge")
            duels = list(combinations(places, 2))
            verdicts = await together(*(self._duel(row, cast, drafts, *duel) for duel in duels))
            won: dict[tuple[int, int], float] = {}
            for duel, verdict in zip(duels, verdicts, strict=True):
                if verdict.p is None:
                    votes = verdict.votes
                    verdict.order(0, 1)  # raises: after one silence the means would be over unequal opponents
                else:
                    won[duel] = verdict.p
            best, worst = _ranking(won, places)
            one, other = sorted((best, worst))
            verdict = verdicts[duels.index((one, other))]
            votes = verdict.votes
            chosen, rejected, p = verdict.order(drafts[one], drafts[other], tie=self.judge.tie)
            if chosen is not drafts[best]:
                # best by its mean, and yet it loses to the worst: the comparisons run in a circle
                raise Aside("tie", f"{drafts[best].name} wins most, but not against {drafts[worst].name}")
        except Aside as problem:
            return SetAside(row, problem.reason, problem.detail, _in_order(answered), votes)
        return Pair(
            row, chosen.text, rejected.text, chosen.name, rejected.name, p, drawn.principle, drawn.digest,
            cast.judge.name, votes, drafts,
        )  # fmt: skip

    async def _candidate(self, number: int, row: Row, cast: Cast, answered: dict[int, Draft]) -> None:
        """Sample candidate `number` (from 0) and keep it, whatever becomes of the others."""
        said = await respond(cast.responder, row.prompt.messages, step=f"respond.{number + 1}", sample=number)
        answered[number] = Draft(f"candidate.{number + 1}", said.text, trimmed=said.trimmed)

    async def _duel(self, row: Row, cast: Cast, drafts: Sequence[Draft], one: int, other: int) -> Verdict:
        """Compare two candidates by the principle that the row drew."""
        wording = self.constitution.wording(self.constitution.principle(row.drawn("judge").principle), "preference")
        return await self.judge(
            cast.judge, row.prompt.messages, drafts[one].text, drafts[other].text, wording, step=self._step(one, other)
        )

    def _step(self, one: int, other: int) -> str:
        return "judge" if self.candidates == 2 else f"judge.{one + 1}-{other + 1}"


def _in_order(answered: dict[int, Draft]) -> tuple[Draft, ...]:
    """Return the candidates by their number, not by whose answer came first."""
    return tuple(answered[number] for number in sorted(answered))


def _distinct(drafts: Sequence[Draft]) -> list[int]:
    """Return the places of the drafts whose words differ, the first of each kind."""
    seen: dict[tuple[str, ...], int] = {}
    for place, draft in enumerate(drafts):
        seen.setdefault(tuple(draft.text.split()), place)
    return sorted(seen.values())


def _ranking(won: dict[tuple[int, int], float], places: list[int]) -> tuple[int, int]:
    """Return the places with the highest and the lowest mean probability of winning, the earlier one of equals.

    won: P(the first of two places is better), for every two places
    """
    wins = dict.fromkeys(places, 0.0)
    for (one, other), p in won.items():
        wins[one] += p
        wins[other] += 1.0 - p
    # rounded, so that the order of adding decides nothing
    ordered = sorted(places, key=lambda place: (-round(wins[place], 9), place))
    return ordered[0], ordered[-1]
