"""The reference of both YAML pages, from the docstrings of the classes that read them.

python docs/reference.py --write      writes the pages beside this file, and the JSON Schemas in solon/schemas, anew
"""

import sys
from pathlib import Path

from pydantic import BaseModel

from solon.budget import Budget
from solon.constitution import Case, Exemplar, Principle, principles
from solon.constitution.pages import ConstitutionPage, Parent
from solon.constitution.rules import RULES
from solon.dataset import ExportSpec, PromptsSpec
from solon.judges import Pairwise
from solon.models.spec import LongPrice, ModelSpec, Price
from solon.pipelines.recipe import AgainSpec, CastSpec, PreferenceSpec, Recipe, RevisionSpec, RoleSpec
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

## Reuse

A constitution may extend others, and say only what is different: what it leaves out, what it changes, what it adds.

```yaml
name: our-house
extends:
  - {use: first-steps, without: [kind-refusal]}
  - {use: cai-2022, only: [empathy, dangerous-advice]}
override:
  straight-answer: {weight: 3, preference: null}
principles:
  - id: short
    text: Say it in half the words.
```

The inherited principles come first, in the order of `extends`, then the page's own. An override changes a principle
where it stands: only the keys that it gives, and `null` takes one away, so that its default holds again. Two
constitutions may bring the same principle, but not two different ones of one id. An own principle cannot have the id
of an inherited one: change that under `override`, or leave it out by `without`.

A reference is a shipped name, the name of an installed package's constitution, or a path beside the file in which it
is written; `./name` is always a path. A package offers constitutions by entry points, each naming a file within it:

```toml
[project.entry-points."solon.constitutions"]
house = "house_rules:house.yaml"
```

`solon constitution show FILE` prints what becomes of a page, and where each line was written; with `--plain` the YAML
alone, as a run keeps it. Where a page changes nothing of what it extends, the digest is the same, and nothing is
asked anew.
"""

RULES_PAGE = """\
# What `solon check` advises

`solon check FILES...` reads recipes, constitutions and folders with a `recipe.yaml`. It tells every mistake at once,
with file, line and remedy, and ends with 1 where there is one. Beside mistakes it gives *advice*: what works, and may
be better. Advice ends with 0, or with `--strict` with 1. `--format json` is for programs, `--format github` for
annotations in a workflow.

```yaml
name: House rules
principles:
  - id: kind
    critique: Point out how the response is rude.
    revision: Rewrite the response so that it is kind.
    preference: Which response is kinder?
```

```console
$ solon check constitution.yaml
constitution.yaml:4: warning: 'critique' of 'kind' takes a fault for granted ('Point out how the response is rude'); \
ask whether there is one, or add what to say where there is none [accusing-critique]
constitution.yaml: a constitution of 1 principle, digest 04b39dbebd1d
1 warning
```

## Silencing a rule

A comment silences rules by name: at the end of the line that the advice names, or alone above it. On a principle's
`id:` line it holds for the whole principle. A reason may follow the bracket.

```yaml
# solon: ignore-file[accusing-critique]: the wording of the paper, kept as it was released
name: house-rules
principles:
  - id: brief  # solon: ignore[near-duplicate, too-general]
    text: Say it in few words.
  - id: short
    # solon: ignore[near-duplicate]
    text: Say it in a few words.
```

What is inherited by `extends` is advised about at its own file; of a shipped or installed constitution nothing is
said, but for what stands between one of its principles and one of yours.

## Before every commit

The repository is a hook for [pre-commit](https://pre-commit.com). It reads every YAML file whose name ends in
`constitution` or `recipe`; `files:` names others.

```yaml title=".pre-commit-config.yaml"
repos:
  - repo: <the address of this repository>
    rev: <a tag>
    hooks:
      - id: solon-check
        args: [--strict]
```

## Rules

Every rule rests on evidence, or on what the draw does. None speaks about positive against negative wording: judges
agree better with the one, and trained models follow the other (arXiv 2502.15861). What goes by English words is silent
about other languages. On the constitutions that come with Solon, the nine trait lists of Open Character Training and
the sixteen preference principles of 2022 nothing is accused; the critique requests of 2022 presuppose a fault in five
of sixteen cases, and stand without a word against refusing.

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
        ("price: long", LongPrice), ("budget", Budget),
        ("story: revision", RevisionSpec),
        ("story: preference", PreferenceSpec), ("cast", CastSpec), ("one role of the cast", RoleSpec),
        ("again", AgainSpec), ("judging", Pairwise), ("export", ExportSpec),
    ]  # fmt: skip
    return "\n\n".join([RECIPE.rstrip(), *(section(title, kind) for title, kind in parts)]) + "\n"


def constitution() -> str:
    parts = [
        ("Keys", ConstitutionPage), ("extends", Parent), ("principles", Principle), ("exemplars", Exemplar),
        ("cases", Case),
    ]  # fmt: skip
    derived = "\n".join(
        f"* `{role}`{kind}: {words}"
        for kind, templates in (("", principles.PRINCIPLE), (" of a trait", principles.TRAIT))
        for role, words in templates.items()
    )
    tail = f"## Derived wordings\n\nWhere a principle has no wording of its own, its `text` makes one:\n\n{derived}"
    return "\n\n".join([CONSTITUTION.rstrip(), *(section(title, kind) for title, kind in parts), tail]) + "\n"


def rules() -> str:
    rows = [f"| `{name}` | {rule.severity} | {rule.why} |" for name, rule in sorted(RULES.items())]
    return RULES_PAGE + "\n".join(["| rule | severity | what and why |", "| --- | --- | --- |", *rows]) + "\n"


PAGES = {"recipe.md": recipe, "constitution.md": constitution, "rules.md": rules}

if __name__ == "__main__":
    for name, page in PAGES.items():
        if "--write" in sys.argv:
            (HERE / name).write_text(page(), encoding="utf-8")
        else:
            print(page())
    if "--write" in sys.argv:
        for name in SCHEMAS:
            (HERE.parent / "solon" / "schemas" / f"{name}.json").write_text(schema(name), encoding="utf-8")
