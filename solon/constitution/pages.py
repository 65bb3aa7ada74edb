"""The constitution's YAML page: the keys of a Constitution, and those by which it reuses others.

    name: mine
    extends: cai-2022                    # or {use: ./base.yaml, without: [chatty]}, or a list of such
    override:
      harmless-1: {weight: 2, tags: null}
    principles:
      - {id: plain-words, text: Say it in plain words.}

A page is what stands in one file; `inherit` makes the Constitution of it that Solon works with.
"""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from solon.constitution.principles import Case, Exemplar, Kind, OneLine, Principle, Turns, Words

__all__ = ["ConstitutionPage", "Override", "Parent", "WholePage"]


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


# (an empty one names no file, and is told as such)
Reference = Annotated[str, StringConstraints(strip_whitespace=True)]


class Parent(_Page):
    """A constitution that is extended. A reference alone takes all of its principles.

    use:     a shipped name, the name of an installed package's constitution, or a path beside this file
    without: ids of its principles that are left out
    only:    ids of its principles that are taken, in the order of its file
    """

    model_config = ConfigDict(json_schema_extra={"not": {"required": ["without", "only"]}})

    use: Reference
    without: Annotated[tuple[OneLine, ...], Field(min_length=1)] = ()
    only: Annotated[tuple[OneLine, ...], Field(min_length=1)] = ()


class Override(_Page):
    """What changes in one inherited principle: the keys of a principle but its `id`.

    Only what is given replaces the inherited value; `null` takes it away, so that the default holds again.
    """

    text: OneLine | None = None
    critique: Words | None = None
    revision: Words | None = None
    preference: Words | None = None
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] | None = None
    tags: tuple[OneLine, ...] | None = None
    applies_to: tuple[OneLine, ...] | None = None
    rank: Annotated[int, Field(ge=1, strict=True)] | None = None
    kind: Kind | None = None
    rationale: Words | None = None
    exemplars: tuple[Exemplar, ...] | None = None
    cases: tuple[Case, ...] | None = None
    prompts: tuple[Turns, ...] | None = None


class ConstitutionPage(_Page):
    """Principles in the order of the file, and what stands around them.

    name:        for people, tables and cards; never inherited
    version:     for people; in quotes where it could be read as a number; never inherited
    description: for people; never inherited
    extends:     constitutions whose principles come first: a reference, {use: reference, without: [ids]} or
                 {use: reference, only: [ids]}, or a list of these
    override:    by id, what changes in inherited principles; they keep their places
    licence:     of the texts; it stands in the card; default: those of the extended ones
    source:      where the texts come from; it stands in the card; default: those of the extended ones
    preamble:    stands before every wording, a blank line between; default: that of the extended ones, where they
                 agree; `null` is none
    principles:  the rules, in order, after the inherited ones; required where nothing is extended
    """

    model_config = ConfigDict(json_schema_extra={"anyOf": [{"required": ["principles"]}, {"required": ["extends"]}]})

    name: OneLine
    version: OneLine | None = None
    description: Words | None = None
    extends: Reference | Parent | tuple[Reference | Parent, ...] = ()
    override: dict[str, Override] = {}
    licence: OneLine | None = None
    source: Words | None = None
    preamble: Words | None = None
    principles: tuple[Principle, ...] = ()


class WholePage(ConstitutionPage):
    """A page that extends nothing."""

    principles: Annotated[tuple[Principle, ...], Field(min_length=1)]
