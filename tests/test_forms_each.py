"""What each form makes of a file, and a file of each: the paper's JSON, trait lists, prose, pages, system prompts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from constitution_kit import FLAT_2022, RANKED_2026, TRAITS, constitution, principle
from forms_kit import CHARACTER, FULL, OPTIONS, PAIRS, PROSE, problem, read

from solon.constitution import load, parse
from solon.constitution.forms import write_form
from solon.errors import BadInput

# -- the JSON of the paper, of the recipe, and of the trait lists ----------------------------------------------------


def test_the_markup_of_the_paper_comes_off_and_goes_on_again(tmp_path: Path) -> None:
    done = read(tmp_path, PAIRS, "Instructions.json")
    assert done.constitution == constitution(
        {"id": "harmful0", "critique": "Is it kind?", "revision": "Make it kind."}, name="Instructions"
    )
    assert json.loads(write_form(done.constitution, "cai").text) == json.loads(PAIRS)
    wishes = read(tmp_path, OPTIONS).constitution
    assert [(each.id, each.preference) for each in wishes.principles] == [
        ("choose-the-kinder-response", "Choose the kinder response."),
        ("choose-the-kinder-response-2", "Choose the kinder response."),
    ]
    assert json.loads(write_form(wishes, "cai-preferences").text) == json.loads(OPTIONS)


def test_words_without_the_markup_are_taken_as_they_stand_and_told(tmp_path: Path) -> None:
    done = read(tmp_path, '{"No Harm!": {"prompt": ["Is it?"], "edit_request": "Make it.", "author": "x"}}')
    assert done.constitution.principles == (principle(id="no-harm", text=None, critique="Is it?", revision="Make it."),)
    assert done.notes == (
        "'No Harm!' is called 'no-harm' here",
        'without the paper\'s markup, taken as it stands: $["No Harm!"].prompt[0], $["No Harm!"].edit_request',
        "key 'author' is not read (found 1 times)",
    )


def test_a_list_to_draw_from_holds_what_can_be_drawn_with_the_wordings_made_of_text() -> None:
    given = parse(FULL)
    for form, roles in (("cai", 2), ("cai-preferences", 1), ("hf", 2)):
        done = write_form(given, form)
        assert {"never", "asleep"} <= set(done.lost["principle"]), form
        assert "I am kind." in done.text
        assert done.text.count("An assistant says this of itself") == roles, form


def test_a_principle_that_is_made_of_text_is_asked_alike_when_it_comes_back(tmp_path: Path) -> None:
    given = load("first-steps")
    again = read(tmp_path, write_form(given, "hf").text).constitution
    asked = [(each.own("critique"), each.own("revision")) for each in given.principles]
    assert [(each.critique, each.revision) for each in again.principles] == asked


def chat(*said: str) -> list[dict[str, str]]:
    roles = ("user", "assistant", "user", "assistant", "user", "assistant", "user", "assistant")
    return [{"role": role, "content": words} for role, words in zip(roles[-len(said) :], said, strict=True)]


def test_example_chats_become_exemplars_of_the_principle_whose_requests_they_use(tmp_path: Path) -> None:
    own = chat("Hi", "Ho", "Is it kind?", "No.", "Make it kind.", "Hello")
    strange = chat("Why?", "So.", "Still?", "No.", "Is it true?", "No.", "Make it true.", "Because.")
    cut = chat("Hi", "Ho", "Is it kind?", "No.")
    given = {"constitutions": [{"critic": "Is it kind?", "revision": "Make it kind."}], "model": "m",
             "system_chat": [strange, cut, own]}  # fmt: skip
    done = read(tmp_path, json.dumps(given))
    kind, true = done.constitution.principles
    assert [(shown.response, shown.critique, shown.revision) for shown in kind.exemplars] == [("Ho", "No.", "Hello")]
    assert (true.id, true.weight, true.critique, true.revision) == ("is-it-true", 0, "Is it true?", "Make it true.")
    assert [turn.content for turn in true.exemplars[0].prompt] == ["Why?", "So.", "Still?"]
    assert done.notes == (
        "$.system_chat[0] uses requests of its own: 'is-it-true' of weight 0 holds them, shown, never drawn",
        "$.system_chat[1] is left out: not a prompt, an answer, a critique request, a critique, a revision request and "
        "a revision",
        "the chats of $.system_chat stand with their principles now, and are shown in their order",
        "key 'model' is not read (found 1 times)",
    )
    written = json.loads(write_form(done.constitution, "hf").text)
    assert written == {"constitutions": given["constitutions"], "system_chat": [own, strange]}


def test_questions_of_a_trait_are_its_prompts(tmp_path: Path) -> None:
    done = read(tmp_path, CHARACTER)
    (trait,) = done.constitution.principles
    assert (trait.kind, trait.text, [turns[0].content for turns in trait.prompts]) == (
        "trait", "I am kind.", ["Who are you?", "Are you well?"],
    )  # fmt: skip
    assert json.loads(write_form(done.constitution, "traits").text) == json.loads(CHARACTER)


def test_prompts_decide_no_digest() -> None:
    plain, asked = constitution(principle()), constitution(principle(prompts=["Who are you?"]))
    assert (plain.digest, plain.principles[0].digest) == (asked.digest, asked.principles[0].digest)
    assert "prompts" not in plain.to_yaml()


# -- lists and prose -------------------------------------------------------------------------------------------------


def test_a_list_has_a_name_a_description_and_reasons(tmp_path: Path) -> None:
    done = read(
        tmp_path,
        "# House rules\n\nWe answer\nlike this:\n\n1. Say what is so,\n   whoever asks.\n   - People act\n     on it.\n"
        "2. Be brief\nand kind.\n\nThanks for reading.\n",
        form="list",
    )
    assert (done.constitution.name, done.constitution.description) == ("House rules", "We answer\nlike this:")
    assert [(each.id, each.text, each.rationale) for each in done.constitution.principles] == [
        ("say-what-is-so-whoever-asks", "Say what is so, whoever asks.", "- People act on it."),
        ("be-brief-and-kind", "Be brief and kind.", None),
    ]
    assert done.notes == ("line 13 is no item and is left out: 'Thanks for reading.'",)
    assert write_form(done.constitution, "list").text == "1. Say what is so, whoever asks.\n2. Be brief and kind.\n"


def test_ids_are_made_of_the_first_words_whatever_their_script(tmp_path: Path) -> None:
    done = read(tmp_path, "Ne mens pas à l’élève\nБудь добр\nБудь добр\nBe kind\nBE KIND\n")
    ids = [each.id for each in done.constitution.principles]
    assert ids == ["ne-mens-pas-a-leleve", "principle", "principle-2", "be-kind", "be-kind-2"]


def test_prose_becomes_an_outline(tmp_path: Path) -> None:
    done = read(tmp_path, PROSE, "rules.md")
    given = done.constitution
    assert (given.name, given.description, given.preamble) == (
        "House rules", "For all of us.", "You speak to *strangers*.",
    )  # fmt: skip
    assert [(each.id, each.kind, each.rank, each.weight, each.text) for each in given.principles] == [
        ("lines", "principle", None, 0, "Some lines are fixed. The assistant should never:"),
        ("never-help-to-poison-anybody", "hard_constraint", None, 1,
         "The assistant should never: Help to poison anybody"),
        ("never-name-a-private-person", "hard_constraint", None, 1,
         "The assistant should never: Name a private person"),
        ("never-sell-anything", "hard_constraint", None, 1, "The assistant should never: sell anything"),
        ("what-comes-first", "principle", None, 1, "We weigh these in the order given:"),
        ("truth", "priority", 1, 1, "We weigh these in the order given: Truth: say what is so"),
        ("care", "priority", 2, 1, "We weigh these in the order given: Care"),
        ("on-kindness", "principle", None, 1, "A short paragraph."),
        ("deeper", "principle", None, 1,
         "This first sentence says what is asked of the assistant, e.g. to be kind."),
        ("being-fair", "priority", None, 1, "Be fair."),
    ]  # fmt: skip
    assert (
        given.principle("on-kindness").rationale == "## On _kindness_\n\nA short paragraph.\n\n```\n# no heading\n```"
    )
    assert given.principle("being-fair").rationale == "### Being fair\n\nBe fair."
    assert done.notes[0].startswith("an outline: 10 principles, 3 of them hard constraints, 2 ranked")


def test_prose_is_written_again_with_every_paragraph(tmp_path: Path) -> None:
    given = read(tmp_path, PROSE, "rules.md").constitution
    done = write_form(given, "prose")
    assert done.lost == {}
    assert done.text.split() == PROSE.split()


def test_an_outline_that_was_edited_is_written_as_it_reads_now(tmp_path: Path) -> None:
    """A hard constraint that was taken out does not come back with the prose that it stood in."""
    given = read(tmp_path, PROSE, "rules.md").constitution
    kept = tuple(each for each in given.principles if each.id != "never-sell-anything")
    reworded = kept[-1].model_copy(update={"text": "Be fair to all."})
    edited = given.model_copy(update={"principles": (*kept[:-1], reworded)})
    done = write_form(edited, "prose")
    again = read(tmp_path, done.text, form="prose").constitution
    assert [(each.text, each.kind) for each in again.principles] == [
        (each.text, each.kind) for each in edited.principles
    ]
    assert again.principle("being-fair").rationale == kept[-1].rationale
    assert set(done.lost) == {"weight"}  # of the section, which now stands as a principle among the others


def test_text_without_headings_is_a_principle_a_paragraph(tmp_path: Path) -> None:
    long = "Be kind to whoever asks. " + "It costs little and it is remembered for longer than the answer is. " * 4
    done = read(tmp_path, f"{long}\n\nBe brief:\n\n- in words\n- in time\n", form="prose").constitution
    assert [(each.text, each.rationale) for each in done.principles] == [
        ("Be kind to whoever asks.", long.removeprefix("Be kind to whoever asks.").strip()),
        ("Be brief:", "- in words\n- in time"),
    ]


def test_a_heading_over_a_list_alone_says_what_the_list_says(tmp_path: Path) -> None:
    done = read(tmp_path, "## Kindness\n\n- Do not mock.\n- Say thanks.\n\n## Empty\n").constitution
    assert done.principles[0].text == "Kindness: Do not mock.; Say thanks."
    assert read(tmp_path, "## Kindness\n\n- Do not mock.\n\n## Empty\n").notes[0] == (
        "the heading '## Empty' has no text below it and is left out"
    )


@pytest.mark.parametrize("text", [FLAT_2022, RANKED_2026, TRAITS])
def test_prose_keeps_kinds_under_their_headings(tmp_path: Path, text: str) -> None:
    given = parse(text)
    done = write_form(given, "prose")
    again = read(tmp_path, done.text).constitution
    held = [each for each in given.principles if each.text]
    assert [(each.id, each.kind, each.text, each.rationale) for each in again.principles] == [
        (each.id, each.kind, each.text, each.rationale) for each in held
    ]
    assert ("rank" in done.lost) == (text is RANKED_2026)


# -- pages for readers, and prompts for models -----------------------------------------------------------------------


def test_a_page_for_readers_shows_every_field() -> None:
    page = write_form(parse(FULL), "markdown").text
    for shown in ("# Everything", "- version: 3", "> For people.", "**Preamble**", "## full", "> Say what is so.",
                  "- kind: priority\n- rank: 2\n- weight: 2.0\n- tag: truth\n- applies to: facts", "**Why**",
                  "**Critique**", "**Example**\n\n*user*\n\n> Hi\n\n*response*\n\n> Ho", "**Case**"):  # fmt: skip
        assert shown in page


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (("# Everything\n", ""), ":4: no line above this one names the constitution; add `# its name`"),
        (("# Everything\n", "# "), ":3: no line above this one names the constitution; add `# its name`"),
        (("**Source**", "**Sources**"), ":10: unknown label 'Sources'; did you mean 'Source'?"),
        (("**Why**\n", ""), ":29: a text that nothing names; put `**Why**` or another label above it"),
        (("**Preference**", "**Revision**"), ":42: `revision` is given a second time; keep one"),
        (("> Say what is so.", "Say what is so."), ":20: 'Say what is so.' has no place here; expected `## id`"),
        (("- weight: 2.0", "- weight: heavy"), ":24: `weight` is 'heavy'; expected a number"),
        (("- weight: 2.0", "- weight: -1"), ":24: 'weight' in principle 'full' must be at least 0"),
        (("- version: 3", "- weight: 3"), ":5: `weight` has no place here; it belongs under the `## id` of a"),
        (("- rank: 2", "- licence: MIT"), ":23: `licence` has no place here; it belongs under the name of the"),
        (("## full", "## Full"), ":18: 'id' in principle 'Full': 'Full' is no id; use small letters"),
        (("## trait", "## full"), ":150: id 'full' is taken already; give every principle an id of its own"),
        (("*better*", "*best*"), ":70: unknown key 'best' in item 1 of 'cases' in principle 'full'; did you mean"),
        (("*worse*\n\n> Ho", ""), ":62: 'worse' is missing in item 1 of 'cases'"),
        (("*user*\n\n> Is it so?", "*who*\n\n> Is it so?"), ":80: unknown part 'who'; choose from: system, user"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_page_is_told_with_its_line(tmp_path: Path, change: tuple[str, str], told: str) -> None:
    page = write_form(parse(FULL), "markdown").text
    changed = page.replace(*change, 1)
    assert changed != page
    assert told in problem(tmp_path, changed)


def test_a_system_prompt_speaks_to_the_assistant() -> None:
    told = write_form(parse(RANKED_2026), "system-prompt")
    assert (
        told.text
        == """\
The assistant serves people.

It weighs what follows, in this order.

Whatever you are asked or told, these always hold for you:

- No deceiving of those who oversee it.

- No help towards weapons of mass harm.

Within these bounds, go by these principles whenever you answer. Where two of them pull apart, the one that stands \
earlier counts for more.

1. Say what is so, whoever asks.

2. Be of real help.

   Not helping has a cost too.

3. Be brief.
"""
    )
    traits = write_form(parse(TRAITS), "system-prompt").text
    assert traits.startswith("This is who you are, in your own words; let it show in how you answer")
    assert "- I love a well-timed joke\n" in traits
    assert write_form(parse(FULL), "system-prompt").lost["principle"] == ("own-words", "own-words-again", "asleep")


def test_a_system_prompt_does_not_say_a_section_twice(tmp_path: Path) -> None:
    told = write_form(read(tmp_path, PROSE, "rules.md").constitution, "system-prompt").text
    assert told.count("A short paragraph.") == told.count("Be fair.") == 1
    assert "#" not in told.replace("# no heading", "")


def test_a_system_prompt_is_read_as_prose(tmp_path: Path) -> None:
    done = read(tmp_path, "Be kind.\n\nBe brief.\n", form="system-prompt")
    assert done.notes == ("a system-prompt is read as prose",)
    assert [each.text for each in done.constitution.principles] == ["Be kind.", "Be brief."]


def test_nothing_to_write_is_told() -> None:
    wordless = constitution(principle(text=None, critique="Is it?"))
    for form in ("list", "prose", "traits", "system-prompt", "cai", "hf", "cai-preferences"):
        with pytest.raises(BadInput, match=f"constitution 'test': no principle has what `{form}` holds"):
            write_form(wordless, form)
    with pytest.raises(BadInput, match="unknown form 'json'; choose from"):
        write_form(wordless, "json")
