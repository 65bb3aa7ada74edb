"""JSON Schemas of the two YAML pages, so that an editor completes keys, explains them and marks mistakes.

    # yaml-language-server: $schema=.solon/recipe.schema.json

They are made from the classes that read the pages, and their words from those classes' docstrings. What no schema can
say (ids that repeat, a principle that no prompt meets) `solon check` says.
"""

from __future__ import annotations

import inspect
import json
import re
import typing
from collections.abc import Iterator
from importlib import resources
from typing import Any

from pydantic import BaseModel

from solon.complaints import one_of
from solon.constitution import ConstitutionPage, Principle
from solon.constitution.pages import Override
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe

__all__ = ["PAGES", "keys_told", "schema", "schema_text"]

PAGES: dict[str, type[BaseModel]] = {"constitution": ConstitutionPage, "recipe": Recipe}


def schema_text(page: str) -> str:
    """Return the shipped JSON Schema of "constitution" or "recipe". Raises BadInput for another page."""
    if page not in PAGES:
        raise BadInput(f"no schema of {page!r}; {one_of(page, list(PAGES))}")
    return (resources.files("solon.schemas") / f"{page}.json").read_text(encoding="utf-8")


def schema(page: str) -> str:
    """Return the JSON Schema (draft 2020-12) of a page as its classes are today: what the shipped file holds."""
    model = PAGES[page]
    made = model.model_json_schema(mode="validation")
    classes = {each.__name__: each for each in _classes(model, set())}
    for name, part in (*made.get("$defs", {}).items(), (model.__name__, made)):
        if name in classes:
            _explain(part, classes[name])
    made = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"A Solon {page}", **_plain(made)}
    return json.dumps(made, indent=1, ensure_ascii=False) + "\n"


def keys_told(kind: type[BaseModel]) -> tuple[str, dict[str, str]]:
    """Return what a page's class says of itself, and of each of its keys ("key, key: words" lines)."""
    doc = inspect.getdoc(kind) or ""
    words, told = re.split(r"\n(?=[a-z_, ]+: )", doc, maxsplit=1)[0], {}
    for match in re.finditer(r"^([a-z_]+(?:, [a-z_]+)*):\s+(.+(?:\n {2,}.+)*)", doc, flags=re.MULTILINE):
        for name in match[1].split(", "):
            told[name] = " ".join(match[2].split())
    return " ".join(words.split()), told


def _explain(part: dict[str, Any], kind: type[BaseModel]) -> None:
    """Put the docstring's words beside the keys that they explain."""
    words, told = keys_told(kind)
    if kind is Override:  # its keys are a principle's, and mean the same
        told = keys_told(Principle)[1]
    part["description"] = words
    for name, about in part.get("properties", {}).items():
        if name in told:
            about["description"] = told[name]


def _classes(kind: Any, seen: set[type]) -> Iterator[type[BaseModel]]:
    """Yield every model that `kind` is made of, itself included."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        if kind not in seen:
            seen.add(kind)
            yield kind
            for field in kind.model_fields.values():
                yield from _classes(field.annotation, seen)
                for detail in field.metadata:
                    yield from _classes(getattr(detail, "json_schema_input_type", None), seen)
        return
    for inner in typing.get_args(kind):
        yield from _classes(inner, seen)


def _plain(part: Any, *, keys: bool = False) -> Any:
    """Return a schema without the titles that repeat a key's name, and the defaults that its own keys tell.

    keys: `part` maps keys, whatever they are called
    """
    if isinstance(part, list):
        return [_plain(each) for each in part]
    if not isinstance(part, dict):
        return part
    return {
        name: _plain(value, keys=name in ("properties", "$defs"))
        for name, value in part.items()
        if keys or not (name == "title" or (name == "default" and isinstance(value, dict)))
    }
