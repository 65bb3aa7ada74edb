"""`solon constitution infer`: known rules behind labels are found again, and rules that are not there are not."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from infer_kit import SPEC, dataset, labelled, said
from story_kit import asked, candidates, player

from solon.calls import Call, Can, Message, Reply
from solon.constitution import load
from solon.digests import uniform
from solon.errors import Aside, BadInput, CallFailed
from solon.judges import Pairwise
from solon.review.infer.combine import choose, fit
from solon.review.infer.inference import infer, survey
from solon.review.infer.inferred import COMBINED, DRAWN, WHOLE, Inferred, InferSpec, report
from solon.review.infer.preferences import Preference, Preferences
from solon.review.infer.proposals import Proposal, cluster, read_rules
from solon.review.infer.reconstruct import LEAST, measure, verdict
from solon.rows import Prompt


async def inferred(
    pairs: Preferences,
    spec: InferSpec = SPEC,
    *,
    proposes: Any = said,
    judges: Any = said,
    judging: Pairwise | None = None,
) -> Inferred:
    critic, judge = player(proposes), player(judges, role="judge", can=Can(False, False))
    return await infer(pairs, critic, judge, judging or Pairwise(), spec)


def texts(done: Inferred, fate: str) -> list[str]:
    return [rule.candidate.text for rule in done.rules if rule.fate == fate]


def measures(done: Inferred) -> dict[str, float | None]:
    return {each.name: each.score.value for each in done.measures}


# -- what it finds


async def test_the_rules_behind_the_labels_are_found_and_beat_every_baseline() -> None:
    done = await inferred(dataset())
    assert texts(done, "kept") == ["Be polite to whoever asks.", "Keep answers short."]
    assert texts(done, "reversed") == ["Go into every detail."]
    score = measures(done)
    best = max(score["longer wins"], score["shorter wins"])
    assert score[COMBINED] > 0.95 and score[WHOLE] > 0.95 and best < 0.9
    assert done.explains and "explain the labels better than every baseline" in done.verdict
    together = next(each for each in done.measures if each.name == COMBINED)
    assert together.against.low > 0 and together.score.low > best
    polite, short = (rule.weight for rule in done.rules[:2])
    assert polite > short > 0
    assert list(done.log_loss) == sorted(done.log_loss, reverse=True) and len(done.log_loss) == 3


async def test_random_labels_are_said_to_be_explained_by_nothing() -> None:
    done = await inferred(dataset(random=True))
    assert not done.explains
    assert "do not explain the labels" in done.verdict or "not shown to explain" in done.verdict
    assert measures(done)["shorter wins"] is not None


async def test_a_timid_judge_is_heard_as_well_as_a_certain_one() -> None:
    """Log-probabilities near even are votes too: what counts is how a vote stands to the rule's typical one."""

    def timid(call: Call) -> Any:
        answer = said(call)
        p = {"A": 0.51, "B": 0.49}.get(answer[-1], 0.5)
        return {"A": p, "B": 1 - p}

    judge = player(timid, role="judge", can=Can(logprobs=True))
    done, certain = await infer(dataset(), player(said), judge, Pairwise(), SPEC), await inferred(dataset())
    assert texts(done, "kept") == texts(certain, "kept")
    assert measures(done) == measures(certain)
    assert [rule.weight for rule in done.rules] == pytest.approx([rule.weight for rule in certain.rules], abs=1e-3)
    assert all(len(each.cases) == 2 for each in done.constitution.principles)


async def test_one_drawn_principle_is_silent_where_it_has_nothing_to_say() -> None:
    done = await inferred(dataset())
    drawn, together = (next(each for each in done.measures if each.name == name) for name in (DRAWN, COMBINED))
    assert drawn.speaks.value < together.speaks.value
    assert drawn.score.n == together.score.n == done.counts["held out"]
    assert done.silent["judge_silent"] > 0


async def test_a_silent_judge_keeps_nothing_and_is_no_judgement() -> None:
    done = await inferred(dataset(60), judges="I would rather not say.")
    assert done.constitution is None and not done.explains
    assert {rule.fate for rule in done.rules} == {"silent"}
    assert all(rule.silent == {"judge_silent": rule.speaks.n} and rule.right.value is None for rule in done.rules)
    assert "the judge said nothing in" in done.verdict


async def test_a_judge_that_always_ties_keeps_nothing() -> None:
    done = await inferred(dataset(60), judges="Answer: A")
    assert done.constitution is None
    assert all(rule.silent == {"tie": rule.speaks.n} for rule in done.rules)


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (Reply("I cannot.", finish="refusal"), "refused"),
        (Reply("Be br", finish="length"), "cut_answer"),
        ("  ", "empty_answer"),
        ("None.", "none"),
        ("Response A is kinder.", "no_rule"),
    ],
)
async def test_proposals_that_are_none_are_counted_and_never_guessed(answer: str | Reply, reason: str) -> None:
    done = await inferred(dataset(60), proposes=answer)
    assert done.rules == () and done.constitution is None
    assert done.proposals["without"] == {reason: done.counts["proposed from"]}
    assert reason in done.verdict
    assert [each.kind for each in done.measures] == ["baseline"] * 4


async def test_a_cut_answer_is_no_rule_even_where_the_player_keeps_cut_ones() -> None:
    critic = player(Reply("Be brief and", finish="length"), cut="keep")
    judge = player(said, role="judge")
    done = await infer(dataset(60), critic, judge, Pairwise(), SPEC)
    assert set(done.proposals["without"]) == {"cut_answer"}


async def test_a_base_model_proposes_in_its_own_turn_of_a_document() -> None:
    critic = player(" - Keep answers short.\n\nHuman: And", form="text")
    done = await infer(dataset(60), critic, player(said, role="judge"), Pairwise(), SPEC)
    assert [rule.candidate.text for rule in done.rules] == ["Keep answers short."]
    (document,) = asked(critic)[0].messages
    assert document.content.startswith("\n\nHuman: ") and document.content.endswith("\n\nAssistant:")


async def test_failed_questions_are_counted_and_are_no_vote() -> None:
    def failing(call: Call) -> str:
        if int(call.key[-1], 16) < 4:
            raise CallFailed("no_answer", "gone")
        return said(call)

    done = await inferred(dataset(), judges=failing)
    assert done.failed > 10
    assert texts(done, "kept")[0] == "Be polite to whoever asks."
    assert done.rules[0].silent["no_answer"] > 0


# -- what is asked


async def test_no_question_to_the_judge_tells_the_label() -> None:
    pairs = dataset(80)
    turned = replace(
        pairs, pairs=tuple(replace(each, chosen=each.rejected, rejected=each.chosen) for each in pairs.pairs)
    )
    rules = "- Be polite to whoever asks.\n- Keep answers short."
    keys, done = [], []
    for given in (pairs, turned):
        judge = player(said, role="judge")
        done.append(await infer(given, player(rules), judge, Pairwise(), SPEC))
        keys.append({call.key for call in asked(judge)})
    # with the labels turned neither rule is kept, so that no held-out pair is asked about: what is left are the votes
    assert [len(texts(each, "kept")) for each in done] == [2, 0]
    assert len(keys[1]) == 2 * 2 * done[1].counts["voted on"]
    assert keys[1] < keys[0]


async def test_prompts_are_split_whole_and_held_out_pairs_are_never_shown() -> None:
    several = tuple(
        replace(labelled(number), prompt=Prompt((Message("user", f"Question {number % 40}?"),)))
        for number in range(160)
    )
    critic, judge = player(said), player(said, role="judge", can=Can(False, False))
    done = await infer(Preferences("pairs", several, 160), critic, judge, Pairwise(), replace(SPEC, proposals=500))

    def prompts(calls: list[Call]) -> set[str]:
        return {call.messages[-1].content.split("Human: ")[1].split("\n")[0] for call in calls}

    shown = prompts(asked(critic))
    whole = prompts([call for call in asked(judge) if "principles together" in call.messages[-1].content])
    assert shown and whole and not shown & whole
    assert done.counts["train"] + done.counts["held out"] == 160
    together = next(each for each in done.measures if each.name == COMBINED)
    assert together.score.n == done.counts["held out"] > len(whole)


async def test_every_option_turns_something() -> None:
    pairs = dataset(120)
    base = await inferred(pairs)
    assert base.counts["proposed from"] == 60 and base.counts["voted on"] == base.counts["train"]
    assert len(texts(await inferred(pairs, replace(SPEC, keep=1)), "kept")) == 1
    assert len((await inferred(pairs, replace(SPEC, candidates=2))).rules) == 2
    assert (await inferred(pairs, replace(SPEC, proposals=5))).counts["proposed from"] == 5
    assert (await inferred(pairs, replace(SPEC, votes=20))).rules[0].speaks.n == 20
    wide = await inferred(pairs, replace(SPEC, test_fraction=0.6))
    assert wide.counts["held out"] > base.counts["held out"] + 20
    assert (await inferred(pairs, replace(SPEC, seed=1))).counts != base.counts


async def test_both_orders_are_asked_and_a_tie_is_no_vote_whatever_the_recipe_says() -> None:
    judge = player(said, role="judge", can=Can(False, False))
    await infer(dataset(60), player(said), judge, Pairwise(both_orders=False), SPEC)
    firsts = [candidates(call) for call in asked(judge)]
    assert {(b, a) for a, b in firsts} == set(firsts)
    done = await inferred(dataset(60), judging=Pairwise(tie=0.49), judges=said)
    assert done.constitution is not None  # a judge in words is certain, so no vote is that near


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.3), (2, 0.5), (30, 0.999), (30, 0.0001)])
async def test_too_few_pairs_are_refused_before_anything_is_asked(count: int, fraction: float) -> None:
    critic = player(said)
    with pytest.raises(BadInput, match=r"too few: .* are left to learn from and .* to test on"):
        await infer(dataset(count), critic, player(said), Pairwise(), replace(SPEC, test_fraction=fraction))
    assert asked(critic) == []


@pytest.mark.parametrize("wrong", [{"keep": 0}, {"test_fraction": 1.0}, {"test_fraction": float("nan")}, {"votes": -1}])
def test_options_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=next(iter(wrong))):
        InferSpec(**wrong)


async def test_the_survey_is_exact_where_memory_knows_and_an_upper_bound_where_not() -> None:
    pairs, spec = dataset(60), replace(SPEC, candidates=5, keep=3)
    memory: dict[str, Reply] = {}

    def remembered(call: Call) -> Reply:
        if call.key not in memory:
            raise Aside("not_known", call.key)
        return memory[call.key]

    def players(answer: Any) -> tuple[Any, Any]:
        return player(answer), player(answer, role="judge", can=Can(False, False))

    nothing = await survey(pairs, *players(remembered), Pairwise(), spec)
    assert [count.certain for count in nothing.values()] == [nothing["propose"].at_most, 0, 0]
    critic, judge = players(said)
    await infer(pairs, critic, judge, Pairwise(), spec)
    calls = asked(critic) + asked(judge)
    assert len(calls) <= sum(count.at_most for count in nothing.values())
    memory |= {call.key: Reply(said(call)) for call in asked(critic)}
    some = await survey(pairs, *players(remembered), Pairwise(), spec)
    votes = len(asked(judge)) - some["held-out"].at_most
    assert some["propose"].known == len(asked(critic)) and some["propose"].at_most == 0
    assert 0 < some["vote"].certain == some["vote"].at_most and some["vote"].at_most >= votes
    memory |= {call.key: Reply(said(call)) for call in calls}
    every = await survey(pairs, *players(remembered), Pairwise(), spec)
    assert sum(count.at_most for count in every.values()) == 0
    assert sum(count.known for count in every.values()) == len({call.key for call in calls})


# -- the parts

BOTH = ["Be brief, always.", "Be kind to all."]


@pytest.mark.parametrize(
    ("text", "rules"),
    [
        ("1. Be brief, always.\n2) Be kind to all.", BOTH),
        ("Here are the rules:\n\n- **Be brief, always.**\n* Be kind to all.\nI hope this helps!", BOTH),
        ("Be brief, always.\nBe kind to all.", BOTH),
        ('["Be brief, always.", "Be kind to all."]', BOTH),
        ('```json\n{"rules": [{"rule": "Be brief, always."}]}\n```', BOTH[:1]),
        ('Rule 1: "Be brief, always."\nRule 2: Be kind to all.', BOTH),
        ("- Be brief, always.\n- Be brief, always.", BOTH[:1]),
        ("- Be brief, always.\n- Be kind to all.\n- Be a third.\n- Be a fourth.", [*BOTH, "Be a third."]),
        ("- Response B is longer.\n- Brief.\n- " + "x" * 500, []),
        ("[" * 5000, []),
        ("尽量简短地回答用户的问题。", ["尽量简短地回答用户的问题。"]),
    ],
)  # fmt: skip
def test_rules_are_read_from_whatever_a_model_makes_of_a_list(text: str, rules: list[str]) -> None:
    assert list(read_rules(text)[0]) == rules


def test_lines_that_are_no_rule_are_counted_by_what_is_wrong_with_them() -> None:
    unusable = read_rules("- Response B is longer.\n- Brief.\n- The first answer is kind.\n- Be kind to all.")[1]
    assert unusable == {"speaks of this pair alone": 2, "too short": 1}


def proposals(*rules: str) -> list[Proposal]:
    return [Proposal(labelled(number), (rule,)) for number, rule in enumerate(rules)]


def test_rules_that_say_the_same_are_one_candidate_and_opposites_are_two() -> None:
    found = cluster(
        proposals(
            "Keep the answer short.", "Keep answers short.", "Keep your answers short and simple.",
            "Keep the answer long.", "Do not keep the answer short.", "Be polite.", "Be polite to the user.",
        ),
        seed=0, most=9,
    )  # fmt: skip
    groups = {frozenset((each.text, *each.wordings)) for each in found}
    assert {len(group) for group in groups} == {3, 2, 1}
    assert frozenset({"Be polite.", "Be polite to the user."}) in groups
    assert frozenset({"Keep the answer long."}) in groups
    assert frozenset({"Do not keep the answer short."}) in groups
    assert [each.support for each in found] == [3, 2, 1, 1]


def test_candidates_do_not_hang_on_the_order_of_proposals_and_the_best_supported_stay() -> None:
    given = proposals("Name your sources.", "Be polite.", "Be polite.", "Use small words.", "Tell a joke first.")
    found = cluster(given, seed=0, most=9)
    assert found == cluster(given[::-1], seed=0, most=9)
    assert found[0].text == "Be polite." and found[0].support == 2
    assert cluster(given, seed=0, most=2) == found[:2]
    orders = {tuple(each.text for each in cluster(given, seed=seed, most=9)) for seed in range(8)}
    assert len(orders) > 1  # among equals a hash decides, not the alphabet


def test_the_combiner_has_no_place_that_it_likes() -> None:
    """With all pairs shown the other way round the weights are the same, and predictions change sign."""
    x = np.array([[uniform("x", row, column) * 2 - 1 for column in range(3)] for row in range(60)])
    y = np.array([1.0 if uniform("y", row) < 0.5 + 0.4 * x[row, 0] else -1.0 for row in range(60)])
    turn = np.array([1.0 if uniform("turn", row) < 0.5 else -1.0 for row in range(60)])
    assert fit(x * turn[:, None], y * turn, least=None) == pytest.approx(fit(x, y, least=None), abs=1e-6)
    names = [str(row) for row in range(60)]
    assert choose(x * turn[:, None], y * turn, names, 3).rules == choose(x, y, names, 3).rules
    assert fit(-x[:, :1], y)[0] == 0.0  # a reversed rule has no weight in a constitution


def test_a_rule_that_repeats_another_adds_nothing() -> None:
    y = np.array([1.0 if uniform("y", row) < 0.5 else -1.0 for row in range(100)])
    vote = np.where([uniform("v", row) < 0.8 for row in range(100)], y, -y)
    chosen = choose(np.stack([vote, vote], axis=1), y, [str(row) for row in range(100)], 5)
    assert chosen.rules == (0,)


async def test_rules_that_a_model_writes_can_hold_anything(tmp_path: Path) -> None:
    odd = (
        "- Be polite: [bold]please[/bold] \x1b[31m #{x} 'q' \"z\" \ud83d\n- Be polite: \u202eplease & <b>more</b> words"
    )
    done = await inferred(dataset(120), proposes=odd)
    assert done.constitution is not None
    file = tmp_path / "odd.yaml"
    file.write_text(done.constitution.to_yaml(), encoding="utf-8")
    assert load(file) == done.constitution
    assert json.loads(report(done))["principles"] == [each.id for each in done.constitution.principles]


def test_a_handful_of_prompts_shows_nothing_however_right_it_is() -> None:
    """A coin is right in all of five prompts more often than one time in forty, and no baseline may speak of them."""

    def told(count: int) -> tuple[bool, str]:
        pairs = [
            Preference(f"line {number}", Prompt((Message("user", f"{number}?"),)), f"{number} yes", f"{number} nay")
            for number in range(count)
        ]
        right = [1.0 if pair.first_wins else -1.0 for pair in pairs]
        return verdict(measure(pairs, {"ours": right}), "ours")

    assert told(LEAST)[0]
    explains, said = told(LEAST - 1)
    assert not explains
    assert said.startswith(f"Fewer than {LEAST} held-out prompts cannot tell")
