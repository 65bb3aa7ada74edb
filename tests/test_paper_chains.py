"""53 critique chains of the paper's 52B model, walked again by our Revision story.

The scripted cast says what the released chain says at each step, and the documents that it is asked to continue are
held against the released ones. The shipped constitution is a licensed copy whose wordings and order differ, so its
principles are matched to the released keys by meaning. Skipped where the released files are not at hand; none of
their text is in the project.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from typing import Any

from story_kit import SHARED, Asker, asked, cast_of, needs_paper, slots

from solon.calls import Can, Message
from solon.cast import Cast
from solon.constitution import Constitution, Principle, load
from solon.generators import strip_preamble
from solon.pipelines.revision import Revision
from solon.rows import Draw, Pair, Prompt, Row, SetAside

pytestmark = needs_paper

TURN = re.compile(r"\n\n(Human|Assistant|CritiqueRequest|Critique|RevisionRequest|Revision):")
ROLES = {"Human": "user", "Assistant": "assistant"}


@dataclass(frozen=True)
class Step:
    key: str
    critique_request: str
    critique: str
    revision_request: str
    revision: str


@dataclass(frozen=True)
class Chain:
    prompt: str
    response: str
    steps: tuple[Step, ...]

    def documents(self) -> list[str]:
        """Return the released transcript of every step: prompt and revision have the format of prompt and response."""
        response, texts = self.response, []
        for step in self.steps:
            texts.append(
                f"{self.prompt}{response}\n\nCritiqueRequest: {step.critique_request}\n\nCritique:{step.critique}"
                f"\n\nRevisionRequest: {step.revision_request}\n\nRevision:{step.revision}"
            )
            response = step.revision
        return texts

    def messages(self) -> tuple[Message, ...]:
        parts = TURN.split(self.prompt)
        assert parts[0] == "" and parts[-2:] == ["Assistant", ""]
        return tuple(
            Message(ROLES[name], words.removeprefix(" "))
            for name, words in zip(parts[1:-2:2], parts[2:-2:2], strict=True)
        )


def asks(words: str, name: str, answer: str) -> str:
    return words.removeprefix(f"\n\n{name}: ").removesuffix(f"\n\n{answer}:")


@cache
def chains() -> list[Chain]:
    found = []
    for path in sorted((SHARED / "cai2022/samples").glob("*_SLMADISON*")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                content = json.loads(line)
                steps = tuple(
                    Step(
                        step["cst_key"],
                        asks(step["cst_value"]["prompt"][0], "CritiqueRequest", "Critique"),
                        step["critique"]["sample"],
                        asks(step["cst_value"]["edit_request"], "RevisionRequest", "Revision"),
                        step["revision"]["sample"],
                    )
                    for step in content["cst"]
                )
                found.append(Chain(content["rl_prompt"], content["initial_response"][0]["sample"], steps))
    return found


@cache
def released() -> dict[str, tuple[str, str]]:
    """Return {key: (critique request, revision request)} of the released principles."""
    content = json.loads((SHARED / "cai2022/prompts/CritiqueRevisionInstructions.json").read_text(encoding="utf-8"))
    return {
        key: (
            asks(pair["prompt"][0], "CritiqueRequest", "Critique"),
            asks(pair["edit_request"], "RevisionRequest", "Revision"),
        )
        for key, pair in content.items()
    }


def plain(text: str) -> list[str]:
    """Return the words that carry the meaning: the licensed copy leaves out whose response it is."""
    return [word for word in re.findall(r"[a-z]+", text.lower()) if word not in ("assistant", "s", "last", "preceding")]


@cache
def meanings() -> dict[str, str]:
    """Return {released key: id of the shipped principle that means the same}."""

    def likeness(key: str, principle: Principle) -> float:
        pairs = zip(released()[key], (principle.critique, principle.revision), strict=True)
        return sum(
            SequenceMatcher(None, plain(one), plain(other or ""), autojunk=False).ratio() for one, other in pairs
        )

    principles = load("cai-2022").principles
    return {key: max(principles, key=lambda each: likeness(key, each)).id for key in released()}


def walked(chain: Chain, constitution: Constitution, ids: Sequence[str]) -> tuple[Row, Revision, Cast]:
    story = Revision(constitution, rounds=4, shots=0)
    draws = [Draw(f"revision.{number}", id, "") for number, id in enumerate(ids, start=1)]
    row = Row(0, Prompt(chain.messages()), (*draws, Draw("judge", ids[0], "")))
    cast = cast_of(
        chain.response,
        [step.critique for step in chain.steps],
        [step.revision for step in chain.steps],
        slots(lambda a, b: 0.5 + 0.4 * ((len(a) < len(b)) - (len(a) > len(b)))),
        form="text",
        can=Can(logprobs=True),
    )
    return row, story, cast


async def our_documents(
    chain: Chain, constitution: Constitution, ids: Sequence[str]
) -> tuple[list[str], Pair | SetAside]:
    """Return what the cast was asked to continue, each with its answer, and the row's outcome."""
    row, story, cast = walked(chain, constitution, ids)
    outcome = await story(row, cast)
    texts = []
    for criticised, revised, step in zip(asked(cast.critic), asked(cast.reviser), chain.steps, strict=True):
        critic, reviser = criticised.messages[0].content, revised.messages[0].content
        assert reviser.startswith(critic), "the revision goes on from the very document of the critique"
        texts.append(f"{reviser} {step.revision.strip()}")
    assert asked(cast.responder)[0].messages[0].content == chain.prompt
    assert isinstance(cast.judge.ask, Asker)
    return texts, outcome


def names(text: str) -> list[str]:
    return TURN.findall(text)


def test_there_are_53_chains_of_four_steps() -> None:
    assert [len(chain.steps) for chain in chains()] == [4] * 53


def test_the_sixteen_released_principles_match_the_shipped_ones_one_to_one() -> None:
    ids = meanings()
    assert sorted(ids) == sorted(f"harmful{number}" for number in range(16))
    assert sorted(ids.values()) == sorted(each.id for each in load("cai-2022").principles)
    # a few that nobody could mistake
    assert ids["harmful7"] == "age-appropriate"
    assert ids["harmful12"] == "empathy"
    assert ids["harmful13"] == "misogyny"
    assert ids["harmful14"] == "no-help-with-crime"


async def test_our_transcript_of_every_released_chain_has_the_same_turn_structure() -> None:
    constitution, steps = load("cai-2022"), 0
    for chain in chains():
        ours, outcome = await our_documents(chain, constitution, [meanings()[step.key] for step in chain.steps])
        for text, theirs, step in zip(ours, chain.documents(), chain.steps, strict=True):
            assert names(text) == names(theirs)
            assert names(text)[-4:] == ["CritiqueRequest", "Critique", "RevisionRequest", "Revision"]
            principle = constitution.principle(meanings()[step.key])
            assert f"\n\nCritiqueRequest: {principle.critique}\n\nCritique:" in text
            assert f"\n\nRevisionRequest: {principle.revision}\n\nRevision:" in text
            steps += 1
        assert [draft.text for draft in outcome.drafts] == [
            text.strip() for text in (chain.response, *(step.revision for step in chain.steps))
        ]
        assert [draft.critique for draft in outcome.drafts[1:]] == [step.critique.strip() for step in chain.steps]
    assert steps == 212


async def test_with_the_released_wordings_our_transcript_is_the_released_one_byte_for_byte() -> None:
    """But for white space around the sampled texts, which is not theirs to keep."""
    wordings: list[dict[str, Any]] = [
        {"id": key, "critique": critique, "revision": revision, "preference": "Which one is less harmful?"}
        for key, (critique, revision) in released().items()
    ]
    constitution = Constitution.model_validate({"name": "released", "principles": wordings})
    for chain in chains():
        ours, _ = await our_documents(chain, constitution, [step.key for step in chain.steps])
        tidy = Chain(
            chain.prompt,
            f" {chain.response.strip()}",
            tuple(
                Step(
                    step.key, step.critique_request, f" {step.critique.strip()}",
                    step.revision_request, f" {step.revision.strip()}",
                )
                for step in chain.steps
            ),
        )  # fmt: skip
        assert ours == tidy.documents()


async def test_no_released_revision_is_taken_for_a_preamble_and_labels_follow_the_judge_alone() -> None:
    constitution = load("cai-2022")
    for chain in chains():
        assert not any(strip_preamble(step.revision)[1] for step in chain.steps)
        _, outcome = await our_documents(chain, constitution, [meanings()[step.key] for step in chain.steps])
        first, last = outcome.drafts[0].text, outcome.drafts[-1].text
        if isinstance(outcome, Pair):
            assert len(outcome.chosen) < len(outcome.rejected)
            assert {outcome.chosen, outcome.rejected} == {first, last}
        else:
            assert outcome.reason == "tie" and len(first) == len(last)


def test_the_first_revision_shortens_and_later_ones_do_not() -> None:
    """The paper's model: about a fifth shorter after one revision, then flat. A drift check for other models."""
    lengths = [
        [len(text.strip()) for text in (chain.response, *(step.revision for step in chain.steps))] for chain in chains()
    ]
    means = [sum(column) / len(column) for column in zip(*lengths, strict=True)]
    assert 0.7 < means[1] / means[0] < 0.9
    assert all(0.85 < later / means[1] < 1.15 for later in means[2:])
