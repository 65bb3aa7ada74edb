"""Solon's own words, by name and digest: what an upgrade may change, and which calls are then asked anew.

A recipe's words are the user's, and `solon plan` tells what an edit of them did. These are Solon's: an upgrade that
rewords one of them makes other questions of the very same recipe. A run keeps their digests in its run.json.
"""

from __future__ import annotations

from collections.abc import Mapping

from solon.calls import Message
from solon.digests import tagged
from solon.generators import STRUCTURED, Round, document
from solon.generators.dialogue import CRITIQUE_CHAT, REVISION_CHAT
from solon.judges import TEMPLATES as JUDGE
from solon.pipelines.survey import Survey

__all__ = ["asked_anew", "own_wordings", "reworded", "told"]

NAMES = {
    "judge": ("the judge's question", "judge"),
    "critique": ("the request for a critique", "critic"),
    "revision": ("the request for a revision", "reviser"),
    "markup": ("the turns that base models continue", "responder"),
}
"""What people call each of them, and the role whose calls hold it first: what follows them is asked anew as well."""


def own_wordings() -> dict[str, str]:
    """Return the digest of each of Solon's own wordings."""
    sample = [Message("system", "s"), Message("user", "u"), Message("assistant", "a"), Message("user", "v")]
    markup = document(sample, "r", Round("c", "d", "e", "f"))
    return {
        "judge": JUDGE,
        "critique": tagged("solon.wordings/1", [CRITIQUE_CHAT, STRUCTURED])[:16],
        "revision": tagged("solon.wordings/1", [REVISION_CHAT])[:16],
        "markup": tagged("solon.wordings/1", [markup])[:16],
    }


def reworded(before: object) -> list[str]:
    """Return the names of the wordings that are others than a run's run.json says; none where it says nothing."""
    if not isinstance(before, Mapping):
        return []
    return [name for name, digest in own_wordings().items() if before.get(name, digest) != digest]


def asked_anew(survey: Survey, names: list[str]) -> int:
    """Return how many new calls a plan has from the first step on whose question holds one of these wordings."""
    roles = {NAMES[name][1] for name in names}
    steps = list(survey.roles)
    first = next((place for place, step in enumerate(steps) if survey.roles[step] in roles), len(steps))
    return round(sum(survey.steps[step].expected for step in steps[first:]))


def told(name: str) -> str:
    """Return what people call a wording."""
    return NAMES[name][0]
