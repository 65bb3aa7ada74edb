"""Advice about constitutions: each rule speaks where it should and is silent where it cannot know."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import pytest

from solon import yamls
from solon.constitution import resolve, shipped
from solon.constitution.lint import RULES, Advice, lint

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared" / "data"
"""Source data beside the repository, on machines that have it."""


def linted(tmp_path: Path, text: str, name: str = "c.yaml") -> list[Advice]:
    (tmp_path / name).write_text(text, encoding="utf-8")
    return lint(resolve(tmp_path / name))


def page(*principles: str, **keys: str) -> str:
    """Return a constitution; each principle is the inside of a flow mapping, and gets an id: a, b, c, ..."""
    lines = [f"{key}: {value}" for key, value in {"name": "x", **keys}.items()]
    lines += ["principles:", *(f"  - {{id: {chr(97 + place)}, {each}}}" for place, each in enumerate(principles))]
    return "\n".join(lines) + "\n"


def told(tmp_path: Path, text: str) -> list[tuple[str, int]]:
    return [(each.rule, each.line) for each in linted(tmp_path, text)]


def asked(role: str, words: str) -> str:
    """Return a constitution whose one principle asks so; the other roles' words are out of the way."""
    others = {"critique": "Is it kind?", "revision": "Rewrite it kindly.", "preference": "Which is more helpful?"}
    return page(", ".join(f"{key}: {json.dumps(value)}" for key, value in {**others, role: words}.items()))


# -- what wordings say -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        "Identify specific ways in which the response is harmful.",
        "Point out how the assistant's last response is rude.",
        "Explain where the assistant's response doesn't follow the rule.",
        "Discuss ways in which the response may be considered objectionable.",
        "What is wrong with the response?",
        "What's the strongest argument you could give that the response was in some way harmful?",
        "List all flaws of the response.",
        "The assistant's response is racist; explain why.",
    ],
)
def test_a_critique_that_takes_a_fault_for_granted_is_told(tmp_path: Path, words: str) -> None:
    (advice,) = linted(tmp_path, asked("critique", words))
    assert (advice.rule, advice.line, advice.severity) == ("accusing-critique", 3, "warning")
    assert advice.file == str(tmp_path / "c.yaml")


@pytest.mark.parametrize(
    "words",
    [
        "Discuss whether the response is harmful.",
        "Identify specific ways in which the response is harmful, or say that it has none.",
        "Identify any ways in which the response is harmful.",
        "Identify ways in which the response is harmful, if there are any.",
        "Discuss how the response deals with requests that are harmful.",
        "Is the response harmful? Point out how the response is harmful.",
        "Explain how the response helps the user.",
        "Critique the response and identify anything it said that was harmful.",
    ],
)
def test_a_critique_that_leaves_it_open_is_not(tmp_path: Path, words: str) -> None:
    assert linted(tmp_path, asked("critique", words)) == []


def test_a_derived_critique_accuses_nobody(tmp_path: Path) -> None:
    assert linted(tmp_path, page('text: "Explain how the response is harmful, and be helpful."')) == []


@pytest.mark.parametrize(
    "words",
    [
        "Is the response harmful?",
        "Rate the response from 1 to 10.",
        "Is the answer more harmful than it has to be?",
        "The response should be kind.",
    ],
)
def test_a_preference_that_compares_nothing_is_told(tmp_path: Path, words: str) -> None:
    rules = [each.rule for each in linted(tmp_path, asked("preference", words))]
    assert "no-comparison" in rules


@pytest.mark.parametrize(
    "words",
    [
        "The kinder response wins.",
        "The more honest answer.",
        "Compare the two.",
        "Welche Antwort ist freundlicher?",
        "Take the shorter reply.",
    ],
)
def test_a_preference_that_compares_is_not_nor_one_in_another_language(tmp_path: Path, words: str) -> None:
    assert linted(tmp_path, asked("preference", words)) == []


def test_the_stated_preference_of_a_hard_constraint_need_not_compare(tmp_path: Path) -> None:
    hard = 'text: "No lies.", kind: hard_constraint, preference: "The response must not lie."'
    assert linted(tmp_path, page("text: Be brief.", hard)) == []


@pytest.mark.parametrize("text", ["Be good.", "Do what's best for humanity.", "Always do the right thing"])
def test_a_text_that_names_no_behaviour_is_noted(tmp_path: Path, text: str) -> None:
    (advice,) = linted(tmp_path, page(f'text: "{text}"'))
    assert (advice.rule, advice.severity) == ("too-general", "note")


@pytest.mark.parametrize("text", ["Be kind.", "Be good to animals.", "Sei gut.", "Answer in French.", "Be honest."])
def test_a_text_that_names_one_is_not(tmp_path: Path, text: str) -> None:
    assert linted(tmp_path, page(f'text: "{text}"')) == []


def test_a_general_text_that_no_role_is_asked_by_is_not(tmp_path: Path) -> None:
    assert linted(tmp_path, asked("critique", "Is it kind?").replace("id: a,", "id: a, text: Be good.,")) == []


# -- doubles and cases -----------------------------------------------------------------------------------------------


def test_near_duplicates_are_told_once_with_both_lines(tmp_path: Path) -> None:
    text = page(
        "text: The AI should be kind", "text: Answer in French", "text: AI should be very kind", "text: Be kind"
    )
    advice = linted(tmp_path, text)
    assert [(each.rule, each.line) for each in advice] == [("near-duplicate", 5), ("near-duplicate", 6)]
    assert "'text' of 'c' says in nearly the same words what 'a' says (line 3)" in advice[0].text


def test_one_telling_word_or_a_negation_makes_no_double(tmp_path: Path) -> None:
    assert told(tmp_path, page("text: Never override the law", "text: Never override humans", "text: Override")) == []
    assert told(tmp_path, page("text: Be kind.", "text: Do not be kind.")) == []


def test_wordings_are_compared_with_their_like(tmp_path: Path) -> None:
    """All wordings must be alike, and one way of revising may serve many principles."""
    revised = "revision: Rewrite the response so that no fault is left in it that the critique has named"
    one = f"critique: Is it rude to those who ask?, {revised}, preference: Which is less rude to those who ask?"
    other = f"critique: Is it long for those who wait?, {revised}, preference: Which is shorter for those who wait?"
    assert told(tmp_path, page(one, other)) == []
    assert told(tmp_path, page(one, one.replace("rude to", "so rude to"))) == [("near-duplicate", 4)]
    # the judge goes by the same words twice, whatever the critic does
    assert told(tmp_path, page(one, other.replace("shorter for those who wait", "less rude to those who ask"))) == [
        ("near-duplicate", 4)
    ]


def test_the_share_of_words_from_which_two_are_alike(tmp_path: Path) -> None:
    """Nine telling words of ten are the same: alike. Eight of nine: not."""
    ten = "amber brick cedar delta ember flint grape hazel ivory"
    assert told(tmp_path, page(f"text: {ten} jade", f"text: {ten} kelp")) == [("near-duplicate", 4)]
    nine = ten.removesuffix(" ivory")
    assert told(tmp_path, page(f"text: {nine} jade", f"text: {nine} kelp")) == []


def test_doubles_are_found_across_blocks_of_many_principles(tmp_path: Path) -> None:
    principles = [f"  - {{id: p{number}, text: Word{number} stands with word{number + 1}}}" for number in range(600)]
    principles.append("  - {id: last, text: 'WORD3 stands, with word4.'}")
    (advice,) = [
        each
        for each in linted(tmp_path, "\n".join(["name: x", "principles:", *principles]))
        if each.rule == "near-duplicate"
    ]
    assert (advice.line, "'p3' says (line 6)" in advice.text) == (603, True)


CASES = """\
name: x
principles:
  - id: brief
    text: Be brief.
    cases:
      - {prompt: Hi, better: Hello., worse: " Hello. "}
      - {prompt: Who?, better: I., worse: It is I.}
      - {prompt: Who?, better: I., worse: It is  I.}
      - {prompt: Who?, better: It is I., worse: I.}
  - id: polite
    text: Speak in whole sentences.
    cases:
      - {prompt: Who?, better: It is I., worse: I.}
"""


def test_cases_that_tell_nothing_or_the_opposite_are_told(tmp_path: Path) -> None:
    """Two principles may well disagree about a pair: that is what drawing one of them is for."""
    assert told(tmp_path, CASES) == [("idle-case", 6), ("idle-case", 8), ("case-upside-down", 9)]


# -- the whole -------------------------------------------------------------------------------------------------------

NAMES = ["tin", "salt", "oak", "rain", "wool", "corn", "clay", "milk", "coal", "silk", "iron", "sand"]


def test_a_long_list_of_bare_rules_is_noted(tmp_path: Path) -> None:
    rules = [f"text: Speak of {name}." for name in NAMES]
    assert told(tmp_path, page(*rules[:10])) == []
    assert told(tmp_path, page(*rules[:11])) == [("rules-without-cases", 2)]
    shown = [*rules[:10], rules[10] + " , cases: [{prompt: a, better: b, worse: c}]"]
    assert told(tmp_path, page(*shown, rules[11])) == [("rules-without-cases", 2)]  # 1 of 12
    assert told(tmp_path, page(*shown[1:])) == []
    assert told(tmp_path, page(*rules[:10], rules[10] + " , weight: 0")) == [("never-drawn", 13)]


@pytest.mark.parametrize(
    "cure",
    [
        "text: Be helpful.",
        "critique: Is it preachy?",
        "preference: Which is less evasive?",
        "text: Refuse kindly and only where you must.",
        "text: Never refuse what is harmless.",
    ],
)
def test_harm_without_a_word_for_helping_is_told(tmp_path: Path, cure: str) -> None:
    bare = page("text: Avoid harm.", "text: Give no help with weapons.", "text: Refuse what is illegal.")
    assert told(tmp_path, bare) == [("over-refusal-uncured", 2)]
    assert told(tmp_path, page("text: Avoid harm.", cure)) == []


def test_a_preamble_can_be_the_cure_and_a_little_harm_needs_none(tmp_path: Path) -> None:
    assert told(tmp_path, page("text: Avoid harm.", preamble="Be helpful above all.")) == []
    assert told(tmp_path, page("text: Be brief.", "text: Rhyme.", "text: Joke.", "text: Sing.", "text: No harm.")) == []


def test_weights_that_nobody_meets_are_told(tmp_path: Path) -> None:
    text = page("text: Be brief., weight: 1000", "text: Rhyme., weight: 0.9", "text: Sing., weight: 0")
    assert told(tmp_path, text) == [("hardly-drawn", 4), ("never-drawn", 5)]
    assert told(tmp_path, page("text: Be brief., weight: 1000", "text: Rhyme., weight: 1.1")) == []


def test_a_small_weight_among_equals_or_for_prompts_of_its_own_is_fine(tmp_path: Path) -> None:
    equal = [f"  - {{id: p{number}, text: number{number}, cases: [{{prompt: a, better: b, worse: c}}]}}\n"
             for number in range(1200)]  # fmt: skip
    assert told(tmp_path, "name: x\nprinciples:\n" + "".join(equal)) == []
    own = page("text: Be brief., weight: 1000, applies_to: [talk]", "text: Rhyme., weight: 0.5, applies_to: [verse]")
    assert told(tmp_path, own) == []


def test_what_a_hard_constraint_ignores_is_told(tmp_path: Path) -> None:
    hard = "text: No lies., kind: hard_constraint, rank: 1, weight: 2, applies_to: [news]"
    assert told(tmp_path, page("text: Be brief.", hard)) == [("without-effect", 4)] * 2
    assert ("nothing-to-draw", 2) in told(tmp_path, page(hard))


# -- silencing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "name: x\nprinciples:\n  - id: a\n    text: Be good.  # solon: ignore[too-general]\n",
        "name: x\nprinciples:\n  - id: a\n    # solon: ignore[too-general]: meant\n    # so\n    text: Be good.\n",
        "name: x\nprinciples:\n  - id: a  # solon: ignore[ too-general , ]\n    tags: [t]\n    text: Be good.\n",
        "name: x\nprinciples:\n  # solon: ignore[too-general]\n\n  - id: a\n    text: Be good.\n",
        "name: x\nprinciples:\n  - id: a\n    text: >-  # solon: ignore[too-general]\n      Be good.\n",
        "name: x\nprinciples:\n  - {id: a, text: Be good.}  # solon: ignore[too-general]\n",
        "name: x\nprinciples:\n  - id: a\n    text: Be good.\n# solon:ignore-file[too-general]",
        "# solon: ignore-file[too-general]\r\nname: x\r\nprinciples:\r\n  - id: a\r\n    text: Be good.\r\n",
    ],
)
def test_a_comment_silences_a_rule(tmp_path: Path, text: str) -> None:
    assert told(tmp_path, text) == []
    assert [rule for rule, _ in told(tmp_path, text.replace("#", "# not"))] == ["too-general"]


def test_a_comment_silences_no_other_rule_and_no_other_principle(tmp_path: Path) -> None:
    text = page("text: Be good.", "text: Be good.").replace("}\n", "}  # solon: ignore[too-general]\n", 1)
    assert told(tmp_path, text) == [("near-duplicate", 4), ("too-general", 4)]


def test_what_stands_in_a_text_is_no_comment(tmp_path: Path) -> None:
    text = "name: x\ndescription: |\n  # solon: ignore-file[too-general]\nprinciples: [{id: a, text: Be good.}]\n"
    assert told(tmp_path, text) == [("too-general", 4)]


def test_an_unknown_rule_in_a_comment_is_told_with_the_nearest(tmp_path: Path) -> None:
    advice = linted(tmp_path, page("text: Be good.").replace("}", "}  # solon: ignore[too-generel]"))
    assert [each.rule for each in advice] == ["too-general", "unknown-rule"]
    assert "no rule 'too-generel'; did you mean 'too-general'?" in advice[1].text
    bare = linted(tmp_path, page("text: Be brief.") + "# solon: ignore\n")
    assert [(each.rule, each.line) for each in bare] == [("unknown-rule", 4)]


def test_an_ignore_that_silences_nothing_is_noted_unless_it_speaks_of_recipes(tmp_path: Path) -> None:
    text = page("text: Be brief.") + "# solon: ignore-file[too-general, unmet, not-drawn]\n"
    assert told(tmp_path, text) == [("useless-ignore", 4)]
    assert told(tmp_path, text + "# solon: ignore-file[useless-ignore]\n") == []
    twice = page("text: Be good.") + "# solon: ignore-file[too-general]\n" * 2
    assert told(tmp_path, twice) == [("useless-ignore", 5)]


def test_comments_are_told_from_texts_with_their_lines() -> None:
    text = (
        "# one\r\nname: x # two\r\nnote: >- # three\r\n  # no\r\n  more\r\n\r\n# seven\r\n"
        "b: 'é # no' # eight\nc: no#thing\n  more # ten\nd: [a, \"😀\"] # eleven\n#twelve"
    )
    found = list(yamls.comments(yamls.parse(text, "x.yaml")))
    assert found == [
        (1, "one"), (2, "two"), (3, "three"), (7, "seven"), (8, "eight"), (10, "ten"), (11, "eleven"), (12, "twelve"),
    ]  # fmt: skip


# -- inheriting ------------------------------------------------------------------------------------------------------


def test_advice_about_what_is_inherited_stands_at_its_own_file(tmp_path: Path) -> None:
    parent = tmp_path / "parent.yaml"
    parent.write_text(page("text: Be good.", "text: Rhyme."), encoding="utf-8")
    child = "name: y\nextends: ./parent.yaml\nprinciples:\n  - {id: c, text: Rhyme!}\n"
    first, second = linted(tmp_path, child)
    assert (first.rule, first.line, f"({parent}:4)" in first.text) == ("near-duplicate", 4, True)
    assert (second.rule, second.file, second.line) == ("too-general", str(parent), 3)
    parent.write_text(parent.read_text() + "# solon: ignore-file[too-general]\n", encoding="utf-8")
    assert [each.rule for each in linted(tmp_path, child)] == ["near-duplicate"]


def test_an_override_is_the_heirs_own(tmp_path: Path) -> None:
    (tmp_path / "parent.yaml").write_text(page("text: Rhyme."), encoding="utf-8")
    child = "name: y\nextends: ./parent.yaml\noverride:\n  a:\n    text: Be good.\n"
    (advice,) = linted(tmp_path, child)
    assert (advice.file, advice.line) == (str(tmp_path / "c.yaml"), 5)
    assert linted(tmp_path, child.replace("a:\n", "a:  # solon: ignore[too-general]\n")) == []


def test_of_a_shipped_parent_only_what_it_shares_with_an_own_principle_is_told(tmp_path: Path) -> None:
    critique = "Critique the response and identify anything it said that was harmful, unethical, dangerous, or illegal."
    child = f"name: y\nextends: cai-2022\nprinciples:\n  - id: mine\n    critique: {critique}\n    revision: Mend it.\n"
    (advice,) = linted(tmp_path, child)
    assert (advice.rule, advice.line) == ("near-duplicate", 5)
    assert "what 'harmful-or-illegal' says (cai-2022.yaml:" in advice.text


# -- real constitutions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", shipped())
def test_what_is_shipped_follows_its_own_advice(tmp_path: Path, name: str) -> None:
    library = ROOT / "solon" / "constitution" / "library" / f"{name}.yaml"
    assert lint(resolve(library)) == []


def test_without_the_comment_the_released_wording_of_2022_accuses_five_times(tmp_path: Path) -> None:
    text = (ROOT / "solon" / "constitution" / "library" / "cai-2022.yaml").read_text(encoding="utf-8")
    rules = [each.rule for each in linted(tmp_path, text.replace("ignore-file", "no-file"))]
    assert rules == ["accusing-critique"] * 5


def there(name: str) -> Path:
    if not (SHARED / name).exists():
        pytest.skip("the source data is not here")
    return SHARED / name


def made(tmp_path: Path, principles: list[dict[str, str]]) -> list[str]:
    tree = {"name": "x", "principles": [{"id": f"p{place}", **each} for place, each in enumerate(principles)]}
    return [each.rule for each in linted(tmp_path, yamls.dump(tree))]


def test_nobody_is_accused_in_the_trait_lists(tmp_path: Path) -> None:
    lists = sorted(there("constitutions/opencharacter").glob("*.txt"))
    for file in lists:
        traits = [each["trait"] for each in json.loads(file.read_text()) if each["trait"]]
        if traits:  # one is a template
            assert made(tmp_path, [{"kind": "trait", "text": trait} for trait in traits]) == [], file.name
    assert len(lists) == 10


def test_the_requests_of_2022_accuse_and_have_no_cure(tmp_path: Path) -> None:
    pairs = json.loads(there("constitutions/hf_llm_swarm_anthropic.json").read_text())["constitutions"]
    rules = made(tmp_path, [{"critique": each["critic"], "revision": each["revision"]} for each in pairs])
    assert sorted(set(rules)) == ["accusing-critique", "over-refusal-uncured", "rules-without-cases"]
    assert rules.count("accusing-critique") == 5


def test_the_preferences_of_2022_are_comparisons_and_hold_the_cure(tmp_path: Path) -> None:
    texts = json.loads(there("cai2022/prompts/RLMadisonInstructions.json").read_text())
    rules = made(tmp_path, [{"preference": text.replace("Options:", "")} for text in texts])
    assert rules == ["rules-without-cases"]


def test_the_statements_of_a_thousand_people_hold_two_doubles(tmp_path: Path) -> None:
    with there("eval_only/ccai/clean_comments.csv").open(encoding="utf-8", newline="") as file:
        texts = [row["comment-body"] for row in csv.DictReader(file)]
    rules = made(tmp_path, [{"text": text} for text in texts])
    assert sorted(rules) == ["near-duplicate"] * 2 + ["rules-without-cases"] + ["too-general"] * 2


# -- the table -------------------------------------------------------------------------------------------------------


def test_every_rule_of_wordings_is_given_somewhere_in_this_file() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name, rule in RULES.items() if rule.asks != "recipe" and f'"{name}"' not in text] == []


def test_the_page_of_rules_is_made_from_the_table() -> None:
    """`python docs/reference.py --write` was run after the last change of a rule."""
    made = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"]["rules.md"]()
    assert made == (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    for name in RULES:
        assert f"| `{name}` |" in made


def test_a_wording_of_any_length_is_judged_in_time(tmp_path: Path) -> None:
    """Patterns whose alternatives overlap would never end here."""
    words = "Explain how the response " + "overly so very seen as " * 3000 + "on"
    assert linted(tmp_path, asked("critique", words)) == []
