"""The trait lists of Open Character Training (2025): JSON, in files that end in .txt.

[{"trait": "I ...", "questions": ["...", ...]}, ...]

The questions bring the trait out: they are the principle's `prompts`.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from solon.constitution.forms.files import Draft, Form, Ids, Source
from solon.constitution.principles import Constitution, Principle

__all__ = ["TRAITS"]


def _read(source: Source) -> Draft:
    ids, unread = Ids(), Counter[str]()
    principles = []
    for entry in source.json().items("a list of {trait, questions}"):
        trait = entry["trait"].text()
        unread.update(entry.unread("trait", "questions"))
        questions = entry["questions"].items("a list of texts") if "questions" in entry.value else []
        principles.append(
            {"id": ids(trait), "text": trait, "kind": "trait", "prompts": [question.text() for question in questions]}
        )
    draft = Draft({"name": source.stem, "principles": principles})
    draft.tell_unread(unread)
    return draft


def _write(constitution: Constitution) -> tuple[str, list[Principle]]:
    kept = [each for each in constitution.principles if each.text]
    entries = [
        {"trait": each.text, "questions": [turns[0].content for turns in each.prompts if len(turns) == 1]}
        for each in kept
    ]
    return json.dumps(entries, indent=4, ensure_ascii=False) + "\n", kept


def _fits(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(each, dict) and "trait" in each for each in value)


TRAITS = Form(
    "first-person traits with five questions each, the JSON lists of Open Character Training",
    _write, _read, _fits, is_json=True,
)  # fmt: skip
