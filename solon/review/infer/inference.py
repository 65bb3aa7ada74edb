"""Inverse constitutional AI: from the labels of a preference dataset to the principles that would have given them.

    pairs = read_preferences("pairs.jsonl", limit=400)
    inferred = await infer(pairs, cast.critic, cast.judge, Pairwise(), InferSpec(keep=8))
    inferred.constitution.to_yaml()

After Findeis et al. 2024 (arXiv 2406.06560), with three changes. Prompts are split first, so that no pair that is
measured on was read by the proposer or decided what is kept. Rules are not ranked one by one but chosen as a set, by
a logistic combiner of their votes, so that two wordings of one rule do not take two places. And what is reported is
laid beside baselines that read nothing, with intervals.

No call carries a label but the proposer's, and which answer stands first is decided by a hash (`preferences`). All
dice are thrown by hash, so the same pairs, models and options ask the same calls and end in the same bytes.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

from solon.calls import Call, Reply
from solon.cast import Player
from solon.constitution import Constitution, Principle
from solon.digests import uniform
from solon.errors import Aside, BadInput
from solon.judges import Pairwise
from solon.pipelines.survey import StepCount, most_judging
from solon.pipelines.walk import FAILED
from solon.review.asking import ask_all
from solon.review.infer.inferred import (
    COMBINED,
    DRAWN,
    WHOLE,
    Heard,
    Inferred,
    InferSpec,
    Rule,
    constitution_of,
    drafted,
    principle_of,
)
from solon.review.infer.preferences import Preference, Preferences
from solon.review.infer.proposals import MOST_RULES, Candidate, Proposal, cluster, propose
from solon.review.infer.reconstruct import measure, rate, verdict
from solon.rows import Asked

__all__ = ["PHASES", "infer", "survey"]

T = TypeVar("T")
R = TypeVar("R")

PHASES = ("propose", "vote", "held-out")
Tell = Callable[[str, int, int], None]
"""Told of a phase, how many of its questions are answered, and of how many."""


@dataclass(frozen=True)
class _Asking:
    """Who is asked, about which pairs."""

    pairs: Preferences
    proposer: Player
    judge: Player
    judging: Pairwise
    spec: InferSpec
    window: int
    tell: Tell
    train: list[Preference] = field(default_factory=list)
    test: list[Preference] = field(default_factory=list)

    @property
    def proposing(self) -> list[Preference]:
        return self.train[: self.spec.proposals]

    @property
    def voting(self) -> list[Preference]:
        # from the other end, so that where there are enough pairs no rule is weighed on what it was made of
        return self.train[::-1][: self.spec.votes]

    async def proposals(self) -> list[Proposal]:
        return await self._all("propose", self.proposing, lambda pair: propose(self.proposer, pair))

    async def votes(self, phase: str, wordings: Sequence[str], pairs: Sequence[Preference]) -> list[list[Heard]]:
        """Return what was heard of each wording and pair: [wording][pair]."""
        jobs = [(wording, pair) for wording in wordings for pair in pairs]
        said = await self._all(phase, jobs, lambda job: self._hear(phase, *job))
        return [said[start : start + len(pairs)] for start in range(0, len(said), len(pairs))]

    async def _hear(self, phase: str, wording: str, pair: Preference) -> Heard:
        try:
            verdict = await self.judging(self.judge, pair.prompt.messages, pair.first, pair.second, wording, step=phase)
            won, _, p = verdict.order(True, False, tie=self.judging.tie)
        except Aside as problem:
            return Heard(0.0, why=problem.reason)
        sides = {vote.p_first > 0.5 for vote in verdict.votes if vote.p_first is not None}
        return Heard((2 * p - 1) * (1 if won else -1), clear=sides == {won})

    async def _all(self, phase: str, jobs: Sequence[T], ask: Callable[[T], Awaitable[R]]) -> list[R]:
        self.tell(phase, 0, len(jobs))
        return await ask_all(jobs, ask, window=self.window, tell=lambda answer, done: self.tell(phase, done, len(jobs)))


def _asking(
    pairs: Preferences, proposer: Player, judge: Player, judging: Pairwise, spec: InferSpec, window: int, tell: Tell
) -> _Asking:
    """Split the prompts by hash, and put each side's pairs into an order that the file does not decide."""
    ordered = sorted(pairs.pairs, key=lambda pair: uniform("solon.infer/1", spec.seed, pair.id))
    out = {
        pair.prompt.id: uniform("solon.held-out/1", spec.seed, pair.prompt.id) < spec.test_fraction for pair in ordered
    }
    train = [pair for pair in ordered if not out[pair.prompt.id]]
    test = [pair for pair in ordered if out[pair.prompt.id]]
    if len({pair.prompt.id for pair in train}) < 2 or not test:
        raise BadInput(
            f"{pairs.source}: {len(pairs.pairs):,} pairs of {len(out):,} prompts are too few: {len(train):,} are left "
            f"to learn from and {len(test):,} to test on (a prompt is whole on one side); give more pairs, or another "
            "test fraction"
        )
    both = judging.model_copy(update={"both_orders": True})
    return _Asking(pairs, proposer, judge, both, spec, window, tell, train, test)


async def infer(
    pairs: Preferences,
    proposer: Player,
    judge: Player,
    judging: Pairwise,
    spec: InferSpec,
    *,
    window: int = 64,
    tell: Tell = lambda phase, done, of: None,
) -> Inferred:
    """Return the principles that reconstruct the labels of `pairs` best, and how well they do it on held-out ones.

    judging: how the judge compares; both orders are asked whatever it says
    window:  most questions at once (a comparison is two calls or more)

    Raises BadInput where there are too few prompts to split, Halt where a model cannot be asked.
    """
    ask = _asking(pairs, proposer, judge, judging, spec, window, tell)
    proposals = await ask.proposals()
    candidates = cluster(proposals, seed=spec.seed, most=spec.candidates)
    drafts = drafted(candidates)
    said = await ask.votes("vote", _wordings(drafts), ask.voting)
    rules, log_loss = await asyncio.to_thread(_weighed, ask, candidates, drafts, said)
    kept = [rule for rule in rules if rule.weight is not None]
    principles = [_principle(rule, drafts, said, ask) for rule in kept]
    heard = await _held_out(ask, principles)
    measures = measure(ask.test, _predictors(ask, kept, principles, heard))
    explains, told = verdict(measures, COMBINED) if kept else (False, _nothing(ask, proposals, rules))
    inferred = Inferred(
        pairs=pairs,
        spec=spec,
        proposer=proposer.name,
        judge=judge.name,
        counts={
            "read": pairs.read,
            "pairs": len(pairs.pairs),
            "set aside": sum(pairs.set_aside.values()),
            "train": len(ask.train),
            "proposed from": len(ask.proposing),
            "voted on": len(ask.voting),
            "held out": len(ask.test),
        },
        proposals=_told(proposals),
        rules=tuple(rules),
        log_loss=log_loss,
        measures=tuple(measures),
        silent=dict(sorted(Counter(each.why for row in heard for each in row if each.why).items())),
        failed=_failed(proposals, [*said, *heard]),
        explains=explains,
        verdict=told,
    )
    if not kept:
        return inferred
    return replace(inferred, constitution=constitution_of(inferred, principles))


async def survey(
    pairs: Preferences, proposer: Player, judge: Player, judging: Pairwise, spec: InferSpec
) -> dict[str, StepCount]:
    """Return what `infer` would ask in each phase, by players with nothing behind the ledger.

    Which rules are voted by is known only where every proposal is, and so on: what follows an unknown answer is
    counted at most. Raises BadInput as `infer` does.
    """
    ask = _asking(pairs, proposer, judge, judging, spec, 1, lambda phase, done, of: None)
    most = judge.sampling.max_tokens if judging.reasoning else most_judging(judging, judge, "vote")
    counts = {phase: StepCount(most=proposer.sampling.max_tokens if phase == PHASES[0] else most) for phase in PHASES}
    met: dict[str, set[str]] = {phase: set() for phase in PHASES}

    def listen(asked: Asked, call: Call, reply: Reply | None) -> None:
        phase = asked.step.partition(".")[0]
        count = counts[phase]
        if reply is None and call.key not in met[phase]:
            met[phase].add(call.key)
            count.certain += 1
            count.certain_chars += sum(len(message.content) for message in call.messages)
        elif reply is not None and call.key in met[phase]:
            met[phase].discard(call.key)  # told of twice: memory has it
            count.certain -= 1
            count.certain_chars -= sum(len(message.content) for message in call.messages)
            count.known += 1
            count.known_usage += reply.usage

    ask = replace(ask, proposer=replace(proposer, listener=listen), judge=replace(judge, listener=listen))
    steps = len(ask.judging.steps("vote", judge.can, judge.form, judge.name)) * (1 + judge.again)
    rules = min(spec.candidates, MOST_RULES * len(ask.proposing))
    calls = {
        "propose": len(ask.proposing) * (1 + proposer.again),
        "vote": rules * len(ask.voting) * steps,
        "held-out": (min(spec.keep, rules) + 1) * len(ask.test) * steps,
    }
    proposals = await ask.proposals()
    if not counts["propose"].certain:
        candidates = cluster(proposals, seed=spec.seed, most=spec.candidates)
        drafts = drafted(candidates)
        calls["vote"] = len(candidates) * len(ask.voting) * steps
        said = await ask.votes("vote", _wordings(drafts), ask.voting)
        if not counts["vote"].certain:
            kept = [rule for rule in _weighed(ask, candidates, drafts, said)[0] if rule.weight is not None]
            calls["held-out"] = (len(kept) + bool(kept)) * len(ask.test) * steps
            await _held_out(ask, [_principle(rule, drafts, said, ask) for rule in kept])
    walked = True
    for phase, count in counts.items():
        if count.certain or not walked:
            count.at_most = max(count.certain, calls[phase] - count.known)
            walked = False
    return counts


def _weighed(
    ask: _Asking, candidates: Sequence[Candidate], drafts: Sequence[Principle], said: Sequence[Sequence[Heard]]
) -> tuple[list[Rule], tuple[float, ...]]:
    """Return every candidate with its numbers, the kept ones first and in the order of choosing, and the log losses."""
    if not candidates:
        return [], ()
    import numpy as np

    from solon.review.infer.combine import choose, fit

    x = np.array([[each.x for each in row] for row in said]).T
    # a timid judge's votes are all near 0: what a rule's vote weighs is told against its own typical one
    typical = np.sqrt((x**2).sum(axis=0) / np.maximum((x != 0).sum(axis=0), 1))
    typical[typical == 0] = 1.0
    x = x / typical
    y = np.array([1.0 if pair.first_wins else -1.0 for pair in ask.voting])
    prompts = [pair.prompt.id for pair in ask.voting]
    chosen = choose(x, y, prompts, ask.spec.keep)
    weights = dict(zip(chosen.rules, chosen.weights, strict=True))
    rules = []
    for place, (candidate, draft) in enumerate(zip(candidates, drafts, strict=True)):
        votes = x[:, place]
        spoken = [at for at, vote in enumerate(votes) if vote]
        right = rate([prompts[at] for at in spoken], [float(votes[at] * y[at] > 0) for at in spoken])
        alone = round(float(fit(votes[:, None], y, least=None)[0]), 4)
        silent = Counter(each.why for each in said[place] if not each.x)
        reverse = right.high is not None and right.high < 0.5
        fate = "kept" if place in weights else "silent" if not spoken else "reversed" if reverse else "adds nothing"
        speaks = rate(prompts, [float(vote != 0) for vote in votes])
        usual, weight = float(typical[place]), weights.get(place)
        rules.append(Rule(draft.id, candidate, right, speaks, dict(sorted(silent.items())), usual, alone, weight, fate))
    first = [rules[place] for place in chosen.rules]
    return [*first, *(rule for rule in rules if rule.weight is None)], chosen.log_loss


def _principle(rule: Rule, drafts: Sequence[Principle], said: Sequence[Sequence[Heard]], ask: _Asking) -> Principle:
    place = [draft.id for draft in drafts].index(rule.id)
    return principle_of(rule, drafts[place], list(zip(ask.voting, said[place], strict=True)), len(ask.proposing))


async def _held_out(ask: _Asking, principles: Sequence[Principle]) -> list[list[Heard]]:
    """Return what each principle, and then the whole of them, says of each held-out pair."""
    if not principles:
        return []
    whole = Constitution(name="inferred", principles=tuple(principles)).whole_wording()
    return await ask.votes("held-out", [*_wordings(principles), whole], ask.test)


def _wordings(principles: Sequence[Principle]) -> list[str]:
    return [words for each in principles if (words := each.own("preference"))]


def _predictors(
    ask: _Asking, kept: Sequence[Rule], principles: Sequence[Principle], heard: Sequence[Sequence[Heard]]
) -> dict[str, list[float]]:
    if not principles:
        return {}
    constitution = Constitution(name="inferred", principles=tuple(principles))
    places = {each.id: place for place, each in enumerate(principles)}
    both = list(zip(kept, principles, strict=True))
    weighed, drawn = [], []
    for at, pair in enumerate(ask.test):
        total = sum(each.weight * heard[place][at].x / rule.typical for place, (rule, each) in enumerate(both))
        weighed.append(total if abs(total) > 1e-9 else 0.0)  # votes that cancel out must not be decided by rounding
        # as a preference story's judge would draw it
        met = constitution.draw(ask.spec.seed, pair.prompt.id, "judge", roles=("preference",))
        drawn.append(heard[places[met.id]][at].x)
    return {COMBINED: weighed, DRAWN: drawn, WHOLE: [each.x for each in heard[-1]]}


def _told(proposals: Sequence[Proposal]) -> dict[str, object]:
    problems = Counter(each.problem for each in proposals if each.problem)
    unusable = sum((each.unusable for each in proposals), Counter())
    return {
        "rules": sum(len(each.rules) for each in proposals),
        "without": dict(sorted(problems.items())),
        "unusable": dict(sorted(unusable.items())),
    }


def _failed(proposals: Sequence[Proposal], said: Sequence[Sequence[Heard]]) -> int:
    whys = [each.problem for each in proposals] + [each.why for row in said for each in row]
    return sum(why in FAILED for why in whys)


def _nothing(ask: _Asking, proposals: Sequence[Proposal], rules: Sequence[Rule]) -> str:
    """Return why no principle was kept."""
    if not rules:
        why = Counter(each.problem for each in proposals)
        told = ", ".join(f"{reason} {count:,}" for reason, count in why.most_common())
        return f"No principle was found: {len(proposals):,} pairs gave no rule that can be used ({told})."
    if all(rule.fate == "silent" for rule in rules):
        return (
            f"No principle was kept: the judge said nothing in {len(rules) * len(ask.voting):,} comparisons by "
            f"{len(rules):,} candidates."
        )
    reversed_ = sum(rule.fate == "reversed" for rule in rules)
    other = f" ({reversed_:,} of them predict the reverse of the labels)" if reversed_ else ""
    return (
        f"No principle was kept: none of {len(rules):,} candidates predicts labels that it was not fitted on better "
        f"than a coin{other}. They do not explain the labels."
    )
