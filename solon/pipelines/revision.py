"""The supervised stage: answer, then criticise and rewrite by a drawn principle, `rounds` times; the judge decides
between the first answer and the last revision (Bai et al. 2022, section 3, with a judge that the paper lacks there:
a revision is never assumed to be better).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from solon import generators
from solon.calls import Form, Message
from solon.cast import RULES, Cast
from solon.constitution import Constitution, Role
from solon.digests import tagged
from solon.errors import Aside
from solon.generators import Round, Shot, critique, respond, revise, strip_preamble
from solon.judges import TEMPLATES as JUDGE_TEMPLATES
from solon.judges import Pairwise
from solon.pipelines.story import Step
from solon.rows import Draft, Pair, Row, SetAside, Vote

__all__ = ["Revision"]


@dataclass(frozen=True)
class Revision:
    """`await Revision(constitution, rounds=2)(row, cast)`.

    rounds:   critique-revision pairs, each by a principle of its own (the paper has four)
    distinct: keep a row from meeting one principle twice
    shots:    worked examples of the constitution put before each request; None is all of them for base models,
              which need them, and none for chat models
    """

    constitution: Constitution
    judge: Pairwise = Pairwise()
    rounds: int = 1
    distinct: bool = False
    shots: int | None = None

    def draws(self) -> tuple[tuple[str, tuple[Role, ...]], ...]:
        both: tuple[Role, ...] = ("critique", "revision")
        return (*((f"revision.{number}", both) for number in range(1, self.rounds + 1)), ("judge", ("preference",)))

    def steps(self, cast: Cast) -> tuple[Step, ...]:
        rounds = [
            step
            for number in range(1, self.rounds + 1)
            for step in ((f"critique.{number}", "critic"), (f"revise.{number}", "reviser"))
        ]
        judge = cast.judge
        return (("respond", "responder"), *rounds, *self.judge.steps("judge", judge.can, judge.form, judge.name))

    def goes_by(self, step: str) -> str | None:
        craft, _, number = step.partition(".")
        return {"critique": f"revision.{number}", "revise": f"revision.{number}", "judge": "judge"}.get(craft)

    def digest(self) -> dict[str, Any]:
        return {
            "kind": "revision",
            "rounds": self.rounds,
            "shots": self.shots,
            # no row draws them, and every critique and revision may quote them: an edited one is another plan
            "worked": tagged(
                "solon.worked/1", [asdict(shot) for shot in worked_examples(self.constitution)[: self.shots]]
            ),
            "judge": self.judge.model_dump(mode="json"),
            "templates": [generators.TEMPLATES, JUDGE_TEMPLATES, list(RULES)],
        }

    async def __call__(self, row: Row, cast: Cast) -> Pair | SetAside:
        prompt = row.prompt.messages
        drafts: list[Draft] = []
        votes: tuple[Vote, ...] = ()
        try:
            first = await respond(cast.responder, prompt, step="respond")
            drafts.append(Draft("response", first.text, trimmed=first.trimmed))
            for number in range(1, self.rounds + 1):
                drafts.append(await self._round(number, row, cast, drafts[-1].text))
            original, revised = drafts[0], drafts[-1]
            if original.text.split() == revised.text.split():
                raise Aside("unchanged", f"after {self.rounds} rounds")
            drawn = row.drawn("judge")
            wording = self.constitution.wording(self.constitution.principle(drawn.principle), "preference")
            verdict = await self.judge(cast.judge, prompt, original.text, revised.text, wording, step="judge")
            votes = verdict.votes
            chosen, rejected, p = verdict.order(original, revised, tie=self.judge.tie)
        except Aside as problem:
            return SetAside(row, problem.reason, problem.detail, tuple(drafts), votes)
        return Pair(
            row, chosen.text, rejected.text, chosen.name, rejected.name, p, drawn.principle, drawn.digest,
            cast.judge.name, votes, tuple(drafts),
        )  # fmt: skip

    async def _round(self, number: int, row: Row, cast: Cast, answer: str) -> Draft:
        """Criticise `answer` by the principle drawn for this round, and return its revision."""
        prompt = row.prompt.messages
        drawn = row.drawn(f"revision.{number}")
        principle = self.constitution.principle(drawn.principle)
        asked = Round(self.constitution.wording(principle, "critique"))
        criticism = await critique(
            cast.critic, prompt, answer, asked.critique_request,
            shots=self._worked(cast.critic.form), step=f"critique.{number}",
        )  # fmt: skip
        asked = replace(
            asked, critique=criticism.text, revision_request=self.constitution.wording(principle, "revision")
        )
        said = await revise(
            cast.reviser, prompt, answer, asked, shots=self._worked(cast.reviser.form), step=f"revise.{number}"
        )
        text, stripped = strip_preamble(said.text)
        return Draft(f"revision.{number}", text, drawn.principle, drawn.digest, criticism.text, stripped, said.trimmed)

    def _worked(self, form: Form) -> Sequence[Shot]:
        """Return the worked examples for a player of this form."""
        most = self.shots if self.shots is not None else (None if form == "text" else 0)
        return self._shown(most)

    def _shown(self, most: int | None) -> list[Shot]:
        # a chat model is shown none by default: then none are rendered, at any call
        return [] if most == 0 else worked_examples(self.constitution)[:most]


def worked_examples(constitution: Constitution) -> list[Shot]:
    """Return the constitution's exemplars as worked examples, each asked by its own principle's wordings."""
    return [
        Shot(
            tuple(Message(turn.role, turn.content) for turn in exemplar.prompt),
            exemplar.response,
            Round(
                constitution.wording(principle, "critique"),
                exemplar.critique,
                constitution.wording(principle, "revision"),
                exemplar.revision,
            ),
        )
        for principle, exemplar in constitution.exemplars()
    ]
