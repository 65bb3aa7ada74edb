"""How many waves a story needs is what a walk of it really takes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from story_kit import FIRST, candidates, cast_of, row_of

from solon.calls import Ask, Call, Can, Reply
from solon.cast import ROLES, Cast
from solon.errors import Parked
from solon.judges import Pairwise
from solon.pipelines.preference import Preference
from solon.pipelines.revision import Revision
from solon.pipelines.story import Story
from solon.pipelines.waves import waves
from solon.rows import SetAside

STORIES: list[tuple[Story, int]] = [
    (Revision(FIRST), 4),
    (Revision(FIRST, rounds=3), 8),
    (Revision(FIRST, Pairwise(reasoning=True)), 4),
    (Preference(FIRST), 2),
    (Preference(FIRST, candidates=4), 2),
    (Preference(FIRST, Pairwise(both_orders=False)), 2),
]


def casts(can: Can = Can(False, False)) -> Cast:  # noqa: B008, it is frozen
    def verdict(call: Call) -> str:
        a, b = candidates(call)
        return "Answer: A" if a > b else "Answer: B"

    return cast_of(
        lambda call: f"Answer {call.sample}.",
        "A critique.",
        lambda call: f"Revision {call.key[-6:]}.",
        verdict,
        can=can,
    )


async def walked(story: Story, cast: Cast, batch_roles: tuple[str, ...]) -> int:
    """Return how often a row parks until it is done: its calls are answered wave by wave."""
    known: dict[str, Reply] = {}
    parked: dict[str, tuple[Ask, Call]] = {}

    def desk(ask: Ask) -> Ask:
        async def park(call: Call) -> Reply:
            if call.key not in known:
                parked[call.key] = ask, call
                raise Parked("tiny")
            return known[call.key]

        return park

    players = (replace(one, ask=desk(one.ask)) if one.role in batch_roles else one for one in cast.players())
    parking, count = Cast(*players), 0
    while isinstance(outcome := await story(row_of(story), parking), SetAside) and outcome.reason == "parked":
        count += 1
        for key, (ask, call) in parked.items():
            known[key] = await ask(call)
        parked.clear()
    assert not isinstance(outcome, SetAside), outcome
    return count


@pytest.mark.parametrize(("story", "most"), STORIES, ids=lambda value: str(value)[:40])
@pytest.mark.parametrize("roles", [ROLES, ("judge",), ("responder", "critic"), ()], ids=str)
async def test_a_story_takes_as_many_waves_as_are_told(story: Story, most: int, roles: tuple[str, ...]) -> None:
    """The judge's two orders are one wave, and so are all candidates; live roles add none."""
    told = waves(story, casts(), roles)
    assert told == await walked(story, casts(), roles)
    assert roles != ROLES or told == most


async def test_reasoning_that_is_a_call_of_its_own_is_a_wave_of_its_own() -> None:
    story = Revision(FIRST, Pairwise(reasoning=True))
    assert waves(story, casts(Can(logprobs=True)), ROLES) == 5


async def test_an_answer_that_may_be_asked_anew_may_take_that_many_waves_more() -> None:
    cast = casts()
    cast = replace(cast, responder=replace(cast.responder, again=2))
    assert waves(Preference(FIRST), cast, ROLES) == 4
    assert waves(Preference(FIRST), cast, ("judge",)) == 1
