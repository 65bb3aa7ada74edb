"""Constitutions: the three forms, the words they give, and what their digests cover."""

from __future__ import annotations

from typing import Any

import pytest
from constitution_kit import FLAT_2022, RANKED_2026, TRAITS, constitution, principle

from solon import constitution as package
from solon.constitution import ROLES, Case, Exemplar, Turn, parse
from solon.errors import BadInput

# ---- words ---------------------------------------------------------------------------------------------------------


def test_a_wording_that_is_given_is_given_back_unchanged() -> None:
    flat = parse(FLAT_2022)
    first = flat.principle("no-harm")
    assert flat.wording(first, "critique") == "Discuss whether the response is harmful."
    assert flat.wording(first, "revision") == "Rewrite the response without harm."
    assert flat.wording(first, "preference") == "Which of these responses is less harmful?"


def test_a_wording_that_is_missing_is_made_from_the_text() -> None:
    mixed = principle(text="Be kind", revision="Make it kind.")
    assert mixed.own("critique") == (
        "Consider this principle: Be kind. Discuss whether the assistant's last response follows it, and point to the "
        "words that do or do not."
    )
    assert mixed.own("revision") == "Make it kind."
    assert mixed.own("preference") == (
        "Consider this principle: Be kind. Which of these assistant responses follows it better? Choose the response "
        "that does."
    )
    assert principle().own("revision") == (
        "Consider this principle: Be kind. Rewrite the assistant's last response so that it follows the principle and "
        "answers the human as well as it can; leave as it is what already does."
    )


@pytest.mark.parametrize(
    ("text", "said"), [("Why not?", "Why not? "), ("Be kind", "Be kind. "), ("{text}", "{text}. ")]
)
def test_a_text_ends_as_a_sentence_before_the_next_one(text: str, said: str) -> None:
    wording = principle(text=text).own("critique")
    assert wording and wording.startswith(f"Consider this principle: {said}Discuss")


def test_without_text_a_role_without_wording_has_none() -> None:
    silent = principle(text=None, critique="Discuss it.")
    assert [silent.own(role) for role in ROLES] == ["Discuss it.", None, None]
    with pytest.raises(BadInput, match=r"principle 'p' has no words for revision; give it `revision: \.\.\.`"):
        constitution(silent).wording(silent, "revision")


def test_a_trait_speaks_in_the_first_person() -> None:
    jokes, mean = parse(TRAITS).principles
    assert jokes.own("critique") == (
        'An assistant says this of itself: "I love a well-timed joke." Discuss whether the assistant\'s last response '
        "sounds like one of whom that is true, and point to the words that do or do not."
    )
    assert all('"I never joke at somebody\'s expense."' in str(mean.own(role)) for role in ROLES)
    assert "without speaking of the trait" in str(jokes.own("revision"))


def test_no_derived_critique_presupposes_that_something_is_wrong() -> None:
    for kind in ("principle", "priority", "trait"):
        wording = str(principle(kind=kind).own("critique")).lower()
        assert "whether" in wording
        assert "do or do not" in wording
        assert not any(guilty in wording for guilty in ("harm", "identify", "violat", "fails", "wrong"))


def test_text_of_several_lines_counts_as_one() -> None:
    assert parse(RANKED_2026).principle("honest").text == "Say what is so, whoever asks."


def test_an_unknown_role_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown role 'critic'; choose from critique, revision, preference"):
        principle().own("critic")  # type: ignore[arg-type]


# ---- the form of 2026 ----------------------------------------------------------------------------------------------


def test_preamble_and_hard_constraints_stand_in_every_wording() -> None:
    ranked = parse(RANKED_2026)
    helpful = ranked.principle("helpful")
    preamble = "The assistant serves people.\n\nIt weighs what follows, in this order.\n\n"
    assert ranked.wording(helpful, "critique") == (
        f"{preamble}{helpful.own('critique')}\n\nWhatever else holds, these always do:\n"
        "- No deceiving of those who oversee it.\n"
        "- No help towards weapons of mass harm."
    )


def test_a_hard_constraint_may_have_words_of_its_own_for_a_role() -> None:
    ranked = parse(RANKED_2026)
    wording = ranked.wording(ranked.principle("helpful"), "preference")
    assert wording.endswith(
        "- No deceiving of those who oversee it.\n- A response that helps towards weapons of mass harm loses."
    )


def test_rank_is_the_order_of_the_prose() -> None:
    ranked = parse(RANKED_2026)
    assert [each.id for each in ranked.in_order()] == ["oversight", "no-weapons", "honest", "helpful", "unranked"]
    assert ranked.principles[0].id == "helpful"


def test_a_hard_constraint_is_never_drawable() -> None:
    assert [each.id for each in parse(RANKED_2026).drawable(ROLES)] == ["helpful", "honest", "unranked"]


# ---- what can be drawn ---------------------------------------------------------------------------------------------


def test_a_principle_is_drawable_where_it_has_all_words_and_fits_the_prompt() -> None:
    held = constitution(
        principle(id="text"),
        principle(id="judge-only", text=None, preference="Which is better?"),
        principle(id="weightless", weight=0),
        principle(id="tagged", applies_to=["code", "maths"]),
    )

    def ids(*roles: Any, tags: tuple[str, ...] = ()) -> list[str]:
        return [each.id for each in held.drawable(roles, tags)]

    assert ids("preference") == ["text", "judge-only"]
    assert ids("critique", "revision") == ["text"]
    assert ids("critique", tags=("maths", "school")) == ["text", "tagged"]
    assert ids("critique", tags=("school",)) == ["text"]


def test_examples_are_pooled_in_the_order_of_the_file() -> None:
    one, two = (Exemplar(prompt=p, response="r", critique="c", revision="v") for p in ("one", "two"))
    held = constitution(principle(id="b", exemplars=[two]), principle(id="n"), principle(id="a", exemplars=[one]))
    assert [(shown.id, each.prompt[0].content) for shown, each in held.exemplars()] == [("b", "two"), ("a", "one")]


def test_a_prompt_may_be_one_text_or_several_turns() -> None:
    asked = Case(prompt=" Hello ", better="Hi.", worse="No.")  # type: ignore[arg-type]
    assert asked.prompt == (Turn(role="user", content="Hello"),)
    turns = ({"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"})
    longer = Case.model_validate({"prompt": turns, "better": "x", "worse": "y"})
    assert [turn.content for turn in longer.prompt] == ["a", "b", "c"]


def test_a_principle_is_found_by_its_id() -> None:
    assert constitution().principle("p").text == "Be kind."
    with pytest.raises(KeyError, match="has no principle 'q'"):
        constitution().principle("q")


# ---- digests -------------------------------------------------------------------------------------------------------


def test_the_canonical_forms_are_pinned() -> None:
    """These names stand in rows and cards for good; whoever changes a form or a template renames them all."""
    flat = parse(FLAT_2022)
    assert flat.principle("no-harm").digest == "6c4178d58b255031"
    assert flat.principle("kind").digest == "265171def94e662f"
    assert flat.wording_digest(flat.principle("no-harm")) == "45ac474baa27210f"
    assert flat.digest == "2af56853b999372bb1444b472e6a425b881f77bfeb13f7b53d56e01a9c6d32ef"
    assert parse(RANKED_2026).digest == "91f9c0bc523915f8faa0eff05cc04866e86d31b4f91bf79940555eddfe807b58"
    assert parse(TRAITS).digest == "895e8368866ebc49843616b51311f4e226163b290feed0fa885a274303764d49"


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "Be kinder."},
        {"critique": "Discuss."},
        {"revision": "Rewrite."},
        {"preference": "Which?"},
        {"kind": "trait"},
        {"kind": "hard_constraint"},
    ],
)
def test_a_principles_digest_changes_with_the_words_it_puts_into_calls(changed: dict[str, Any]) -> None:
    assert principle(**changed).digest != principle().digest
    assert len(principle(**changed).digest) == 16


EXEMPLAR = {"prompt": "p", "response": "r", "critique": "c", "revision": "v"}


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "q"},
        {"weight": 3},
        {"tags": ["x"]},
        {"applies_to": ["x"]},
        {"rank": 1},
        {"kind": "priority"},
        {"rationale": "Because."},
        {"cases": [{"prompt": "p", "better": "b", "worse": "w"}]},
        {"exemplars": [EXEMPLAR]},
    ],
)
def test_a_principles_digest_does_not_change_with_anything_else(changed: dict[str, Any]) -> None:
    assert principle(**changed).digest == principle().digest


def test_a_text_behind_full_wordings_is_in_no_call_and_in_no_digest() -> None:
    worded = {"critique": "a", "revision": "b", "preference": "c"}
    assert principle(text="one", **worded).digest == principle(text="two", **worded).digest


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "Be kinder."},
        {"id": "q"},
        {"weight": 3},
        {"applies_to": ["x"]},
        {"rank": 1},
        {"kind": "priority"},
        {"exemplars": [EXEMPLAR]},
    ],
)
def test_the_constitutions_digest_changes_with_what_decides_draws_and_words(changed: dict[str, Any]) -> None:
    assert constitution(principle(**changed)).digest != constitution().digest


def test_the_constitutions_digest_covers_preamble_and_order() -> None:
    a, b = principle(id="a"), principle(id="b")
    assert constitution(preamble="Serve.").digest != constitution().digest
    assert constitution(a, b).digest != constitution(b, a).digest
    assert len(constitution().digest) == 64


@pytest.mark.parametrize("field", ["name", "version", "description", "licence", "source"])
def test_the_constitutions_digest_leaves_out_what_is_for_people(field: str) -> None:
    assert constitution(**{field: "other"}).digest == constitution().digest


@pytest.mark.parametrize(
    "changed",
    [
        {"tags": ["x"]},
        {"rationale": "Because."},
        {"cases": [{"prompt": "p", "better": "b", "worse": "w"}]},
        {"weight": 1.0},
    ],
)
def test_the_constitutions_digest_leaves_out_reasons_cases_and_tags(changed: dict[str, Any]) -> None:
    assert constitution(principle(**changed)).digest == constitution().digest


def test_what_a_row_records_changes_with_every_word_that_it_meets_and_with_no_other() -> None:
    met, other = principle(id="met"), principle(id="other")
    hard = principle(id="hard", kind="hard_constraint", text="Never lie.")
    before = constitution(met, other, hard)
    digest = before.wording_digest(met)
    assert constitution(met, principle(id="other", text="Reworded."), hard).wording_digest(met) == digest
    assert constitution(other, hard, met).wording_digest(met) == digest
    assert before.wording_digest(other) == digest  # the same words
    assert constitution(met, hard, preamble="Serve.").wording_digest(met) != digest
    assert constitution(met).wording_digest(met) != digest
    harder = principle(id="hard", kind="hard_constraint", text="Never, ever lie.")
    assert constitution(met, harder).wording_digest(met) != digest


def test_the_public_names_are_sorted_and_whole() -> None:
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(package, name) for name in package.__all__)
