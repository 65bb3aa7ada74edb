"""A constitution's difference speaks of principles by id: every one of both is counted once, whatever moved."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from constitution_kit import RANKED_2026, constitution, principle
from hypothesis import given, settings
from hypothesis import strategies as st

from solon.constitution import ROLES, Constitution, Principle, load, parse
from solon.constitution import diff as diffing
from solon.constitution.diff import DRAWS, KINDS, Change, Edit, diff, word_diff

FOUR = [principle(id=id, text=f"Be {id}.") for id in ("brief", "honest", "kind", "plain")]


def edit_of(old: list[Principle], new: list[Principle], id: str, **changed: Any) -> Edit:
    difference = diff(constitution(*old), constitution(*new, **changed))
    return next(edit for edit in difference.edits if edit.id == id)


def with_one(**changed: Any) -> list[Principle]:
    """Return FOUR with `honest` changed."""
    return [principle(**{**each.model_dump(exclude_defaults=True), **changed}) if each.id == "honest" else each
            for each in FOUR]  # fmt: skip


def rebuilt(pieces: list[diffing.Piece]) -> tuple[str, str]:
    return tuple("".join(text for op, text in pieces if op != left) for left in ("insert", "delete"))  # type: ignore[return-value]


WORDS = st.lists(
    st.sampled_from(["be", "kind", "do not", "harm.", "Ever", "你好", "it's", "\n", "a-b"]), max_size=8
).map(" ".join)
IDS = st.sampled_from(["a", "b", "c", "d", "e", "f"])
PRINCIPLES = st.builds(
    lambda id, text, own, **rest: principle(id=id, text=text.strip() or "Be.", critique=own.strip() or None, **rest),
    id=IDS,
    text=WORDS,
    own=WORDS,
    weight=st.sampled_from([0.0, 0.5, 1.0, 1e308]),
    kind=st.sampled_from(["principle", "trait", "hard_constraint", "priority"]),
    applies_to=st.sampled_from([(), ("x",), ("x", "y")]),
    rank=st.sampled_from([None, 1, 2]),
    tags=st.sampled_from([(), ("x",)]),
)
CONSTITUTIONS = st.builds(
    lambda principles, preamble: constitution(*principles, preamble=preamble),
    st.lists(PRINCIPLES, min_size=1, max_size=6, unique_by=lambda each: each.id),
    st.sampled_from([None, "Serve people."]),
)


@given(CONSTITUTIONS)
@settings(max_examples=50)
def test_a_constitution_does_not_differ_from_itself(one: Constitution) -> None:
    difference = diff(one, one.model_copy(deep=True))
    assert not difference
    assert (difference.summary, difference.touched) == ("no difference", ())
    assert not (difference.everywhere or difference.draws or difference.worked)


@given(CONSTITUTIONS, CONSTITUTIONS)
@settings(max_examples=100)
def test_every_principle_of_both_is_counted_once_and_no_change_goes_untold(
    old: Constitution, new: Constitution
) -> None:
    difference = diff(old, new)
    assert sorted(edit.old.id for edit in difference.edits if edit.old) == sorted(each.id for each in old.principles)
    assert [edit.new.id for edit in difference.edits if edit.new] == [each.id for each in new.principles]
    counted = sum(int(part.split()[0].replace(",", "")) for part in difference.summary.split(", ") if part[0].isdigit())
    assert counted == len(difference.edits) or not difference
    # the digest is over all that decides draws and words
    assert difference or old.digest == new.digest
    for edit in difference.edits:
        assert list(edit.kinds) == [kind for kind in KINDS if kind in edit.kinds]
        assert all(0 <= share <= 1 for pair in (edit.shares or {}).values() for share in pair)
        for role in ROLES:
            if edit.old is None or edit.new is None:
                continue
            same = old.wording(edit.old, role) == new.wording(edit.new, role)
            assert same or difference.everywhere or role in {change.name for change in edit.wordings}
    for roles in DRAWS.values():
        if not difference.draws and old.drawable(roles, ["x"]):
            drawn = [
                [each.draw(0, f"row {row}", "judge", roles=roles, tags=["x"]).id for row in range(5)]
                for each in (old, new)
            ]
            assert drawn[0] == drawn[1]


@given(st.text(max_size=60), st.text(max_size=60))
@settings(max_examples=400)
def test_the_pieces_of_a_word_diff_put_both_texts_together_again(old: str, new: str) -> None:
    pieces = word_diff(old, new)
    assert rebuilt(pieces) == (old, new)
    assert all(text for _, text in pieces)
    assert all(one[0] != other[0] for one, other in pairwise(pieces))


@given(WORDS, WORDS)
def test_a_word_diff_keeps_blanks_and_deletes_before_it_inserts(old: str, new: str) -> None:
    pieces = word_diff(old, new)
    assert rebuilt(pieces) == (old, new)
    assert ("insert", "delete") not in [(one[0], other[0]) for one, other in pairwise(pieces)]


def test_words_are_compared_not_letters() -> None:
    assert word_diff("Don't be unkind, ever.", "Don't be unjust, ever.") == [
        ("equal", "Don't be "), ("delete", "unkind"), ("insert", "unjust"), ("equal", ", ever."),
    ]  # fmt: skip


def test_scripts_without_blanks_are_compared_by_character() -> None:
    assert word_diff("请友善回答", "请简短回答") == [
        ("equal", "请"), ("delete", "友善"), ("insert", "简短"), ("equal", "回答"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("unit", "count", "ops"),
    [
        ("one word ", 1_000, ["equal", "delete", "insert"]),
        ("a line\n", 15_000, ["equal", "delete", "insert"]),
        ("a word ", 15_000, ["delete", "insert"]),
        ("a line\n", 30_000, ["delete", "insert"]),
    ],
    ids=["words", "lines", "one line", "whole"],
)
def test_texts_too_long_for_words_are_compared_by_line_and_at_last_whole(unit: str, count: int, ops: list[str]) -> None:
    old, new = unit * count + "old", unit * count + "new"
    pieces = word_diff(old, new)
    assert rebuilt(pieces) == (old, new)
    assert [op for op, _ in pieces] == ops


def test_an_edit_of_text_tells_which_words_it_feeds() -> None:
    """`honest` has a critique of its own: critics are told the same as before."""
    before = with_one(critique="Say what is untrue.")
    after = [each.model_copy(update={"text": "Be truthful."}) if each.id == "honest" else each for each in before]
    edit = edit_of(before, after, "honest")
    assert edit.kinds == ("reworded",)
    assert edit.written == (Change("text", "Be honest.", "Be truthful."),)
    assert edit.feeds == ("revision", "preference")
    assert [change.name for change in edit.wordings] == ["revision", "preference"]
    assert "Be truthful." in edit.wordings[0].new
    assert edit.shares is None


def test_a_text_that_feeds_nothing_changes_no_words() -> None:
    own = {role: f"Words for {role}." for role in ROLES}
    edit = edit_of(with_one(**own), with_one(**own, text="Be truthful."), "honest")
    assert (edit.kinds, edit.wordings, edit.feeds) == (("reworded",), (), ())


def test_a_full_stop_more_is_written_otherwise_and_told_the_same() -> None:
    edit = edit_of(with_one(text="Be honest"), FOUR, "honest")
    assert (edit.kinds, edit.wordings) == (("reworded",), ())


def test_words_taken_out_are_derived_from_text_again() -> None:
    edit = edit_of(with_one(critique="Say what is untrue."), FOUR, "honest")
    assert edit.written == (Change("critique", "Say what is untrue.", None),)
    assert [change.name for change in edit.wordings] == ["critique"]
    assert edit.feeds == ()


def test_a_trait_is_told_otherwise_with_the_same_text() -> None:
    edit = edit_of(FOUR, with_one(kind="trait"), "honest")
    assert edit.kinds == ("of another kind",)
    assert len(edit.wordings) == 3
    assert edit.feeds == ()


def test_a_new_weight_is_told_with_its_share_of_draws() -> None:
    edit = edit_of(FOUR, with_one(weight=2.0), "honest")
    assert edit.kinds == ("reweighted",)
    assert edit.settings == (Change("weight", 1.0, 2.0),)
    assert edit.shares == {"rounds": (0.25, 0.4), "judge": (0.25, 0.4)}


def test_a_share_counts_the_rivals_of_one_kind_of_draw() -> None:
    judge_only = [each.model_copy(update={"text": None, "preference": "Which?"}) for each in FOUR[2:]]
    edit = edit_of([*FOUR[:2], *judge_only], [*with_one(weight=3.0)[:2], *judge_only], "honest")
    assert edit.shares == {"rounds": (0.5, 0.75), "judge": (0.25, pytest.approx(0.5))}


def test_an_added_and_a_removed_principle_take_and_leave_their_share() -> None:
    assert edit_of(FOUR[:3], FOUR, "plain").shares == {"rounds": (0.0, 0.25), "judge": (0.0, 0.25)}
    removed = edit_of(FOUR, FOUR[:3], "plain")
    assert (removed.kinds, removed.new) == (("removed",), None)
    assert removed.shares == {"rounds": (0.25, 0.0), "judge": (0.25, 0.0)}


def test_another_scope_is_told_with_the_share_among_prompts_that_it_fits() -> None:
    edit = edit_of(FOUR, with_one(applies_to=("law",)), "honest")
    assert edit.kinds == ("with another scope",)
    assert edit.shares == {"rounds": (0.25, 0.25), "judge": (0.25, 0.25)}


def test_a_weight_of_nothing_has_no_share() -> None:
    assert edit_of(FOUR, with_one(weight=0), "honest").shares == {"rounds": (0.25, 0.0), "judge": (0.25, 0.0)}


def test_a_principle_put_in_front_moves_no_other() -> None:
    difference = diff(constitution(*FOUR[1:]), constitution(*FOUR))
    assert difference.summary == "1 principle added, 3 untouched"
    assert difference.touched == ("brief",)


def test_one_principle_moved_to_the_end_is_the_one_that_moved() -> None:
    difference = diff(constitution(*FOUR), constitution(*FOUR[1:], FOUR[0]))
    assert difference.summary == "1 principle moved, 3 untouched"
    assert difference.edits[-1].settings == (Change("place", 1, 4),)
    assert not difference.draws


def test_a_rank_moves_a_principle_too() -> None:
    edit = edit_of(FOUR, with_one(rank=1), "honest")
    assert (edit.kinds, edit.settings) == (("moved",), (Change("rank", None, 1),))


def test_notes_are_told_apart_from_what_calls_hold() -> None:
    difference = diff(constitution(*FOUR), constitution(*with_one(tags=("law",), rationale="Trust is slow.")))
    assert difference.summary == "1 principle with other notes, 3 untouched"
    assert not (difference.draws or difference.everywhere or difference.worked)


def test_a_principle_with_the_same_words_under_another_id_was_renamed() -> None:
    difference = diff(constitution(*FOUR), constitution(*FOUR[1:], principle(id="short", text="Be brief.")))
    edit = difference.edits[-1]
    assert (edit.old and edit.old.id, edit.id) == ("brief", "short")
    assert edit.kinds == ("renamed", "moved")
    assert difference.draws
    assert difference.summary == "1 principle renamed and moved, 3 untouched"


def test_nearly_the_same_words_are_a_renaming_and_a_rewording() -> None:
    old = principle(id="harm", text="Choose the response that does the least harm to anybody.")
    near = principle(id="least-harm", text="Choose the response that does the least harm to anyone.")
    far = principle(id="least-harm", text="Be brief, and say it once.")
    assert [edit.kinds for edit in diff(constitution(old), constitution(near)).edits] == [("renamed", "reworded")]
    assert [edit.kinds for edit in diff(constitution(old), constitution(far)).edits] == [("added",), ("removed",)]


def test_each_principle_is_renamed_once_to_its_nearest() -> None:
    old = [
        principle(id=f"old-{letter}", text=f"Say the same thing in the same words, number {letter}.") for letter in "ab"
    ]
    new = [
        principle(id=f"new-{letter}", text=f"Say the same thing in the same words, number {letter}.") for letter in "ba"
    ]
    edits = diff(constitution(*old), constitution(*new)).edits
    assert {(edit.old and edit.old.id, edit.id) for edit in edits} == {("old-a", "new-a"), ("old-b", "new-b")}


def test_beyond_what_can_be_compared_only_the_same_words_are_a_renaming(monkeypatch: pytest.MonkeyPatch) -> None:
    old, same = principle(id="one", text="Be kind to all."), principle(id="two", text="Be kind to all.")
    near = principle(id="two", text="Be kind to all!")
    monkeypatch.setattr(diffing, "MOST_NEAR", 0)
    assert diff(constitution(old), constitution(same)).edits[0].kinds == ("renamed",)
    assert diff(constitution(old), constitution(near)).edits[0].kinds == ("added",)
    monkeypatch.undo()
    assert diff(constitution(old), constitution(near)).edits[0].kinds == ("renamed", "reworded")
    monkeypatch.setattr(diffing, "LONGEST_NEAR", 5)
    assert diff(constitution(old), constitution(near)).edits[0].kinds == ("added",)


def test_preamble_and_hard_constraints_stand_in_every_wording() -> None:
    ranked = parse(RANKED_2026)
    reworded = parse(RANKED_2026.replace("It weighs", "It thinks over"))
    assert diff(ranked, reworded).everywhere
    assert diff(ranked, reworded).summary == "preamble reworded, 5 principles untouched"
    assert diff(ranked, parse(RANKED_2026.replace("oversee it", "watch it"))).everywhere
    assert diff(ranked, parse(RANKED_2026.replace("    rank: 1\n", ""))).everywhere, "their order stands there, too"
    assert not diff(ranked, parse(RANKED_2026.replace("Be brief", "Be short"))).everywhere


def test_a_name_is_a_fact_and_touches_no_principle() -> None:
    difference = diff(parse(RANKED_2026), parse(RANKED_2026.replace("name: Ranked", "name: Other")))
    assert difference.facts == (Change("name", "Ranked", "Other"),)
    assert difference.summary == "name reworded, 5 principles untouched"
    assert difference.touched == ()
    assert difference


def test_worked_examples_change_with_the_words_of_their_principle() -> None:
    shown = {"exemplars": [{"prompt": "Hi", "response": "Yo", "critique": "Curt.", "revision": "Hello."}]}
    assert diff(constitution(*FOUR), constitution(*with_one(**shown))).worked
    assert diff(constitution(*with_one(**shown)), constitution(*with_one(**shown, text="Be true."))).worked
    assert not diff(constitution(*with_one(**shown)), constitution(*with_one(**shown, weight=2.0))).worked
    assert edit_of(FOUR, with_one(**shown), "honest").kinds == ("with other exemplars",)


def test_summaries_join_what_became_of_one_principle() -> None:
    new = [*with_one(text="Be true.", weight=2.0)[1:], principle(id="new", text="Ask back where a wish is unclear.")]
    assert diff(constitution(*FOUR), constitution(*new)).summary == (
        "1 principle added, 1 removed, 1 reworded and reweighted, 2 untouched"
    )


def test_shipped_constitutions_differ_as_a_whole() -> None:
    difference = diff(load("cai-2022"), load("first-steps"))
    assert len(difference.edits) == len(load("cai-2022").principles) + len(load("first-steps").principles)
