"""The recipe: one YAML page that says what is wanted, read into frozen objects; unknown keys are refused.

    constitution: cai-2022
    prompts: prompts.jsonl
    model: smollm2
    story:
      kind: revision
      rounds: 2

Everything else has a default that stands in the class below.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from solon import yamls
from solon.budget import BudgetField
from solon.calls import Sampling, options_text
from solon.cast import ROLES, Kind
from solon.complaints import one_of, short
from solon.constitution import Constitution, ConstitutionPage, load
from solon.dataset.export import ExportSpec
from solon.dataset.prompts import PromptsSpec
from solon.errors import BadInput
from solon.judges import Pairwise
from solon.models.spec import ModelSpec
from solon.pipelines.preference import Preference
from solon.pipelines.revision import Revision
from solon.pipelines.story import Story

__all__ = [
    "AgainSpec", "CastSpec", "PreferenceSpec", "Recipe", "RevisionSpec", "RoleSpec", "find_recipe", "is_recipe",
    "read_recipe", "speaks_as_recipe",
]  # fmt: skip


def _temperature(value: Any) -> Any:
    if value is None or value == "provider":
        return value
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 2:
        found = str(value).lower() if isinstance(value, bool) else repr(value)
        raise ValueError(f"expected a number from 0 to 2, or provider, which leaves it to the provider; found {found}")
    return float(value)


def _used(value: Any) -> Any:
    return {"use": value} if isinstance(value, str) else value


# strict, so that `true` is no 1
Count = Annotated[int, Field(strict=True, ge=1)]
Natural = Annotated[int, Field(strict=True, ge=0)]
Often = Annotated[int, Field(strict=True, ge=0, le=10)]
Temperature = Annotated[float | Literal["provider"] | None, BeforeValidator(_temperature)]
Use = BeforeValidator(_used, json_schema_input_type=str | ModelSpec)


class _Page(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RevisionSpec(_Page):
    """The supervised stage: answer, criticise, rewrite, and let the judge decide between first and last.

    kind:     "revision"
    rounds:   critique-revision pairs, each by a principle of its own (the paper has four)
    distinct: keep a row from meeting one principle twice
    shots:    worked examples of the constitution before each request; left out, all of them for base models and
              none for chat models
    """

    kind: Literal["revision"]
    rounds: Annotated[Count, Field(le=16)] = 1
    distinct: bool = False
    shots: Natural | None = None

    def story(self, constitution: Constitution, judging: Pairwise) -> Story:
        return Revision(constitution, judging, self.rounds, self.distinct, self.shots)


class PreferenceSpec(_Page):
    """The preference stage: sample candidates, and let the judge prefer one by a drawn principle.

    kind:       "preference"
    candidates: answers to each prompt; with more than two, each is compared with each, and the best is paired with
                the worst
    """

    kind: Literal["preference"]
    candidates: Annotated[Count, Field(ge=2, le=8)] = 2

    def story(self, constitution: Constitution, judging: Pairwise) -> Story:
        return Preference(constitution, judging, self.candidates)


class AgainSpec(_Page):
    """How often an answer of each kind is asked anew, at most 10 times; a plain number is `empty` and `cut`.

    empty:      it answered nothing, or only white space
    cut:        it hit max_tokens
    repetition: it repeats itself without end
    refused:    the provider declined or filtered it
    """

    empty: Often = 0
    cut: Often = 0
    repetition: Often = 0
    refused: Often = 0

    @property
    def is_a_number(self) -> bool:
        """Return whether a plain number would say the same."""
        return self.empty == self.cut and not self.repetition and not self.refused


class RoleSpec(_Page):
    """One role of the cast. What is left out comes from `everyone`, then from the defaults named here.

    model:       another model than the recipe's `model`
    temperature: default 1 (as in the paper), for the judge 0; "provider" leaves it to the provider
    top_p:       default: not sent
    max_tokens:  default 1024
    system:      a system prompt for this role; it is not part of the exported prompt
    again:       how often an empty or cut answer is asked anew, or a mapping by kind (`empty`, `cut`, `repetition`,
                 `refused`); default 0
    cut:         "aside" (default), "sentence" or "keep": what becomes of an answer that hit max_tokens
    structured:  the critic alone: true asks for the critique as JSON, by a schema, so that no revision follows it;
                 "auto" where its model keeps a schema; default false
    batch:       true: this role's calls wait for the provider's batch jobs, at half the price and within 24 hours a
                 step (OpenAI and Anthropic alone); default false
    """

    model: Annotated[ModelSpec | None, Use] = None
    temperature: Temperature = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    max_tokens: Count | None = None
    system: str | None = None
    again: Often | AgainSpec | None = None
    cut: Literal["aside", "sentence", "keep"] | None = None
    structured: Literal[False, True, "auto"] | None = None
    batch: Annotated[bool, Field(strict=True)] | None = None

    @property
    def anew(self) -> dict[Kind, int]:
        """Return how often an answer of each kind is asked anew."""
        given = self.again or 0
        policy = given if isinstance(given, AgainSpec) else AgainSpec(empty=given, cut=given)
        return {"empty": policy.empty, "cut": policy.cut, "repetition": policy.repetition, "refused": policy.refused}


BATCHING = ("openai", "anthropic")
STORIES: dict[str, type[_Page]] = {"revision": RevisionSpec, "preference": PreferenceSpec}


class CastSpec(_Page):
    """Who plays what.

    everyone:  what the roles share; a judge's temperature alone is never taken from here
    responder: who answers
    critic:    who criticises
    reviser:   who rewrites
    judge:     who compares
    """

    everyone: RoleSpec = RoleSpec()
    responder: RoleSpec = RoleSpec()
    critic: RoleSpec = RoleSpec()
    reviser: RoleSpec = RoleSpec()
    judge: RoleSpec = RoleSpec()


class Recipe(_Page):
    """One page of wishes.

    name:         names the run folder; default: the file's name
    constitution: a shipped name or a file, beside the recipe
    prompts:      a file beside the recipe, or a mapping (`path` or `dataset`, `split`, `column`, `limit`, ...)
    model:        who plays every role: a short name, or a mapping (`use`, `base_url`, `key_env`, `price`, ...)
    cast:         what differs by role
    story:        `kind: revision` or `kind: preference`, with its options
    judging:      how the judge compares (`both_orders`, `reasoning`, `clamp`, `verdict`, `tie`, `least_mass`)
    seed:         decides which principle a row meets, and nothing else
    window:       most rows in flight at once; left out, a few more than the models take calls
    export:       how the dataset is written (`test_fraction`, `margin`, `sft`, ...)
    ledger:       where replies are kept, beside the recipe
    runs:         where run folders are kept, beside the recipe
    prices:       a file of prices, beside the recipe, that goes before the ones that Solon knows
    budget:       what a run may spend at most, in all its walks: `25 USD`, `2M tokens`, `5000 calls`, or several as
                  {usd: 25, calls: 5000}; 0 asks nobody
    """

    name: str = ""
    constitution: str
    prompts: PromptsSpec
    model: Annotated[ModelSpec, Use]
    cast: CastSpec = CastSpec()
    story: RevisionSpec | PreferenceSpec = Field(discriminator="kind")
    judging: Pairwise = Pairwise()
    seed: Annotated[int, Field(strict=True)] = 0
    window: Count | None = None
    export: ExportSpec = ExportSpec()
    ledger: str = ".solon/ledger.db"
    runs: str = "runs"
    prices: str | None = None
    budget: BudgetField = None

    @field_validator("prompts", mode="before", json_schema_input_type=str | PromptsSpec)
    @classmethod
    def _prompts_short_form(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator(
        "story",
        mode="before",
        json_schema_input_type=Literal["revision", "preference"] | RevisionSpec | PreferenceSpec,
    )
    @classmethod
    def _story_short_form(cls, value: Any) -> Any:
        story = {"kind": value} if isinstance(value, str) else value
        if not isinstance(story, dict):
            return story
        kind = story.get("kind")
        if kind is None:
            raise ValueError("say which story it is: " + " or ".join(f"`kind: {each}`" for each in STORIES))
        if not isinstance(kind, str) or kind not in STORIES:
            raise ValueError(f"no story {short(str(kind))!r}; {one_of(str(kind), list(STORIES))}")
        own = STORIES[kind].model_fields
        for other, spec in STORIES.items():
            for key in [key for key in story if key in spec.model_fields and key not in own]:
                raise ValueError(f"a {kind} story has no `{key}`; take it out, or write `kind: {other}`")
        return story

    @field_validator("name")
    @classmethod
    def _names_a_folder(cls, value: str) -> str:
        if value and not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value):
            raise ValueError(f"name {value!r} names a folder: letters, digits, dot, dash and underscore only")
        return value

    @property
    def places(self) -> int:
        """Return how many questions are put at once where no row is walked: audits, cases, inference."""
        return self.window or 64

    def role(self, role: str) -> RoleSpec:
        """Return a role with everything filled in: its own words, then everyone's, then the defaults."""
        own, shared = getattr(self.cast, role), self.cast.everyone
        default = RoleSpec(
            model=self.model, temperature=0.0 if role == "judge" else 1.0, max_tokens=1024, again=0, cut="aside",
            batch=False,
        )  # fmt: skip
        filled = {}
        for field in RoleSpec.model_fields:
            given = [getattr(spec, field) for spec in (own, shared, default)]
            # a judge's temperature is a different kind of thing from a writer's: it is never taken from everyone
            if role == "judge" and field == "temperature":
                given = [given[0], given[2]]
            filled[field] = next((value for value in given if value is not None), None)
        return RoleSpec(**filled)

    def sampling(self, role: str) -> Sampling:
        """Return how a role's answers are drawn."""
        spec = self.role(role)
        temperature = None if spec.temperature == "provider" else spec.temperature
        return Sampling(temperature, spec.top_p, spec.max_tokens or 1024)

    def roles(self) -> tuple[str, ...]:
        """Return the roles that this recipe's story has."""
        return ROLES if self.story.kind == "revision" else ("responder", "judge")

    def runs_folder(self, base: Path) -> Path:
        """Return where run folders are kept."""
        return yamls.located(self.runs, base)

    def ledger_path(self, base: Path) -> Path:
        """Return where replies are kept."""
        return yamls.located(self.ledger, base)

    def prices_path(self, base: Path) -> Path | None:
        """Return the recipe's own file of prices, None where it names none."""
        return None if self.prices is None else yamls.located(self.prices, base)

    def constitution_object(self, base: Path) -> Constitution:
        """Return the constitution, checked for the wordings that the story needs."""
        constitution = load(self.constitution, base)
        tags = {tag for principle in constitution.principles for tag in principle.applies_to}
        for step, roles in self.story.story(constitution, self.judging).draws():
            # whatever prompts are tagged with: whether one of them finds no principle is told when it is drawn
            if not constitution.drawable(roles, tags):
                wanted = " and ".join(f"`{role}`" for role in roles)
                raise BadInput(
                    f"{self.constitution}: the story's step {step!r} needs a principle with {wanted} wording and a "
                    "weight above 0, and there is none; add the weight, the wording, or a `text` to derive it from"
                )
        return constitution


def find_recipe(path: str | Path) -> Path:
    """Return the recipe's file: `path` itself, or the recipe.yaml of a folder.

    Raises BadInput for the copy in a run folder: its relative paths start somewhere else.
    """
    path = Path(path)
    file = path / "recipe.yaml" if path.is_dir() and (path / "recipe.yaml").is_file() else path
    if (file.parent / "run.json").is_file():
        raise BadInput(f"{file}: this is the copy that a run keeps; give the recipe that it was made from")
    return file


def is_recipe(path: str | Path) -> bool:
    """Return whether a recipe stands at `path`: a file, or a folder with one, whose keys are more a recipe's than a
    constitution's. Raises BadInput where the file there is no YAML.
    """
    file = find_recipe(path)
    if not file.is_file():
        return False
    return speaks_as_recipe(yamls.read(file))


def speaks_as_recipe(document: yamls.Document) -> bool:
    """Return whether the keys of a page are more a recipe's than a constitution's."""
    keys = set(document.tree)
    return len(keys & set(Recipe.model_fields)) > len(keys & set(ConstitutionPage.model_fields))


def read_recipe(path: str | Path) -> Recipe:
    """Return the recipe at `path`, every mistake reported at once as `file:line: ...` (BadInput)."""
    path = find_recipe(path)
    document = yamls.read(path)
    recipe = yamls.build(Recipe, document)
    if problems := list(_whole_page(recipe, document)):
        raise BadInput(problems)
    if recipe.name:
        return recipe
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).lstrip("._-")[:64]
    if not name:
        raise BadInput(f"{path}: this file's name makes no name for a folder; add `name: ...` to the recipe")
    return recipe.model_copy(update={"name": name})


def _whole_page(recipe: Recipe, document: yamls.Document) -> Iterator[str]:
    """Yield what no field can see alone."""
    if recipe.story.kind == "preference" and recipe.role("responder").temperature == 0:
        yield document.problem(
            ("cast", "responder", "temperature"),
            "the responder's temperature is 0, so that all candidates would be the same text; give it a higher one",
        )
    for who, given in recipe.cast:
        if given.structured is not None and who != "critic":
            other = "write `verdict: structured` under `judging`" if who == "judge" else "write it under `critic`"
            yield document.problem(("cast", who, "structured"), f"`structured` is the critic's alone; {other}")
    for role in recipe.roles():
        spec = recipe.role(role)
        if spec.structured is True and spec.model and spec.model.form == "text":
            why = "the critic is a base model (form: text), which takes no schema; write `structured: false`"
            yield document.problem(("cast", role, "structured"), why)
        place = ("cast", role, "system") if getattr(recipe.cast, role).system else ("cast", "everyone", "system")
        if spec.system and spec.model and spec.model.form == "text":
            yield document.problem(place, f"the {role} is a base model (form: text), which takes no system prompt")
        if spec.batch and spec.model and spec.model.provider not in BATCHING:
            place = ("cast", role, "batch") if getattr(recipe.cast, role).batch else ("cast", "everyone", "batch")
            yield document.problem(
                place,
                f"the {role} is {spec.model.use}, and only OpenAI and Anthropic take batch jobs; write `batch: false` "
                f"for {role}, or give it another model",
            )
    models: dict[tuple[str, ...], ModelSpec | None] = {("model",): recipe.model}
    models |= {("cast", who, "model"): spec.model for who, spec in recipe.cast}
    for spot, model in models.items():
        try:
            options_text(model.options if model else None)
        except (TypeError, ValueError) as error:
            yield document.problem((*spot, "options"), f"'options' cannot be sent as JSON ({error}); change the value")
