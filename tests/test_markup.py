"""The paper's turn markup: literal here, and byte for byte against the released files where they are at hand."""

from __future__ import annotations

import json
import re

from story_kit import SHARED, needs_paper, user

from solon.calls import Message
from solon.generators import Round, document
from solon.judges.pairwise import (
    COMPARE_TEXT_REASONED,
    VERDICT_TEXT,
    VERDICT_TEXT_REASONED,
    compare,
)
from solon.markup import INNER_NAMES, STOPS, ask_for, conversation, own_turn, turn

ROLES = {"Human": "user", "Assistant": "assistant", "H": "user", "A": "assistant"}
TURN = re.compile(r"\n\n(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision): ?")


def test_turns_are_two_line_feeds_a_name_and_words() -> None:
    assert turn("Human", "Hi") == "\n\nHuman: Hi"
    assert ask_for("Critique") == "\n\nCritique:"
    assert conversation(user("Hi", "Hello.", "Bye")) == "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Bye"
    assert conversation(user("Hi", "Yes"), INNER_NAMES) == "\n\nH: Hi\n\nA: Yes"


def test_a_system_message_is_a_paragraph_of_its_own_before_the_turns() -> None:
    assert conversation([Message("system", "Be kind."), *user("Hi")]) == "\n\nBe kind.\n\nHuman: Hi"


def test_a_finished_round_is_the_papers_whole_transcript() -> None:
    done = Round("Say what is bad.", "It is rude.", "Make it good.", "Please.")
    assert document(user("Hi", "Yes?", "Do it"), "No!", done) == (
        "\n\nHuman: Hi\n\nAssistant: Yes?\n\nHuman: Do it\n\nAssistant: No!\n\nCritiqueRequest: Say what is bad."
        "\n\nCritique: It is rude.\n\nRevisionRequest: Make it good.\n\nRevision: Please."
    )


def test_an_unfinished_round_ends_in_the_turn_that_is_asked_for() -> None:
    assert document(user("Hi"), "No!", Round("Why?")).endswith(
        "\n\nAssistant: No!\n\nCritiqueRequest: Why?\n\nCritique:"
    )
    asked = Round("Why?", "It is rude.", "Rewrite.")
    assert document(user("Hi"), "No!", asked).endswith("\n\nRevisionRequest: Rewrite.\n\nRevision:")


def test_the_stops_are_no_more_than_servers_take_and_own_turn_knows_the_rest() -> None:
    assert len(STOPS) == 4
    for name in ("Human", "Assistant", "CritiqueRequest", "Critique", "RevisionRequest", "Revision"):
        assert own_turn(f" Yes.\n\n{name}: More") == " Yes."
    assert own_turn(" Human: no turn\nHuman: nor this\n\nCritiques: nor this") == (
        " Human: no turn\nHuman: nor this\n\nCritiques: nor this"
    )


# -- the released files --------------------------------------------------------------------------------------


def read(name: str) -> list[object] | dict[str, object]:
    return json.loads((SHARED / "cai2022" / name).read_text(encoding="utf-8"))


def parsed(text: str) -> list[tuple[str, str]]:
    """Return (name, words) of every turn of a released transcript."""
    parts = TURN.split(text)
    assert parts[0] == ""
    return list(zip(parts[1::2], parts[2::2], strict=True))


def messages(turns: list[tuple[str, str]]) -> list[Message]:
    return [Message(ROLES[name], words) for name, words in turns]


@needs_paper
def test_the_five_released_transcripts_are_rendered_byte_for_byte() -> None:
    released = read("prompts/CritiqueRevisionFewShotPrompts.json")
    assert len(released) == 5
    for text in released:
        assert isinstance(text, str)
        open_turn = text.endswith(ask_for("Human"))
        turns = parsed(text.removesuffix(ask_for("Human")))
        *prompt, (_, response) = [one for one in turns if one[0] in ROLES]
        step = Round(*(words for name, words in turns if name not in ROLES))
        assert document(messages(prompt), response, step) + (ask_for("Human") if open_turn else "") == text
        # and as far as it has come when the critique, then the revision, is asked for
        before = document(messages(prompt), response, Round(step.critique_request))
        assert text.startswith(before) and before.endswith("\n\nCritique:")
        before = document(
            messages(prompt), response, Round(step.critique_request, step.critique, step.revision_request)
        )
        assert text.startswith(before) and before.endswith("\n\nRevision:")


@needs_paper
def test_the_sixteen_released_requests_are_rendered_byte_for_byte() -> None:
    released = read("prompts/CritiqueRevisionInstructions.json")
    assert isinstance(released, dict) and len(released) == 16
    for pair in released.values():
        assert isinstance(pair, dict)
        for asks, words, answer in (("CritiqueRequest", pair["prompt"][0], "Critique"),
                                    ("RevisionRequest", pair["edit_request"], "Revision")):  # fmt: skip
            request = words.removeprefix(f"\n\n{asks}: ").removesuffix(f"\n\n{answer}:")
            assert turn(asks, request) + ask_for(answer) == words


@needs_paper
def test_the_438_released_comparisons_are_rendered_byte_for_byte() -> None:
    lines = (SHARED / "cai2022/evals/438HHHEvaluations.jsonl").read_text(encoding="utf-8").splitlines()
    released = [json.loads(line)["prompt"] for line in lines]
    assert len(released) == 438
    for text in released:
        head, _, options = text.rpartition(" Options:\n (A) [[[")
        head, _, wording = head.rpartition("\n\n\n")
        talk = head.partition("between a human and an assistant:")[2]
        a, _, b = options.removesuffix("]]]\n\nThe answer is:").partition("]]]\n (B) [[[")
        assert compare("text", messages(parsed(talk)), a, b, wording, "nonce") + VERDICT_TEXT == text


@needs_paper
def test_the_sixteen_released_wordings_of_the_judge_fit_the_comparison() -> None:
    released = read("prompts/RLMadisonInstructions.json")
    assert len(released) == 16
    for words in released:
        assert isinstance(words, str)
        wording = words.removeprefix("\n").removesuffix(" Options:")
        assert f"\n\n{words}\n (A) [[[a]]]\n (B) [[[b]]]" in compare("text", user("Hi"), "a", "b", wording, "nonce")


@needs_paper
def test_the_six_released_items_with_reasoning_are_rendered_byte_for_byte() -> None:
    """Their heads differ by line feeds that are lost, and one by its first line; all that follows is equal."""
    released = read("prompts/RLMadisonPrecogFewShotPrompts.json")
    assert len(released) == 6
    for item in released:
        assert isinstance(item, dict)
        text = "\n\n" + item["prompt"].lstrip("\n").replace(
            " a human and an assistant:", " a human (H) and an assistant (A):"
        )
        head, _, rest = text.partition("\n\n{}\n (A) [[[")
        options, _, answer = rest.partition("]]]\n\nAssistant: Let's think step by step:")
        thought, _, label = answer.rpartition(VERDICT_TEXT_REASONED)
        a, _, b = options.partition("]]]\n (B) [[[")
        # the conversation's turns, as they stand there
        parts = re.split(r"\n\n([HA]): ", head.partition("assistant (A):")[2])
        assert parts[0] == ""
        talk = messages(list(zip(parts[1::2], parts[2::2], strict=True)))
        ours = compare("text", talk, a, b, "WORDING", "nonce", reasoning=True)
        assert ours.replace("\nWORDING Options:", "{}") + thought + VERDICT_TEXT_REASONED + label == text
        assert label in (" (A)", " (B)")


@needs_paper
def test_the_five_released_preference_items_can_be_asked() -> None:
    for item in read("prompts/RLMadisonFewShotPrompts.json"):
        assert isinstance(item, dict)
        talk = messages(parsed(item["prompt"].removesuffix(ask_for("Assistant"))))
        assert conversation(talk) + ask_for("Assistant") == item["prompt"]


def test_the_reasoned_comparison_opens_a_humans_turn() -> None:
    assert COMPARE_TEXT_REASONED.startswith("\n\nHuman: Consider the following conversation")
    assert COMPARE_TEXT_REASONED.endswith("\n\nAssistant: Let's think step by step:")
