"""Constitutions: what an assistant is to go by, read from YAML, and which of its principles a row meets.

constitution = load("cai-2022")
principle = constitution.draw(0, row, "revision.1", roles=["critique", "revision"])
constitution.wording(principle, "critique")
"""

from __future__ import annotations

from solon.constitution.inherit import Resolved, show
from solon.constitution.load import Reader, installed, load, parse, resolve, shipped, shipped_text
from solon.constitution.pages import ConstitutionPage
from solon.constitution.principles import ROLES, Case, Constitution, Exemplar, Kind, Principle, Role, Turn

__all__ = [
    "ROLES",
    "Case",
    "Constitution",
    "ConstitutionPage",
    "Exemplar",
    "Kind",
    "Principle",
    "Reader",
    "Resolved",
    "Role",
    "Turn",
    "installed",
    "load",
    "parse",
    "resolve",
    "shipped",
    "shipped_text",
    "show",
]
