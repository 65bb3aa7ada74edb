"""The reference of both YAML pages, from the docstrings of the classes that read them.

python docs/reference.py --write      writes the pages beside this file, and the JSON Schemas in solon/schemas, anew
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from solon.constitution import Case, Constitution, Exemplar, Principle, principles
from solon.dataset import ExportSpec, PromptsSpec
from solon.judges import Pairwise
from solon.models.spec import ModelSpec, Price
from solon.pipelines.recipe import CastSpec, PreferenceSpec, Recipe, RevisionSpec, RoleSpec
from solon.schemas import PAGES as SCHEMAS
from solon.schemas import keys_told, schema

HERE = Path(__file__).parent

RECIPE = """\
# The recipe

One YAML page. Unknown keys are refused with the nearest known one. `solon check recipe.yaml` reads it, its
constitution and its prompts; `solon plan recipe.yaml` says what it would ask.

```yaml
constitution: cai-2022
prompts: {path: prompts.jsonl, limit: 1000}
model: {use: openai:gpt-4.1-mini, price: {input: 1.0, output: 4.0}}
story: {kind: revision, rounds: 2, distinct: true}
cast:
  everyone: {max_tokens: 512, cut: sentence}
  judge: {model: anthropic:claude-opus-5}
judging: {reasoning: true}
export: {test_fraction: 0.05, margin: true}
```
"""

CONSTITUTION = """\
# The constitution

One YAML document: principles, each with an `id` and a one-line `text`, or its own wording for critic, reviser and
judge. Shipped: `cai-2022`, `counsel`, `first-steps`; `solon init` writes one to start from.

```yaml
name: house-rules
preamble: You are judged by what helps the person who asks.
principles:
  - id: plain-words
    text: Say it in plain words, and no more of them than it takes.
    rationale: People read answers on small screens, between two other things.
    cases:
      - prompt: What is a mortgage?
        better: A loan to buy a house; the house is the lender's if you stop paying.
        worse: A mortgage is a multifaceted financial instrument with a rich history.
  - id: never-dose
    kind: hard_constraint
    text: Never state a dose of a medicine for a child.
```
"""


def section(title: str, kind: type[BaseModel]) -> str:
    """Return one class as a section: its docstring's first lines, and a table of its fields."""
    words, lines = keys_told(kind)
    rows = []
    for name, field in kind.model_fields.items():
        default = "required" if field.is_required() else field.get_default(call_default_factory=True)
        shown = default if isinstance(default, str) and default == "required" else _shown(default)
        told = lines.get(name, "").replace("|", "\\|")
        rows.append(f"| `{name}` | {shown} | {told} |".replace("  |", " |"))
    head = f"## {title}\n\n{words}\n\n| key | default | is |\n| --- | --- | --- |\n"
    return head + "\n".join(rows)


def _shown(default: object) -> str:
    if default is None or default in ("", (), {}) or isinstance(default, BaseModel):
        return ""
    if isinstance(default, tuple):
        return f"`[{', '.join(map(str, default))}]`"
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def recipe() -> str:
    parts = [
        ("Keys", Recipe), ("prompts", PromptsSpec), ("model", ModelSpec), ("price", Price),
        ("story: revision", RevisionSpec),
        ("story: preference", PreferenceSpec), ("cast", CastSpec), ("one role of the cast", RoleSpec),
        ("judging", Pairwise), ("export", ExportSpec),
    ]  # fmt: skip
    return "\n\n".join([RECIPE.rstrip(), *(section(title, kind) for title, kind in parts)]) + "\n"


def constitution() -> str:
    parts = [("Keys", Constitution), ("principles", Principle), ("exemplars", Exemplar), ("cases", Case)]
    derived = "\n".join(
        f"* `{role}`{kind}: {words}"
        for kind, templates in (("", principles.PRINCIPLE), (" of a trait", principles.TRAIT))
        for role, words in templates.items()
    )
    tail = f"## Derived wordings\n\nWhere a principle has no wording of its own, its `text` makes one:\n\n{derived}"
    return "\n\n".join([CONSTITUTION.rstrip(), *(section(title, kind) for title, kind in parts), tail]) + "\n"


PAGES = {"recipe.md": recipe, "constitution.md": constitution}

if __name__ == "__main__":
    for name, page in PAGES.items():
        if "--write" in sys.argv:
            (HERE / name).write_text(page(), encoding="utf-8")
        else:
            print(page())
    if "--write" in sys.argv:
        for name in SCHEMAS:
            (HERE.parent / "solon" / "schemas" / f"{name}.json").write_text(schema(name), encoding="utf-8")
