"""How a critique and a revision are asked for: as a document in the paper's markup, or as turns of a chat.

Both forms hold the same words in the same order: worked examples, the conversation, the answer, the request for a
critique, the critique, the request for a revision. The wordings are the constitution's; what Solon adds for chat
models stands at the foot of this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from solon.calls import Message
from solon.markup import ask_for, conversation, turn

__all__ = ["CRITIQUE_CHAT", "REVISION_CHAT", "Round", "Shot", "document", "transcript", "turns"]


@dataclass(frozen=True, slots=True)
class Round:
    """One critique and revision as far as they have come: None for what is still to be asked."""

    critique_request: str
    critique: str | None = None
    revision_request: str | None = None
    revision: str | None = None


@dataclass(frozen=True, slots=True)
class Shot:
    """One worked example: a conversation, its answer, and what a principle made of it."""

    prompt: tuple[Message, ...]
    response: str
    round: Round


def document(prompt: Sequence[Message], response: str, step: Round, shots: Sequence[Shot] = ()) -> str:
    """Return the text that a base model is to continue; a finished round gives the paper's whole transcript."""
    # a system message speaks of everything below it, so it stands before the worked examples here and in a chat
    text = conversation([message for message in prompt if message.role == "system"])
    text += "".join(document(shot.prompt, shot.response, shot.round) for shot in shots)
    text += conversation([*(message for message in prompt if message.role != "system"), Message("assistant", response)])
    text += turn("CritiqueRequest", step.critique_request)
    if step.critique is None:
        return text + ask_for("Critique")
    text += turn("Critique", step.critique) + turn("RevisionRequest", step.revision_request or "")
    return text + (ask_for("Revision") if step.revision is None else turn("Revision", step.revision))


def turns(prompt: Sequence[Message], response: str, step: Round, shots: Sequence[Shot] = ()) -> list[Message]:
    """Return the messages that ask a chat model for what is still to come of `step`."""
    # a system message of the prompt stays first: chat templates accept it nowhere else
    system = [message for message in prompt if message.role == "system"]
    messages = [message for shot in shots for message in _finished(shot)]
    messages += [message for message in prompt if message.role != "system"]
    messages += [Message("assistant", response), Message("user", CRITIQUE_CHAT.format(request=step.critique_request))]
    if step.critique is not None:
        messages += [
            Message("assistant", step.critique),
            Message("user", REVISION_CHAT.format(request=step.revision_request)),
        ]
    if step.revision is not None:
        messages += [Message("assistant", step.revision)]
    return [*system, *messages]


def _finished(shot: Shot) -> list[Message]:
    """Return a worked example's turns; a system message of its own opens its first turn."""
    messages = turns(shot.prompt, shot.response, shot.round)
    if messages[0].role != "system":
        return messages
    system, first, *rest = messages
    return [Message(first.role, f"{system.content}\n\n{first.content}"), *rest]


def transcript(prompt: Sequence[Message], response: str, rounds: Sequence[Round]) -> list[str]:
    """Return the documents of a finished chain, one a round, as the paper prints them.

    Each round starts again from the prompt with the last revision as its answer: prompt and revision have the
    format of prompt and response (Bai et al. 2022, section 3.1).
    """
    documents = []
    for step in rounds:
        documents.append(document(prompt, response, step))
        response = step.revision or response
    return documents


# The second sentences keep the two points of view apart: without worked examples a model writes a critique where a
# revision is due, or the reverse (Bai et al. 2022, section 3.1), or begins with "Sure, here is a revised response:"
# (Hugging Face, "Constitutional AI with Open LLMs", 2024).
CRITIQUE_CHAT = """\
{request}

Write the critique only; the revision comes later."""

REVISION_CHAT = """\
{request}

Write the revised response only, as it should be said to the human."""
