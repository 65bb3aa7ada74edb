"""`solon constitution test`: cases are judged in both orders, and a judge that goes by the place passes none."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as Xml

import pytest
from run_kit import Desk, Solon, desk
from story_kit import candidates, player

from solon.calls import Call, Can
from solon.constitution import parse
from solon.errors import Aside, BadInput, Halt
from solon.judges import Pairwise
from solon.review.cases import tally, try_cases

RULES = parse("""\
name: two rules
principles:
  - id: brief
    text: Be brief.
    cases:
      - {prompt: What is tin?, better: A metal., worse: Tin is one of the metals that people have used for ages.}
      - {prompt: What is two and two?, better: Four., worse: The sum of two and two comes to four.}
  - id: kind
    preference: Which response is kinder?
    cases:
      - {prompt: I failed., better: I am sorry; what would help?, worse: So.}
  - id: silent
    text: Say nothing twice.
  - id: never-rude
    kind: hard_constraint
    text: Never be rude.
    cases:
      - {prompt: Who are you?, better: An assistant., worse: Who wants to know?}
""")


def shorter(call: Call) -> object:
    """Prefer the shorter text, whichever principle is asked about."""
    a, b = candidates(call)
    if call.labels:
        p = 0.9 if len(a) < len(b) else 0.1
        return {"A": p, "B": 1 - p}
    return f"Answer: {'A' if len(a) < len(b) else 'B'}"


async def outcomes(answer: object, **given: object) -> dict[tuple[str, int, str], str]:
    can = Can(logprobs=True) if given.pop("logprobs", True) else Can(False, False)
    tried = await try_cases(RULES, player(answer, role="judge", can=can), Pairwise(), **given)  # type: ignore[arg-type]
    return {(each.principle, each.number, each.scope): each.outcome for each in tried}


async def test_a_case_passes_where_both_orders_prefer_the_better_answer() -> None:
    got = await outcomes(shorter)
    assert got["brief", 1, "own"] == got["brief", 2, "own"] == got["brief", 1, "whole"] == "pass"
    assert got["kind", 1, "own"] == got["kind", 1, "whole"] == "fail"
    assert got["never-rude", 1, "own"] == "pass"
    assert len(got) == 8


async def test_a_judge_that_goes_by_the_place_is_unsure_of_everything() -> None:
    """P is 0.9 for whatever stands first, so that the orders disagree; so it is where words are parsed."""
    assert set((await outcomes(lambda call: {"A": 0.95, "B": 0.05})).values()) == {"unsure"}
    assert set((await outcomes("Answer: A", logprobs=False)).values()) == {"unsure"}


async def test_orders_that_disagree_are_unsure_though_their_mean_is_not() -> None:
    def lopsided(call: Call) -> object:
        a, b = candidates(call)
        p = 0.99 if len(a) < len(b) else 0.6
        return {"A": p, "B": 1 - p}

    tried = await try_cases(RULES, player(lopsided, can=Can(logprobs=True)), Pairwise(), principles=["brief"])
    assert {each.outcome for each in tried} == {"unsure"}
    assert tried[0].p == pytest.approx(0.695)
    assert "place" in tried[0].detail


async def test_a_judge_that_says_nothing_has_neither_passed_nor_failed_a_case() -> None:
    assert set((await outcomes("Both are fine.", logprobs=False)).values()) == {"unanswered"}


async def test_a_failed_call_is_no_judgement_and_keeps_its_reason() -> None:
    def away(call: Call) -> object:
        raise Aside("no_answer", "the server hung up")

    tried = await try_cases(RULES, player(away, can=Can(logprobs=True)), Pairwise())
    assert {each.outcome for each in tried} == {"unanswered"}
    assert "hung up" in tried[0].detail


async def test_a_judge_that_can_answer_nothing_ends_the_test() -> None:
    def gone(call: Call) -> object:
        raise Halt("no such model")

    with pytest.raises(Halt, match="no such model"):
        await try_cases(RULES, player(gone, can=Can(logprobs=True)), Pairwise())


async def test_both_orders_are_asked_whatever_the_recipe_says_and_a_clamp_decides_nothing() -> None:
    judge = player(shorter, can=Can(logprobs=True))
    judging = Pairwise(both_orders=False, clamp=(0.45, 0.55), tie=0.1)
    tried = await try_cases(RULES, judge, judging, principles=["brief"])
    assert [each.outcome for each in tried] == ["pass"] * 4
    assert {len(each.votes) for each in tried} == {2}
    assert tried[0].p == pytest.approx(0.9)


async def test_a_tie_of_the_recipe_is_unsure() -> None:
    def nearly(call: Call) -> object:
        a, b = candidates(call)
        p = 0.52 if len(a) < len(b) else 0.48
        return {"A": p, "B": 1 - p}

    judge = player(nearly, can=Can(logprobs=True))
    clear = await try_cases(RULES, judge, Pairwise(), principles=["brief"])
    tied = await try_cases(RULES, judge, Pairwise(tie=0.05), principles=["brief"])
    assert {each.outcome for each in clear} == {"pass"}
    assert {each.outcome for each in tied} == {"unsure"}


async def test_an_order_that_is_exactly_undecided_does_not_prefer_the_better_answer() -> None:
    def half(call: Call) -> object:
        a, b = candidates(call)
        p = 1.0 if len(a) < len(b) else 0.5
        return {"A": p, "B": 1 - p}

    tried = await try_cases(RULES, player(half, can=Can(logprobs=True)), Pairwise(), principles=["brief"])
    assert {each.outcome for each in tried} == {"unsure"}


async def test_each_wording_says_what_it_should() -> None:
    """Own: the one principle, a hard constraint asked about like a rule. Whole: all, hard constraints below."""
    judge = player(shorter, can=Can(logprobs=True))
    await try_cases(RULES, judge, Pairwise(), window=1)
    words = [call.messages[-1].content for call in judge.ask.calls]  # type: ignore[attr-defined]
    own = [each for each in words if "Consider these principles together" not in each]
    whole = [each for each in words if each not in own]
    assert len(own) == len(whole) == 8
    assert "Be brief." in own[0] and "kinder" not in own[0]
    assert "Never be rude. Which of these assistant responses" in own[-1]
    assert all("1. Be brief.\n2. Which response is kinder?\n3. Say nothing twice." in each for each in whole)
    assert all("- Never be rude." in each for each in words)


@pytest.mark.parametrize(
    ("ids", "said"),
    [
        (["brieff"], "no principle 'brieff' in 'two rules'; did you mean 'brief'?"),
        (["silent"], "has no cases to test"),
    ],
)
async def test_a_wish_that_names_no_case_is_told(ids: list[str], said: str) -> None:
    with pytest.raises(BadInput, match=said.replace("?", r"\?")):
        await try_cases(RULES, player(shorter), Pairwise(), principles=ids)


async def test_a_principle_without_words_for_a_judge_cannot_have_its_cases_judged() -> None:
    rules = parse(
        "name: n\nprinciples:\n  - {id: a, text: A rule.}\n"
        "  - {id: b, critique: Hm?, cases: [{prompt: p, better: x, worse: y}]}\n"
    )
    with pytest.raises(BadInput, match="principle 'b' has cases but no words for a judge"):
        await try_cases(rules, player(shorter), Pairwise())


async def test_the_tally_counts_each_outcome_once() -> None:
    counts = tally(await try_cases(RULES, player(shorter, can=Can(logprobs=True)), Pairwise()))
    assert {principle: dict(scopes["own"]) for principle, scopes in counts.items()} == {
        "brief": {"pass": 2}, "kind": {"fail": 1}, "never-rude": {"pass": 1},
    }  # fmt: skip


# the command

CASES = """\
name: Two with cases
principles:
  - id: brief
    text: Be brief.
    cases:
      - {prompt: What is tin?, better: A metal., worse: Tin is one of the metals that people have used for ages.}
  - id: kind
    text: Be kind.
    cases:
      - {prompt: I failed., better: I am sorry; what would help?, worse: So.}
"""

JUDGES = """

def shorter(call):
    note(call)
    words = call.messages[-1].content
    code = words.split("[response A ")[1].split("]")[0]
    a, b = (words.split(f"[response {slot} {code}]\\n")[1].split(f"\\n[end {code}]")[0] for slot in "AB")
    p = 0.9 if len(a) < len(b) else 0.1
    return {"A": p, "B": 1 - p}


def placed(call):
    note(call)
    return {"A": 0.9, "B": 0.1}


def silent(call):
    note(call)
    return ""


async def halted(call):
    from solon.errors import Halt
    raise Halt("the key is wrong")


async def refusing(call):
    from solon.errors import Aside
    raise Aside("refused", "no\\n  way")


def note(call):
    with (HERE / "asked.txt").open("a") as file:
        file.write(call.key + "\\n")
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    made = desk(tmp_path, prompts=2)
    made.constitution.write_text(CASES)
    (tmp_path / "model.py").write_text((tmp_path / "model.py").read_text() + JUDGES)
    made.write(cast={"judge": {"model": "scripted:model.py:shorter"}})
    monkeypatch.chdir(tmp_path)
    return made


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


def test_the_command_tells_what_failed_and_where_and_exits_with_1(place: Desk, solon: Solon) -> None:
    told = solon("constitution", "test", "recipe.yaml")
    assert told.code == 1
    assert "constitution.yaml:10: kind, case 1, by its own words: fail, P(better) 0.10" in told.out.replace(
        f"{place.path}/", ""
    )
    assert "2 of 4 judgements as the cases say" in told.out
    assert "8 calls asked, 0 known" in told.out


def test_a_second_test_asks_nobody(place: Desk, solon: Solon) -> None:
    solon("constitution", "test", "recipe.yaml")
    before = place.asked()
    assert "0 calls asked, 8 known" in solon("constitution", "test", "recipe.yaml").out
    assert place.asked() == before


def test_one_principle_alone_may_be_tested(place: Desk, solon: Solon) -> None:
    told = solon("constitution", "test", "recipe.yaml", "--principle", "brief")
    assert told.code == 0
    assert "2 of 2 judgements" in told.out


def test_a_constitution_alone_needs_a_model(place: Desk, solon: Solon) -> None:
    told = solon("constitution", "test", "constitution.yaml")
    assert told.code == 2
    assert "give --model" in told.err
    assert solon("constitution", "test", "constitution.yaml", "--model", "scripted:model.py:shorter").code == 1


def test_another_judge_than_the_recipes_may_be_asked(place: Desk, solon: Solon) -> None:
    told = solon("constitution", "test", "recipe.yaml", "--model", "scripted:model.py:placed")
    assert told.code == 0
    assert told.out.count(": unsure, P(better) 0.50; the two orders disagree") == 4
    assert "in 4 of them the judge preferred a place to a text" in told.out
    assert solon("constitution", "test", "recipe.yaml", "--model", "scripted:model.py:placed", "--strict").code == 1


def test_a_judge_that_says_nothing_is_an_error_in_the_junit_file_and_no_failure(place: Desk, solon: Solon) -> None:
    told = solon(
        "constitution", "test", "recipe.yaml", "--model", "scripted:model.py:silent", "--junit", "out/junit.xml"
    )
    assert told.code == 1
    root = Xml.parse("out/junit.xml").getroot()
    assert [(suite.get("name"), suite.get("tests"), suite.get("errors")) for suite in root] == [
        ("brief", "2", "2"), ("kind", "2", "2"),
    ]  # fmt: skip
    assert root.find(".//failure") is None


def test_the_junit_file_has_a_suite_a_principle_and_a_line_a_case(place: Desk, solon: Solon) -> None:
    solon("constitution", "test", "recipe.yaml", "--junit", "junit.xml")
    root = Xml.parse("junit.xml").getroot()
    cases = root.findall("testsuite/testcase")
    assert [(each.get("classname"), each.get("name"), each.get("line")) for each in cases] == [
        ("brief", "case 1, own", "6"), ("brief", "case 1, whole", "6"), ("kind", "case 1, own", "10"),
        ("kind", "case 1, whole", "10"),
    ]  # fmt: skip
    assert [len(each.findall("failure")) for each in cases] == [0, 0, 1, 1]
    solon("constitution", "test", "recipe.yaml", "--model", "scripted:model.py:placed", "--junit", "junit.xml")
    assert len(Xml.parse("junit.xml").getroot().findall("testsuite/testcase/skipped")) == 4


def test_a_junit_file_that_cannot_be_written_is_told_before_anybody_is_asked(place: Desk, solon: Solon) -> None:
    (place.path / "out").mkdir()
    told = solon("constitution", "test", "recipe.yaml", "--junit", "out")
    assert (told.code, place.asked()) == (4, [])


def test_a_test_that_stops_leaves_no_results_of_before(place: Desk, solon: Solon) -> None:
    (place.path / "junit.xml").write_text("<testsuites/>")
    assert (
        solon("constitution", "test", "recipe.yaml", "--model", "scripted:model.py:halted", "--junit", "junit.xml").code
        == 3
    )
    assert (place.path / "junit.xml").read_text() == ""


def test_a_provider_that_speaks_in_many_lines_is_told_in_one(place: Desk, solon: Solon) -> None:
    told = solon("constitution", "test", "recipe.yaml", "--model", "scripted:model.py:refusing", "--principle", "brief")
    assert told.out.count("unanswered, the judge declined to compare: no way") == 2


def test_a_row_of_a_run_becomes_a_case_that_can_be_pasted_and_tested(place: Desk, solon: Solon) -> None:
    shorter = {"model": "scripted:model.py:shorter"}
    place.write(cast={"judge": shorter, "reviser": {"model": "scripted:model.py:other"}})
    assert solon("run", "recipe.yaml", "-q").code == 0
    told = solon("show", "0", "--as-case")
    assert told.code == 0
    place.constitution.write_text("name: one\nprinciples:\n  - id: brief\n    text: Be brief.\n" + told.out)
    assert (
        solon("constitution", "test", "recipe.yaml").code == 0
    )  # the judge preferred it in the run, and so it does here


def test_a_row_without_a_pair_is_no_case(place: Desk, solon: Solon) -> None:
    place.write(cast={"judge": {"model": "scripted:model.py:placed"}})
    solon("run", "recipe.yaml", "-q")
    told = solon("show", "0", "--as-case")
    assert told.code == 2
    assert "set aside (tie)" in told.err
