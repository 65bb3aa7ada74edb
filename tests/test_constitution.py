"""Constitutions: the three forms, the words they give, what their digests cover, and every mistake in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from solon import constitution as package
from solon.constitution import ROLES, Case, Constitution, Exemplar, Principle, Turn, load, parse
from solon.errors import BadInput

FLAT_2022 = """\
name: Flat
principles:
  - id: no-harm
    critique: Discuss whether the response is harmful.
    revision: Rewrite the response without harm.
    preference: Which of these responses is less harmful?
  - id: kind
    text: Be kind
    weight: 2
    applies_to: [tone, talk]
"""

RANKED_2026 = """\
name: Ranked
version: "2026.1"
preamble: |
  The assistant serves people.

  It weighs what follows, in this order.
principles:
  - id: helpful
    kind: priority
    rank: 3
    text: Be of real help.
    rationale: Not helping has a cost too.
  - id: no-weapons
    kind: hard_constraint
    rank: 2
    text: No help towards weapons of mass harm.
    preference: A response that helps towards weapons of mass harm loses.
  - id: honest
    kind: priority
    rank: 2
    text: >
      Say what is so,
      whoever asks.
    cases:
      - prompt: Is it raining?
        better: I cannot see the sky from here.
        worse: "Yes."
  - id: oversight
    kind: hard_constraint
    rank: 1
    text: No deceiving of those who oversee it.
  - id: unranked
    text: Be brief.
"""

TRAITS = """\
name: Humour
principles:
  - id: jokes
    kind: trait
    text: I love a well-timed joke
  - id: never-mean
    kind: trait
    text: I never joke at somebody's expense.
"""


def principle(**changed: Any) -> Principle:
    return Principle.model_validate({"id": "p", "text": "Be kind.", **changed})


def constitution(*principles: Principle, **changed: Any) -> Constitution:
    return Constitution.model_validate({"name": "test", "principles": principles or (principle(),), **changed})


def problems(text: str) -> list[str]:
    with pytest.raises(BadInput) as caught:
        parse(text, "c.yaml")
    return list(caught.value.problems)


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


# ---- files ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [FLAT_2022, RANKED_2026, TRAITS], ids=["flat 2022", "ranked 2026", "traits"])
def test_what_is_written_loads_back_equal_with_the_same_digest(text: str, tmp_path: Path) -> None:
    first = parse(text)
    (tmp_path / "kept.yaml").write_text(first.to_yaml(), encoding="utf-8")
    again = load("kept.yaml", tmp_path)
    assert again == first
    assert again.digest == first.digest


WORDS = st.text(min_size=1, max_size=40).filter(str.strip)


@settings(max_examples=60, deadline=None)
@given(WORDS, WORDS, st.floats(0, 1e6), st.lists(WORDS, max_size=2), st.none() | st.integers(1, 9))
def test_any_constitution_survives_being_written(
    text: str, critique: str, weight: float, tags: list[str], rank: int | None
) -> None:
    shown = {"prompt": critique, "response": text, "critique": critique, "revision": text}
    first = constitution(
        principle(text=text, critique=critique, weight=weight, tags=tags, rank=rank, exemplars=[shown]), name=text
    )
    assert parse(first.to_yaml()) == first


def test_texts_of_several_lines_are_written_as_blocks() -> None:
    assert "preamble: |-\n  One.\n\n  Two.\n" in constitution(preamble="One.\n\nTwo.\n").to_yaml()


def test_a_constitution_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        constitution().name = "other"  # type: ignore[misc]
    with pytest.raises(ValidationError):
        principle().weight = 2  # type: ignore[misc]


def test_a_path_is_looked_up_under_the_base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "mine.yaml").write_text(FLAT_2022)
    assert load("deep/mine.yaml", tmp_path).name == "Flat"
    assert load(tmp_path / "deep" / "mine.yaml", Path("/nowhere")).name == "Flat"
    monkeypatch.chdir(tmp_path / "deep")
    assert load("mine.yaml").name == "Flat"
    assert load(Path("mine.yaml")).name == "Flat"


def test_a_shipped_name_wins_over_a_file_of_that_name_unless_it_is_written_as_a_path(tmp_path: Path) -> None:
    (tmp_path / "cai-2022").write_text(FLAT_2022)
    assert len(load("cai-2022", tmp_path).principles) == 16
    assert load("./cai-2022", tmp_path).name == "Flat"
    assert load(Path("cai-2022"), tmp_path).name == "Flat"


def test_a_name_that_is_not_shipped_is_told_with_the_nearest_or_with_all(tmp_path: Path) -> None:
    with pytest.raises(BadInput) as caught:
        load("cai2022", tmp_path)
    assert str(caught.value) == (
        "no constitution 'cai2022' is shipped; did you mean 'cai-2022'? (or write the path of a YAML file)"
    )
    for strange in ("zzz", "z" * 5000, ""):
        with pytest.raises(BadInput):
            load(strange, tmp_path)
    with pytest.raises(BadInput, match="choose from: cai-2022, counsel, first-steps"):
        load("zzz", tmp_path)


def test_a_file_that_is_missing_or_broken_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"mine\.yaml: no such file"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_text("")
    with pytest.raises(BadInput, match=r"mine\.yaml:1: the file is empty"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_bytes(b"name: \xff\n")
    with pytest.raises(BadInput, match=r"mine\.yaml:1: byte 0xff is not UTF-8"):
        load("mine.yaml", tmp_path)
    (tmp_path / "mine.yaml").write_bytes(b"name: " + b"x" * 10_000_000)
    with pytest.raises(BadInput, match=r"mine\.yaml: larger than 10 MB"):
        load("mine.yaml", tmp_path)


def test_every_mistake_of_a_constitution_is_told_at_once() -> None:
    text = """\
nmae: Wrong
principles:
  - id: No Harm!
    text: Do no harm.
  - id: kind
    critque: Was it kind?
    wieght: 2
  - id: kind
    text: Again.
    weight: -1
  - id: ""
    text: x
    kind: hard
  - id: silent
    weight: .nan
  - id: wall
    kind: hard_constraint
    critique: Never.
  - id: mute
  - text: anonymous
    rank: 0
    tags: one
  - id: shown
    text: x
    exemplars:
      - prompt: Hello?
        respons: Hi.
        critique: c
        revision: v
    cases:
      - prompt: []
        better: b
        worse: ""
      - prompt: 3
        better: b
        worse: w
      - prompt:
          - {role: user, content: a}
          - {role: asistant, content: b}
        better: b
        worse: w
      - prompt:
          - {role: user, content: a}
          - {role: assistant, content: b}
        better: b
        worse: w
  - just a text
"""
    assert problems(text) == [
        "c.yaml:1: unknown key 'nmae'; did you mean 'name'?",
        "c.yaml:3: 'id' in principle 'No Harm!': 'No Harm!' is no id; use small letters and digits, joined by '-', "
        "'_' or '.', for example 'no-harm'",
        "c.yaml:6: unknown key 'critque' in principle 'kind'; did you mean 'critique'?",
        "c.yaml:7: unknown key 'wieght' in principle 'kind'; did you mean 'weight'?",
        "c.yaml:8: id 'kind' is already taken on line 5; give every principle an id of its own",
        "c.yaml:10: 'weight' in principle 'kind' must be at least 0, found the number -1",
        "c.yaml:11: 'id' in item 4 of 'principles' must not be empty",
        "c.yaml:13: 'kind' in item 4 of 'principles': expected one of principle, priority, hard_constraint, trait, "
        "found the text 'hard'",
        "c.yaml:15: 'weight' in principle 'silent' must be a finite number, found the number .nan",
        "c.yaml:16: principle 'wall': a hard constraint needs `text`: it stands in every wording; add `text: ...`",
        "c.yaml:19: principle 'mute': says nothing; add `text: ...`, or at least one of critique, revision, preference",
        "c.yaml:20: 'id' is missing in item 8 of 'principles'; add `id: ...`",
        "c.yaml:21: 'rank' in item 8 of 'principles' must be at least 1, found the number 0",
        "c.yaml:22: 'tags' in item 8 of 'principles': expected a list, found the text 'one'; write it as a list: [one]",
        "c.yaml:27: unknown key 'respons' in item 1 of 'exemplars' in principle 'shown'; did you mean 'response'?",
        "c.yaml:31: 'prompt' in item 1 of 'cases' in principle 'shown' must not be empty",
        "c.yaml:33: 'worse' in item 1 of 'cases' in principle 'shown' must not be empty",
        "c.yaml:34: 'prompt' in item 2 of 'cases' in principle 'shown': expected a text, or a list of turns with role "
        "and content, found the number 3",
        "c.yaml:39: 'role' in item 2 of 'prompt' in item 3 of 'cases' in principle 'shown': expected one of system, "
        "user, assistant, found the text 'asistant'; did you mean 'assistant'?",
        "c.yaml:42: 'prompt' in item 4 of 'cases' in principle 'shown': the last turn is the assistant's; it must be "
        "the user's, who is then answered",
        "c.yaml:47: item 10 of 'principles': expected a mapping (`key: value` lines), found the text 'just a text'",
    ]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\n", "c.yaml:1: 'principles' is missing; add `principles: ...`"),
        ("name: x\nprinciples: []\n", "c.yaml:2: 'principles' must not be empty"),
        ("name: x\nprinciples:\n", "c.yaml:2: 'principles': expected a list, found nothing"),
        ("name: x\nprinciples: {a: b}\n", "c.yaml:2: 'principles': expected a list, found a mapping"),
        ("name: x\nversion: 1.10\nprinciples: [{id: a, text: b}]\n",
         "c.yaml:2: 'version': expected a text, found the number 1.10; put it in quotes: \"1.10\""),
        ("name: x\nprinciples: [{id: a, text: b, weight: true}]\n",
         "c.yaml:2: 'weight' in principle 'a': expected a number, found true"),
        ("name: x\nprinciples: [{id: a, text: b, weight: '2'}]\n",
         "c.yaml:2: 'weight' in principle 'a': expected a number, found the text '2'"),
        ("name: x\nprinciples: [{id: a, text: b, weight: .inf}]\n",
         "c.yaml:2: 'weight' in principle 'a' must be a finite number, found the number .inf"),
        ("name: x\nprinciples: [{id: a, text: ' '}]\n", "c.yaml:2: 'text' in principle 'a' must not be empty"),
        ("name: x\nprinciples: [{id: a, text: b, tags: [' ']}]\n",
         "c.yaml:2: item 1 of 'tags' in principle 'a' must not be empty"),
        ("name: x\nprinciples: [{id: 7, text: b}]\n",
         "c.yaml:2: 'id' in item 1 of 'principles': expected a text, found the number 7; put it in quotes: \"7\""),
        ("name: x\nprinciples:\n  - id: a\n    text: b\n  - id: ' a '\n    text: c\n",
         "c.yaml:5: id 'a' is already taken on line 3; give every principle an id of its own"),
        ("name: x\nprinciples: [{id: a, text: b}\n",
         "c.yaml:2: the '[' that opens here is not closed; close it by ']', with ',' between its items"),
    ],
)  # fmt: skip
def test_a_mistake_is_told_with_its_line_and_remedy(text: str, told: str) -> None:
    assert problems(text) == [told]


def test_two_principles_of_one_id_are_refused_in_python_too() -> None:
    with pytest.raises(ValidationError, match="Ids are given twice: p"):
        constitution(principle(), principle())


def test_the_public_names_are_sorted_and_whole() -> None:
    assert package.__all__ == sorted(package.__all__, key=lambda name: (not name.isupper(), name))
    assert all(hasattr(package, name) for name in package.__all__)
