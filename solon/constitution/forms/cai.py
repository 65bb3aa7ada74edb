r"""The two JSON files of the Constitutional AI repository (Bai et al. 2022).

    CritiqueRevisionInstructions.json    {"harmful0": {"prompt": ["\n\nCritiqueRequest: ...\n\nCritique:"],
                                                       "edit_request": "\n\nRevisionRequest: ...\n\nRevision:"}}
    RLMadisonInstructions.json           ["\n... Options:", ...]

The markup around the words is the paper's, and the same in every entry: it is taken off here and put back there.
"""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from solon.constitution.forms.files import Draft, Form, Ids, Source, Value
from solon.constitution.principles import Constitution, Principle

__all__ = ["PAIRS", "PREFERENCES"]

CRITIQUE = ("\n\nCritiqueRequest: ", "\n\nCritique:")
REVISION = ("\n\nRevisionRequest: ", "\n\nRevision:")
PREFERENCE = ("\n", " Options:")


def _bare(value: Value, frame: tuple[str, str], plain: list[str]) -> str:
    """Return the words within their markup; the place of a text without it is added to `plain`."""
    text = value.text()
    before, after = frame
    if not (text.startswith(before) and text.endswith(after) and len(text) >= len(before + after)):
        plain.append(value.path)
        return text
    words = text[len(before) : len(text) - len(after)]
    if not words.strip():
        raise value.wrong("words within the markup")
    return words


def _told(plain: list[str]) -> list[str]:
    more = ", ..." if len(plain) > 3 else ""
    return [f"without the paper's markup, taken as it stands: {', '.join(plain[:3])}{more}"] if plain else []


def _read_pairs(source: Source) -> Draft:
    ids, plain, unread, renamed = Ids(), list[str](), Counter[str](), list[str]()
    principles = []
    for key, entry in source.json().entries("an object: {name: {prompt, edit_request}}").items():
        requests = entry["prompt"].items("a list of one critique request")
        if len(requests) != 1:
            raise entry["prompt"].wrong(f"a list of one critique request, not of {len(requests)}")
        critique = _bare(requests[0], CRITIQUE, plain)
        revision = _bare(entry["edit_request"], REVISION, plain)
        unread.update(entry.unread("prompt", "edit_request"))
        id = ids(key)
        renamed += [f"{key!r} is called {id!r} here"] if id != key else []
        principles.append({"id": id, "critique": critique, "revision": revision})
    draft = Draft({"name": source.stem, "principles": principles}, [*renamed, *_told(plain)])
    draft.tell_unread(unread)
    return draft


def _read_preferences(source: Source) -> Draft:
    ids, plain = Ids(), list[str]()
    words = [_bare(each, PREFERENCE, plain) for each in source.json().items("a list of texts")]
    principles = [{"id": ids(each), "preference": each} for each in words]
    return Draft({"name": source.stem, "principles": principles}, _told(plain))


def _drawn(constitution: Constitution) -> list[Principle]:
    """Return what may be drawn: both files are lists to draw from, each entry as likely as the next."""
    return [each for each in constitution.principles if each.weight > 0 and each.kind != "hard_constraint"]


def _write_pairs(constitution: Constitution) -> tuple[str, list[Principle]]:
    kept, entries = [], {}
    for each in _drawn(constitution):
        critique, revision = each.own("critique"), each.own("revision")
        if critique and revision:
            kept.append(each)
            entries[each.id] = {"prompt": [critique.join(CRITIQUE)], "edit_request": revision.join(REVISION)}
    return json.dumps(entries, indent=2, ensure_ascii=False) + "\n", kept


def _write_preferences(constitution: Constitution) -> tuple[str, list[Principle]]:
    kept = [each for each in _drawn(constitution) if each.own("preference")]
    texts = [str(each.own("preference")).join(PREFERENCE) for each in kept]
    return json.dumps(texts, indent=2, ensure_ascii=False) + "\n", kept


def _is_pairs(value: Any) -> bool:
    entries = value.values() if isinstance(value, dict) else ()
    return any(isinstance(each, dict) and {"prompt", "edit_request"} & set(each) for each in entries)


def _is_preferences(value: Any) -> bool:
    texts = value if isinstance(value, list) else ()
    return any(isinstance(each, str) and each.endswith(PREFERENCE[1]) for each in texts)


PAIRS = Form(
    "critique and revision requests, the CAI repository's CritiqueRevisionInstructions.json",
    _write_pairs, _read_pairs, _is_pairs, is_json=True,
)  # fmt: skip
PREFERENCES = Form(
    "comparisons, the CAI repository's RLMadisonInstructions.json",
    _write_preferences, _read_preferences, _is_preferences, is_json=True,
)  # fmt: skip
