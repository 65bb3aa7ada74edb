"""What an edit of the constitution means for the rows of a recipe: which would draw another principle, which would
meet other words, which stay as they are. No model is asked: the dice of both constitutions are thrown.

    moved(read_recipe("recipe.yaml"), base, load("before.yaml"), load("after.yaml")).told
    # "of 2,000 rows 113 draw another principle, 240 meet changed words, 1,647 stay as they are"
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from solon.calls import Message
from solon.constitution import Constitution
from solon.dataset import RowStore, read_prompts
from solon.errors import BadInput
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import Recipe
from solon.review.sources import Found
from solon.rows import Draw, Prompt

__all__ = ["Moved", "StepMoved", "moved", "moved_between"]


@dataclass
class StepMoved:
    """One step's rows, a row counted once: those that draw another principle, and those that meet it in other words.

    flows: {(principle before, principle after): rows}
    words: {principle: rows}
    """

    moved: int = 0
    reworded: int = 0
    flows: Counter[tuple[str, str]] = field(default_factory=Counter)
    words: Counter[str] = field(default_factory=Counter)


@dataclass
class Moved:
    """What becomes of a recipe's rows; each row is counted once, in the first of these that it fits.

    rows:        distinct prompts
    unplanned:   no principle applies to them any more: the recipe cannot be run before that is mended
    newly:       no principle applied to them before
    moved:       draw another principle at some step
    reworded:    meet changed words at some step: of their principle, or around it (preamble, hard constraints)
    worked:      meet changed worked examples alone, which stand in every critique and revision of a base model
    same:        stay as they are: every first call is known if it was known before
    steps:       the same by step; a row may move at several
    why_unplanned: what is wrong with the first unplanned row
    """

    rows: int = 0
    unplanned: int = 0
    newly: int = 0
    moved: int = 0
    reworded: int = 0
    worked: int = 0
    same: int = 0
    steps: dict[str, StepMoved] = field(default_factory=dict)
    why_unplanned: str = ""

    @property
    def told(self) -> str:
        """Return one sentence."""

        def told(rows: int, one: str, more: str) -> str:
            return f"{rows:,} {one if rows == 1 else more}"

        parts = [
            told(self.moved, "draws another principle", "draw another principle"),
            told(self.reworded, "meets changed words", "meet changed words"),
        ]
        if self.worked:
            parts.append(told(self.worked, "meets changed worked examples", "meet changed worked examples"))
        if self.newly:
            parts.append(told(self.newly, "finds a principle that had none", "find a principle that had none"))
        if self.unplanned:
            parts.append(told(self.unplanned, "finds no principle any more", "find no principle any more"))
        stays = told(self.same, "stays as it is", "stay as they are")
        return f"of {told(self.rows, 'row', 'rows')} {', '.join(parts)}, {stays}"

    def figures(self) -> dict[str, Any]:
        """Return every figure, ready for JSON."""
        names = ("rows", "unplanned", "why_unplanned", "newly", "moved", "reworded", "worked", "same")
        return {name: getattr(self, name) for name in names} | {
            "steps": [
                {
                    "step": step,
                    "moved": each.moved,
                    "reworded": each.reworded,
                    "flows": [{"from": was, "to": now, "rows": rows} for (was, now), rows in each.flows.most_common()],
                    "words": [{"principle": id, "rows": rows} for id, rows in each.words.most_common()],
                }
                for step, each in self.steps.items()
            ]
        }


def moved(
    recipe: Recipe, base: Path, old: Constitution, new: Constitution, *, prompts: Iterable[Prompt] | None = None
) -> Moved:
    """Return what becomes of the recipe's rows when `old` becomes `new`.

    Args:
        base: the recipe's folder.
        prompts: instead of the recipe's own, for example those of a run; the same words are one row.

    Memory does not grow with the prompts; what tells twins lies in a temporary file. Raises BadInput for prompts that
    cannot be read.
    """
    before, after = Dice(recipe, old), Dice(recipe, new)
    worked = _other_examples(recipe, before, after)
    done = Moved(steps={step: StepMoved() for step, _ in after.steps})
    with TemporaryDirectory(prefix="solon-") as folder, RowStore.create(Path(folder) / "seen.db") as seen:
        for prompt in read_prompts(recipe.prompts, base) if prompts is None else prompts:
            # the id stands in for the words
            if seen.add(Prompt((Message("user", prompt.id),)), ()):
                _count(done, before, after, prompt, worked=worked)
    return done


def moved_between(old: Found, new: Found, among: Found) -> Moved:
    """Return what becomes of the rows of `among`, a recipe or a run, from one found constitution to another.

    Raises ValueError where `among` is neither.
    """
    if among.recipe is None:
        raise ValueError(f"{among.name} has no rows")
    with among.prompts() as prompts:
        return moved(among.recipe, among.base, old.constitution, new.constitution, prompts=prompts)


def _count(done: Moved, before: Dice, after: Dice, prompt: Prompt, *, worked: bool) -> None:
    done.rows += 1
    met, meets = _thrown(before, prompt), _thrown(after, prompt)
    if isinstance(meets, BadInput):
        done.unplanned += 1
        done.why_unplanned = done.why_unplanned or str(meets)
        return
    if isinstance(met, BadInput):
        done.newly += 1
        return
    was_moved = was_reworded = False
    for was, draw in zip(met, meets, strict=True):
        step = done.steps[draw.step]
        if was.principle != draw.principle:
            was_moved = True
            step.moved += 1
            step.flows[was.principle, draw.principle] += 1
        elif was.digest != draw.digest:
            was_reworded = True
            step.reworded += 1
            step.words[draw.principle] += 1
    if was_moved:
        done.moved += 1
    elif was_reworded:
        done.reworded += 1
    elif worked:
        done.worked += 1
    else:
        done.same += 1


def _thrown(dice: Dice, prompt: Prompt) -> list[Draw] | BadInput:
    try:
        return dice.throw(prompt)
    except BadInput as problem:
        return problem


def _other_examples(recipe: Recipe, before: Dice, after: Dice) -> bool:
    """Return whether some call of every row holds worked examples, and holds other ones now."""
    story = recipe.story
    if story.kind != "revision" or before.story.digest()["worked"] == after.story.digest()["worked"]:
        return False
    if story.shots is not None:
        return story.shots > 0
    models = [recipe.role(role).model for role in ("critic", "reviser")]
    return any(model is not None and model.form == "text" for model in models)
