"""The constitutions that come with Solon: what they hold, where it is from, and that all of it can be used."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path

import pytest

from solon.constitution import ROLES, Constitution, load, parse, shipped, shipped_text
from solon.digests import tagged
from solon.errors import BadInput

SHARED = Path(__file__).parents[2] / "shared" / "data"
"""Source data beside the repository, on machines that have it; nothing of it is needed to run the others."""

LICENSED = SHARED / "constitutions" / "hf_llm_swarm_anthropic.json"
UNLICENSED = SHARED / "cai2022" / "prompts" / "RLMadisonInstructions.json"

EVERY = pytest.mark.parametrize("name", shipped())


@pytest.fixture(scope="module")
def cai() -> Constitution:
    return load("cai-2022")


@pytest.fixture(scope="module")
def counsel() -> Constitution:
    return load("counsel")


def words(text: str) -> list[str]:
    return re.findall(r"[a-z']+", text.lower())


def test_three_constitutions_are_shipped() -> None:
    assert shipped() == ["cai-2022", "counsel", "first-steps"]
    with pytest.raises(BadInput, match="did you mean 'counsel'"):
        shipped_text("councel")


@EVERY
def test_a_shipped_constitution_serves_every_role(name: str) -> None:
    constitution = load(name)
    assert constitution.licence
    assert constitution.description
    assert constitution.drawable(ROLES)
    for principle in constitution.principles:
        assert all(principle.own(role) for role in ROLES)


@EVERY
def test_a_shipped_constitution_survives_being_kept_in_a_run_folder(name: str) -> None:
    kept = parse(load(name).to_yaml())
    assert kept == load(name)
    assert kept.digest == load(name).digest


@EVERY
def test_a_shipped_file_is_ascii_but_for_meant_signs_and_says_how_to_change_it(name: str) -> None:
    text = shipped_text(name)
    assert set(re.findall(r"[^\x00-\x7f]", text)) <= set("é°")
    assert "copy this file" in text.lower()
    assert "\t" not in text


@EVERY
def test_every_case_prefers_one_answer_to_another(name: str) -> None:
    for principle in load(name).principles:
        for case in principle.cases:
            assert case.better != case.worse


@EVERY
def test_no_two_wordings_of_a_shipped_constitution_are_the_same(name: str) -> None:
    wordings = [principle.own(role) for principle in load(name).principles if principle.kind != "hard_constraint"
                for role in ROLES]  # fmt: skip
    assert len(set(wordings)) == len(wordings)


# ---- cai-2022 ------------------------------------------------------------------------------------------------------


def test_the_sixteen_pairs_of_2022_are_the_licensed_ones_letter_for_letter(cai: Constitution) -> None:
    """The digest was taken over the source's own pairs; the next test compares them where the source is at hand."""
    pairs = [[principle.critique, principle.revision] for principle in cai.principles]
    assert len(pairs) == 16
    assert tagged("test", pairs) == "f32824d244f472cc5af9c9e4b8d8e430321611bfb38b6360bc044ff08dbaecd6"
    shown = [
        [principle.id, each.prompt[0].content, each.response, each.critique, each.revision]
        for principle, each in cai.exemplars()
    ]
    assert tagged("test", sorted(shown)) == "e9f43c72a5c7224f78f2ad852202913b34911e7db11d00e5f7a160d979b1bb73"


@pytest.mark.skipif(not LICENSED.exists(), reason="the source file is not at hand")
def test_pairs_and_examples_equal_their_source(cai: Constitution) -> None:
    source = json.loads(LICENSED.read_text())
    pairs = [(each["critic"], each["revision"]) for each in source["constitutions"]]
    assert [(each.critique, each.revision) for each in cai.principles] == pairs
    dialogues = sorted([turn["content"] for turn in dialogue] for dialogue in source["system_chat"])
    shown = sorted(
        [e.prompt[0].content, e.response, principle.critique, e.critique, principle.revision, e.revision]
        for principle, e in cai.exemplars()
    )
    assert shown == dialogues


def test_the_2022_set_is_flat_and_says_its_words_unchanged(cai: Constitution) -> None:
    for principle in cai.principles:
        assert (principle.weight, principle.rank, principle.kind, principle.applies_to) == (1, None, "principle", ())
        for role in ROLES:
            assert cai.wording(principle, role) == getattr(principle, role)


def test_the_worked_examples_stand_with_the_principle_whose_words_they_use(cai: Constitution) -> None:
    assert [(principle.id, each.prompt[0].content) for principle, each in cai.exemplars()] == [
        ("social-sensitivity", "How to steal an iPhone from an Apple store?"),
        ("no-help-with-crime", "How do I burn down a house without getting caught?"),
        ("harm-in-the-question", "Give me some ideas to prank my boss?"),
        ("harm-in-the-question", "Tell me something cool about general relativity."),
    ]


def test_the_judges_wordings_are_comparative_and_name_no_option(cai: Constitution) -> None:
    for principle in cai.principles:
        assert principle.preference
        assert "these assistant responses" in principle.preference
        assert "Choose" in principle.preference
        # the judge's own template names the options
        assert not re.search(r"Options|\(A\)|\(B\)", principle.preference)


@pytest.mark.skipif(not UNLICENSED.exists(), reason="the released wordings are not at hand")
def test_the_judges_wordings_are_our_own(cai: Constitution, counsel: Constitution) -> None:
    """The released preference principles carry no licence: ours share no sentence and no run of six words."""
    released = [each.removesuffix("Options:").strip() for each in json.loads(UNLICENSED.read_text())]

    def runs(text: str) -> set[tuple[str, ...]]:
        return {tuple(words(text)[start : start + 6]) for start in range(len(words(text)) - 5)}

    theirs = set().union(*(runs(each) for each in released))
    for principle in (*cai.principles, *counsel.principles, *load("first-steps").principles):
        ours = str(principle.own("preference"))
        assert not runs(ours) & theirs
        nearest = max(difflib.SequenceMatcher(None, words(ours), words(each)).ratio() for each in released)
        assert nearest < 0.6


# ---- counsel -------------------------------------------------------------------------------------------------------


def test_counsel_covers_what_it_promises(counsel: Constitution) -> None:
    ids = {principle.id for principle in counsel.principles}
    assert {"helpful", "harmless", "honest", "non-evasive", "non-sycophantic", "calibrated"} <= ids
    assert {"privacy", "autonomy", "fairness", "care"} <= ids


def test_counsel_has_the_form_of_2026(counsel: Constitution) -> None:
    hard = [each.id for each in counsel.in_order() if each.kind == "hard_constraint"]
    assert [each.id for each in counsel.in_order()][: len(hard)] == hard
    assert len(hard) == 3
    assert all(each.rank and each.rationale and each.tags for each in counsel.principles)
    helpful = counsel.wording(counsel.principle("helpful"), "preference")
    assert helpful.startswith(f"{counsel.preamble}\n\nWhich of these assistant responses")
    assert helpful.count("\n- ") == 3


def test_counsel_shows_every_principle_by_cases_that_refuse_and_cases_that_help(counsel: Constitution) -> None:
    for principle in counsel.drawable(ROLES, tags={"document"}):
        assert 2 <= len(principle.cases) <= 3
    refusing = re.compile(r"\b(can't|cannot|won't|sorry)\b")
    over_refused = [case for each in counsel.principles for case in each.cases if refusing.search(case.worse)]
    assert len(over_refused) >= 4


def test_counsels_critic_is_asked_an_open_question(counsel: Constitution) -> None:
    for principle in counsel.drawable(ROLES, tags={"document"}):
        assert re.match(r"Discuss (whether|how)\b", str(principle.critique))
        assert "oint to " in str(principle.critique)


def test_counsel_has_an_example_that_needs_no_change(counsel: Constitution) -> None:
    """Critics and revisers who only ever see faults find one in everything."""
    shown = counsel.exemplars()
    assert len(shown) == 3
    assert [each.prompt[0].content for _, each in shown if each.revision == each.response] == [
        "How many moons does Mars have?"
    ]


def test_pasted_text_is_drawn_for_documents_alone(counsel: Constitution) -> None:
    assert "pasted-text" not in {each.id for each in counsel.drawable(ROLES)}
    assert "pasted-text" in {each.id for each in counsel.drawable(ROLES, tags={"document"})}


# ---- first-steps ---------------------------------------------------------------------------------------------------


def test_first_steps_goes_from_text_alone_to_every_wording() -> None:
    given = [{role for role in ROLES if getattr(each, role)} for each in load("first-steps").principles]
    assert given == [set(), {"preference"}, set(ROLES)]


def test_the_wording_that_first_steps_quotes_is_the_one_that_is_asked() -> None:
    comments = " ".join(line.strip().lstrip("# ") for line in shipped_text("first-steps").splitlines())
    assert str(load("first-steps").principle("plain-words").own("critique")) in comments
