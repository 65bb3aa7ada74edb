"""The dice: which principle a row meets, and what an edit of the constitution moves."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solon.constitution import Constitution, Principle, Role
from solon.constitution.draw import heaviest, score
from solon.digests import uniform
from solon.errors import BadInput

ROWS = [f"row {number}" for number in range(300)]
JUDGED: list[Role] = ["preference"]


def held(weights: dict[str, float], **changed: Any) -> Constitution:
    principles = [Principle(id=id, text=f"Be {id}.", weight=weight) for id, weight in weights.items()]
    return Constitution.model_validate({"name": "test", "principles": principles, **changed})


def met(constitution: Constitution, *, seed: int = 0, step: str = "judge", **options: Any) -> dict[str, str]:
    """Which principle each of ROWS meets."""
    return {row: constitution.draw(seed, row, step, roles=JUDGED, **options).id for row in ROWS}


def moved(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {row for row in before if before[row] != after[row]}


IDS = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
WEIGHTS = st.dictionaries(IDS, st.sampled_from([0.25, 1.0, 3.0]), min_size=2, max_size=5)


def test_the_draw_is_pinned() -> None:
    """A changed form of the dice would move every row of every plan ever made."""
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    drawn = [heaviest(weights.items(), seed=seed, row=row, step="revision.1") for seed in (0, 1) for row in "wxyz"]
    assert drawn == ["a", "a", "b", "b", "b", "b", "a", "b"]


def test_the_score_is_weight_over_the_negative_logarithm_of_one_uniform_number() -> None:
    u = uniform("solon.draw/1", 7, "row", "judge", "a")
    assert score(2.5, 7, "row", "judge", "a") == pytest.approx(-2.5 / math.log(u))


def test_the_heaviest_has_the_greatest_score() -> None:
    weights = {"a": 1.0, "b": 2.0, "c": 0.5}
    for row in "stuvwxyz":
        scores = {id: score(weight, 3, row, "judge", id) for id, weight in weights.items()}
        assert heaviest(weights.items(), seed=3, row=row, step="judge") == max(scores, key=scores.__getitem__)


def test_equal_scores_are_decided_by_id_and_not_by_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("solon.constitution.draw.uniforms", lambda *parts: lambda last: 0.5)
    assert heaviest([("a", 1), ("b", 1)], seed=0, row="r", step="s") == "b"
    assert heaviest([("b", 1), ("a", 1)], seed=0, row="r", step="s") == "b"


@pytest.mark.parametrize("weights", [{"a": 1, "b": 1, "c": 1, "d": 1}, {"a": 1, "b": 2, "c": 5}, {"a": 0.1, "b": 0.9}])
def test_every_principle_gets_its_share_by_weight(weights: dict[str, float]) -> None:
    n, total = 20_000, sum(weights.values())
    counts = Counter(heaviest(weights.items(), seed=3, row=f"r{row}", step="judge") for row in range(n))
    for id, weight in weights.items():
        share = weight / total
        # four standard deviations of a fair draw
        assert counts[id] / n == pytest.approx(share, abs=4 * math.sqrt(share * (1 - share) / n))


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.data())
def test_rewording_a_principle_moves_no_row(weights: dict[str, float], data: st.DataObject) -> None:
    before = held(weights)
    reworded = data.draw(st.sampled_from(sorted(weights)))
    after = before.model_copy(
        update={
            "preamble": "Something new.",
            "principles": tuple(
                each.model_copy(update={"text": "Anything else.", "tags": ("new",)}) if each.id == reworded else each
                for each in before.principles
            ),
        }
    )
    assert after.digest != before.digest
    assert met(after) == met(before)


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, IDS)
def test_adding_a_principle_moves_rows_to_it_alone(weights: dict[str, float], new: str) -> None:
    fewer = {id: weight for id, weight in weights.items() if id != new}
    before, after = met(held(fewer)), met(held({**fewer, new: 1.0}))
    assert {after[row] for row in moved(before, after)} <= {new}


def test_a_new_principle_takes_no_more_than_its_share() -> None:
    before, after = met(held({"a": 1, "b": 1, "c": 1})), met(held({"a": 1, "b": 1, "c": 1, "d": 1}))
    assert 0.15 < len(moved(before, after)) / len(ROWS) < 0.35


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.data())
def test_removing_a_principle_moves_its_own_rows_alone(weights: dict[str, float], data: st.DataObject) -> None:
    gone = data.draw(st.sampled_from(sorted(weights)))
    before = met(held(weights))
    after = met(held({id: weight for id, weight in weights.items() if id != gone}))
    assert moved(before, after) == {row for row, id in before.items() if id == gone}


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.data())
def test_more_weight_only_draws_rows_in(weights: dict[str, float], data: st.DataObject) -> None:
    heavier = data.draw(st.sampled_from(sorted(weights)))
    before, after = met(held(weights)), met(held({**weights, heavier: 2 * weights[heavier]}))
    assert {after[row] for row in moved(before, after)} <= {heavier}


@settings(max_examples=20, deadline=None)
@given(WEIGHTS, st.randoms(use_true_random=False))
def test_the_order_of_the_file_moves_no_row(weights: dict[str, float], shuffling: Any) -> None:
    ids = list(weights)
    shuffling.shuffle(ids)
    assert met(held({id: weights[id] for id in ids})) == met(held(weights))


def test_a_row_draws_alike_whatever_other_rows_there_are() -> None:
    constitution = held({"a": 1, "b": 1, "c": 1})
    alone = constitution.draw(0, ROWS[7], "judge", roles=JUDGED).id
    assert met(constitution)[ROWS[7]] == alone


def test_seeds_and_steps_are_dice_of_their_own() -> None:
    constitution = held({"a": 1, "b": 1, "c": 1})
    first = met(constitution)
    for other in (met(constitution, seed=1), met(constitution, step="revision.1")):
        # three equal principles: two thirds of the rows meet another one
        assert 0.55 < len(moved(first, other)) / len(ROWS) < 0.78


def test_a_row_does_not_meet_what_it_is_to_go_without() -> None:
    constitution = held({"a": 1, "b": 1, "c": 1})
    before, after = met(constitution), met(constitution, without={"a"})
    assert "a" not in after.values()
    assert moved(before, after) == {row for row, id in before.items() if id == "a"}


def test_a_principle_of_weight_zero_is_never_drawn() -> None:
    assert set(met(held({"a": 0, "b": 1e-9})).values()) == {"b"}


def test_a_hard_constraint_is_never_drawn_whatever_it_weighs() -> None:
    hard = Principle(id="hard", text="Never.", kind="hard_constraint", weight=1e6)
    constitution = Constitution(name="test", principles=(hard, Principle(id="a", text="Be kind.")))
    assert set(met(constitution).values()) == {"a"}


def test_a_principle_is_drawn_only_where_its_words_and_its_tags_fit() -> None:
    constitution = Constitution(
        name="test",
        principles=(
            Principle(id="critic-only", critique="Discuss.", weight=1e6),
            Principle(id="for-code", text="Be terse.", applies_to=("code",), weight=1e6),
            Principle(id="any", text="Be kind."),
        ),
    )
    assert set(met(constitution).values()) == {"any"}
    assert "for-code" in met(constitution, tags=("code",)).values()
    both = constitution.draw(0, "row", "revision.1", roles=["critique", "revision"])
    assert both.id == "any"


def test_where_nothing_can_be_drawn_one_line_says_for_what() -> None:
    critics = Constitution(name="Critics", principles=(Principle(id="a", critique="Discuss."),))
    remedy = "add one of weight above 0 that has `text` or these wordings, and whose `applies_to` is empty or fits"
    with pytest.raises(BadInput) as caught:
        critics.draw(0, "row", "judge", roles=["revision", "preference"])
    assert caught.value.problems == (
        "constitution 'Critics': no principle can be drawn for revision and preference and a prompt without tags; "
        + remedy,
    )
    with pytest.raises(BadInput, match="for critique and a prompt tagged code, maths, when a may not be met again;"):
        critics.draw(0, "row", "judge", roles=["critique"], tags=("maths", "code"), without={"a"})
