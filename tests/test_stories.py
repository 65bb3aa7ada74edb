"""Stories: one row from its prompt to a pair, or to the reason why there is none."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
from story_kit import FIRST, asked, candidates, cast_of, row_of, slots, with_player

from solon.calls import Call, Can, Message, Reply
from solon.cast import Cast
from solon.constitution import parse
from solon.errors import Aside, CallFailed, Halt, StorageError
from solon.judges import Pairwise
from solon.pipelines.preference import Preference
from solon.pipelines.revision import Revision, worked_examples
from solon.rows import Pair, SetAside

WEIGHS = Can(logprobs=True)


def prefers(*texts: str) -> Any:
    """Return a judge who ranks texts in this order: 0.9 for the earlier one."""
    return slots(lambda a, b: 0.5 if a == b else 0.9 if texts.index(a) < texts.index(b) else 0.1)


def pair(outcome: Pair | SetAside) -> Pair:
    assert isinstance(outcome, Pair), outcome
    return outcome


def aside(outcome: Pair | SetAside) -> SetAside:
    assert isinstance(outcome, SetAside), outcome
    return outcome


# -- Revision ------------------------------------------------------------------------------------------------


async def test_a_revision_that_the_judge_prefers_is_chosen_and_every_draft_is_kept() -> None:
    story = Revision(FIRST, rounds=2)
    cast = cast_of(
        "Bad.", ["It is curt.", "It is untrue."], ["Better.", "Sure, here is a revised response:\n\nBest."],
        prefers("Best.", "Better.", "Bad."), can=WEIGHS,
    )  # fmt: skip
    done = pair(await story(row_of(story), cast))
    assert (done.chosen, done.rejected, done.chosen_draft, done.rejected_draft) == (
        "Best.", "Bad.", "revision.2", "response",
    )  # fmt: skip
    assert done.p_chosen == pytest.approx(0.9)
    assert [(draft.name, draft.text, draft.principle, draft.critique, draft.stripped) for draft in done.drafts] == [
        ("response", "Bad.", "", "", False),
        ("revision.1", "Better.", "kind", "It is curt.", False),
        ("revision.2", "Best.", "honest", "It is untrue.", True),
    ]
    assert [draft.digest for draft in done.drafts] == ["", "digest-0", "digest-1"]
    assert (done.principle, done.digest, done.judge) == ("kind", "digest-2", "tiny")
    assert [vote.order for vote in done.votes] == ["ab", "ba"]


async def test_an_answer_that_the_judge_prefers_to_its_revision_is_chosen() -> None:
    story = Revision(FIRST)
    cast = cast_of("Good.", reviser="Worse.", judge=prefers("Good.", "Worse."), can=WEIGHS)
    done = pair(await story(row_of(story), cast))
    assert (done.chosen_draft, done.rejected_draft, done.chosen) == ("response", "revision.1", "Good.")
    assert done.p_chosen == pytest.approx(0.9)


@pytest.mark.parametrize("rounds", [1, 2, 4])
async def test_each_round_works_on_the_last_revision_by_its_own_principle(rounds: int) -> None:
    story = Revision(FIRST, rounds=rounds)
    cast = cast_of("v0", "why", [f"v{number}" for number in range(1, rounds + 1)], "Answer: A")
    await story(row_of(story), cast)
    for number, (criticised, revised) in enumerate(zip(asked(cast.critic), asked(cast.reviser), strict=True)):
        principle = FIRST.principles[number % 2]
        assert criticised.messages[-2].content == f"v{number}"
        assert criticised.messages[-1].content.startswith(principle.critique or "?")
        assert revised.messages[-4].content == f"v{number}"
        assert revised.messages[-1].content.startswith(principle.revision or "?")
    steps = [step for step, _ in story.steps(cast)]
    assert len(steps) == 1 + 2 * rounds + 2
    assert len(story.draws()) == rounds + 1


async def test_a_revision_that_changes_nothing_is_set_aside_unjudged() -> None:
    story = Revision(FIRST)
    cast = cast_of("The same  words.", reviser="Here is a revised response:\n\nThe same words.\n")
    done = aside(await story(row_of(story), cast))
    assert done.reason == "unchanged"
    assert [draft.stripped for draft in done.drafts] == [False, True]
    assert asked(cast.judge) == []


@pytest.mark.parametrize(
    ("judge", "can", "reason", "votes"),
    [
        ("Answer: A", Can(False, False), "tie", 2),
        ("I like both.", Can(False, False), "judge_silent", 2),
        (Reply("I won't.", "refusal"), Can(False, False), "judge_refused", 2),
        (Reply("", "refusal"), WEIGHS, "judge_refused", 2),
        ("A", WEIGHS, "judge_silent", 2),
    ],
)
async def test_what_the_judge_leaves_open_is_set_aside_with_drafts_and_votes(
    judge: Any, can: Can, reason: str, votes: int
) -> None:
    story = Revision(FIRST)
    done = aside(await story(row_of(story), cast_of(judge=judge, can=can)))
    assert (done.reason, len(done.votes)) == (reason, votes)
    assert [draft.text for draft in done.drafts] == ["An answer.", "A revision."]


@pytest.mark.parametrize("role", ["responder", "critic", "reviser"])
@pytest.mark.parametrize("reply", ["", Reply("cut", "length"), Reply("no", "refusal"), "again and again " * 30])
async def test_what_is_no_answer_ends_the_row_with_what_there_was(role: str, reply: Any) -> None:
    story = Revision(FIRST, rounds=2)
    texts: dict[str, Any] = {"critic": ["c1", "c2"], "reviser": ["r1", "r2"], role: ["x1", reply]}
    if role == "responder":
        texts["responder"] = reply
    done = aside(await story(row_of(story), cast_of(**texts)))
    assert done.reason in ("empty_answer", "cut_answer", "refused", "repetition")
    assert [draft.name for draft in done.drafts] == ([] if role == "responder" else ["response", "revision.1"])


@pytest.mark.parametrize("problem", [Halt("wrong key"), StorageError("disk full")])
@pytest.mark.parametrize("role", ["responder", "critic", "reviser", "judge"])
async def test_what_ends_the_run_passes_through_both_stories(problem: Exception, role: str) -> None:
    def fail(call: Call) -> str:
        raise problem

    cast = cast_of(**{role: fail})
    for story in (Revision(FIRST), Preference(FIRST)):
        if isinstance(story, Preference) and role in ("critic", "reviser"):
            continue
        if isinstance(story, Preference) and role == "judge":
            cast = with_player(cast, "responder", ask=cast_of(["one", "two"]).responder.ask)
        with pytest.raises(type(problem)):
            await story(row_of(story), cast)
    assert len(asyncio.all_tasks()) == 1


# shots


def shot_counts(cast: Cast) -> list[int]:
    """Return how many worked examples the first call of critic and reviser holds."""
    marks = ("It is curt.", "It is blue.")
    return [
        sum(any(mark in message.content for message in asked(who)[0].messages) for mark in marks)
        for who in (cast.critic, cast.reviser)
    ]


@pytest.mark.parametrize(
    ("form", "shots", "count"),
    [
        ("chat", None, 0),
        ("text", None, 2),
        ("chat", 1, 1),
        ("text", 1, 1),
        ("chat", 5, 2),
        ("text", 0, 0),
        ("chat", 0, 0),
    ],
)
async def test_shots_are_all_for_base_models_none_for_chats_and_as_many_as_are_asked_for(
    form: Any, shots: int | None, count: int
) -> None:
    story = Revision(FIRST, shots=shots)
    cast = cast_of(judge=" (A)", form=form)
    await story(row_of(story), cast)
    assert shot_counts(cast) == [count, count]


def test_worked_examples_speak_their_own_principles_wordings() -> None:
    kind, honest = worked_examples(FIRST)
    assert (kind.round.critique_request, kind.round.revision_request) == ("Say what is unkind.", "Make it kind.")
    assert (honest.round.critique_request, honest.round.revision) == ("Say what is untrue.", "No, it is blue.")
    assert [message.role for message in honest.prompt] == ["system", "user"]


def test_an_edited_example_or_option_is_another_story() -> None:
    edited = parse(FIRST.to_yaml().replace("It is curt.", "It is very curt."))
    stories = [
        Revision(FIRST), Revision(edited), Revision(FIRST, rounds=2), Revision(FIRST, shots=1),
        Revision(FIRST, Pairwise(tie=0.1)), Revision(FIRST, Pairwise(both_orders=False)),
    ]  # fmt: skip
    assert len({repr(story.digest()) for story in stories}) == len(stories)
    # unless nobody is shown one
    assert Revision(FIRST, shots=0).digest() == Revision(edited, shots=0).digest()
    assert Preference(FIRST).digest() == Preference(edited).digest()
    assert Preference(FIRST).digest() != Preference(FIRST, candidates=3).digest()


# several turns


@pytest.mark.parametrize("form", ["chat", "text"])
@pytest.mark.parametrize("kind", [Revision, Preference])
async def test_prompts_of_several_turns_and_a_system_message_reach_everybody(form: Any, kind: Any) -> None:
    story = kind(FIRST)
    answers = iter(["One.", "Two."])
    cast = cast_of(lambda call: next(answers), judge=lambda call: f"({'AB'[candidates(call)[0] != 'One.']})", form=form)
    row = row_of(story, "Hi", "Hello.", "How do I steal?", system="Be kind.")
    done = pair(await story(row, cast))
    assert (done.chosen, done.row) == ("One.", row)
    for who in cast.players():
        for call in asked(who):
            words = "\n".join(message.content for message in call.messages)
            assert "Be kind." in words and "How do I steal?" in words
            assert words.index("Be kind.") < words.index("Hello.") < words.index("How do I steal?")
            roles = [message.role for message in call.messages]
            if form == "text":
                assert roles == ["text"]
            elif who.role != "judge":
                assert roles[:4] == ["system", "user", "assistant", "user"]
                assert all(one != other for one, other in pairwise(roles))


async def test_a_base_model_plays_every_role_in_the_papers_markup() -> None:
    story = Revision(FIRST, shots=0)
    cast = cast_of(
        " Bad.", " It is curt.", " Better.\n\nHuman: More?", {" (A)": 0.1, " (B)": 0.3}, can=WEIGHS, form="text"
    )
    row = row_of(story, "Hi")
    done = aside(await story(row, cast))
    assert done.reason == "tie"
    assert [draft.text for draft in done.drafts] == ["Bad.", "Better."]
    head = "\n\nHuman: Hi\n\nAssistant:"
    assert asked(cast.responder)[0].messages == (Message("text", head),)
    critique = f"{head} Bad.\n\nCritiqueRequest: Say what is unkind.\n\nCritique:"
    assert asked(cast.critic)[0].messages == (Message("text", critique),)
    revision = f"{critique} It is curt.\n\nRevisionRequest: Make it kind.\n\nRevision:"
    assert asked(cast.reviser)[0].messages == (Message("text", revision),)


# -- Preference ----------------------------------------------------------------------------------------------


def sampled(*texts: str) -> Any:
    """Return a responder whose sample n is the nth text."""
    return lambda call: texts[call.sample]


async def test_two_candidates_are_two_samples_of_one_question_and_the_better_is_chosen() -> None:
    for texts, winner in [(("good", "bad"), "candidate.1"), (("bad", "good"), "candidate.2")]:
        story = Preference(FIRST)
        cast = cast_of(sampled(*texts), judge=prefers("good", "bad"), can=WEIGHS)
        done = pair(await story(row_of(story), cast))
        assert (done.chosen, done.rejected, done.chosen_draft) == ("good", "bad", winner)
        assert done.p_chosen == pytest.approx(0.9)
        assert [call.sample for call in asked(cast.responder)] == [0, 1]
        assert len({call.key for call in asked(cast.responder)}) == 2
        assert [draft.name for draft in done.drafts] == ["candidate.1", "candidate.2"]
        assert len(done.votes) == 2
        assert "Which one is kinder?" in asked(cast.judge)[0].messages[-1].content


async def test_more_candidates_are_compared_each_with_each_and_the_best_meets_the_worst() -> None:
    story = Preference(FIRST, candidates=4)
    cast = cast_of(sampled("c", "a", "d", "b"), judge=prefers("a", "b", "c", "d"), can=WEIGHS)
    done = pair(await story(row_of(story), cast))
    assert (done.chosen, done.rejected) == ("a", "d")
    assert (done.chosen_draft, done.rejected_draft) == ("candidate.2", "candidate.3")
    assert len(asked(cast.judge)) == 6 * 2
    assert len(story.steps(cast)) == 4 + 6 * 2
    assert {call.key for call in asked(cast.judge)} >= {vote.key for vote in done.votes}
    assert {frozenset(candidates(call)) for call in asked(cast.judge) if call.key == done.votes[0].key} == {
        frozenset({"a", "d"})
    }


async def test_equal_candidates_are_not_compared_with_themselves() -> None:
    story = Preference(FIRST)
    done = aside(await story(row_of(story), cast_of(sampled("same  words", "same words"))))
    assert (done.reason, done.detail, len(done.drafts)) == ("equal_candidates", "all 2", 2)

    story = Preference(FIRST, candidates=3)
    cast = cast_of(sampled("a", "a ", "b"), judge=prefers("b", "a"), can=WEIGHS)
    pairing = pair(await story(row_of(story), cast))
    assert (pairing.chosen, pairing.rejected_draft, len(asked(cast.judge))) == ("b", "candidate.1", 2)


async def test_candidates_that_beat_each_other_in_a_circle_are_a_tie_never_a_turned_label() -> None:
    """a beats b and b beats c by far, and c beats a by little: a wins most and c least, and yet c won their duel."""
    wins = {("a", "b"): 0.9, ("b", "c"): 0.9, ("a", "c"): 0.4}
    story = Preference(FIRST, candidates=3)
    judge = slots(lambda x, y: wins[x, y] if (x, y) in wins else 1 - wins[y, x])
    done = aside(await story(row_of(story), cast_of(sampled("a", "b", "c"), judge=judge, can=WEIGHS)))
    assert (done.reason, done.detail) == ("tie", "candidate.1 wins most, but not against candidate.3")
    assert len(done.votes) == 2


async def test_one_silent_comparison_of_several_leaves_the_row_without_a_label() -> None:
    story = Preference(FIRST, candidates=3)

    def judge(call: Call) -> Any:
        return "?" if set(candidates(call)) == {"b", "c"} else prefers("a", "b", "c")(call)

    done = aside(await story(row_of(story), cast_of(sampled("a", "b", "c"), judge=judge, can=WEIGHS)))
    assert (done.reason, [vote.p_first for vote in done.votes]) == ("judge_silent", [None, None])
    assert len(done.drafts) == 3


async def test_a_failed_candidate_leaves_the_others_in_the_record_in_their_order() -> None:
    story = Preference(FIRST, candidates=3)
    for slow in range(3):

        async def answer(call: Call, slow: int = slow) -> Any:
            for _ in range(20 if call.sample == slow else call.sample):
                await asyncio.sleep(0)
            return ["one", Reply("", "refusal"), "three"][call.sample]

        done = aside(await story(row_of(story), cast_of(answer)))
        assert (done.reason, [draft.name for draft in done.drafts]) == ("refused", ["candidate.1", "candidate.3"])


async def test_a_row_is_the_same_whichever_answer_comes_first() -> None:
    story = Preference(FIRST, candidates=4)
    texts = ("c", "a", "d", "b")

    def slowly(seed: int, answer: Any) -> Any:
        async def later(call: Call) -> Any:
            for _ in range(hashlib.sha256(f"{seed}{call.key}".encode()).digest()[0] % 40):
                await asyncio.sleep(0)
            return answer(call)

        return later

    outcomes = set()
    for seed in range(8):
        cast = cast_of(slowly(seed, sampled(*texts)), judge=slowly(seed, prefers("a", "b", "c", "d")), can=WEIGHS)
        outcomes.add(await story(row_of(story), cast))
    assert len(outcomes) == 1
    assert len(asyncio.all_tasks()) == 1


async def test_of_two_problems_the_first_asked_is_told_whichever_came_first() -> None:
    story = Preference(FIRST)
    for slow in (0, 1):

        async def answer(call: Call, slow: int = slow) -> Any:
            for _ in range(20 if call.sample == slow else 0):
                await asyncio.sleep(0)
            raise [Aside("refused", "first"), CallFailed("no_answer", "second")][call.sample]

        done = aside(await story(row_of(story), cast_of(answer)))
        assert (done.reason, done.detail) == ("refused", "first")


async def test_a_story_leaves_no_question_running_when_the_run_ends() -> None:
    story = Preference(FIRST, candidates=4)
    running = 0

    async def answer(call: Call) -> Any:
        nonlocal running
        running += 1
        try:
            if call.sample == 2:
                raise Halt("wrong key")
            await asyncio.sleep(30)
        finally:
            running -= 1

    with pytest.raises(Halt):
        await story(row_of(story), cast_of(answer))
    assert running == 0 and len(asyncio.all_tasks()) == 1


async def test_trimmed_answers_are_marked_in_both_stories() -> None:
    cut = Reply("Whole. And cu", "length")
    cast = cast_of(lambda call: cut if not call.sample else "Other.", reviser=cut, judge="Answer: A", cut="sentence")
    done = aside(await (story := Revision(FIRST))(row_of(story), replace(cast, critic=cast_of().critic)))
    assert done.reason == "unchanged"
    assert [draft.trimmed for draft in done.drafts] == [True, True]
    done = aside(await (other := Preference(FIRST))(row_of(other), cast))
    assert [(draft.text, draft.trimmed) for draft in done.drafts] == [("Whole.", True), ("Other.", False)]


@pytest.mark.parametrize("kind", [Revision, Preference])
@pytest.mark.parametrize("options", [{}, {"reasoning": True}, {"both_orders": False}])
async def test_the_planned_steps_are_the_calls_of_a_row(kind: Any, options: dict[str, Any]) -> None:
    heard: list[tuple[str, str]] = []
    story = kind(FIRST, Pairwise(**options))
    weigh = prefers("x0", "x1")
    cast = cast_of(
        lambda call: f"x{call.sample}",
        reviser="x1",
        judge=lambda call: weigh(call) if call.labels else "Hm.",
        can=WEIGHS,
    ).listening(lambda one, call, reply: None if reply else heard.append((one.step, one.role)))
    pair(await story(row_of(story), cast))
    assert sorted(heard) == sorted(story.steps(cast))
