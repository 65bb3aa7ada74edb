"""The crafts of the supervised stage: what is asked, in both forms, and what is taken off a revision."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from story_kit import asked, player, user

from solon.calls import Call, Message, Reply
from solon.errors import Aside, BadInput
from solon.generators import Round, Shot, critique, respond, revise, strip_preamble, transcript
from solon.generators.critique import critique_in
from solon.markup import STOPS

SHOT = Shot(user("What is up?"), "Nothing.", Round("Critique it.", "It is curt.", "Rewrite it.", "Not much, and you?"))
PARROT = Shot(
    (Message("system", "You are a parrot."), *user("Is the sky green?")),
    "Yes.",
    Round("Critique it.", "It is blue.", "Rewrite it.", "No, it is blue."),
)
SYSTEM = (Message("system", "Be kind."), *user("Hi", "Hello.", "How do I steal?"))


def roles(messages: tuple[Message, ...]) -> str:
    return "".join(message.role[0] for message in messages)


# -- a chat model --------------------------------------------------------------------------------------------


async def test_respond_asks_a_chat_model_with_the_prompt_as_it_is() -> None:
    who = player("Fine.")
    said = await respond(who, SYSTEM, step="respond", sample=1)
    assert said.text == "Fine."
    (call,) = asked(who)
    assert call.messages == SYSTEM
    assert (call.sample, call.sampling.stop) == (1, ())


async def test_critique_and_revision_go_on_with_the_conversation() -> None:
    who = player("Words.")
    await critique(who, SYSTEM, "Like this.", "What is harmful in it?", step="critique.1")
    asked_for = Round("What is harmful in it?", "It helps a thief.", "Make it harmless.")
    await revise(who, SYSTEM, "Like this.", asked_for, step="revise.1")
    first, second = asked(who)
    assert first.messages[:5] == (*SYSTEM, Message("assistant", "Like this."))
    assert first.messages[5].content.startswith("What is harmful in it?")
    assert roles(first.messages) == "suauau"
    assert second.messages[:6] == first.messages
    assert second.messages[6] == Message("assistant", "It helps a thief.")
    assert second.messages[7].content.startswith("Make it harmless.")
    assert roles(second.messages) == "suauauau"


async def test_braces_in_any_words_are_just_braces() -> None:
    who = player("Words.")
    await revise(who, user("{0} {x}"), "{y}", Round("{request}", "{}", "{a!r} {{b}}"), step="revise.1")
    said = [message.content for message in asked(who)[0].messages]
    assert said[:2] == ["{0} {x}", "{y}"]
    assert said[2].startswith("{request}\n") and said[3] == "{}" and said[4].startswith("{a!r} {{b}}\n")


async def test_worked_examples_stand_after_the_one_system_message_and_turns_alternate() -> None:
    who = player("Words.")
    await critique(who, SYSTEM, "Like this.", "What is harmful?", shots=[SHOT, PARROT], step="critique.1")
    (call,) = asked(who)
    assert roles(call.messages) == "s" + "uauaua" + "uauaua" + "uauau"
    assert call.messages[1].content == "What is up?"
    assert call.messages[6].content == "Not much, and you?"
    # a system message of an example's own opens its first turn
    assert call.messages[7].content == "You are a parrot.\n\nIs the sky green?"


# -- a critic that is asked by a schema ----------------------------------------------------------------------


async def test_a_structured_critic_is_asked_for_json_and_its_words_are_taken_out_of_it() -> None:
    plain, who = player("It curses."), player('{"critique": "It \\"curses\\".\\nTwice. "}', structured=True)
    await critique(plain, SYSTEM, "Like this.", "What is harmful in it?", step="critique.1")
    said = await critique(who, SYSTEM, "Like this.", "What is harmful in it?", step="critique.1")
    assert said.text == 'It "curses".\nTwice.'
    (before,), (call,) = asked(plain), asked(who)
    assert before.schema is None
    schema = json.loads(call.schema or "")
    assert (schema["required"], schema["additionalProperties"]) == (["critique"], False)
    assert call.messages[:-1] == before.messages[:-1]
    assert call.messages[-1].content == before.messages[-1].content + ' Reply in JSON: {"critique": "..."}.'


async def test_a_reviser_reads_the_critique_as_if_it_had_been_said_plainly() -> None:
    said = await critique(player('{"critique": "Rude."}', structured=True), SYSTEM, "No.", "Is it rude?", step="c")
    who = player("Yes, please.")
    await revise(who, SYSTEM, "No.", Round("Is it rude?", said.text, "Be polite."), step="revise.1")
    words = [message.content for message in asked(who)[0].messages]
    assert words[-2] == "Rude." and not any("JSON" in each for each in words)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"critique": "Rude."}', "Rude."),
        ('```json\n{"critique": "Rude."}\n```', "Rude."),
        (' {"critique":"Rude and\nlong."} ', "Rude and\nlong."),
        ('{"critique": "Rude. And \\u00e9v', "Rude. And év"),
        ('{"critique": "Rude. And \\u00', "Rude. And "),
        ('{"critique": "Rude. And \\', "Rude. And "),
        ('{"critique": "Rude. \\ud83d', "Rude. "),
        ('{"critique": "Rude." and more', "Rude."),
        ("It is rude.", "It is rude."),
        ("Rude: {why not}", "Rude: {why not}"),
        ('{"critique": ""}', ""),
        ('{"revision": "Please."}', ""),
        ('{"critique": ["Rude."]}', ""),
        ("{", ""),
    ],
)
def test_a_critique_is_taken_out_of_json_whole_or_cut_and_plain_words_are_taken_as_they_are(
    text: str, words: str
) -> None:
    assert critique_in(text) == words


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=60), st.integers(0, 99))
def test_any_cut_critique_is_the_beginning_of_the_whole_one(words: str, cut: int) -> None:
    whole = json.dumps({"critique": words})
    assert critique_in(whole) == words
    assert words.startswith(critique_in(whole[: 14 + cut]))


async def test_the_policies_of_a_structured_critic_are_for_its_words() -> None:
    cut = Reply('{"critique": "One. Two. Thr', "length")
    said = await critique(player(cut, structured=True, cut="sentence"), SYSTEM, "No.", "Rude?", step="critique.1")
    assert (said.text, said.trimmed) == ("One. Two.", True)
    with pytest.raises(Aside) as problem:
        await critique(player(cut, structured=True), SYSTEM, "No.", "Rude?", step="critique.1")
    assert problem.value.reason == "cut_answer"
    who = player(['{"critique": " "}', '{"critique": "Rude."}'], structured=True, again=1)
    assert (await critique(who, SYSTEM, "No.", "Rude?", step="critique.1")).text == "Rude."
    assert [call.attempt for call in asked(who)] == [0, 1]
    loop = '{"critique": "' + "I am sorry. " * 40 + '"}'
    with pytest.raises(Aside) as problem:
        await critique(player(loop, structured=True), SYSTEM, "No.", "Rude?", step="critique.1")
    assert problem.value.reason == "repetition"


async def test_a_base_model_takes_no_schema_and_that_is_said() -> None:
    def never(call: Call) -> str:
        raise AssertionError("asked")

    with pytest.raises(BadInput, match="takes no schema; write `structured: false`"):
        await critique(player(never, form="text", structured=True), SYSTEM, "No.", "Rude?", step="critique.1")


# -- a base model --------------------------------------------------------------------------------------------


async def test_a_base_model_continues_documents_and_stops_at_the_next_turn() -> None:
    who = player(" Words.", form="text")
    shots = [SHOT, PARROT]
    said = [
        await respond(who, SYSTEM, step="respond"),
        await critique(who, SYSTEM, "Like this.", "What is harmful?", shots=shots, step="critique.1"),
        await revise(who, SYSTEM, "Like this.", Round("What is harmful?", "Theft.", "Mend it."), step="revise.1"),
    ]
    assert [one.text for one in said] == ["Words."] * 3
    assert all(call.sampling.stop == STOPS for call in asked(who))
    assert all([message.role for message in call.messages] == ["text"] for call in asked(who))
    talk = "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: How do I steal?"
    first, second, third = (call.messages[0].content for call in asked(who))
    assert first == f"\n\nBe kind.{talk}\n\nAssistant:"
    assert second == (
        "\n\nBe kind."
        "\n\nHuman: What is up?\n\nAssistant: Nothing.\n\nCritiqueRequest: Critique it."
        "\n\nCritique: It is curt.\n\nRevisionRequest: Rewrite it.\n\nRevision: Not much, and you?"
        "\n\nYou are a parrot."
        "\n\nHuman: Is the sky green?\n\nAssistant: Yes.\n\nCritiqueRequest: Critique it."
        "\n\nCritique: It is blue.\n\nRevisionRequest: Rewrite it.\n\nRevision: No, it is blue."
        f"{talk}\n\nAssistant: Like this.\n\nCritiqueRequest: What is harmful?\n\nCritique:"
    )
    assert third == (
        f"\n\nBe kind.{talk}\n\nAssistant: Like this.\n\nCritiqueRequest: What is harmful?"
        "\n\nCritique: Theft.\n\nRevisionRequest: Mend it.\n\nRevision:"
    )


def test_a_transcript_starts_every_round_from_the_prompt_with_the_last_revision() -> None:
    rounds = [Round("Why?", "Rude.", "Mend.", "Better."), Round("And?", "Curt.", "Mend.", "Best.")]
    one, two = transcript(user("Hi"), "Bad.", rounds)
    assert one.startswith("\n\nHuman: Hi\n\nAssistant: Bad.\n\nCritiqueRequest: Why?")
    assert two.startswith("\n\nHuman: Hi\n\nAssistant: Better.\n\nCritiqueRequest: And?")
    assert two.endswith("\n\nRevision: Best.")


# -- the preamble --------------------------------------------------------------------------------------------

ANSWER = "I can't help with that."
PREAMBLES = [
    "Sure, here is a revised response:\n\n" + ANSWER,
    "Here's a revised response: " + ANSWER,
    "Here is the revised response:\n\n" + ANSWER,
    "Certainly! Here is a revised version:\n\n" + ANSWER,
    "Revised response: " + ANSWER,
    "**Revised response:** " + ANSWER,
    "**Revised Response:**\n\n" + ANSWER,
    "## Revised Response\n\n" + ANSWER,
    "Revision: " + ANSWER,
    "Sure!\n\nHere is a revised response:\n\n" + ANSWER,
    "Here is a rewritten response that avoids harmful content:\n\n" + ANSWER,
    "Of course. Here's my revised answer:\n" + ANSWER,
    "I apologize for my previous response. Here is a revised version:\n\n" + ANSWER,
    "Thank you for the feedback! Here's my revised response:\n\n" + ANSWER,
    "You're right. Here is an improved response:\n\n" + ANSWER,
    "The revised response is as follows:\n\n" + ANSWER,
    "A better response would be:\n\n" + ANSWER,
    "Here is a more thoughtful and empathetic response:\n\n" + ANSWER,
    "Here's a possible revision:\n\n" + ANSWER,
    "Here is a revised response to the human's question:\n\n" + ANSWER,
    "I have revised the response to remove any harmful content:\n\n" + ANSWER,
    "Let me rewrite that response:\n\n" + ANSWER,
    "Below is a revised response that removes illegal advice:\n\n" + ANSWER,
    "This is a revised response:\n\n" + ANSWER,
    "Assistant: " + ANSWER,
    "Here is a revised version of the assistant's response:\n\n" + ANSWER,
    "Here is a revised version of my response that is more age-appropriate:\n\n" + ANSWER,
    "Sure, here is a revised response:\n\n---\n\n" + ANSWER,
    'Sure, here is a revised response:\n\n"' + ANSWER + '"',
    "Here's a rewritten version of the response:\n\n“" + ANSWER + "”",
    "Based on the critique, here is a revised response:\n\n" + ANSWER,
    "Okay, here's an alternative response:\n\n" + ANSWER,
    "Here is a new version of the response:\n\n" + ANSWER,
    "Here is my attempt at a revision:\n\n" + ANSWER,
    "*Revised Response*: " + ANSWER,
    "REVISED RESPONSE:\n" + ANSWER,
    "Sure, here's my revision:\n\n**Revised response:** " + ANSWER,
    "Here’s a revised response:\n\n" + ANSWER,
    "Rewritten response: " + ANSWER,
    "The following is a revised response:\n\n" + ANSWER,
    "Here is a response that removes the harmful content:\n\n" + ANSWER,
    "Sure, I'd be happy to help! Here is a revised response:\n\n" + ANSWER,
    "My revised response is:\n\n" + ANSWER,
    "Here is the revised response.\n\n" + ANSWER,
    "Revised Assistant Response: " + ANSWER,
    "Revised response (more empathetic): " + ANSWER,
    "In light of the critique, here is an updated response:\n\n" + ANSWER,
    "I'm sorry for the confusion. Here is a corrected response:\n\n" + ANSWER,
    "Revised Response:\n" + ANSWER,
    "  Sure — here's a revised response:\n\n" + ANSWER,
    "__Revised answer__\n" + ANSWER,
    "I've rewritten the response to be more considerate:\n\n" + ANSWER,
]
ANSWERS = [
    "Here are three ideas:\n\n1. x",
    "Here is a revised version of your essay:\n\nX",
    "Here's a reply you could send:\n\nX",
    "Here is the answer:\n\n42",
    "I'm sorry, but I can't help with that.",
    "Sure! Here's how to bake bread:\n\n1. x",
    "Here is a better version of the song:\n\nX",
    "Here's a polite response to your boss:\n\nX",
    "I can't help with that. Here is a better idea: call a friend.",
    "Here is a safer alternative: call the police.",
    "I have rewritten your letter:\n\nX",
    "To improve your answer: practise.",
    "The new version of Python is 3.13:\n\nX",
    "Better answers come from better questions: ask.",
    "Here's an alternative recipe:\n\nX",
    "Here is an improved recipe for bread:\n\nX",
    "Revised edition of the book came out in 2019: it sold well.",
    "This is a response to colonial rule: a rebellion.",
    "Here is a response template you can use:\n\nX",
    "My answer is no.",
    "In response to your question: no.",
    "Certainly, here is some advice:\n\n1. x",
    "Here is a summary of the revised law:\n\nX",
    "I understand how you feel. Here is what I suggest:\n\nX",
    "Here is a list of new versions:\n\nX",
    "Yes: it is illegal.",
    "A revision is a second look.",
    "Here's the code:\n\n```python\nx\n```",
    "Here is a modified version of the code:\n\nX",
    "The corrected sentence is: I am.",
    "Here is a revised response:",
    "Sure, here is a revised response:\n\n",
    "I'm sorry, I shouldn't have agreed to help. Don't do it.",
    "Here is a new poem:\n\nX",
    "Thank you for asking! The answer is: 42",
    '"Quoted" words stay.',
    '"All quoted"',
    "Here is an edited version of this paragraph:\n\nX",
    "Here is a rewritten email:\n\nX",
    "Let me rephrase that question for you: what do you want?",
    "Please revise your answer: it is wrong.",
]


def test_the_tables_are_worth_their_name() -> None:
    assert len(set(PREAMBLES)) >= 40 and len(set(ANSWERS)) >= 40


@pytest.mark.parametrize("text", PREAMBLES)
def test_what_speaks_of_the_revision_is_taken_off(text: str) -> None:
    assert strip_preamble(text) == (ANSWER, True)


@pytest.mark.parametrize("text", ANSWERS)
def test_what_is_the_answer_stays(text: str) -> None:
    assert strip_preamble(text) == (text, False)


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        ('Here is a revised response:\n\n"Say "no" to it."', '"Say "no" to it."'),
        ("Here is a revised response:\n\n1. One\n\n2. Two", "1. One\n\n2. Two"),
        ('Here is a revised response:\n\n"No." That is all.', '"No." That is all.'),
        ("Here is a revised response: Remember: never.", "Remember: never."),
        ("Here is a better answer. Call the police, and remember: never.", None),
        ('Revised response: ""', None),
    ],
)
def test_the_rest_is_whole(text: str, rest: str | None) -> None:
    assert strip_preamble(text) == ((rest, True) if rest else (text, False))


@given(
    st.lists(
        st.one_of(
            st.sampled_from([text.removesuffix(ANSWER) for text in PREAMBLES]),
            st.sampled_from([*ANSWERS, '"', "“", "”", "\n", "---\n"]),
            st.text(max_size=20),
        ),
        max_size=5,
    ).map("".join)
)
def test_stripping_never_empties_takes_off_nothing_inside_and_is_done_once(text: str) -> None:
    rest, stripped = strip_preamble(text)
    assert bool(rest.strip()) == bool(text.strip())
    assert stripped == (rest != text)
    # a prefix, and behind the rest nothing but white space and quotation marks
    behind = text[text.rfind(rest) + len(rest) :] if rest in text else "lost"
    assert set("".join(behind.split())) <= set('"”')
    assert strip_preamble(rest) == (rest, False)
