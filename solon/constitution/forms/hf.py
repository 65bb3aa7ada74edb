"""The constitution of Hugging Face's llm-swarm recipe ("Constitutional AI with Open LLMs", 2024).

    {"constitutions": [{"critic": ..., "revision": ...}], "system_chat": [[{"role": ..., "content": ...}, ...], ...]}

A chat of `system_chat` is a worked example: a prompt, an answer, a critique request and its critique, a revision
request and its revision. It belongs to the principle whose requests it uses. Where no principle has them, one of
weight 0 holds it: shown in few-shot prompts, never drawn.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from solon.constitution.forms.files import Draft, Form, Ids, Source, Value
from solon.constitution.principles import Constitution, Exemplar, Principle

__all__ = ["HF"]

ROLES = ["assistant", "user", "assistant", "user", "assistant"]
"""Who speaks after the prompt: answer, critique request, critique, revision request, revision."""


def _read(source: Source) -> Draft:
    value = source.json()
    ids, unread = Ids(), Counter(value.entries("an object with 'constitutions'").keys())
    principles: list[dict[str, Any]] = []
    places: dict[tuple[str, str], int] = {}
    for entry in value["constitutions"].items("a list of {critic, revision}"):
        requests = entry["critic"].text(), entry["revision"].text()
        places.setdefault(requests, len(principles))
        principles.append({"id": ids(requests[0]), "critique": requests[0], "revision": requests[1]})
        unread.update(entry.unread("critic", "revision"))
    draft = Draft({"name": source.stem, "principles": principles})
    order = []
    for chat in value["system_chat"].items("a list of chats") if "system_chat" in unread else ():
        said = _turns(chat)
        if [role for role, _ in said[-5:]] != ROLES or [role for role, _ in said[:-5]][-1:] != ["user"]:
            draft.notes.append(
                f"{chat.path} is left out: not a prompt, an answer, a critique request, a critique, a revision request "
                "and a revision"
            )
            continue
        response, critic, critique, reviser, revision = (words for _, words in said[-5:])
        if (critic, reviser) not in places:
            id = ids(critic)
            places[critic, reviser] = len(principles)
            principles.append({"id": id, "critique": critic, "revision": reviser, "weight": 0.0})
            draft.notes.append(
                f"{chat.path} uses requests of its own: {id!r} of weight 0 holds them, shown, never drawn"
            )
        prompt = [{"role": role, "content": words} for role, words in said[:-5]]
        shown = {"prompt": prompt, "response": response, "critique": critique, "revision": revision}
        order.append(places[critic, reviser])
        principles[order[-1]].setdefault("exemplars", []).append(shown)
    if order != sorted(order):
        draft.notes.append("the chats of $.system_chat stand with their principles now, and are shown in their order")
    del unread["constitutions"], unread["system_chat"]
    draft.tell_unread(unread)
    return draft


def _turns(chat: Value) -> list[tuple[str, str]]:
    turns = []
    for turn in chat.items("a list of {role, content}"):
        if turn["role"].value not in ("system", "user", "assistant"):
            raise turn["role"].wrong("one of system, user, assistant")
        turns.append((turn["role"].value, turn["content"].text()))
    return turns


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    requests = {
        each.id: (critique, revision)
        for each in constitution.principles
        if each.kind != "hard_constraint" and (critique := each.own("critique")) and (revision := each.own("revision"))
    }
    asked = [each for each in constitution.principles if each.id in requests]
    kept = [each for each in asked if each.weight > 0]
    entries = [{"critic": requests[each.id][0], "revision": requests[each.id][1]} for each in kept]
    taken = {requests[each.id] for each in kept}
    for each in asked:
        # what is never drawn is no entry, but its examples are shown
        if each.weight == 0 and each.exemplars and requests[each.id] not in taken:
            kept.append(each)
            taken.add(requests[each.id])
    chats = [_chat(shown, *requests[each.id]) for each in kept for shown in each.exemplars]
    text = json.dumps({"constitutions": entries, "system_chat": chats}, indent=2, ensure_ascii=False)
    return text + "\n", kept


def _chat(shown: Exemplar, critic: str, reviser: str) -> list[dict[str, str]]:
    said = [(turn.role, turn.content) for turn in shown.prompt]
    texts = (shown.response, critic, shown.critique, reviser, shown.revision)
    return [{"role": role, "content": words} for role, words in [*said, *zip(ROLES, texts, strict=True)]]


def _fits(value: Any) -> bool:
    return isinstance(value, dict) and "constitutions" in value


HF = Form(
    "critics and revisions with example chats, the JSON of Hugging Face's llm-swarm recipe",
    _write, _read, _fits, is_json=True,
)  # fmt: skip
