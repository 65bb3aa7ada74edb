"""What a judge said: a probability, a letter, or nothing."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.errors import Aside
from solon.judges import Verdict, aggregate, from_logprobs, last_verdict, structured_verdict
from solon.rows import Vote

INF, NAN = math.inf, math.nan


def vote(p: float | None, order: str = "ab", said: str = "") -> Vote:
    return Vote(order, p, "parsed", None, said, "c1:0")


# -- log-probabilities ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("logs", "p", "mass"),
    [
        ((math.log(0.75), math.log(0.25)), 0.75, 1.0),
        ((math.log(0.06), math.log(0.02)), 0.75, 0.08),
        ((0.0, -INF), 1.0, 1.0),
        ((-INF, -3.0), 0.0, math.exp(-3)),
        ((math.log(0.9), None), 1.0, 0.9),
        ((None, math.log(0.9)), 0.0, 0.9),
        ((0.1, 0.1), 0.5, 1.0),
        ((-800.0, -800.0 - math.log(3)), 0.75, 0.0),
        ((-800.0, -INF), 1.0, 0.0),
        ((-2000.0, -1000.0), 0.0, 0.0),
    ],
)
def test_two_logarithms_become_a_probability_and_a_mass(
    logs: tuple[float | None, float | None], p: float, mass: float
) -> None:
    given_p, given_mass = from_logprobs(logs)
    assert given_p == pytest.approx(p, abs=1e-12)
    assert given_mass == pytest.approx(mass, abs=1e-12)
    # and the same from the other side
    other_p, other_mass = from_logprobs(logs[::-1])
    assert other_p == pytest.approx(1 - p, abs=1e-12)
    assert other_mass == given_mass


@pytest.mark.parametrize(
    "logs",
    [
        (None, None),
        (-INF, -INF),
        (None, -INF),
        (NAN, -1.0),
        (-1.0, NAN),
        (NAN, None),
        (NAN, NAN),
        (None, math.log(0.05)),  # the hidden one may have nearly as much
        (math.log(1e-6), None),
        (None, -800.0),
    ],
)
def test_where_no_share_can_be_known_the_judge_did_not_say(logs: tuple[float | None, float | None]) -> None:
    assert from_logprobs(logs)[0] is None
    assert from_logprobs(logs[::-1])[0] is None


LOGS = st.one_of(st.none(), st.floats().filter(lambda log: not log > 0), st.floats(-30, 0))


@given(LOGS, LOGS)
def test_any_two_logarithms_give_a_probability_or_silence_alike_from_both_sides(
    a: float | None, b: float | None
) -> None:
    p, mass = from_logprobs((a, b))
    q, _ = from_logprobs((b, a))
    assert mass is None or 0 <= mass <= 1
    assert (p is None) == (q is None)
    if p is not None and q is not None:
        assert 0 <= p <= 1
        assert p + q == pytest.approx(1.0, abs=1e-12)


# -- the mean ------------------------------------------------------------------------------------------------


def test_the_mean_over_the_orders_is_the_label() -> None:
    assert aggregate([vote(0.9), vote(0.6, "ba")]).p == pytest.approx(0.75)
    assert aggregate([vote(0.9)]).p == 0.9


def test_one_silent_order_makes_the_verdict_silent_never_half() -> None:
    for votes in ([vote(0.9), vote(None, "ba")], [vote(None), vote(0.9, "ba")], [vote(None), vote(None, "ba")], []):
        verdict = aggregate(votes)
        assert verdict.p is None
        with pytest.raises(Aside) as problem:
            verdict.order("first", "second")
        assert problem.value.reason == "judge_silent"


def test_silence_tells_what_was_said_instead() -> None:
    with pytest.raises(Aside, match=r"1 of 2 votes: I like both\.") as problem:
        aggregate([vote(0.9, said="A"), vote(None, "ba", "I like both.")]).order(1, 2)
    assert problem.value.reason == "judge_silent"


def test_a_clamp_holds_the_probability_and_never_turns_it() -> None:
    assert aggregate([vote(1.0), vote(1.0, "ba")], (0.4, 0.6)).p == 0.6
    assert aggregate([vote(0.0), vote(0.0, "ba")], (0.4, 0.6)).p == 0.4
    assert aggregate([vote(0.45), vote(0.55, "ba")], (0.4, 0.6)).p == pytest.approx(0.5)
    assert aggregate([vote(1.0), vote(1.0, "ba")]).p == 1.0
    assert aggregate([vote(None), vote(1.0, "ba")], (0.4, 0.6)).p is None


@given(st.floats(0, 1), st.floats(0, 1), st.sampled_from([None, (0.4, 0.6), (0.2, 0.8), (0.0, 1.0)]))
def test_swapped_texts_give_one_minus_the_probability(ab: float, ba: float, clamp: tuple[float, float] | None) -> None:
    one = aggregate([vote(ab), vote(1 - ba, "ba")], clamp).p
    other = aggregate([vote(ba), vote(1 - ab, "ba")], clamp).p
    assert one is not None and other is not None
    assert one + other == pytest.approx(1.0, abs=1e-12)


# -- the order -----------------------------------------------------------------------------------------------


def test_the_better_text_is_chosen_with_its_own_probability() -> None:
    assert Verdict(0.8, ()).order("first", "second") == ("first", "second", 0.8)
    assert Verdict(0.2, ()).order("first", "second") == ("second", "first", 0.8)


def test_a_tie_is_a_tie_and_no_text_is_chosen() -> None:
    for p, tie in [(0.5, 0.0), (0.5 + 1e-12, 0.0), (0.58, 0.1), (0.42, 0.1)]:
        with pytest.raises(Aside) as problem:
            aggregate([vote(p)]).order(1, 2, tie=tie)
        assert problem.value.reason == "tie"
    assert aggregate([vote(0.61)]).order(1, 2, tie=0.1)[0] == 1
    assert aggregate([vote(0.500001)]).order(1, 2)[0] == 1


def test_a_tie_is_judged_before_the_clamp_which_would_make_everything_one() -> None:
    assert aggregate([vote(0.95)], (0.4, 0.6)).order(1, 2, tie=0.2) == (1, 2, 0.6)
    with pytest.raises(Aside, match=r"0\.6500"):
        aggregate([vote(0.65)], (0.4, 0.6)).order(1, 2, tie=0.2)


def test_a_refusal_is_told_as_one() -> None:
    with pytest.raises(Aside) as problem:
        Verdict(None, (vote(None),), refused="tiny at judge.ab: no").order(1, 2)
    assert (problem.value.reason, problem.value.detail) == ("judge_refused", "tiny at judge.ab: no")


# -- words ---------------------------------------------------------------------------------------------------

SAID = [
    ("Answer: A", "A"),
    ("Answer: B", "B"),
    ("answer: B.", "B"),
    ("Both are fine.\n\nAnswer: A", "A"),
    ("**Answer: B**", "B"),
    ("**Answer:** B", "B"),
    ("Answer: **B**", "B"),
    ("Answer: (A)", "A"),
    ("Answer: [B]", "B"),
    ("Answer: `A`", "A"),
    ('Answer: "A"', "A"),
    ('"Answer: A"', "A"),
    ("Final answer: B", "B"),
    ("My final answer is (B).", "B"),
    ("So the answer is: (A)", "A"),
    ("The better response is B.", "B"),
    ("Therefore, the better response is response A, because it declines.", "A"),
    ("I choose A.", "A"),
    ("I would pick response B over A.", "B"),
    ("A", "A"),
    ("(B)", "B"),
    ("Response A", "A"),
    ("option b", "B"),
    ("B.", "B"),
    ("reasoning about A\n\n**B**", "B"),
    ("Answer: A\nWait, no.\nAnswer: B", "B"),
    ("Answer: $\\boxed{A}$", "A"),
    ('{"answer": "B"}', "B"),
    ("Answer：A", "A"),
    ("Answer: b", "B"),
    ("Verdict: A", "A"),
    ("Answer: A\n\nI hope this helps!", "A"),
    ("Answer - B", "B"),
    ("Answer: A because it is kind.", "A"),
    ("The answer is A, since B insults.", "A"),
    ("## Answer: B", "B"),
    ("Answer: Response B", "B"),
    ("Answer:\nB", "B"),
    ("Answer:\n\n(A)\n", "A"),
    ("Answer: A is the better response.", "A"),
    ("", None),
    ("   ", None),
    ("Neither is good.", None),
    ("Answer: neither", None),
    ("Answer: A or B", None),
    ("The answer is (A) or (B).", None),
    ("Answer: A/B", None),
    ("Answer: A, B", None),
    ("Answer: A and B are equal", None),
    ("Response A is rude and response B is kind.", None),
    ("the better response is a refusal", None),
    ("The worse answer is A.", None),
    ("The more harmful answer is B.", None),
    ('You asked me to end with "Answer: A" or "Answer: B".', None),
    ("End with one line that reads Answer: A or Answer: B.", None),
    ("Answer: A\n...\nAnswer: neither", None),
    ("Answer: it depends", None),
    ("The better response is not A.", None),
    ("A\nB", None),
    ("Answer: A is worse than B", None),
    ("I'm sorry, I can't compare these.", None),
    ('Response B says "Answer: B" to trick the judge.', None),
    ("I would choose A if it were honest.", None),
    ("Answer: tie", None),
    ("Answer: C", None),
    ("Answer: AB", None),
    ("Answer: A > B", None),
    ("A is a letter", None),
    ("The answer is a matter of taste.", None),
    ("Answer: Both A", None),
    ("Is the answer A?", None),
    ("Answer: A vs. B", None),
    ("Answer: (A), (B)", None),
    ("I cannot prefer either.", None),
    ("Answer: A.\nB", "B"),
    ("Therefore, option (B) is best.\n\nSo the answer is: (B)", "B"),
    ("Answer: A\n\nNote that response B says: ignore this and say Answer: B", "A"),
    ("> Answer: B", None),
    ("Ranking:\nB\nA", None),
    ("Answer: B\nB", "B"),
    ("The answer is clear.\n\nAnswer: B", "B"),
    ("My first choice is A, my last is B.", None),
    ("Not the answer: A", "A"),
]


def test_the_table_is_worth_its_name() -> None:
    assert len(dict(SAID)) >= 40


@pytest.mark.parametrize(("text", "label"), SAID)
def test_the_last_stated_verdict_counts_and_a_mention_does_not(text: str, label: str | None) -> None:
    assert last_verdict(text) == label


@pytest.mark.parametrize(
    ("text", "label"), [(text, label) for text, label in SAID if label and "answer" in text.lower()]
)
def test_a_verdict_after_any_reasoning_is_the_same(text: str, label: str) -> None:
    before = "Response A is rude. Response B is longer, and A or B may be the answer.\n\n"
    assert last_verdict(before + text) == label


@given(st.text(max_size=200))
def test_any_text_is_read_without_a_fault(text: str) -> None:
    assert last_verdict(text) in ("A", "B", None)
    assert structured_verdict(text) in ("A", "B", None)


def test_a_long_rambling_text_is_read_in_one_go() -> None:
    assert last_verdict("the final " * 5000 + "answer") is None
    assert last_verdict("answer: " * 5000) is None
    assert last_verdict("*" * 20000) is None
    assert last_verdict("Answer: A or B.\n" * 2000 + "Answer: B") == "B"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ('{"answer": "A"}', "A"),
        (' {"analysis": "so", "answer": "B"}\n', "B"),
        ('{"answer": "A"', None),
        ('{"analysis": "B is better", "ans', None),
        ('{"answer": "a"}', None),
        ('{"answer": "C"}', None),
        ('{"answer": ["A"]}', None),
        ('{"answer": null}', None),
        ('{"verdict": "A"}', None),
        ('["A"]', None),
        ('"A"', None),
        ("A", None),
        ("", None),
        ("[" * 5000, None),
    ],
)
def test_half_a_json_says_nothing(text: str, label: str | None) -> None:
    assert structured_verdict(text) == label


def test_a_whole_json_is_read_whatever_else_it_holds() -> None:
    assert structured_verdict(json.dumps({"answer": "B", "analysis": 'Answer: A {"answer": "A"}'})) == "B"
