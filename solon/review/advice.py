"""What a recipe gives reason to advise, besides its constitution's wordings: which principles its prompts never meet.

    met = Meetings()
    for prompt in read_prompts(recipe.prompts, base):
        met.add(prompt, dice.throw(prompt))
    advise(recipe, page, resolved, met)

The dice are thrown as the plan throws them, so that what is said of draws is exact and not an expectation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from solon import yamls
from solon.complaints import closest
from solon.constitution.inherit import Resolved
from solon.constitution.principles import Principle
from solon.constitution.rules import RULES, Advice, heed
from solon.pipelines.recipe import Recipe
from solon.rows import Draw, Prompt

__all__ = ["Meetings", "advise"]

MOST_NAMED = 8


@dataclass
class Meetings:
    """What the prompts of a recipe meet.

    prompts: how many there are
    tags:    every tag that one of them carries
    draws:   how often each principle is drawn, by id, over all steps of their rows
    """

    prompts: int = 0
    tags: set[str] = field(default_factory=set)
    draws: Counter[str] = field(default_factory=Counter)

    def add(self, prompt: Prompt, draws: Iterable[Draw]) -> None:
        """Count one prompt and what its row meets."""
        self.prompts += 1
        self.tags.update(prompt.tags)
        self.draws.update(draw.principle for draw in draws)


def advise(recipe: Recipe, page: yamls.Document, resolved: Resolved, met: Meetings) -> list[Advice]:
    """Return what may be better in a recipe, by file and line, less what comments silence.

    page: the recipe's document, where advice stands that no line of the user's own constitution is to blame for
    met:  what all prompts of the recipe meet
    """
    ours = {resolved.document.name, *map(str, resolved.files)} if resolved.files else set()
    advice = []
    for number, principle in enumerate(resolved.constitution.principles):
        if _could_be_drawn(principle) and not principle.applies(met.tags):
            place = resolved.place("principles", number, "applies_to")
            place = place if place[0] in ours else (page.name, page.line(("constitution",)))
            advice.append(Advice.by("unmet", place, _unmet(recipe, principle, met)))
    advice += _not_drawn(recipe, page, resolved, met)
    documents = [resolved.document, *(yamls.read(file) for file in resolved.files[1:])]
    # a recipe's own comments can silence nothing else: they are held against every rule
    return heed(heed(advice, documents), [page], [rule for rule in RULES if rule != "useless-ignore"])


def _unmet(recipe: Recipe, principle: Principle, met: Meetings) -> str:
    wanted = principle.applies_to
    near = next((f"; did you mean {found!r}?" for tag in wanted if (found := closest(tag, met.tags))), "")
    tags = f"the tag {wanted[0]!r}" if len(wanted) == 1 else f"one of the tags {', '.join(map(repr, wanted))}"
    return (
        f"no prompt of {recipe.prompts.source} carries {tags}, so that {principle.id!r} is never drawn{near}"
        f"{'' if near else '; tag the prompts that it is meant for, or take `applies_to` out'}"
    )


def _not_drawn(recipe: Recipe, page: yamls.Document, resolved: Resolved, met: Meetings) -> Iterator[Advice]:
    constitution = resolved.constitution
    steps = recipe.story.story(constitution, recipe.judging).draws()
    possible = [each for each in constitution.principles if _could_be_drawn(each) and each.applies(met.tags)]
    left = [each for each in possible if not met.draws[each.id]]
    if not left:
        return
    names = []
    for principle in left[:MOST_NAMED]:
        spoken = any(all(principle.own(role) for role in roles) for _, roles in steps)
        names.append(principle.id if spoken else f"{principle.id} (it has no words for this story)")
    more = f" and {len(left) - MOST_NAMED:,} more" if len(left) > MOST_NAMED else ""
    told = "not drawn for the one prompt" if met.prompts == 1 else f"drawn for none of the {met.prompts:,} prompts"
    yield Advice.by(
        "not-drawn",
        (page.name, page.line(("prompts",))),
        f"{len(left):,} of {len(possible):,} principles are {told}: "
        f"{', '.join(names)}{more}; give more prompts, or leave these out",
    )


def _could_be_drawn(principle: Principle) -> bool:
    return principle.weight > 0 and principle.kind != "hard_constraint"
