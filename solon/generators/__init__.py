"""Generators: the crafts of the supervised stage. Each is one async function of a Player and some words."""

from __future__ import annotations

from solon.digests import tagged
from solon.generators.critique import STRUCTURED, critique
from solon.generators.dialogue import CRITIQUE_CHAT, REVISION_CHAT, Round, Shot, document, transcript
from solon.generators.respond import respond
from solon.generators.revise import RULES, revise, strip_preamble

__all__ = [
    "STRUCTURED", "TEMPLATES", "Round", "Shot", "critique", "document", "respond", "revise", "strip_preamble",
    "transcript",
]  # fmt: skip

TEMPLATES = tagged("solon.templates/1", [CRITIQUE_CHAT, REVISION_CHAT, *RULES])[:16]
"""What the crafts say and strip of their own accord, by digest: part of every plan's name."""
