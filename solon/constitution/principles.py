"""Principle and Constitution: frozen objects that say what critic, reviser and judge are asked to go by.

Two digests tell what an edit touched. A principle's is over the words that it puts into calls, so a row that met it
knows whether it would be asked the same today; the constitution's is over all that decides draws and words. Names,
reasons, cases, tags and prompts decide neither, and are in neither.

Three forms fit: the flat list of 2022, sampled by weight; the ranked prose of 2026, with reasons, and with hard
constraints that are never weighed but stand in every wording; and lists of traits in the first person.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection, Sequence
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
    field_serializer,
    model_validator,
)
from pydantic_core import PydanticCustomError

from solon import yamls
from solon.complaints import short
from solon.constitution.draw import heaviest
from solon.digests import tagged
from solon.errors import BadInput

__all__ = ["ROLES", "Case", "Constitution", "Exemplar", "Kind", "Principle", "Role", "Turn"]

Role = Literal["critique", "revision", "preference"]
Kind = Literal["principle", "priority", "hard_constraint", "trait"]
ROLES: tuple[Role, ...] = get_args(Role)


def _slug(text: str) -> str:
    if re.fullmatch(r"[a-z0-9]+(?:[._-][a-z0-9]+)*", text):
        return text
    tame = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:40].strip("-")
    raise ValueError(
        f"{short(text)!r} is no id; use small letters and digits, joined by '-', '_' or '.'"
        + (f", for example {tame!r}" if tame else "")
    )


def _turns(given: Any) -> Any:
    if isinstance(given, str):
        return [{"role": "user", "content": given}]
    if isinstance(given, list | tuple):
        return given
    raise PydanticCustomError("turns", "Expected a text, or a list of turns with role and content")


def _for_answering(turns: tuple[Turn, ...]) -> tuple[Turn, ...]:
    if turns[-1].role != "user":
        raise ValueError(f"the last turn is the {turns[-1].role}'s; it must be the user's, who is then answered")
    return turns


def _plain_turns(turns: tuple[Turn, ...]) -> Any:
    if len(turns) == 1:
        return turns[0].content
    return [{"role": turn.role, "content": turn.content} for turn in turns]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Words = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
OneLine = Annotated[Words, AfterValidator(lambda text: " ".join(text.split()))]


class Turn(_Noun):
    """One turn of a conversation."""

    role: Literal["system", "user", "assistant"]
    content: Words


Turns = Annotated[
    tuple[Turn, ...],
    BeforeValidator(_turns, json_schema_input_type=str | tuple[Turn, ...]),
    Field(min_length=1),
    AfterValidator(_for_answering),
]


class Exemplar(_Noun):
    """One worked example for few-shot prompts.

    prompt:   one text, or turns of {role, content} that end with the user's
    response: an answer to it, good or bad
    critique: what the principle makes a critic say of it
    revision: what it becomes; an answer that needs no change stays as it is
    """

    prompt: Turns
    response: Words
    critique: Words
    revision: Words

    _plain = field_serializer("prompt")(_plain_turns)


class Case(_Noun):
    """Two answers to one prompt, and which of them the principle prefers. Nothing is generated from it.

    prompt: one text, or turns of {role, content} that end with the user's
    better: the answer that the principle prefers
    worse:  the other one
    """

    prompt: Turns
    better: Words
    worse: Words

    _plain = field_serializer("prompt")(_plain_turns)


class Principle(_Noun):
    """One rule.

    id:         its name in draws, rows and reports; unique, small letters and digits joined by '-', '_', '.'
    text:       the rule in one line (line breaks count as blanks)
    critique, revision, preference: the words for critic, reviser and judge; where one is missing it is derived
                from `text` by the templates at the foot of this file
    weight:     its share of draws, against the weights of the others; 0 is never drawn
    tags:       for people and reports
    applies_to: prompt tags: it is drawn only for prompts that carry at least one of them; empty is all prompts
    rank:       its place in the prose, 1 first; decides no draw
    kind:       "principle"; "priority" (one that ranks); "hard_constraint" (never drawn, stands in every wording);
                "trait" (`text` in the first person)
    rationale:  why, for people
    exemplars:  worked examples for few-shot prompts
    cases:      pairs of answers that tell what is meant
    prompts:    what users might say that brings this principle out, each one text, or turns that end with the user's;
                for people and for who writes prompts: no row is made of them
    """

    id: Annotated[str, StringConstraints(strip_whitespace=True, min_length=1), AfterValidator(_slug)]
    text: OneLine | None = None
    critique: Words | None = None
    revision: Words | None = None
    preference: Words | None = None
    weight: Annotated[float, Field(ge=0, allow_inf_nan=False, strict=True)] = 1.0
    tags: tuple[OneLine, ...] = ()
    applies_to: tuple[OneLine, ...] = ()
    rank: Annotated[int, Field(ge=1, strict=True)] | None = None
    kind: Kind = "principle"
    rationale: Words | None = None
    exemplars: tuple[Exemplar, ...] = ()
    cases: tuple[Case, ...] = ()
    prompts: tuple[Annotated[Turns, PlainSerializer(_plain_turns)], ...] = ()

    @model_validator(mode="after")
    def _says_something(self) -> Principle:
        if self.kind == "hard_constraint" and self.text is None:
            raise ValueError("a hard constraint needs `text`: it stands in every wording; add `text: ...`")
        if self.text is None and not any(getattr(self, role) for role in ROLES):
            raise ValueError("says nothing; add `text: ...`, or at least one of critique, revision, preference")
        return self

    def own(self, role: Role) -> str | None:
        """Return this principle's wording for `role`, given or derived; None where it has neither.

        A hard constraint is not asked about but stated, so without a wording of its own it is its `text`.
        """
        if role not in ROLES:
            raise ValueError(f"unknown role {role!r}; choose from {', '.join(ROLES)}")
        given: str | None = getattr(self, role)
        if given or not self.text or self.kind == "hard_constraint":
            return given or self.text
        templates = TRAIT if self.kind == "trait" else PRINCIPLE
        return templates[role].replace("{text}", self.text if self.text[-1] in ".!?…" else self.text + ".")

    @property
    def digest(self) -> str:
        """Return 16 hex digits over the words that this principle puts into calls."""
        wordings = {role: self.own(role) for role in ROLES}
        return tagged("solon.principle/1", {**wordings, "hard": self.kind == "hard_constraint"})[:16]

    def applies(self, tags: Collection[str]) -> bool:
        """Return whether this principle may be drawn for a prompt with these tags."""
        return not self.applies_to or any(tag in tags for tag in self.applies_to)


class Constitution(_Noun):
    """Principles in the order of their file, and what stands around them.

    name:        for people, tables and cards
    version:     for people; in quotes where it could be read as a number
    description: for people
    licence:     of the texts; it stands in the card
    source:      where the texts come from; it stands in the card
    preamble:    stands before every wording, a blank line between
    principles:  the rules, in order
    """

    name: OneLine
    version: OneLine | None = None
    description: Words | None = None
    licence: OneLine | None = None
    source: Words | None = None
    preamble: Words | None = None
    principles: Annotated[tuple[Principle, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _ids_are_unique(self) -> Constitution:
        counts = Counter(principle.id for principle in self.principles)
        twice = sorted(id for id, count in counts.items() if count > 1)
        if twice:
            raise PydanticCustomError("also_checked", "Ids are given twice: {ids}", {"ids": ", ".join(twice)})
        return self

    def principle(self, id: str) -> Principle:
        """Return the principle of this id. Raises KeyError."""
        for principle in self.principles:
            if principle.id == id:
                return principle
        raise KeyError(f"constitution {self.name!r} has no principle {id!r}")

    def in_order(self) -> tuple[Principle, ...]:
        """Return the principles by rank, those without one last, otherwise in the order of the file."""
        return tuple(sorted(self.principles, key=lambda each: math.inf if each.rank is None else each.rank))

    @cached_property
    def hard_constraints(self) -> tuple[Principle, ...]:
        """Return the principles that stand in every wording, in order; each step of each row asks for them."""
        return tuple(each for each in self.in_order() if each.kind == "hard_constraint")

    def exemplars(self) -> tuple[tuple[Principle, Exemplar], ...]:
        """Return every few-shot example with the principle that it shows, in the order of the file."""
        return tuple((principle, each) for principle in self.principles for each in principle.exemplars)

    def wording(self, principle: Principle, role: Role) -> str:
        """Return what `role` is told: preamble, the principle's own words, and the hard constraints.

        Without preamble and hard constraints these are the principle's own words, byte for byte. Raises BadInput
        where the principle has none for this role.
        """
        own = principle.own(role)
        if own is None:
            raise BadInput(
                f"constitution {self.name!r}: principle {principle.id!r} has no words for {role}; "
                f"give it `{role}: ...` or `text: ...`"
            )
        return self._around(own, role)

    def judged_by(self, principle: Principle) -> str:
        """Return the judge's wording of one principle, drawn or not: a hard constraint is asked about like a rule.

        Raises BadInput where the principle has no words for a judge.
        """
        if principle.kind != "hard_constraint" or principle.preference:
            return self.wording(principle, "preference")
        return self._around(PRINCIPLE["preference"].replace("{text}", str(principle.text)), "preference")

    def whole_wording(self) -> str:
        """Return the judge's wording of the constitution as a whole: every principle that may be drawn, in order.

        For reports and tests of a constitution; a story's judge goes by one drawn principle. Raises BadInput where
        no principle has words for a judge.
        """
        judged = [each for each in self.in_order() if each.kind != "hard_constraint" and each.weight > 0]
        rules = [words for each in judged if (words := each.text or each.own("preference"))]
        if not rules:
            raise BadInput(f"constitution {self.name!r}: no principle has words for preference; give one a `text: ...`")
        listed = "".join(f"\n{number}. {words}" for number, words in enumerate(rules, start=1))
        return self._around(WHOLE.replace("{rules}", listed), "preference")

    def _around(self, words: str, role: Role) -> str:
        """Return `words` between the preamble and the hard constraints."""
        always = [each.own(role) for each in self.hard_constraints]
        before = f"{self.preamble}\n\n" if self.preamble else ""
        return before + words + (ALWAYS + "".join(f"\n- {each}" for each in always) if always else "")

    def wording_digest(self, principle: Principle, roles: Sequence[Role] = ROLES) -> str:
        """Return 16 hex digits over `principle`'s full wordings for `roles`, preamble and hard constraints included.

        A row records it of what it met, over the roles that the step speaks, and those alone.
        """
        wordings = {role: self.wording(principle, role) if principle.own(role) else None for role in roles}
        return tagged("solon.wording/1", wordings)[:16]

    @property
    def digest(self) -> str:
        """Return 64 hex digits over all that decides draws and words."""
        principles = [
            {
                "id": each.id,
                "digest": each.digest,
                "weight": each.weight,
                "applies_to": sorted(set(each.applies_to)),
                "kind": each.kind,
                "rank": each.rank,
                "exemplars": [
                    [
                        [[turn.role, turn.content] for turn in shown.prompt],
                        shown.response,
                        shown.critique,
                        shown.revision,
                    ]
                    for shown in each.exemplars
                ],
            }
            for each in self.principles
        ]
        return tagged("solon.constitution/1", {"preamble": self.preamble, "principles": principles})

    def drawable(self, roles: Sequence[Role], tags: Collection[str] = ()) -> tuple[Principle, ...]:
        """Return the principles that may be drawn where all of `roles` are needed, for a prompt with `tags`."""
        return tuple(
            each
            for each in self.principles
            if each.weight > 0
            and each.kind != "hard_constraint"
            and each.applies(tags)
            and all(each.own(role) is not None for role in roles)
        )

    def draw(
        self,
        seed: int,
        row: str,
        step: str,
        *,
        roles: Sequence[Role],
        tags: Collection[str] = (),
        without: Collection[str] = (),
    ) -> Principle:
        """Return the principle that this row meets at this step (see draw.py).

        Args:
            seed, row, step: all that the dice know of; `row` is the row's id.
            roles: what the step needs words for.
            tags: the prompt's tags.
            without: ids that this row may not meet (again).

        Raises BadInput where nothing can be drawn.
        """
        drawable = {each.id: each for each in self.drawable(roles, tags) if each.id not in without}
        if not drawable:
            raise BadInput(self._nothing_for(roles, tags, without))
        return drawable[heaviest(((each.id, each.weight) for each in drawable.values()), seed=seed, row=row, step=step)]

    def _nothing_for(self, roles: Sequence[str], tags: Collection[str], without: Collection[str]) -> str:
        whom = f"a prompt tagged {', '.join(sorted(tags))}" if tags else "a prompt without tags"
        met = f", when {', '.join(sorted(without))} may not be met again" if without else ""
        return (
            f"constitution {self.name!r}: no principle can be drawn for {' and '.join(roles)} and {whom}{met}; "
            "add one of weight above 0 that has `text` or these wordings, and whose `applies_to` is empty or fits"
            f"{', or ask for fewer rounds' if without else ''}"
        )

    def to_yaml(self) -> str:
        """Return the constitution as YAML that loads back equal, with the same digest."""
        return yamls.dump(self.model_dump(mode="json", exclude_defaults=True))


PRINCIPLE: dict[Role, str] = {
    "critique": "Consider this principle: {text} Discuss whether the assistant's last response follows it, and point "
    "to the words that do or do not.",
    "revision": "Consider this principle: {text} Rewrite the assistant's last response so that it follows the "
    "principle and answers the human as well as it can; leave as it is what already does.",
    "preference": "Consider this principle: {text} Which of these assistant responses follows it better? Choose the "
    "response that does.",
}
"""What `text` becomes for a role without words of its own. None of them presupposes that something is wrong."""

TRAIT: dict[Role, str] = {
    "critique": 'An assistant says this of itself: "{text}" Discuss whether the assistant\'s last response sounds like '
    "one of whom that is true, and point to the words that do or do not.",
    "revision": 'An assistant says this of itself: "{text}" Rewrite the assistant\'s last response as one of whom that '
    "is true would give it, without speaking of the trait; leave as it is what already fits.",
    "preference": 'An assistant says this of itself: "{text}" Which of these assistant responses would it more likely '
    "have given? Choose that response.",
}
"""The same for `kind: trait`, whose `text` speaks in the first person."""

ALWAYS = "\n\nWhatever else holds, these always do:"
"""Stands between a wording and the hard constraints."""

WHOLE = """\
Consider these principles together:
{rules}

Which of these assistant responses follows them better as a whole? Where they pull apart, weigh them as a thoughtful \
person would. Choose the response that does."""
"""The judge's wording of all principles at once; what each says to a judge is its `text`, else its own wording."""
