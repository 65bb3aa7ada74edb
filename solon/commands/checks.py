"""Look at files and models before anything depends on them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

from solon import yamls
from solon.calls import Message
from solon.cast import ROLES
from solon.complaints import counted
from solon.constitution import Resolved, resolve
from solon.constitution.lint import Advice, lint
from solon.constitution.pages import ConstitutionPage
from solon.dataset import read_prompts
from solon.errors import BadInput, SolonError
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import Recipe, find_recipe, read_recipe, speaks_as_recipe
from solon.review.advice import Meetings, advise
from solon.workshop import Workshop

__all__ = ["Ability", "Checked", "Page", "Problem", "check_files", "check_models"]


MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Problem:
    """A mistake ("error") or a piece of advice, and where it stands; no line is the file as a whole."""

    file: str
    line: int | None
    severity: Literal["error", "warning", "note"]
    rule: str | None
    text: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.text}" if self.rule is None else f"{place}: {self.severity}: {self.text} [{self.rule}]"


@dataclass(frozen=True)
class Page:
    """One file that was checked. `summary` is one line about a good one, None where there are mistakes."""

    file: str
    summary: str | None


@dataclass(frozen=True)
class Checked:
    """What was found in several files: `problems` by file and line, each once."""

    pages: tuple[Page, ...]
    problems: tuple[Problem, ...]

    def count(self, severity: str) -> int:
        """Return how many problems are an "error", a "warning" or a "note"."""
        return sum(problem.severity == severity for problem in self.problems)


def check_files(paths: Iterable[str | Path]) -> Checked:
    """Return every mistake in recipes and constitutions, and what may be better in them.

    Each path is a recipe, a constitution, or a folder with a recipe.yaml. A recipe's constitution and prompts are
    checked with it. What cannot be read is a mistake of that file; the others are checked all the same.
    """
    pages: list[Page] = []
    found: dict[tuple[object, ...], Problem] = {}
    whole: dict[str, str] = {}
    for path in paths:
        summary, problems = _checked_page(Path(path))
        pages.append(Page(str(path), summary))
        for problem in problems:
            # two recipes may share a constitution, and a path may be written in several ways
            file = whole.get(problem.file) or whole.setdefault(problem.file, _whole_path(problem.file))
            found.setdefault((file, problem.line, problem.rule, problem.text), problem)
    order = sorted(found.values(), key=lambda each: (each.file, each.line or 0, each.severity, each.rule or ""))
    return Checked(tuple(pages), tuple(order))


def _whole_path(file: str) -> str:
    try:
        return str(Path(file).resolve())
    except (OSError, ValueError, RuntimeError):
        return file  # the name of a dataset, or one that no file could have


def _checked_page(path: Path) -> tuple[str | None, list[Problem]]:
    """Return one line about the page at `path`, None where there are mistakes, and what was found."""
    try:
        file = find_recipe(path)
        page = yamls.read(file)
    except SolonError as problem:
        return None, _mistakes(problem, str(path))
    # (of a page that speaks as neither, a recipe's keys are the better guess)
    if speaks_as_recipe(page) or not set(page.tree) & set(ConstitutionPage.model_fields):
        summary, problems = _recipe(file, page)
    else:
        resolved, problems = _constitution(file, Path(), str(file), None)
        summary = _summary(file, resolved) if resolved else None
    return (None if any(each.severity == "error" for each in problems) else summary), problems


def _summary(file: Path, resolved: Resolved) -> str:
    return f"{file}: a constitution of {_size(resolved)}, digest {resolved.constitution.digest[:12]}"


def _constitution(
    reference: str | Path, base: Path, file: str, line: int | None
) -> tuple[Resolved | None, list[Problem]]:
    """Return a constitution and the advice about it, or None and its mistakes; `file` and `line` ask for it."""
    try:
        resolved = resolve(reference, base)
        # nobody could follow advice about a shipped or installed file
        return resolved, _advice(lint(resolved) if resolved.files else [])
    except SolonError as problem:
        return None, _mistakes(problem, file, line, str(base / reference))


def _recipe(file: Path, page: yamls.Document) -> tuple[str | None, list[Problem]]:
    """Return one line about a recipe, None where something keeps it from being read, and what was found."""
    recipe, problems = None, []
    try:
        recipe = read_recipe(file)
    except SolonError as problem:
        problems += _mistakes(problem, str(file))
    reference, line = page.tree.get("constitution"), page.line(("constitution",))
    if not isinstance(reference, str) or not reference.strip():
        return None, problems  # told with the page
    resolved, found = _constitution(reference, file.parent, str(file), line)
    problems += found
    if recipe is None:
        return None, problems
    dice = None
    if resolved:
        try:
            dice = Dice(recipe, recipe.constitution_object(file.parent))
        except SolonError as problem:
            problems += _mistakes(problem, str(file), line)
    met, found = _met(recipe, file, dice)
    problems += found
    if resolved is None or dice is None or any(each.severity == "error" for each in found):
        return None, problems
    prompts = counted(met.prompts, "prompt")
    return f"{file}: a {recipe.story.kind} recipe, {prompts}, {_size(resolved)}", [
        *problems, *_advice(advise(recipe, page, resolved, met))
    ]  # fmt: skip


def _met(recipe: Recipe, file: Path, dice: Dice | None) -> tuple[Meetings, list[Problem]]:
    """Return what the recipe's prompts meet, and what is wrong with them."""
    spec, met = recipe.prompts, Meetings()
    problems: list[Problem] = []
    source = spec.source
    try:
        source = str(yamls.located(spec.path, file.parent)) if spec.path else source
        for number, prompt in enumerate(read_prompts(spec, file.parent), start=1):
            if dice is None or len(problems) >= MOST_PROBLEMS:
                continue
            try:
                met.add(prompt, dice.throw(prompt))
            except BadInput as problem:
                # why the row of this prompt cannot be planned
                problems += [
                    Problem(source, None, "error", None, f"prompt {number}: {text}") for text in problem.problems
                ]
    except SolonError as problem:
        problems += _mistakes(problem, str(file), None, source)
    return met, problems


def _advice(advice: Iterable[Advice]) -> list[Problem]:
    return [Problem(**asdict(each)) for each in advice]


def _mistakes(problem: SolonError, file: str, line: int | None = None, other: str = "") -> list[Problem]:
    """Return a problem's lines, each where it says that it stands, else at `file` and `line`."""
    found = []
    for text in problem.problems:
        if placed := _PLACED.match(text):
            found.append(Problem(placed[1], int(placed[2]), "error", None, text[placed.end() :]))
            continue
        named = next((name for name in (file, other) if name and text.startswith(f"{name}: ")), None)
        told = text[len(named) + 2 :] if named else text
        found.append(Problem(named or file, None if named else line, "error", None, told))
    return found


def _size(resolved: Resolved) -> str:
    return counted(len(resolved.constitution.principles), "principle")


_PLACED = re.compile(r"([^\n]+?):([0-9]+): ")


@dataclass(frozen=True)
class Ability:
    """What one role's model said when asked one tiny question. `problem` is empty where it answered.

    logprobs, schema: None where it answered, but not the question whether it gives them
    """

    role: str
    name: str
    identity: str
    answered: bool
    seconds: float = 0.0
    tokens_per_second: float | None = None
    logprobs: bool | None = None
    schema: bool | None = None
    problem: str = ""


async def check_models(path: str | Path) -> list[Ability]:
    """Ask each role of a recipe one tiny question as the run would ask it, and say what its model can do.

    The answers are not kept: a check that came from memory would check nothing.
    """
    path = find_recipe(path)
    recipe = read_recipe(path)
    async with Workshop(recipe, path.parent, refresh=True) as shop:
        return [await _checked(shop, role) for role in ROLES if role in recipe.roles()]


async def _checked(shop: Workshop, role: str) -> Ability:
    use = shop.spec(role).use
    try:
        player, model = shop.player(role), shop.model(role)
    except SolonError as problem:
        return Ability(role, use, "", answered=False, problem=str(problem))
    call = player.call([Message("user" if model.form == "chat" else "text", QUESTION)])
    call = replace(call, sampling=replace(call.sampling, max_tokens=min(call.sampling.max_tokens, 32)))
    try:
        await model(call)  # the first answer also loads the model: it says nothing about speed
        started = time.monotonic()
        reply = await model(call)
        seconds = time.monotonic() - started
    except SolonError as problem:
        return Ability(role, model.name, model.identity, answered=False, problem=str(problem))
    speed = reply.usage.output / seconds if seconds > 0 and reply.usage.output else None
    shown = Ability(role, model.name, model.identity, True, seconds, speed)
    try:
        can = await shop.abilities(role, whole=True)
    except SolonError as problem:
        return replace(shown, problem=str(problem))
    return replace(shown, logprobs=can.logprobs, schema=can.schema)


QUESTION = "Say hello in one short sentence."
