"""Players: what an answer must be before it may be used, and what is asked again."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from story_kit import asked, cast_of, player, user

from solon.calls import Call, Message, Reply, Sampling
from solon.cast import Kind, blank, endless, kind_of, together, whole_sentences
from solon.errors import REASONS, Aside, BadInput, CallFailed, Halt
from solon.rows import Asked

CUT = Reply("One. Two. Thr", "length")


async def test_an_answer_is_asked_once_and_its_outer_white_space_is_taken_off() -> None:
    who = player(" \n Fine. \n")
    said = await who(user("Hi"), step="respond")
    assert (said.text, said.trimmed, said.key) == ("Fine.", False, asked(who)[0].key)
    assert said.reply.text == " \n Fine. \n"


@pytest.mark.parametrize("first", ["", " \n\t", CUT, Reply("", "length", thinking="Hm")])
async def test_again_asks_an_empty_or_cut_answer_anew_as_the_next_attempt(first: str | Reply) -> None:
    who = player([first, "Fine.", "never asked"], again=5)
    assert (await who(user("Hi"), step="respond", sample=3)).text == "Fine."
    assert [(call.attempt, call.sample) for call in asked(who)] == [(0, 3), (1, 3)]
    assert len({call.key for call in asked(who)}) == 2


async def test_a_good_first_answer_is_never_asked_again() -> None:
    who = player("Fine.", again=3)
    await who(user("Hi"), step="respond")
    assert [call.attempt for call in asked(who)] == [0]


async def test_again_ends_after_the_stated_attempts_and_no_attempt_is_made_without_it() -> None:
    who = player("", again=2)
    with pytest.raises(Aside, match="nothing, or only white space") as problem:
        await who(user("Hi"), step="respond")
    assert problem.value.reason == "empty_answer"
    assert [call.attempt for call in asked(who)] == [0, 1, 2]
    who = player("")
    with pytest.raises(Aside):
        await who(user("Hi"), step="respond")
    assert len(asked(who)) == 1


async def test_a_refusal_is_not_argued_with() -> None:
    who = player(Reply("I won't.", "refusal"), again=4)
    with pytest.raises(Aside) as problem:
        await who(user("Hi"), step="respond")
    assert (problem.value.reason, problem.value.detail) == ("refused", "tiny at respond: I won't.")
    assert len(asked(who)) == 1
    with pytest.raises(Aside) as problem:
        await player(Reply("", "refusal"))(user("Hi"), step="respond")
    assert problem.value.detail == "tiny at respond"


LOOP = "I am sorry. " * 40
KINDS: list[tuple[Kind, Reply]] = [
    ("good", Reply("Fine.")),
    ("good", Reply("B", "length", logprobs=(-3.0, -0.1))),
    ("empty", Reply(" \n")),
    ("empty", Reply("", "length", thinking="Hm")),
    ("cut", CUT),
    ("repetition", Reply(LOOP)),
    ("repetition", Reply(LOOP, "length")),
    ("refused", Reply("I won't.", "refusal")),
    ("refused", Reply("", "refusal")),
    ("refused", Reply("A", "refusal", logprobs=(-0.1, -3.0))),
]


@pytest.mark.parametrize(("kind", "reply"), KINDS)
def test_every_answer_is_of_one_kind(kind: Kind, reply: Reply) -> None:
    assert kind_of(reply) == kind


def test_a_base_models_answer_is_of_the_kind_of_its_own_turn() -> None:
    ran_on = Reply(" Fine.\n\nHuman: And now", "length")
    assert kind_of(ran_on) == "cut"
    assert kind_of(ran_on, " Fine.") == "good"
    assert kind_of(ran_on, "") == "empty"


@pytest.mark.parametrize("kind", ["empty", "cut", "repetition", "refused"])
async def test_each_kind_is_asked_anew_as_often_as_is_said_for_it(kind: Kind) -> None:
    bad = next(reply for name, reply in KINDS if name == kind)
    who = player([bad, bad, "Fine."], again=2, anew={kind: 2})
    assert (await who(user("Hi"), step="respond")).text == "Fine."
    assert [call.attempt for call in asked(who)] == [0, 1, 2]
    others = {name: 2 for name, _ in KINDS if name not in (kind, "good")}
    who = player([bad, "never asked"], again=2, anew=others)  # type: ignore[arg-type]
    with pytest.raises(Aside):
        await who(user("Hi"), step="respond")
    assert len(asked(who)) == 1


async def test_attempts_for_all_kinds_are_counted_together() -> None:
    who = player(["", CUT, "never asked"], again=2, anew={"empty": 2, "cut": 1})
    with pytest.raises(Aside, match="cut"):
        await who(user("Hi"), step="respond")
    assert len(asked(who)) == 2


async def test_a_loop_that_hit_the_cap_is_asked_anew_as_a_cut_answer_too() -> None:
    who = player([Reply(LOOP, "length"), "Fine."], again=1)
    assert (await who(user("Hi"), step="respond")).text == "Fine."
    who = player([Reply(LOOP), "never asked"], again=1)
    with pytest.raises(Aside, match="repeats itself"):
        await who(user("Hi"), step="respond")


async def test_an_answer_that_was_all_thinking_says_so() -> None:
    with pytest.raises(Aside) as problem:
        await player(Reply(" ", "length", thinking="Let me see"))(user("Hi"), step="critique.1")
    assert (problem.value.reason, problem.value.detail) == (
        "empty_answer",
        "tiny at critique.1, all of max_tokens went into thinking",
    )


async def test_what_a_cut_answer_becomes_is_the_players_policy() -> None:
    with pytest.raises(Aside) as problem:
        await player(CUT, sampling=Sampling(max_tokens=7))(user("Hi"), step="respond")
    assert (problem.value.reason, problem.value.detail) == ("cut_answer", "tiny at respond, max_tokens 7")
    said = await player(CUT, cut="sentence")(user("Hi"), step="respond")
    assert (said.text, said.trimmed) == ("One. Two.", True)
    said = await player(CUT, cut="keep")(user("Hi"), step="respond")
    assert (said.text, said.trimmed) == ("One. Two. Thr", False)


async def test_a_cut_answer_that_is_whole_all_the_same_is_not_trimmed() -> None:
    said = await player(Reply("One. Two.", "length"), cut="sentence")(user("Hi"), step="respond")
    assert (said.text, said.trimmed) == ("One. Two.", False)


async def test_a_cut_answer_without_one_whole_sentence_is_set_aside() -> None:
    with pytest.raises(Aside) as problem:
        await player(Reply("One and tw", "length"), cut="sentence")(user("Hi"), step="respond")
    assert problem.value.reason == "cut_answer"


@pytest.mark.parametrize("cut", ["aside", "sentence", "keep"])
async def test_endless_repetition_is_no_answer_whatever_the_policy(cut: str) -> None:
    for finish in ("stop", "length"):
        with pytest.raises(Aside) as problem:
            await player(Reply("I am sorry. " * 40, finish), cut=cut)(user("Hi"), step="respond")  # type: ignore[arg-type]
        assert problem.value.reason == "repetition"


def test_a_system_prompt_stands_first_and_joins_the_prompts_own() -> None:
    who = player("x", system="Be brief.")
    assert who.call(user("Hi")).messages == (Message("system", "Be brief."), *user("Hi"))
    own = [Message("system", "You are a parrot."), *user("Hi")]
    assert who.call(own).messages == (Message("system", "Be brief.\n\nYou are a parrot."), *user("Hi"))
    assert player("x").call(own).messages == tuple(own)


def test_a_base_model_takes_no_system_prompt_and_none_is_dropped_in_silence() -> None:
    with pytest.raises(BadInput, match="critic: a base model"):
        player("x", form="text", system="Be brief.")


def test_what_a_player_is_given_reaches_the_call() -> None:
    who = player("x", sampling=Sampling(0.3, 0.9, 77, ("END",)), options='{"seed":1}')
    call = who.call(user("Hi"), schema="{}", stop=("\n",), sample=2, attempt=1)
    assert call.sampling == Sampling(0.3, 0.9, 77, ("END", "\n"))
    assert (call.options, call.schema, call.sample, call.attempt, call.model) == ('{"seed":1}', "{}", 2, 1, "m")


async def test_label_calls_have_one_key_whatever_the_temperature() -> None:
    keys = set()
    for sampling in (Sampling(0.0), Sampling(1.0), Sampling(None), Sampling(0.7, 0.9, 4096)):
        who = player({"A": 0.5, "B": 0.5}, sampling=sampling)
        reply, key = await who.weigh(user("A or B?"), ("A", "B"), step="judge.ab")
        assert asked(who)[0].labels == ("A", "B")
        assert reply.logprobs is not None
        assert key == asked(who)[0].key
        keys.add(key)
    assert len(keys) == 1


@pytest.mark.parametrize("name", ["Human", "Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"])
async def test_a_base_models_answer_ends_where_it_begins_another_turn(name: str) -> None:
    ran_on = Reply(f" Fine.\n\n{name}: And now", "length")
    who = player(ran_on, form="text", again=3)
    said = await who([Message("text", "...")], step="respond")
    assert (said.text, said.trimmed) == ("Fine.", False)
    assert len(asked(who)) == 1
    chat = await player(f"Fine.\n\n{name}: And now")(user("Hi"), step="respond")
    assert chat.text == f"Fine.\n\n{name}: And now"


async def test_a_base_model_that_only_plays_another_turn_has_said_nothing() -> None:
    with pytest.raises(Aside) as problem:
        await player("\n\nHuman: Hi again", form="text")([Message("text", "...")], step="respond")
    assert problem.value.reason == "empty_answer"


async def test_a_listener_is_told_of_every_question_before_and_after_its_answer() -> None:
    heard: list[tuple[Asked, str | None]] = []

    def listen(question: Asked, call: Call, reply: Reply | None) -> None:
        assert question.key == call.key
        heard.append((question, reply.text if reply else None))

    cast = cast_of(critic=["", "Fine."]).listening(listen)
    assert [who.role for who in cast.players()] == ["responder", "critic", "reviser", "judge"]
    critic = cast.critic
    await replace(critic, again=1)(user("Hi"), step="critique.1")
    assert [(question.step, question.role, words) for question, words in heard] == [
        ("critique.1", "critic", None), ("critique.1", "critic", ""),
        ("critique.1", "critic", None), ("critique.1", "critic", "Fine."),
    ]  # fmt: skip


# -- together ------------------------------------------------------------------------------------------------


async def after(turns: int, outcome: str | BaseException, log: list[str]) -> str:
    try:
        for _ in range(turns):
            await asyncio.sleep(0)
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome
    finally:
        log.append(str(outcome))


@pytest.mark.parametrize("speeds", [(1, 9), (9, 1)])
async def test_together_waits_for_all_and_raises_the_first_asked_whichever_came_first(speeds: tuple[int, int]) -> None:
    log: list[str] = []
    first, second = Aside("refused", "first"), CallFailed("no_answer", "second")
    with pytest.raises(Aside) as problem:
        await together(after(speeds[0], first, log), after(speeds[1], second, log), after(20, "third", log))
    assert problem.value is first
    assert len(log) == 3


async def test_together_returns_the_answers_in_the_order_of_asking() -> None:
    assert await together(after(9, "slow", []), after(1, "quick", [])) == ["slow", "quick"]


async def test_what_ends_the_run_is_raised_at_once_and_leaves_no_question_running() -> None:
    log: list[str] = []
    before = asyncio.all_tasks()
    with pytest.raises(Halt):
        await together(after(1, Halt("wrong key"), log), after(10_000, "slow", log))
    assert asyncio.all_tasks() == before
    assert sorted(log) == ["slow", "wrong key"]


async def test_a_cancelled_asker_takes_its_questions_along() -> None:
    log: list[str] = []
    before = asyncio.all_tasks()
    task = asyncio.create_task(together(after(10_000, "one", log), after(10_000, "two", log)))  # type: ignore[arg-type]
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert asyncio.all_tasks() == before
    assert sorted(log) == ["one", "two"]


# -- whole sentences -----------------------------------------------------------------------------------------

WHOLE = [
    ("One. Two. Thr", "One. Two."),
    ("One! Is it two? Thr", "One! Is it two?"),
    ("He said “no.” And th", "He said “no.”"),
    ('She said "stop!" Then sh', 'She said "stop!"'),
    ("(As I said.) And th", "(As I said.)"),
    ("**Never do this.** It is", "**Never do this.**"),
    ("Ask Dr. Smi", ""),
    ("Be safe. Ask Dr. Smith ab", "Be safe."),
    ("Be safe. Ask Mr. and Mrs. Smi", "Be safe."),
    ("Read it. See e.g. the boo", "Read it."),
    ("Read it. See e.g. Plato an", "Read it."),
    ("It is by J. R. Tol", ""),
    ("It is late. It costs 3.", "It is late."),
    ("It is late. It costs 3.50 now and th", "It is late."),
    ("That was in 2020. Now it i", "That was in 2020."),
    ("Do it at 9 a.m. on Mon", ""),
    ("Well... maybe that i", ""),
    ("Fine. Well...", "Fine."),
    ("It depends… You kno", "It depends…"),
    ("I like apples, pears, etc.", ""),
    ("1. Mix the flour.\n2. Bake it.\n3. E", "1. Mix the flour.\n2. Bake it."),
    ("1. Mix the flour.\n2.", "1. Mix the flour."),
    ("Steps: 1. Mix it. 2. Bak", "Steps: 1. Mix it."),
    ("a. Mix the flour.\nb. B", "a. Mix the flour."),
    ("- apples\n- pears\n- ban", "- apples\n- pears"),
    ("* apples\n* pe", "* apples"),
    ("You need:\n- apples\n- pe", "You need:\n- apples"),
    ("You need:\n- app", ""),
    ("Be safe. You need:\n\n- app", "Be safe."),
    ("It is good.\n\n## Next\n\nThe nex", "It is good."),
    ("It is good.\n\n**Next**\n\nThe nex", "It is good."),
    ("Roses are red,\nviolets are blue,\nsugar is sw", "Roses are red,\nviolets are blue,"),
    ("This line of prose was wrapped by hand at about eighty characters, so its\nend is no", ""),
    ("Use this.\n```python\nfor x in y:\n    pri", "Use this."),
    ("```python\nprint(1)\nprint(2)\npri", ""),
    ("Use this:\n```\nx = 1\n```\nIt se", "Use this:\n```\nx = 1\n```"),
    ("Use this:\n```\nx = 1\n```", "Use this:\n```\nx = 1\n```"),
    ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 |", "| a | b |\n|---|---|\n| 1 | 2 |"),
    ("これは一文です。これは二文目で", "これは一文です。"),
    ("「そうです。」と彼は言っ", "「そうです。」"),
    ("你好！你今天好吗？我很", "你好！你今天好吗？"),
    ("यह सच है। यह भी स", "यह सच है।"),
    ("هل هذا صحيح؟ نع", "هل هذا صحيح؟"),
    ("no end at all", ""),
    ("", ""),
]


@pytest.mark.parametrize(("text", "whole"), WHOLE)
def test_whole_sentences(text: str, whole: str) -> None:
    assert whole_sentences(text) == whole


@given(st.text(alphabet="aB1 .!?…。\n:-*`#\"')(|", max_size=200))
def test_whole_sentences_only_takes_off_an_end_and_never_leaves_a_code_block_open(text: str) -> None:
    whole = whole_sentences(text)
    assert text.startswith(whole)
    assert whole == whole.rstrip()
    assert len(re.findall(r"^[ \t]*```", whole, re.MULTILINE)) % 2 == 0


# -- endless -------------------------------------------------------------------------------------------------

ENDLESS = [
    "I am sorry. " * 30,
    "A good start. " + "I am sorry. " * 30,
    "ha" * 80,
    "Again and again" * 12 + "Again an",
    "\n".join(["- Be kind to everybody you meet."] * 9),
    "one long sentence that goes on for a good while before it is said again, word for word. " * 9,
    "0" * 200,
    "-" * 500,
    "好的。" * 60,
    "a b\n" * 1000,
    "x" * 400 + " " * 50,
]
NOT_ENDLESS = [
    "",
    "I am sorry. " * 7,
    "ha" * 70,
    "I am sorry. " * 30 + "But now to something else.",
    "\n".join(f"{n}. Be kind to person number {n}." for n in range(40)),
    "Row, row, row your boat, gently down the stream.\nMerrily, merrily, merrily, merrily, life is but a dream.\n" * 3,
    "| name | age |\n|------|-----|\n" + "".join(f"| p{n} | {n} |\n" for n in range(40)),
    "+" + "-" * 78 + "+\n| a wide table |\n+" + "-" * 78 + "+",
    "Title\n" + "=" * 120,
    "A rule as wide as a screen\n" + "-=" * 120,
    "# " + "-" * 76 + "\ndef f():\n    return 1\n\n\n# " + "-" * 76 + "\ndef g():\n    return 2\n",
    "board = [\n" + "    [0, 0, 0, 0, 0, 0, 0, 0],\n" * 8 + "]",
    ", ".join(str(n) for n in range(200)),
    "I am sorry. " * 14 + "Really. " + "I am sorry. " * 13,
]


@pytest.mark.parametrize("text", ENDLESS)
def test_one_stretch_said_over_and_over_is_endless(text: str) -> None:
    assert endless(text)


@pytest.mark.parametrize("text", NOT_ENDLESS)
def test_what_people_write_is_not_endless(text: str) -> None:
    assert not endless(text)


@given(st.text(min_size=1, max_size=120).filter(lambda text: any(map(str.isalnum, text))), st.integers(0, 119))
def test_any_stretch_said_often_enough_is_endless_wherever_it_was_cut(stretch: str, cut: int) -> None:
    often = stretch * max(9, 400 // len(stretch) + 2)
    assert endless((often + stretch[: cut % len(stretch)]).rstrip() or often)


def test_every_reason_that_a_player_gives_is_known() -> None:
    assert {"refused", "empty_answer", "repetition", "cut_answer"} <= set(REASONS)


@pytest.mark.parametrize("text", ["", " \n\t", "\u200b", "\ufeff\u200d \u2060", "\x00\x07"])
def test_what_nobody_can_see_is_blank(text: str) -> None:
    assert blank(text)


@pytest.mark.parametrize("text", [".", "\u200ba", "\U0001f600", "\u4f60"])
def test_one_visible_sign_is_an_answer(text: str) -> None:
    assert not blank(text)
