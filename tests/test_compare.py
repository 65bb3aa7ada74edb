"""`compare` says what an edit did to the data: matched by prompt, labels defined, every share with its interval."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterable
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from run_kit import Solon, desk
from scipy.stats import t

from solon import yamls
from solon.calls import Message
from solon.commands import run_recipe
from solon.dataset import RowStore
from solon.errors import BadInput, StorageError
from solon.review.compare import effects
from solon.review.compare.comparison import Comparison, Effect, View
from solon.review.compare.effects import BUCKETS, LEAST, MOST_GROUPS, Table
from solon.review.compare.measures import Numbers
from solon.review.compare.rows import LONGEST, before, compare
from solon.review.intervals import clustered, wilson
from solon.review.texts import words
from solon.rows import Asked, Draft, Draw, Pair, Prompt, Row, SetAside, Vote

CONSTITUTION = "name: Two\nprinciples:\n  - {id: kind, text: Be kind.}\n  - {id: brief, text: Be brief.}\n"
RECIPE: dict[str, Any] = {
    "constitution": "constitution.yaml", "prompts": "prompts.txt", "model": "scripted:model.py:answer",
    "story": {"kind": "revision"},
}  # fmt: skip


@dataclass(frozen=True)
class Made:
    """One row of a run that nobody walked. p: P(revision is better); None and no reason is an unfinished row."""

    prompt: str
    p: float | None = None
    reason: str = ""
    first: str = "The first answer."
    revised: str = "The revised answer."
    principle: str = "kind"
    digest: str = "d"
    judge: str = "kind"
    tags: tuple[str, ...] = ()
    turns: tuple[str, ...] = ()
    key: str = "k"
    critique: str = "It is curt."
    chosen: str = ""


def outcome(row: Row, made: Made) -> Pair | SetAside | None:
    if made.p is None and not made.reason:
        return None
    p = made.p if made.p is not None else 0.5
    votes = (Vote("ab", 1 - p, "logprobs", 0.9, "", "v1"), Vote("ba", 1 - p, "logprobs", 0.9, "", "v2"))
    drafts = (
        Draft("response", made.first), Draft("revision.1", made.revised, made.principle, made.digest, made.critique),
    )  # fmt: skip
    steps = ("respond", "critique.1", "revise.1", "judge")
    asked = tuple(Asked(step, "role", f"{made.key}-{made.prompt}-{step}") for step in steps)
    if made.reason:
        silent = tuple(replace(vote, p_first=None) for vote in votes)
        return SetAside(row, made.reason, "", drafts, votes if made.reason == "tie" else silent, asked)
    one, other = drafts if p < 0.5 else drafts[::-1]
    return Pair(
        row, one.text, other.text, one.name, other.name, max(p, 1 - p), made.judge, "j", "tiny", votes, drafts, asked
    )


def run_of(path: Path, rows: Iterable[Made], *, constitution: str = CONSTITUTION, **recipe: Any) -> Path:
    """Return the folder of a run with these rows; `recipe` changes the recipe's keys."""
    path.mkdir(parents=True)
    (path / "constitution.yaml").write_text(constitution, encoding="utf-8")
    (path / "recipe.yaml").write_text(yamls.dump({**RECIPE, **recipe}), encoding="utf-8")
    cast = {role: {"name": "tiny", "identity": "scripted:tiny"} for role in ("responder", "critic", "reviser", "judge")}
    facts = {"recipe": "recipe", "plan": path.name, "cast": cast, "ledger": "ledger.db", "solon": "1"}
    (path / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    made = list(rows)
    with RowStore.create(path / "rows.db") as store:
        for each in made:
            turns = each.turns or (each.prompt,)
            messages = tuple(Message("assistant" if place % 2 else "user", text) for place, text in enumerate(turns))
            draws = [Draw("revision.1", each.principle, each.digest), Draw("judge", each.judge, "j")]
            assert store.add(Prompt(messages, each.tags), draws)
    with RowStore.open(path / "rows.db") as store:
        for row, each in zip(list(store.rows()), made, strict=True):
            if done := outcome(row, each):
                store.finish(done)
    return path


def compared(folder: Path, a: Iterable[Made], b: Iterable[Made], most: int = 20, **recipe: Any) -> Comparison:
    return compare(run_of(folder / "a", a), run_of(folder / "b", b, **recipe), most=most)


def kinds(done: Comparison) -> dict[str, int]:
    return {change.kind: change.rows for change in done.changes}


def effect(view: View, measure: str, family: str = "", name: str = "") -> Effect:
    groups = [group for group in view.groups if (group.family, group.name) == (family, name)]
    return next(each for each in (groups[0] if family else view).effects if each.measure == measure)


# two runs that were walked


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run, and the run after one principle was reworded."""
    import asyncio

    here = desk(tmp_path_factory.mktemp("walked"), prompts=24)
    one = asyncio.run(run_recipe(here.recipe))
    here.reword("Be brief.", "Be as brief as you can.")
    other = asyncio.run(run_recipe(here.recipe))
    return one.folder.path, other.folder.path


def test_an_edit_moves_the_rows_that_met_it_and_leaves_the_others_equal_to_the_last_byte(
    walked: tuple[Path, Path],
) -> None:
    done = compare(*walked)
    assert (done.both, done.compared, done.only_a, done.only_b, done.waiting) == (24, 24, 0, 0, 0)
    with RowStore.open(walked[0] / "rows.db", read_only=True) as store:
        met = [row for row in store.rows(unfinished=False) if "brief" in {draw.principle for draw in row.draws}]
    assert 0 < len(met) < 24
    assert done.touched == len(met)
    assert (done.untouched.rows, done.untouched.equal, done.untouched.reasons) == (24 - len(met), 24 - len(met), {})
    assert {row.id for row in done.telling} <= {row.id for row in met}
    assert done.edit == "1 principle reworded, 3 untouched"
    assert [(edit.principle, edit.parts[0][0]) for edit in done.edits] == [("brief", "text")]
    assert done.settings == ()
    assert [view.name for view in done.views] == ["all rows", "touched rows"]
    assert done.views[1].rows == len(met)


def test_a_run_compared_with_itself_shows_no_difference(walked: tuple[Path, Path]) -> None:
    done = compare(walked[0], walked[0])
    assert (kinds(done), done.touched, done.telling, done.edit) == ({"same": 24}, 0, (), "no difference")
    assert done.views[0].flips.value == 0
    assert all(each.change.value == 0 and not each.beyond for each in done.views[0].effects)
    assert len(done.views) == 1
    assert (done.views[0].looked_at, done.views[0].marked) == (0, 0)


def test_the_same_runs_make_the_same_comparison(walked: tuple[Path, Path]) -> None:
    assert compare(*walked) == compare(*walked)


# labels


def test_every_way_that_a_label_can_move_is_counted_and_crossed(tmp_path: Path) -> None:
    a = [Made("1", 0.9), Made("2", 0.9), Made("3", 0.9), Made("4", 0.2), Made("5", reason="tie"),
         Made("6", reason="judge_silent"), Made("7", reason="tie"), Made("8", 0.6)]  # fmt: skip
    b = [Made("1", 0.8), Made("2", 0.1), Made("3", reason="tie"), Made("4", reason="cut_answer"), Made("5", 0.7),
         Made("6", reason="judge_refused"), Made("7", reason="tie"), Made("8", 0.1)]  # fmt: skip
    done = compared(tmp_path, a, b)
    assert kinds(done) == {
        "same": 2, "flipped": 2, "became_tie": 1, "set_aside": 1, "came_back": 1, "other_reason": 1,
    }  # fmt: skip
    crossed = {(each.a, each.b): each.rows for each in done.outcomes}
    assert crossed == {
        ("revision", "revision"): 1, ("revision", "original"): 2, ("revision", "tie"): 1, ("original", "cut_answer"): 1,
        ("tie", "revision"): 1, ("judge_silent", "judge_refused"): 1, ("tie", "tie"): 1,
    }  # fmt: skip
    # only rows with a pair in both runs can flip
    assert done.views[0].flips == wilson(2, 3)


def test_p_is_the_mean_of_the_votes_and_ties_have_one_too(tmp_path: Path) -> None:
    a = [Made("1", 0.9), Made("2", 0.7), Made("3", 0.8)]
    b = [Made("1", 0.1), Made("2", reason="tie"), Made("3", reason="judge_silent")]
    p = effect(compared(tmp_path, a, b).views[0], "p")
    assert p.change.n == 2, "a silent judge has no P"
    assert (p.a, p.b, p.change.value) == pytest.approx((0.8, 0.3, -0.5))


def test_a_flip_by_a_hair_and_one_over_other_texts_are_told_apart(tmp_path: Path) -> None:
    a = [Made("1", 0.51), Made("2", 0.9), Made("3", 0.9)]
    b = [Made("1", 0.49), Made("2", 0.1, revised="Another text."), Made("3", 0.1)]
    flipped = next(each for each in compared(tmp_path, a, b).changes if each.kind == "flipped")
    assert (flipped.rows, flipped.texts, flipped.slight) == (3, 1, 1)


def candidates(path: Path, rows: dict[str, tuple[tuple[str, ...], int, int, float]]) -> Path:
    """Return a preference run: {prompt: (candidates, place of the chosen one, of the rejected one, P)}."""
    run_of(path, [Made(prompt) for prompt in rows], story={"kind": "preference", "candidates": 3})
    with RowStore.open(path / "rows.db") as store:
        for row, (texts, best, worst, p) in zip(list(store.rows()), rows.values(), strict=True):
            drafts = tuple(Draft(f"candidate.{number}", text) for number, text in enumerate(texts, 1))
            vote = Vote("ab", p if best < worst else 1 - p, "logprobs", 0.9, "", "v")
            one, other = drafts[best], drafts[worst]
            store.finish(Pair(row, one.text, other.text, one.name, other.name, p, "kind", "j", "tiny", (vote,), drafts))
    return path


def test_preferences_flip_only_over_the_same_two_answers(tmp_path: Path) -> None:
    three = ("One answer.", "Two answers.", "Three answers.")
    a = dict.fromkeys(("same", "flipped", "pair", "texts"), (three, 0, 1, 0.9))
    b = {
        "same": (three, 0, 1, 0.8),
        "flipped": (three, 1, 0, 0.7),
        "pair": (three, 2, 1, 0.9),
        "texts": (("Else.", "Two answers.", "Three answers."), 0, 1, 0.9),
    }
    done = compare(candidates(tmp_path / "a", a), candidates(tmp_path / "b", b))
    assert kinds(done) == {"same": 1, "flipped": 1, "other_pair": 1, "other_texts": 1}
    assert done.views[0].flips == wilson(1, 2)
    assert ("pair", "pair") in {(each.a, each.b) for each in done.outcomes}, "other answers have no label in common"
    assert done.telling[0].kind == "flipped"
    assert done.telling[0].shift == pytest.approx(0.3 - 0.9)
    assert {each.measure for each in done.views[0].effects}.isdisjoint({"p", "revision_words", "distance"})
    sure = effect(done.views[0], "sure")
    assert (sure.a, sure.b) == pytest.approx((0.9, 0.825))


# rows


def test_rows_are_matched_by_prompt_not_by_place(tmp_path: Path) -> None:
    rows = [Made(f"Question {number}?", 0.9) for number in range(5)]
    done = compared(tmp_path, [*rows, Made("Gone?", 0.9)], [Made("New?", 0.1), Made("Newer?", 0.1), *rows])
    assert (done.both, done.only_a, done.only_b) == (5, 1, 2)
    assert kinds(done) == {"same": 5}
    assert done.untouched.equal == 5, "another place in the plan is no other outcome"


def test_unfinished_rows_are_counted_and_not_compared(tmp_path: Path) -> None:
    done = compared(tmp_path, [Made("1", 0.9), Made("2", 0.9), Made("3")], [Made("1", 0.9), Made("2"), Made("3", 0.1)])
    assert (done.compared, done.waiting, done.a.unfinished, done.b.unfinished) == (1, 2, 1, 1)
    assert {(each.a, each.b) for each in done.outcomes} == {
        ("revision", "revision"), ("revision", "unfinished"), ("unfinished", "original"),
    }  # fmt: skip


def test_runs_of_which_nothing_is_finished_have_no_figures(tmp_path: Path) -> None:
    done = compared(tmp_path, [Made("1")], [Made("1")])
    assert (done.compared, done.waiting) == (0, 1)
    assert done.views[0].flips.value is None
    assert effect(done.views[0], "p").change.n == 0


def test_another_wording_or_another_principle_touches_a_row(tmp_path: Path) -> None:
    a = [Made("1", 0.9), Made("2", 0.9), Made("3", 0.9), Made("4", 0.9)]
    b = [Made("1", 0.9), Made("2", 0.9, digest="e"), Made("3", 0.9, judge="brief"), Made("4", 0.9, principle="brief")]
    done = compared(tmp_path, a, b)
    assert (done.touched, done.untouched.rows) == (3, 1)
    met = {group.name: group.rows for group in done.views[0].groups if group.family == "judged by"}
    assert met == {"kind": 4, "brief": 1}, "a row whose draw moved is in the groups of both principles"


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (Made("1", 0.1), "the same call was answered otherwise: another ledger, or asked anew"),
        (Made("1", 0.9, first="Else."), "the same call was answered otherwise: another ledger, or asked anew"),
        (Made("1", 0.9, reason="tie"), "the same answers were read otherwise: judging or story differ"),
        (Made("1", 0.9, key="l"), "another call at respond: model, sampling, judging, template or examples differ"),
        (Made("1", reason="no_answer"), "a call failed in one of the runs"),
    ],
)
def test_an_untouched_row_that_differs_is_counted_with_its_reason(changed: Made, reason: str, tmp_path: Path) -> None:
    done = compared(tmp_path, [Made("1", 0.9), Made("2", 0.9)], [changed, Made("2", 0.9)])
    assert (done.untouched.rows, done.untouched.equal, done.untouched.reasons) == (2, 1, {reason: 1})


# what differs between the runs themselves


@pytest.mark.parametrize(
    ("recipe", "what", "a", "b"),
    [
        ({"seed": 7}, "seed", "0", "7"),
        ({"judging": {"tie": 0.1}}, "judging: tie", "0.0", "0.1"),
        ({"story": {"kind": "revision", "rounds": 2}}, "story: rounds", "1", "2"),
        ({"cast": {"critic": {"temperature": 0.3}}}, "critic: temperature", "1.0", "0.3"),
        ({"cast": {"judge": {"system": "Judge."}}}, "judge: system", "None", "Judge."),
    ],
)
def test_whatever_else_may_move_a_label_is_told(
    recipe: dict[str, Any], what: str, a: str, b: str, tmp_path: Path
) -> None:
    done = compared(tmp_path, [Made("1", 0.9)], [Made("1", 0.9)], **recipe)
    assert [(each.what, each.a, each.b) for each in done.settings] == [(what, a, b)]


def test_another_model_is_told(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", [Made("1", 0.9)]), run_of(tmp_path / "b", [Made("1", 0.9)])
    facts = json.loads((b / "run.json").read_text())
    facts["cast"]["judge"] = {"name": "large", "identity": "scripted:large"}
    (b / "run.json").write_text(json.dumps(facts))
    assert [(each.what, each.b) for each in compare(a, b).settings] == [("judge: model", "large (scripted:large)")]


def test_edits_of_every_kind_are_told_with_their_words(tmp_path: Path) -> None:
    new = CONSTITUTION.replace("text: Be kind.", "text: Be kind and warm., weight: 2").replace(
        "{id: brief, text: Be brief.}", "{id: frank, text: Speak frankly about what is wrong.}"
    )
    done = compared(tmp_path, [Made("1", 0.9)], [Made("1", 0.9)], constitution=new)
    told = {edit.principle: dict(edit.parts) for edit in done.edits}
    assert told["kind"]["text"] == (("equal", "Be kind"), ("insert", " and warm"), ("equal", "."))
    assert told["kind"]["weight"] == (("delete", "1"), ("insert", "2"))
    assert told["frank"]["text"][0][0] == "insert"
    assert told["brief"]["text"][0][0] == "delete"


# effects and groups


def test_effects_are_paired_by_row_and_marked_only_beyond_their_interval(tmp_path: Path) -> None:
    a = [Made(f"{number}", 0.6, first="One two three.") for number in range(LEAST)]
    b = [Made(f"{number}", 0.6 + number / 100, first="I'm sorry, but I cannot help.") for number in range(LEAST)]
    done = compared(tmp_path, a, b)
    p = effect(done.views[0], "p")
    by_hand = clustered((number, number / 100) for number in range(LEAST))
    assert astuple(p.change) == pytest.approx(astuple(by_hand))
    assert p.beyond
    assert p.size == pytest.approx(0.045 / (math.sqrt(sum((n / 100 - 0.045) ** 2 for n in range(10)) / 9)))
    assert effect(done.views[0], "rejected_words").change.value == 6 - 3
    assert effect(done.views[0], "refuses").change.value == 0, "the refusal was rejected"


def test_the_revision_distance_is_from_the_first_answer_to_the_last_revision(tmp_path: Path) -> None:
    a = [Made("1", 0.9, first="One two three four.", revised="One two three five.")]
    b = [Made("1", 0.9, first="One two three four.", revised="One six seven five.")]
    distance = effect(compared(tmp_path, a, b).views[0], "distance")
    assert (distance.a, distance.b, distance.change.value) == (0.25, 0.75, 0.5)
    assert distance.change.low is None, "one row has no interval"


def test_a_handful_of_rows_is_never_marked(tmp_path: Path) -> None:
    few = range(LEAST - 1)
    done = compared(tmp_path, [Made(f"{number}", 0.6) for number in few], [Made(f"{number}", 0.9) for number in few])
    assert effect(done.views[0], "p").change.low == pytest.approx(0.3)
    assert not effect(done.views[0], "p").beyond


def test_refusals_of_chosen_answers_and_rows_set_aside_are_shares(tmp_path: Path) -> None:
    a = [Made("1", 0.9), Made("2", 0.9), Made("3", 0.9), Made("4", reason="tie")]
    b = [Made("1", 0.9, revised="I'm sorry, but no."), Made("2", 0.9), Made("3", reason="tie"), Made("4", 0.9)]
    view = compared(tmp_path, a, b).views[0]
    assert (effect(view, "refuses").a, effect(view, "refuses").b) == (0, 0.5)
    assert (effect(view, "set_aside").a, effect(view, "set_aside").b, effect(view, "set_aside").change.n) == (
        0.25, 0.25, 4,
    )  # fmt: skip


def test_groups_go_by_principle_tag_turns_and_length(tmp_path: Path) -> None:
    rows = [
        Made("one", 0.9, tags=("health",)),
        Made("one two three", 0.9, tags=("health", "law"), judge="brief"),
        Made("one two three four five six", 0.9, turns=("Hello.", "Hello!", "How are you today, my dear?")),
    ]
    flipped = [replace(row, p=0.1) if "health" in row.tags else row for row in rows]
    groups = {
        (group.family, group.name): (group.rows, group.flips.value)
        for group in compared(tmp_path, rows, flipped).views[0].groups
    }
    assert groups == {
        ("judged by", "brief"): (1, 1), ("judged by", "kind"): (2, 0.5),
        ("tag", "health"): (2, 1), ("tag", "law"): (1, 1), ("tag", "(no tag)"): (1, 0),
        ("turns", "one turn"): (2, 1), ("turns", "several turns"): (1, 0),
        ("length", "up to 1 words"): (1, 1), ("length", "2 to 3 words"): (1, 1),
        ("length", "4 words and more"): (1, 0),
    }  # fmt: skip


def test_a_group_whose_share_of_flips_stands_out_is_marked(tmp_path: Path) -> None:
    a = [Made(f"{number}", 0.9, tags=("law" if number < 12 else "health",)) for number in range(60)]
    b = [replace(row, p=0.1) if "law" in row.tags else row for row in a]
    odd = {group.name for group in compared(tmp_path, a, b).views[0].groups if group.odd}
    assert odd == {"law", "health"}


def test_only_intervals_that_could_be_marked_count_as_looked_at(tmp_path: Path) -> None:
    """Else what chance alone would mark looks larger than it is, and real effects drown in it."""
    a = [Made(f"{number}", 0.9, tags=("few" if number < LEAST - 1 else "many",)) for number in range(2 * LEAST)]
    b = [replace(row, p=0.1 if row.prompt == "15" else 0.9 - int(row.prompt) / 1000) for row in a]
    view = compared(tmp_path, a, b).views[0]
    large = [group for group in view.groups if group.rows >= LEAST]
    assert {group.name for group in view.groups} - {group.name for group in large} == {"few"}
    moved = [one for part in (view, *large) for one in part.effects if not one.change.low == one.change.high == 0]
    assert view.looked_at == len(moved) + len(large)
    assert view.marked == sum(one.beyond for one in moved) + sum(group.odd for group in large) > 0


def test_intervals_of_few_prompts_are_as_wide_as_students() -> None:
    """Plain percentiles of a bootstrap over ten values are a sixth narrower, and cover in 91 % only."""
    draws = np.random.default_rng(7).normal(size=(40, 10))
    told = [clustered(enumerate(draw.tolist())) for draw in draws]
    wide = np.mean([(each.high or 0.0) - (each.low or 0.0) for each in told])
    students = np.mean(2 * t.ppf(0.975, 9) * draws.std(axis=1, ddof=1) / math.sqrt(10))
    assert wide == pytest.approx(students, rel=0.05)
    two = clustered([("one", 0.0), ("other", 1.0)])
    assert (two.value, two.low, two.high) == (0.5, 0.0, 1.0)


def test_a_thousand_tags_make_no_thousand_groups(tmp_path: Path) -> None:
    rows = [Made(f"{number}", 0.9, tags=(f"tag {number}",)) for number in range(MOST_GROUPS + 3)]
    done = compared(tmp_path, rows, rows)
    assert done.left_out == {"tag": 3}
    assert sum(group.family == "tag" for group in done.views[0].groups) == MOST_GROUPS


def test_many_prompts_are_resampled_in_bunches_with_as_good_an_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    table, numbers = Table("revision"), Numbers(*[math.nan] * 8)
    count = 2 * BUCKETS + 500
    for number in range(count):
        row = Row(number, Prompt((Message("user", f"Question {number}?"),)), (Draw("judge", "kind", "d"),))
        shift = (number * 7919 % 101) / 101 - 0.5
        after = numbers._replace(p=0.5 + shift)
        table.add(row, row, "same", False, numbers._replace(p=0.5), after, paired=True)
    bunched = effect(table.views()[0], "p").change
    monkeypatch.setattr(effects, "BUCKETS", count)
    single = effect(table.views()[0], "p").change
    assert bunched.value == pytest.approx(single.value)
    assert bunched.low is not None and bunched.high is not None and single.low is not None and single.high is not None
    assert bunched.high - bunched.low == pytest.approx(single.high - single.low, rel=0.1)
    assert bunched.low != single.low


def test_spreads_count_every_row_once(tmp_path: Path) -> None:
    a = [Made(f"{number}", number / 20, revised="word " * number + ".") for number in range(1, 20)]
    done = compared(tmp_path, a, [*a[:-1], replace(a[-1], revised="word " * 5000)])
    for histogram in done.spread:
        assert sum(histogram.a) + histogram.over[0] == 19 - (histogram.measure == "chosen_words"), histogram.measure
    longest = next(each for each in done.spread if each.measure == "revision_words")
    assert longest.over == (0, 1)


# the most telling rows


def test_telling_rows_are_flips_first_then_other_labels_then_by_shift_and_text(tmp_path: Path) -> None:
    a = [Made("text", 0.9), Made("shift", 0.6), Made("aside", 0.9), Made("small flip", 0.6), Made("flip", 0.9),
         Made("none", 0.9)]  # fmt: skip
    b = [Made("text", 0.9, revised="A new text altogether."), Made("shift", 0.99), Made("aside", reason="tie"),
         Made("small flip", 0.4), Made("flip", 0.1), Made("none", 0.9)]  # fmt: skip
    done = compared(tmp_path, a, b)
    assert [row.prompt[0][1] for row in done.telling] == ["flip", "small flip", "aside", "shift", "text"]
    flip = done.telling[0]
    assert (flip.a.label, flip.b.label) == ("revision", "original")
    assert flip.shift == pytest.approx(-0.8)
    assert "".join(text for op, text in flip.words if op != "insert") == flip.a.text == "The revised answer."
    assert "".join(text for op, text in flip.words if op != "delete") == flip.b.text == "The first answer."
    tie = done.telling[2]
    assert (tie.b.label, tie.b.draft, tie.b.text) == ("tie", "revision.1", "The revised answer.")


def test_most_keeps_so_many_telling_rows(tmp_path: Path) -> None:
    a, b = [Made(f"{number}", 0.9) for number in range(9)], [Made(f"{number}", number / 100) for number in range(9)]
    done = compared(tmp_path, a, b, most=2)
    assert [row.prompt[0][1] for row in done.telling] == ["0", "1"]


def test_a_changed_critique_stands_with_its_row(tmp_path: Path) -> None:
    done = compared(tmp_path, [Made("1", 0.9)], [Made("1", 0.1, critique="It is too curt.")])
    assert done.telling[0].critiques == (
        ("revision.1", (("equal", "It is "), ("insert", "too "), ("equal", "curt."))),
    )  # fmt: skip


def test_an_endless_text_is_cut_and_says_so(tmp_path: Path) -> None:
    endless = "never " * 200_000
    done = compared(tmp_path, [Made("1", 0.9, revised=endless)], [Made("1", 0.1, revised=endless)])
    assert len(done.telling[0].a.text) < LONGEST + 60
    assert done.telling[0].a.text.endswith(f"[... {len(endless) - LONGEST:,} more characters]")
    assert effect(done.views[0], "revision_words").a == len(words(endless)) == 200_000


# bad input


def test_a_folder_that_is_no_run_is_refused(tmp_path: Path) -> None:
    run = run_of(tmp_path / "a", [Made("1", 0.9)])
    for folder in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(StorageError, match=r"no (such )?run folder"):
            compare(run, folder)


def test_runs_without_a_prompt_in_common_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"no prompt in common \(1 and 2 rows\); compare runs over the same prompts"):
        compared(tmp_path, [Made("1", 0.9)], [Made("2", 0.9), Made("3", 0.9)])


def test_runs_of_two_stories_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"is a revision run and .* a preference run"):
        compared(tmp_path, [Made("1", 0.9)], [Made("1", 0.9)], story={"kind": "preference"})


def test_a_run_whose_copies_are_gone_or_damaged_is_refused(tmp_path: Path) -> None:
    a, b = run_of(tmp_path / "a", [Made("1", 0.9)]), run_of(tmp_path / "b", [Made("1", 0.9)])
    (b / "recipe.yaml").write_text("story: [")
    with pytest.raises(StorageError, match=r"recipe\.yaml"):
        compare(a, b)
    shutil.copy(a / "recipe.yaml", b / "recipe.yaml")
    (b / "constitution.yaml").unlink()
    with pytest.raises(StorageError, match=r"constitution\.yaml"):
        compare(a, b)
    shutil.copy(a / "constitution.yaml", b / "constitution.yaml")
    (b / "rows.db").write_bytes(b"no database")
    with pytest.raises(StorageError, match=r"rows\.db"):
        compare(a, b)


# the command


def test_the_run_before_is_the_one_of_this_recipe_that_was_walked_last_before(tmp_path: Path) -> None:
    rows = [Made("1", 0.9)]
    for name, started in (("first", 10), ("second", 20), ("other", 25), ("third", 30), ("never", None)):
        run = run_of(tmp_path / name, rows)
        if started:
            (run / "walks.jsonl").write_text(json.dumps({"started": started}) + "\n")
    facts = json.loads((tmp_path / "other" / "run.json").read_text())
    (tmp_path / "other" / "run.json").write_text(json.dumps({**facts, "recipe": "another"}))
    (tmp_path / "latest").symlink_to("third")
    assert before(tmp_path / "latest").name == "second"
    assert before(tmp_path / "second").name == "first"
    shutil.rmtree(tmp_path / "never")
    with pytest.raises(BadInput, match="no run of recipe 'recipe' was walked before it"):
        before(tmp_path / "first")


def test_the_summary_says_what_moved_on_one_screen(
    walked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Solon(monkeypatch, capsys)("compare", *walked)
    assert (told.code, told.err) == (0, "")
    assert "24 prompts in both: 24 rows compared" in told.out
    assert "constitution: 1 principle reworded, 3 untouched (brief)" in told.out
    assert "all equal to the last byte" in told.out
    done = compare(*walked)
    assert f"flipped among touched rows: {done.views[1].flips.value:.1%}" in told.out
    assert f"row {done.telling[0].index}" in told.out
    assert f"touched rows, groups and all: {done.views[1].marked} of {done.views[1].looked_at} interval" in told.out
    assert told.out.count("\n") <= 40


def test_without_folders_the_newest_run_is_compared_with_the_one_before(
    walked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(walked[0].parents[1])
    solon = Solon(monkeypatch, capsys)
    told = solon("compare")
    assert told.out.splitlines()[0].startswith(f"A  runs/{walked[0].name}:")
    assert told.out.splitlines()[1].startswith("B  runs/latest")
    one = solon("compare", walked[1])
    assert one.out.splitlines()[0].startswith(f"A  {walked[0]}:")


def test_json_holds_everything(
    walked: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    told = Solon(monkeypatch, capsys)("compare", *walked, "--format", "json", "-n", 3)
    found = json.loads(told.out)
    assert found == json.loads(json.dumps(asdict(compare(*walked, most=3))))
    assert len(found["telling"]) <= 3


def test_html_writes_the_page_beside_the_summary(
    walked: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solon = Solon(monkeypatch, capsys)
    told = solon("compare", *walked, "--html", tmp_path / "page.html")
    assert told.out.endswith(f"page: {tmp_path / 'page.html'}\n")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").startswith("<!DOCTYPE html>")
    quiet = solon("compare", *walked, "--html", tmp_path / "page.html", "--format", "json")
    assert json.loads(quiet.out)
    assert "page: " in quiet.err
    nowhere = solon("compare", *walked, "--html", tmp_path / "no" / "page.html")
    assert (nowhere.code, nowhere.out) == (4, "")


def test_the_summary_prints_what_models_say_without_obeying_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    a = run_of(tmp_path / "a", [Made("\x1b[2J[red]wipe\u202e \ud800", 0.9)])
    b = run_of(tmp_path / "b", [Made("\x1b[2J[red]wipe\u202e \ud800", 0.1)])
    told = Solon(monkeypatch, capsys)("compare", a, b)
    assert told.code == 0
    assert "[red]wipe" in told.out
    assert not {"\x1b", "\u202e", "\ud800"} & set(told.out)


def test_the_summary_names_the_reasons_of_rows_set_aside_and_says_where_no_interval_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [Made("1", 0.9), Made("2", reason="tie"), Made("3", reason="judge_silent"), Made("4", reason="tie")]
    told = Solon(monkeypatch, capsys)("compare", run_of(tmp_path / "a", rows), run_of(tmp_path / "b", rows))
    assert told.out.count("3 set aside (") == 2
    assert "tie 2" in told.out and "judge_silent 1" in told.out
    assert f"no interval over at least {LEAST} rows moved" in told.out


def test_bad_input_is_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    solon = Solon(monkeypatch, capsys)
    a, b = run_of(tmp_path / "a", [Made("1", 0.9)]), run_of(tmp_path / "b", [Made("2", 0.9)])
    told = solon("compare", a, b)
    assert (told.code, told.err.count("\n")) == (2, 1)
    assert "no prompt in common" in told.err
    told = solon("compare", a, tmp_path / "nowhere")
    assert (told.code, told.err.count("\n")) == (4, 1)
    empty = solon("compare", run_of(tmp_path / "c", [Made("1")]), a)
    assert (empty.code, empty.err) == (0, "")
    assert "no row is finished in both runs yet" in empty.out
