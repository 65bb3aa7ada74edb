"""Ballots: every principle's vote on the same pairs of texts.

    pairs, there = sample(folder, story, 20)         the same ones every time; the first 20 of 50 are these 20
    votes = await ballots(pairs, constitution, judging, judge)

A run asks one principle about each pair (Bai et al. 2022, section 4.1), so it cannot say what the others would have
said. A small sample, asked of all of them, can. Nothing is filled in: a vote that did not come is counted as missing.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from solon.calls import Call, Reply
from solon.cast import Player
from solon.constitution import Constitution, Principle
from solon.digests import uniform
from solon.errors import Aside
from solon.judges import Pairwise
from solon.pipelines.recipe import PreferenceSpec, RevisionSpec
from solon.pipelines.run import RunFolder
from solon.pipelines.survey import StepCount, most_judging
from solon.review.asking import ask_all
from solon.review.audit.opinions import Duel
from solon.review.texts import words
from solon.rows import Asked, Draft, Pair, SetAside, Vote

__all__ = ["Ballot", "ballots", "duel_of", "questions", "sample", "survey"]

STEP = "ballot"


@dataclass(frozen=True, slots=True)
class Ballot:
    """One principle's vote on one pair, in both orders (or as the recipe judges).

    problem: why there is no probability: a reason of `errors.REASONS`; "" where there is one
    """

    duel: Duel
    principle: str
    votes: tuple[Vote, ...]
    problem: str = ""


def duel_of(outcome: Pair | SetAside, story: RevisionSpec | PreferenceSpec) -> Duel | None:
    """Return the two texts that a row's label is about; None where it did not come to two, or one cannot tell which.

    Set-aside rows count where the texts were there: a tie is a verdict as well. Of a row with more than two
    candidates that ended without a pair, nothing says which two decided.
    """
    drafts, two = outcome.drafts, None
    if story.kind == "revision":
        two = (drafts[0], drafts[-1]) if len(drafts) == story.rounds + 1 else None
    elif isinstance(outcome, Pair):
        one, other = (d for d in drafts if d.name in (outcome.chosen_draft, outcome.rejected_draft))
        two = (one, other)
    elif len(drafts) == story.candidates:
        texts: dict[tuple[str, ...], Draft] = {}
        for draft in drafts:
            texts.setdefault(tuple(words(draft.text)), draft)
        if len(texts) == 2:
            one, other = texts.values()
            two = (one, other)
    if two is None or words(two[0].text) == words(two[1].text):
        return None
    return Duel(outcome.row, *two, outcome.row.drawn("judge").principle, outcome.votes)


def sample(folder: RunFolder, story: RevisionSpec | PreferenceSpec, count: int) -> tuple[tuple[Duel, ...], int]:
    """Return `count` of a run's comparisons (fewer where there are fewer), and how many there are.

    A hash of the row's id decides, so the same run gives the same ones, and a smaller sample is the beginning of a
    larger one.
    """
    there = 0

    def each() -> Iterator[Duel]:
        nonlocal there
        with folder.store(read_only=True) as store:
            for outcome in store.outcomes():
                if (found := duel_of(outcome, story)) is not None:
                    there += 1
                    yield found

    picked = heapq.nsmallest(count, each(), key=lambda duel: uniform("solon.audit/1", duel.row.id))
    return tuple(picked), there


def questions(duels: Sequence[Duel], constitution: Constitution) -> Iterator[tuple[Duel, Principle]]:
    """Yield every duel with every principle that may be drawn to judge it."""
    for duel in duels:
        for principle in constitution.drawable(("preference",), duel.row.prompt.tags):
            yield duel, principle


async def ballots(
    duels: Sequence[Duel],
    constitution: Constitution,
    judging: Pairwise,
    judge: Player,
    *,
    window: int = 64,
    tell: Callable[[int], None] = lambda done: None,
) -> tuple[Ballot, ...]:
    """Ask every principle that may judge a pair about it, `window` at once; the ballots in the order of the pairs.

    A call that fails is a ballot without votes, and says why. Raises Halt and StorageError as soon as one does.
    """

    async def voting(question: tuple[Duel, Principle]) -> Ballot:
        return await _ballot(*question, constitution, judging, judge)

    asked = questions(duels, constitution)
    return tuple(await ask_all(asked, voting, window=window, tell=lambda ballot, done: tell(done)))


async def _ballot(
    duel: Duel, principle: Principle, constitution: Constitution, judging: Pairwise, judge: Player
) -> Ballot:
    wording = constitution.wording(principle, "preference")
    prompt = duel.row.prompt.messages
    try:
        verdict = await judging(judge, prompt, duel.first.text, duel.second.text, wording, step=STEP)
    except Aside as problem:
        return Ballot(duel, principle.id, (), problem.reason)
    why = "judge_refused" if verdict.refused else "judge_silent" if verdict.p is None else ""
    return Ballot(duel, principle.id, verdict.votes, why)


async def survey(
    duels: Sequence[Duel], constitution: Constitution, judging: Pairwise, judge: Player
) -> dict[str, StepCount]:
    """Return what `ballots` would ask, by step: known calls and new ones, each question once.

    `judge` must stand in front of memory with nothing behind it.
    """
    counts = {
        step: StepCount(most=most_judging(judging, judge, step))
        for step, _ in judging.steps(STEP, judge.can, judge.form, judge.name)
    }
    seen: set[str] = set()
    heard: dict[str, tuple[Asked, Call, Reply | None]] = {}

    def listen(asked: Asked, call: Call, reply: Reply | None) -> None:
        heard[call.key] = asked, call, reply

    listening = replace(judge, listener=listen)
    for place, (duel, principle) in enumerate(questions(duels, constitution)):
        heard.clear()
        ballot = await _ballot(duel, principle, constitution, judging, listening)
        for key in heard.keys() - seen:
            asked, call, reply = heard[key]
            count = counts[asked.step]
            if reply is not None:
                count.known += 1
                count.known_usage += reply.usage
            else:
                count.certain += 1
                count.certain_chars += sum(len(message.content) for message in call.messages)
                count.at_most += 1 + judge.again
        if ballot.problem == "not_known":  # what follows an unknown answer cannot be known either
            for step in counts.keys() - {asked.step for asked, _, _ in heard.values()}:
                counts[step].at_most += 1 + judge.again
        seen |= heard.keys()
        if place % 256 == 0:
            await asyncio.sleep(0)
    return counts
