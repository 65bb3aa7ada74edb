"""From a name or a path to a Constitution.

A bare name that Solon ships is that one (`./cai-2022` is a file of this name); everything else is a path. The file
is read whole, and every mistake in it is told at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from solon import yamls
from solon.complaints import one_of
from solon.constitution.principles import Constitution
from solon.errors import BadInput

__all__ = ["Resolved", "load", "parse", "resolve", "shipped", "shipped_text"]


@dataclass(frozen=True)
class Resolved:
    """A constitution and where each part of it stands.

    document: the file that was asked for; what it inherits stands in other files
    places:   (file, line) by place in the resolved constitution: ("name",), ("principles", 2, "text")
    """

    constitution: Constitution
    document: yamls.Document
    places: Mapping[yamls.Loc, tuple[str, int]]

    def place(self, *loc: str | int) -> tuple[str, int]:
        """Return (file, line) of the value at `loc`, or of the nearest one around it."""
        while loc not in self.places:
            loc = loc[:-1]
        return self.places[loc]


def load(reference: str | Path, base: Path | None = None) -> Constitution:
    """Return the constitution that `reference` names; see `resolve`."""
    return resolve(reference, base).constitution


def resolve(reference: str | Path, base: Path | None = None) -> Resolved:
    """Return the constitution that `reference` names, a shipped one or a YAML file, and where each part stands.

    Args:
        reference: a name out of `shipped()`, or a path.
        base: the folder that a relative path starts from; by default the current one.

    Raises BadInput with every mistake as "file:line: what is wrong; the remedy".
    """
    name = str(reference)
    if isinstance(reference, str) and name in shipped():
        return _build(yamls.parse(shipped_text(name), f"{name}.yaml"))
    path = (base or Path()) / Path(reference).expanduser()
    bare = isinstance(reference, str) and "/" not in name and not name.endswith((".yaml", ".yml"))
    if bare and not _is_there(path):
        raise BadInput(
            f"no constitution {name!r} is shipped; {one_of(name, shipped())} (or write the path of a YAML file)"
        )
    return _build(yamls.read(path))


def parse(text: str, name: str = "constitution.yaml") -> Constitution:
    """Return the constitution that YAML `text` holds; problems call the file `name`. Raises BadInput."""
    return _build(yamls.parse(text, name)).constitution


def shipped() -> list[str]:
    """Return the names of the constitutions that come with Solon, sorted."""
    return sorted(each.name.removesuffix(".yaml") for each in _library().iterdir() if each.name.endswith(".yaml"))


def shipped_text(name: str) -> str:
    """Return a shipped constitution as it stands in its file, comments and all. Raises BadInput."""
    if name not in shipped():
        raise BadInput(f"no constitution {name!r} is shipped; {one_of(name, shipped())}")
    return (_library() / f"{name}.yaml").read_text(encoding="utf-8")


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # a name that no file could have
        return False


def _library() -> Traversable:
    return resources.files("solon.constitution") / "library"


def _build(document: yamls.Document) -> Resolved:
    constitution = yamls.build(Constitution, document, checks=[_repeated_ids])
    return Resolved(constitution, document, {loc: (document.name, line) for loc, line in document.lines.items()})


def _repeated_ids(document: yamls.Document) -> Iterator[str]:
    principles = document.tree.get("principles")
    first: dict[str, int] = {}
    for index, each in enumerate(principles if isinstance(principles, list) else ()):
        id = each.get("id") if isinstance(each, dict) else None
        if not isinstance(id, str) or not id.strip():
            continue
        loc = ("principles", index, "id")
        if id.strip() in first:
            where = f"id {id.strip()!r} is already taken on line {first[id.strip()]}"
            yield document.problem(loc, f"{where}; give every principle an id of its own")
        first.setdefault(id.strip(), document.line(loc))
