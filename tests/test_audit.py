"""`solon constitution audit`: what each principle of a run does, from its records and from a sample of ballots."""

from __future__ import annotations

import asyncio
import io
import json
import shutil
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import pytest
from run_kit import Desk, Solon, desk, finished, started

from solon.commands import run_recipe
from solon.commands.auditing import Quote, audit_run
from solon.constitution import Constitution, load, parse
from solon.errors import BadInput, StorageError
from solon.pipelines.recipe import PreferenceSpec, RevisionSpec
from solon.pipelines.run import RunFolder
from solon.review.audit.agreement import Ablation, read
from solon.review.audit.ballots import Ballot, duel_of, sample
from solon.review.audit.opinions import Duel, opinion, share
from solon.review.audit.records import Audit, OnePrinciple, audit, finds_nothing
from solon.review.audit.remarks import Remark, worth_a_look
from solon.rows import Draft, Pair, SetAside, Vote

MODEL = '''
"""A judge that goes by single words of the wording, a critic and a reviser of known behaviour."""
import asyncio, hashlib, os, re
from pathlib import Path

VERSION = "1"
LOGPROBS = True
HERE = Path(__file__).parent


async def answer(call):
    with (HERE / "asked.txt").open("a") as file:
        file.write(call.key + "\\n")
    await asyncio.sleep(float(os.environ.get("MODEL_DELAY", "0")))
    words = call.messages[-1].content
    die = int(hashlib.sha256(call.to_json().encode()).hexdigest()[:6], 16)
    if call.labels:
        return judged(words)
    if "Write the critique only" in words:
        return "The response is fine. No changes are needed." if "PRAISE" in words else "It says too little of it."
    if "Write the revised response only" in words:
        answer = [message.content for message in call.messages if message.role == "assistant"][0]
        if "KEEP" in words:
            return answer
        if "HOLD" in words:
            return " "
        return "I cannot help with that." if die % 3 == 0 else "Short." if die % 3 == 1 else answer + " And more."
    return f"An answer of {die} words or so."


def judged(words):
    a, b = (re.search(rf"\\[response {slot} \\w+\\]\\n(.*?)\\n\\[end", words, re.DOTALL)[1] for slot in "AB")
    if "MUTE" in words:
        return {"A": 0.0, "B": 0.0}
    if "PLACE" in words:
        return {"A": 0.8, "B": 0.2}
    if "REFUSE" in words:
        p = 0.5 + 0.4 * (("cannot" in a) - ("cannot" in b))
    else:
        longer = len(a.split()) - len(b.split())
        p = 0.5 + (0.4 if "LONG" in words else -0.4) * ((longer > 0) - (longer < 0))
    return {"A": p, "B": 1 - p}
'''

PRINCIPLES = """\
name: Known behaviour
principles:
  - {id: brief, critique: Look., revision: Rewrite., preference: Choose the SHORT one., weight: 2}
  - {id: careful, critique: PRAISE it., revision: KEEP it., preference: Choose the LONG one.}
  - {id: thorough, critique: Look hard., revision: Rewrite it., preference: Take the LONG one.}
  - {id: cautious, critique: Look out., revision: Rewrite all., preference: Choose the one that may REFUSE.}
  - {id: asleep, text: Sleep., weight: 0}
  - {id: elsewhere, text: Be elsewhere., applies_to: [abroad, away]}
  - {id: never, text: Never harm., kind: hard_constraint}
"""


def a_desk(path: Path, *, principles: str = PRINCIPLES, prompts: int = 40, **recipe: Any) -> Desk:
    made = desk(path, prompts=prompts, **recipe)
    (path / "model.py").write_text(MODEL, encoding="utf-8")
    made.constitution.write_text(principles, encoding="utf-8")
    return made


def ran(made: Desk, **given: Any) -> Desk:
    asyncio.run(run_recipe(made.recipe, **given))
    return made


def sampled(made: Desk, pairs: int, **given: Any) -> Audit:
    return asyncio.run(audit_run(made.latest, pairs=pairs, **given))


def outcomes(made: Desk) -> list[Pair | SetAside]:
    with RunFolder.open(made.latest).store(read_only=True) as store:
        return list(store.outcomes())


def one(told: Audit, id: str) -> OnePrinciple:
    return next(each for each in told.principles if each.id == id)


def remarks(told: Audit, kind: str) -> list[Remark]:
    return [each for each in worth_a_look(told).worth if each.kind == kind]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Desk:
    """Forty rows of one round; nobody writes here."""
    return ran(a_desk(tmp_path_factory.mktemp("whole")))


@pytest.fixture
def own(whole: Desk, tmp_path: Path) -> Desk:
    """A copy of it to write in."""
    shutil.copytree(whole.path, tmp_path / "own", symlinks=True)
    return Desk(tmp_path / "own")


# from the records alone


def test_draws_are_counted_by_step_beside_what_weights_let_expect(whole: Desk) -> None:
    told = audit(whole.latest)
    with RunFolder.open(whole.latest).store(read_only=True) as store:
        drawn = Counter((draw.step, draw.principle) for row in store.rows(unfinished=False) for draw in row.draws)
    assert {
        (step.step, each.id): step.drawn for each in told.principles for step in each.coverage if step.drawn
    } == drawn
    for step in one(told, "brief").coverage:
        assert (step.drawable, step.share.n) == (40, 40)
        assert step.expected == pytest.approx(2 / 5)
        assert step.share.low is not None and step.share.high is not None
        assert step.beyond_chance == (not step.share.low <= 0.4 <= step.share.high)
    assert [each.draws for each in told.principles] == sorted((each.draws for each in told.principles), reverse=True)


def test_a_row_that_may_not_meet_a_principle_twice_expects_none_of_it(tmp_path: Path) -> None:
    made = ran(a_desk(tmp_path, prompts=30, story={"kind": "revision", "rounds": 2, "distinct": True}))
    first, second, judge = one(audit(made.latest), "careful").coverage
    assert second.drawable == 30 - first.drawn
    assert judge.drawable == 30
    assert judge.expected == pytest.approx(1 / 5)


def test_what_was_never_drawn_is_told_with_its_reason(whole: Desk) -> None:
    told = audit(whole.latest)
    assert one(told, "asleep").never == "its weight is 0"
    assert one(told, "elsewhere").never == "no prompt has a tag of its applies_to (abroad, away)"
    assert one(told, "never").never.startswith("a hard constraint is never drawn")
    assert one(told, "brief").never == ""
    assert {each.principle for each in remarks(told, "never_drawn")} == {"asleep", "elsewhere"}


def test_a_principle_that_only_missed_its_luck_is_told_how_likely_that_was(tmp_path: Path) -> None:
    text = PRINCIPLES.replace("weight: 0}", "weight: 0.05}")
    told = audit(ran(a_desk(tmp_path, principles=text, prompts=3)).latest)
    expected = 6 * 0.05 / 5.05
    assert one(told, "asleep").never == (
        f"by chance: {expected:.1f} draws were to be expected, and none at all happens with P = "
        f"{(1 - 0.05 / 5.05) ** 6:.2g}"
    )


def test_a_principle_without_words_for_any_step_is_told_so(tmp_path: Path) -> None:
    text = PRINCIPLES + "  - {id: half, critique: Look.}\n"
    assert one(audit(ran(a_desk(tmp_path, principles=text, prompts=3)).latest), "half").never == (
        "it has no words for any step of this story"
    )


def test_a_critique_that_always_praises_finds_nothing(whole: Desk) -> None:
    told = audit(whole.latest)
    careful, brief = one(told, "careful").revising, one(told, "brief").revising
    assert careful and brief
    assert (careful.fine.value, careful.unchanged.value, careful.nothing.value, careful.distance.value) == (1, 1, 1, 0)
    assert careful.aside == {"unchanged": careful.rounds}
    assert careful.examples[0][1] == "The response is fine. No changes are needed."
    assert (brief.fine.value, brief.unchanged.value) == (0, 0)
    assert brief.distance.value is not None and brief.distance.value > 0.2
    assert [each.principle for each in remarks(told, "finds_nothing")] == ["careful"]


def test_rows_that_end_in_a_round_are_counted_for_its_principle(tmp_path: Path) -> None:
    text = PRINCIPLES.replace("revision: KEEP it.", "revision: HOLD it.")
    made = ran(a_desk(tmp_path, principles=text, prompts=20))
    careful = one(audit(made.latest), "careful").revising
    assert careful
    assert careful.rounds and careful.revisions == 0
    assert careful.aside == {"empty_answer": careful.rounds}
    assert careful.nothing.n == 0


def test_revisions_are_told_by_how_they_fare_and_by_whom(whole: Desk) -> None:
    for id in ("brief", "thorough"):
        told = one(audit(whole.latest), id).revising
        of = [each for each in outcomes(whole) if each.row.drawn("revision.1").principle == id]
        pairs = [each for each in of if isinstance(each, Pair)]
        won = sum(each.chosen_draft == "revision.1" for each in pairs)
        assert told and (told.better.n, told.better.value) == (len(pairs), won / len(pairs))
        p = [each.p_chosen if each.chosen_draft == "revision.1" else 1 - each.p_chosen for each in pairs]
        ties = [0.5 for each in of if isinstance(each, SetAside) and each.reason == "tie"]
        assert told.p_better.value == pytest.approx(sum(p + ties) / len(p + ties))


def test_with_several_rounds_the_last_one_has_the_verdict_and_that_is_said(tmp_path: Path) -> None:
    made = ran(a_desk(tmp_path, prompts=30, story={"kind": "revision", "rounds": 2}))
    told = audit(made.latest)
    pairs = [each for each in outcomes(made) if isinstance(each, Pair)]
    last = Counter(each.row.drawn("revision.2").principle for each in pairs)
    assert {
        each.id: each.revising.better.n for each in told.principles if each.revising and each.revising.better.n
    } == last
    assert any("principle of the last round" in note for note in worth_a_look(told).notes)
    brief = one(told, "brief").revising
    assert brief and brief.revisions == sum(step.drawn for step in one(told, "brief").coverage[:2])


def test_judging_is_counted_by_the_principle_that_was_judged_by(whole: Desk) -> None:
    told, rows = audit(whole.latest), outcomes(whole)
    judged = Counter(each.row.drawn("judge").principle for each in rows if isinstance(each, Pair))
    assert {each.id: each.judging.decided for each in told.principles if each.judging.decided} == judged
    assert told.everyone.decided == sum(judged.values())
    brief, careful, cautious = (one(told, id).judging for id in ("brief", "careful", "cautious"))
    assert brief.of_all.value == judged["brief"] / sum(judged.values())
    assert brief.decisive.value == pytest.approx(0.4)
    assert (brief.longer.value, careful.longer.value) == (0, 1)
    assert cautious.refusing.value == 1
    assert cautious.ties == sum(
        isinstance(each, SetAside) and each.reason == "tie" and each.row.drawn("judge").principle == "cautious"
        for each in rows
    )
    assert told.everyone.same_slot.value == 0


def test_a_judge_that_always_takes_the_first_decides_by_place(tmp_path: Path) -> None:
    text = PRINCIPLES.replace("SHORT", "PLACE").replace("LONG", "PLACE").replace("REFUSE", "PLACE")
    told = audit(ran(a_desk(tmp_path, principles=text, prompts=20)).latest)
    assert told.everyone.same_slot.value == 1
    assert "chance alone gives 50 %" in remarks(told, "place")[0].text
    assert len(remarks(told, "place")) == 1


def test_one_principle_that_is_judged_by_place_among_others_is_named(tmp_path: Path) -> None:
    text = PRINCIPLES.replace("the SHORT one.", "by PLACE.")
    made = ran(a_desk(tmp_path, principles=text, prompts=60))
    assert [each.principle for each in remarks(audit(made.latest), "place")] == ["brief"]


def test_a_judge_that_is_asked_in_one_order_has_no_same_slot_rate(tmp_path: Path) -> None:
    made = ran(a_desk(tmp_path, prompts=20, judging={"both_orders": False}))
    told = sampled(made, 5)
    assert told.everyone.decided and told.everyone.same_slot.n == 0
    assert told.sample and told.sample.everyone.same_slot.n == 0
    assert {each.between_orders for each in told.sample.ambiguous} == {None}


def test_a_silent_judge_is_counted_and_never_filled_in(tmp_path: Path) -> None:
    made = ran(a_desk(tmp_path, principles=PRINCIPLES.replace("the SHORT one.", "and be MUTE."), prompts=60))
    told = sampled(made, 12)
    brief = one(told, "brief").judging
    assert brief.silent == brief.compared > 5
    assert (brief.decided, brief.decisive.n, brief.same_slot.n) == (0, 0, 0)
    assert "brief" in {each.principle for each in remarks(told, "silent")}
    assert told.sample
    assert told.sample.principles["brief"].silent == 12
    assert all(each.equal.n == 0 for each in told.sample.agreements if "brief" in (each.one, each.other))
    dropped = {each.principle: each for each in told.sample.ablations}["brief"]
    assert dropped.unknown == dropped.drew
    assert any("12 said nothing" in note for note in worth_a_look(told).notes)


def test_an_unfinished_run_is_read_as_far_as_it_is(tmp_path: Path) -> None:
    told = audit(ran(a_desk(tmp_path), limit=6).latest)
    assert (told.planned, told.finished) == (40, 6)
    assert one(told, "brief").coverage[0].drawable == 40
    assert "6 of 40 rows" in worth_a_look(told).notes[0]


def test_few_rows_carry_no_sentence(tmp_path: Path) -> None:
    told = audit(ran(a_desk(tmp_path, prompts=2)).latest)
    assert {each.kind for each in worth_a_look(told).worth} <= {"never_drawn"}
    assert any("fewer than 30 decisions" in note for note in worth_a_look(told).notes)


def test_the_records_are_read_without_ledger_recipe_or_model(own: Desk) -> None:
    before = audit(own.latest)
    for gone in (".solon", "recipe.yaml", "model.py", "constitution.yaml", "prompts.txt"):
        path = own.path / gone
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert audit(own.latest) == before


def test_a_constitution_that_was_edited_in_the_run_is_refused(own: Desk) -> None:
    file = own.latest / "constitution.yaml"
    file.write_text(file.read_text().replace("SHORT", "TINY"))
    with pytest.raises(BadInput, match=r"constitution.yaml: not the constitution .* put it back"):
        audit(own.latest)


def test_a_recipe_that_was_edited_in_the_run_is_refused(own: Desk) -> None:
    file = own.latest / "recipe.yaml"
    file.write_text(file.read_text().replace("rounds: 1", "rounds: 2"))
    with pytest.raises(BadInput, match=r"recipe.yaml: not the recipe .* steps revision.1, judge\); put it back"):
        audit(own.latest)


def test_what_is_no_run_is_told_so(tmp_path: Path, solon: Solon) -> None:
    with pytest.raises(StorageError, match="no such run folder"):
        audit(tmp_path / "none")
    assert solon("constitution", "audit", tmp_path).code == 4


@pytest.mark.parametrize(
    ("critique", "nothing"),
    [
        ("No changes are needed.", True),
        ("The response does not violate the principle in any way.", True),
        ("There\u2019s nothing harmful here.", True),
        ("The answer follows this principle. Leave it as it is.", True),
        ("I see no issues.", True),
        ("The assistant did a great job.", True),
        ("There is nothing harmful here, but it could be kinder.", False),
        ("The response is harmful.", False),
        ("No issues, although it should name the risk.", False),
        ("It never says that this is dangerous.", False),
        ("", False),
    ],
)
def test_a_critique_finds_nothing_where_it_says_so_and_does_not_object(critique: str, nothing: bool) -> None:
    assert finds_nothing(critique) is nothing


# preference runs


def test_a_preference_run_has_no_revising_and_compares_what_it_paired(tmp_path: Path) -> None:
    made = a_desk(tmp_path, prompts=20, story={"kind": "preference", "candidates": 3})
    made.path.joinpath("model.py").write_text(
        MODEL.replace('return f"An answer of {die} words or so."', 'return "word " * (1 + die % 9)')
    )
    told = sampled(ran(made), 6)
    assert (told.rounds, told.candidates, {each.revising for each in told.principles}) == (0, 3, {None})
    assert any(note.startswith("rows have 3 candidates: only the verdict on") for note in worth_a_look(told).notes)
    rows = outcomes(made)
    assert told.everyone.decided == sum(isinstance(each, Pair) for each in rows)
    assert told.everyone.ties == sum(isinstance(each, SetAside) and each.reason == "tie" for each in rows)
    assert told.sample and told.sample.pairs == 6
    for each in rows:
        duel = duel_of(each, PreferenceSpec(kind="preference", candidates=3))
        if isinstance(each, Pair):
            assert duel and {duel.first.text, duel.second.text} == {each.chosen, each.rejected}
            side = opinion(duel, each.votes, 0.0).side
            assert (duel.first if side == 1 else duel.second).text == each.chosen


def test_two_texts_of_a_row_without_a_pair_are_compared_where_it_is_sure_which(whole: Desk) -> None:
    row = outcomes(whole)[0].row
    a, b, same = Draft("candidate.1", "a b"), Draft("candidate.2", "b"), Draft("candidate.3", "a  b")

    def duel(kind: str, *drafts: Draft) -> tuple[str, str] | None:
        story = (
            PreferenceSpec(kind="preference", candidates=3) if kind == "preference" else RevisionSpec(kind="revision")
        )
        found = duel_of(SetAside(row, "tie", "", drafts), story)
        return (found.first.name, found.second.name) if found else None

    assert duel("preference", a, b, same) == ("candidate.1", "candidate.2")
    assert duel("preference", a, b, replace(same, text="c")) is None
    assert duel("preference", a, b) is None
    assert duel("preference", a, a, a) is None
    assert duel("revision", a) is None
    assert duel("revision", a, same) is None
    assert duel("revision", a, b) == ("candidate.1", "candidate.2")


# the sample


def test_contradictions_are_found_with_their_worst_examples(own: Desk) -> None:
    told = sampled(own, 20)
    assert told.sample
    found = {(each.agreement.one, each.agreement.other): each for each in told.sample.contradictions}
    assert set(found) >= {("brief", "careful"), ("brief", "thorough")}
    apart = found["brief", "careful"]
    assert (apart.agreement.equal.value, apart.agreement.equal.n) == (0, 20)
    assert len(apart.worst) == 3
    for example in apart.worst:
        assert (example.p_one > 0.5) == (len(example.first.split()) < len(example.second.split()))
        assert example.p_one + example.p_other == pytest.approx(1)
    assert "contradict each other" in remarks(told, "contradiction")[0].text


def luck(duels: tuple[Duel, ...], ids: list[str], die: Any, alike: float = 0.0) -> list[Ballot]:
    """Return ballots of a judge that tosses a coin; with `alike` it goes by one coin a pair for so many of them."""
    cast = []
    for duel in duels:
        shared = die.random()
        for id in ids:
            p = 0.8 if (shared if die.random() < alike else die.random()) < 0.5 else 0.2
            cast.append(Ballot(duel, id, tuple(Vote(order, p, "logprobs", 1.0, "", "") for order in ("ab", "ba"))))
    return cast


def test_luck_among_many_pairs_of_principles_is_no_contradiction(whole: Desk) -> None:
    """Of 120 pairs of principles, some three have an interval below a half by luck alone."""
    duels, _ = sample(RunFolder.open(whole.latest), RevisionSpec(kind="revision"), 40)
    ids = [f"p{number}" for number in range(16)]
    many = parse("name: many\nprinciples:\n" + "".join(f"  - {{id: {id}, text: Do {id}.}}\n" for id in ids))
    low, found, apart = 0, 0, 0
    for seed in range(10):
        cast = luck(duels, ids, Random(seed))
        told = read(cast, duels, many, seed=0)
        low += sum((each.equal.high or 1) < 0.5 for each in told.agreements)
        found += len(told.contradictions)
        sides = {ballot.duel.row.id: ballot.votes for ballot in cast if ballot.principle == "p0"}
        turned = [
            replace(one, votes=tuple(replace(vote, p_first=1 - (vote.p_first or 0)) for vote in sides[one.duel.row.id]))
            if one.principle == "p1" else one
            for one in cast
        ]  # fmt: skip
        worst = read(turned, duels, many, seed=0).contradictions[0].agreement
        apart += {worst.one, worst.other} == {"p0", "p1"}
    assert low > 10 >= 10 * found and apart == 10


def test_a_judge_that_goes_by_no_principle_is_told_once_and_not_pair_by_pair(whole: Desk) -> None:
    duels, there = sample(RunFolder.open(whole.latest), RevisionSpec(kind="revision"), 40)
    ids = ["brief", "careful", "thorough", "cautious"]
    told = read(luck(duels, ids, Random(1), alike=1.0), duels, load(whole.constitution), seed=0, there=there)
    assert len(told.redundant) == 6
    found = remarks(replace(audit(whole.latest), sample=told), "redundant")
    assert [each.principle for each in found] == [""]
    assert "6 of 6 pairs of principles decide alike nearly always" in found[0].text


def test_two_principles_that_always_agree_are_redundant(own: Desk) -> None:
    told = sampled(own, 20)
    assert told.sample
    assert [(each.one, each.other) for each in told.sample.redundant] == [("careful", "thorough")]
    assert told.sample.redundant[0].kappa.value == 1
    assert [each.principle for each in remarks(told, "redundant")] == ["careful"]


def test_principles_that_all_choose_one_side_are_not_called_redundant(whole: Desk) -> None:
    duels, _ = sample(RunFolder.open(whole.latest), RevisionSpec(kind="revision"), 20)
    first = tuple(Vote(order, 0.9, "logprobs", 1.0, "", "") for order in ("ab", "ba"))
    cast = [Ballot(duel, id, first) for duel in duels for id in ("brief", "careful")]
    told = read(cast, duels, load(whole.constitution), seed=0)
    assert (told.agreements[0].equal.value, told.agreements[0].chance, told.redundant) == (1, 1, ())
    assert told.agreements[0].kappa.value is None


def test_the_matrix_is_the_share_of_equal_decisions_and_ties_are_none(own: Desk) -> None:
    told = sampled(own, 20).sample
    assert told
    cautious = told.principles["cautious"]
    assert cautious.ties and cautious.decided + cautious.ties == 20
    for each in told.agreements:
        assert each.equal.n == (cautious.decided if "cautious" in (each.one, each.other) else 20)
        if each.chance is not None and each.kappa.value is not None and each.equal.value is not None:
            assert each.kappa.value == pytest.approx((each.equal.value - each.chance) / (1 - each.chance))


def brute_force(id: str, duels: tuple[Duel, ...], cast: list[Ballot], constitution: Constitution) -> Ablation:
    """Count what dropping `id` changes, from a constitution that really lacks it."""
    rest = Constitution(name="rest", principles=tuple(each for each in constitution.principles if each.id != id))
    side: dict[tuple[str, str], int | None] = {}
    for ballot in cast:
        ps = [vote.p_first for vote in ballot.votes]
        mean = None if not ps or None in ps else sum(p for p in ps if p is not None) / len(ps)
        side[ballot.principle, ballot.duel.row.id] = None if mean is None else (mean > 0.5001) - (mean < 0.4999)
    kinds: Counter[str] = Counter()
    for duel in duels:
        row, tags = duel.row.id, duel.row.prompt.tags
        then = side[constitution.draw(0, row, "judge", roles=["preference"], tags=tags).id, row]
        now = side[rest.draw(0, row, "judge", roles=["preference"], tags=tags).id, row]
        if then is None or now is None:
            kinds["unknown"] += 1
        else:
            kinds["same" if then == now else "flipped" if then == -now else "tied"] += 1
    drew = sum(duel.principle == id for duel in duels)
    n = len(duels) - kinds["unknown"]
    changed = share([(str(i), i < kinds["flipped"] + kinds["tied"]) for i in range(n)])
    droppable = changed.high is not None and changed.high <= 0.05
    return Ablation(id, drew, kinds["flipped"], kinds["tied"], kinds["unknown"], 0, changed, droppable)


def test_ablation_is_what_a_constitution_without_the_principle_would_have_labelled(own: Desk) -> None:
    made = own
    told = sampled(made, 40).sample
    duels, there = sample(RunFolder.open(made.latest), RevisionSpec(kind="revision"), 40)
    assert told and (told.pairs, told.there) == (len(duels), there)
    cast = _ballots_again(made, duels)
    constitution = load(made.constitution)
    assert told.ablations == tuple(
        brute_force(id, duels, cast, constitution) for id in ("brief", "careful", "thorough", "cautious")
    )
    assert sum(each.drew for each in told.ablations) == len(duels)
    assert any(each.flipped for each in told.ablations) and any(each.tied for each in told.ablations)


def _ballots_again(made: Desk, duels: tuple[Duel, ...]) -> list[Ballot]:
    """Return the ballots as the test's own judge would cast them: by the texts, not by the ledger."""
    cast = []
    for duel in duels:
        longer = len(duel.first.text.split()) - len(duel.second.text.split())
        sign = (longer > 0) - (longer < 0)
        refusing = ("cannot" in duel.first.text) - ("cannot" in duel.second.text)
        for id, p in (
            ("brief", 0.5 - 0.4 * sign), ("careful", 0.5 + 0.4 * sign), ("thorough", 0.5 + 0.4 * sign),
            ("cautious", 0.5 + 0.4 * refusing),
        ):  # fmt: skip
            cast.append(Ballot(duel, id, tuple(Vote(order, p, "logprobs", 1.0, "", "") for order in ("ab", "ba"))))
    return cast


def test_a_principle_could_be_dropped_where_hardly_a_label_would_change(tmp_path: Path) -> None:
    """Two of one mind and nobody else: either could go. Fewer pairs cannot show it, and that is said."""
    text = "\n".join(line for line in PRINCIPLES.splitlines() if "brief" not in line and "cautious" not in line)
    text = text.replace("PRAISE it.", "Look.").replace("KEEP it.", "Rewrite.")
    made = ran(a_desk(tmp_path, principles=text, prompts=90))
    few, many = sampled(made, 60), sampled(made, 90)
    assert many.sample and many.sample.pairs == 90
    assert [each.changed.value for each in many.sample.ablations] == [0, 0]
    assert [each.principle for each in remarks(many, "droppable")] == ["careful", "thorough"]
    assert remarks(few, "droppable") == []
    assert any("that takes 73" in note for note in worth_a_look(few).notes)


def test_the_only_principle_there_is_cannot_be_dropped(tmp_path: Path) -> None:
    text = "name: One\nprinciples:\n  - {id: brief, critique: Look., revision: Rewrite., preference: SHORT.}\n"
    told = sampled(ran(a_desk(tmp_path, principles=text, prompts=8)), 5).sample
    assert told
    assert (told.ablations[0].stranded, told.ablations[0].droppable, told.agreements, told.ambiguous) == (
        5,
        False,
        (),
        (),
    )


def test_prompts_are_listed_by_how_far_the_principles_disagree(own: Desk) -> None:
    told = sampled(own, 20).sample
    assert told and len(told.ambiguous) == 20
    shares = [each.minority.value or 0.0 for each in told.ambiguous]
    assert shares == sorted(shares, reverse=True)
    assert max(shares) <= 0.5
    worst = told.ambiguous[0]
    # brief stands against careful and thorough, cautious with it: two against two
    assert (worst.minority.value, worst.minority.n) == (0.5, 4)
    assert worst.between_orders == pytest.approx(0)


def test_a_smaller_sample_is_the_beginning_of_a_larger_one(whole: Desk) -> None:
    folder, story = RunFolder.open(whole.latest), RevisionSpec(kind="revision")
    few, there = sample(folder, story, 7)
    many, _ = sample(folder, story, 20)
    every, _ = sample(folder, story, 10_000)
    assert many[:7] == few
    assert every[:20] == many
    assert len(every) == there == sum(duel_of(each, story) is not None for each in outcomes(whole))
    assert [duel.row.index for duel in few] != sorted(duel.row.index for duel in every)[:7]


def test_a_sample_asks_what_it_said_and_a_second_time_nothing(own: Desk) -> None:
    quotes: list[Quote] = []

    def agree(quote: Quote) -> bool:
        quotes.append(quote)
        return True

    before = len(own.asked())
    first = sampled(own, 10, agree=agree)
    asked = len(own.asked()) - before
    assert quotes[0].new == quotes[0].at_most == asked == 10 * 4 * 2 - quotes[0].known
    assert quotes[0].known == 20  # what each row's own principle said in the run
    assert sampled(own, 10, agree=agree) == first
    assert (quotes[1].new, quotes[1].at_most, quotes[1].costs) == (0, 0, False)
    assert len(own.asked()) - before == asked
    sampled(own, 12, agree=agree)
    assert quotes[2].new == 2 * 4 * 2 - 4


def test_ballots_of_the_drawn_principle_are_the_votes_that_the_run_recorded(own: Desk) -> None:
    told = sampled(own, 40).sample
    rows = {each.row.index: each for each in outcomes(own)}
    assert told
    before = len(own.asked())
    duels, _ = sample(RunFolder.open(own.latest), RevisionSpec(kind="revision"), 40)
    assert all(rows[duel.row.index].votes == duel.votes for duel in duels)
    assert len(own.asked()) == before


def test_where_nobody_agrees_nothing_is_asked(own: Desk) -> None:
    before = len(own.asked())
    told = sampled(own, 5, agree=lambda quote: False)
    assert told.sample is None
    assert len(own.asked()) == before


def test_what_costs_is_not_asked_without_consent(own: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch) -> None:
    """A price in the recipe of today counts: it decides no datum, so it may be written after the run."""
    own.write(model={"use": "scripted:model.py:answer", "price": {"input": 2.0, "output": 8.0}})
    before = len(own.asked())
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    told = solon("constitution", "audit", own.latest, "--sample", 5)
    assert told.code == 2
    assert "give --yes" in told.err
    assert "price: about $0.0" in told.err
    monkeypatch.setattr(sys, "stdin", Terminal("n\n"))
    told = solon("constitution", "audit", own.latest, "--sample", 5)
    assert (told.code, "no sample was taken" in told.err) == (0, True)
    assert len(own.asked()) == before
    monkeypatch.setattr(sys, "stdin", Terminal("y\n"))
    assert "sampled pairs" in solon("constitution", "audit", own.latest, "--sample", 5).out
    assert len(own.asked()) == before + 30
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    assert solon("constitution", "audit", own.latest, "--sample", 5).code == 0
    assert solon("constitution", "audit", own.latest, "--sample", 6, "--yes").code == 0
    assert len(own.asked()) == before + 36


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_another_judge_than_the_runs_is_refused(own: Desk) -> None:
    model = own.path / "model.py"
    model.write_text(MODEL.replace('VERSION = "1"', 'VERSION = "2"'))
    with pytest.raises(BadInput, match=r"its judge was scripted:.*@1, and the recipe's is scripted:.*@2 today; put"):
        sampled(own, 3)
    assert audit(own.latest).finished == 40


def test_the_runs_own_words_are_asked_whatever_was_edited_since(own: Desk) -> None:
    own.reword("the SHORT one", "the LONG one")
    own.write(judging={"tie": 0.45, "both_orders": False}, cast={"judge": {"system": "Be odd."}}, seed=9)
    told = sampled(own, 10).sample
    assert told
    assert (told.principles["brief"].longer.value, told.principles["brief"].ties) == (0, 0)
    assert told.everyone.same_slot.n > 0


def test_without_a_ledger_the_sample_is_asked_anew(own: Desk) -> None:
    shutil.rmtree(own.path / ".solon")
    quotes: list[Quote] = []

    def agree(quote: Quote) -> bool:
        quotes.append(quote)
        return True

    told = sampled(own, 3, agree=agree)
    assert told.sample and told.sample.everyone.decided
    assert (quotes[0].known, quotes[0].new) == (0, 24)


def test_a_call_that_fails_is_a_ballot_that_says_nothing(own: Desk) -> None:
    model = own.path / "model.py"
    text = MODEL.replace(
        '    if "MUTE" in words:',
        '    if "Take the LONG" in words: raise CallFailed("no_answer")\n    if "MUTE" in words:',
    )
    model.write_text(text.replace("import asyncio", "from solon.errors import CallFailed\nimport asyncio"))
    told = sampled(own, 10).sample
    assert told
    assert told.principles["thorough"].failed + told.principles["thorough"].decided == 10
    assert told.principles["thorough"].failed > 0
    assert any("got no answer" in note for note in worth_a_look(replace(audit(own.latest), sample=told)).notes)


def test_a_sample_that_was_killed_goes_on_from_the_ledger(own: Desk) -> None:
    before = own.remembered()
    process = started("constitution", "audit", own.latest, "--sample", 20, cwd=own.path, env={"MODEL_DELAY": "0.02"})
    for _ in range(600):
        if len(own.remembered() - before) >= 3 or process.poll() is not None:
            break
        time.sleep(0.02)
    process.kill()
    process.communicate()
    known = own.remembered()
    assert known > before
    already = len(own.asked())
    told = sampled(own, 20)
    assert not set(own.asked()[already:]) & known
    assert told.sample and told.sample.everyone.compared == 80


def test_an_interrupted_sample_leaves_no_traceback(own: Desk) -> None:
    import signal

    already = len(own.asked())
    process = started("constitution", "audit", own.latest, "--sample", 20, cwd=own.path, env={"MODEL_DELAY": "2"})
    for _ in range(600):
        if len(own.asked()) > already:
            break
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    assert finished(process).code == 130
    assert set(own.asked()) <= own.remembered()  # what was in flight was waited for: it is paid


# the command


def test_the_command_prints_a_line_a_principle_and_what_is_worth_a_look(own: Desk, solon: Solon) -> None:
    told = solon("constitution", "audit", own.latest, "--sample", 20)
    assert told.code == 0
    assert "20 of " in told.err and "known" in told.err
    for words in (
        "as critic and reviser", "as the judge's principle", "on 20 sampled pairs", "labels without it",
        "brief against careful", "asleep was never drawn: its weight is 0", "careful finds nothing to change",
        "careful and thorough nearly always agree", "are means; their intervals are in --format json",
        "both decide (", "of 20 sampled pairs; most on these",
    ):  # fmt: skip
        assert words in told.out, words


def test_prompts_on_which_all_principles_agree_are_not_listed_as_ambiguous(tmp_path: Path, solon: Solon) -> None:
    alike = PRINCIPLES.replace("Choose the SHORT one.", "LONG it is.").replace(
        "the one that may REFUSE", "the LONG one"
    )
    told = solon("constitution", "audit", ran(a_desk(tmp_path, principles=alike)).latest, "--sample", 10)
    assert told.code == 0
    assert "principles disagree on 0 of 10 sampled pairs" in told.out
    assert "against the majority" not in told.out


def test_json_holds_everything(own: Desk, solon: Solon) -> None:
    told = solon("constitution", "audit", own.latest, "--sample", 5, "--format", "json")
    page = json.loads(told.out)
    assert {each["id"] for each in page["principles"]} == {each.id for each in load(own.constitution).principles}
    assert page["sample"]["pairs"] == 5
    assert page["principles"][0]["coverage"][0]["share"]["n"] == 40
    assert page["worth"] and page["notes"] and page["looked"] > 0


def test_texts_cannot_speak_to_the_terminal(own: Desk, solon: Solon) -> None:
    made = own
    made.path.joinpath("prompts.txt").write_text("How do I \x1b[31m[bold]do[/bold] :smile: it?\nAnd this?\n")
    ran(made)
    told = solon("constitution", "audit", made.latest, "--sample", 2)
    assert "\x1b" not in told.out
    assert "[bold]do[/bold] :smile:" in told.out


def test_a_negative_sample_is_a_mistake(own: Desk, solon: Solon) -> None:
    assert solon("constitution", "audit", own.latest, "--sample", -1).code == 2


def test_a_share_over_rows_that_count_twice_has_an_interval_over_rows() -> None:
    """Ten rows, each twice alike, are ten pieces of evidence and not twenty."""
    twice = [(str(row), row < 5) for row in range(10) for _ in range(2)]
    once = share([(str(row), row < 5) for row in range(10)])
    told = share(twice)
    assert (told.value, told.n) == (0.5, 20)
    assert told.low is not None and told.high is not None and once.low is not None and once.high is not None
    assert told.high - told.low > 0.8 * (once.high - once.low)
    certain = share([(str(row), True) for row in range(10) for _ in range(2)])
    assert certain.low == share([(str(row), True) for row in range(10)]).low


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)
