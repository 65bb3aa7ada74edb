"""Constitutions: what an assistant is to go by, read from YAML, and which of its principles a row meets.

constitution = load("cai-2022")
principle = constitution.draw(0, row, "revision.1", roles=["critique", "revision"])
constitution.wording(principle, "critique")
"""

from __future__ import annotations

from solon.constitution.load import Resolved, load, parse, resolve, shipped, shipped_text
from solon.constitution.principles import ROLES, Case, Constitution, Exemplar, Kind, Principle, Role, Turn

__all__ = [
    "ROLES",
    "Case",
    "Constitution",
    "Exemplar",
    "Kind",
    "Principle",
    "Resolved",
    "Role",
    "Turn",
    "load",
    "parse",
    "resolve",
    "shipped",
    "shipped_text",
]
