"""From a name or a path to a Constitution, with everything that it extends.

    resolve("cai-2022")                       a name: shipped with Solon, or of an installed package
    resolve("./mine.yaml", base)              a path, from the folder in which it is written

Packages offer constitutions as entry points of the group `solon.constitutions`: `name = "package:file.yaml"`, the file
being a resource of the package. Everything with a slash, or ending in .yaml, is a path (`./cai-2022` is a file of this
name). What stands in a page's `extends` is found from that page: beside its file, or inside its package.

Files are read through a Reader: `yamls`, the disk, or something with the same `read` that takes them from elsewhere,
for example from a revision of a repository (what is shipped or installed is then still that of today). The file is
read whole, with all that it extends, and every mistake is told at once.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Protocol

from solon import yamls
from solon.complaints import one_of, short, words_of
from solon.constitution.inherit import Asked, Resolved, asked, inherit
from solon.constitution.principles import Constitution
from solon.errors import BadInput

__all__ = ["Reader", "Resolved", "installed", "load", "parse", "resolve", "shipped", "shipped_text"]

GROUP = "solon.constitutions"
DEEPEST = 20
LONGEST = 1000


class Reader(Protocol):
    """Where files are read from."""

    def read(self, path: Path, /) -> yamls.Document:
        """Return the file at `path`; its `name` is what problems and places call it. Raises BadInput."""


def load(reference: str | Path, base: Path | None = None) -> Constitution:
    """Return the constitution that `reference` names; see `resolve`."""
    return resolve(reference, base).constitution


def resolve(reference: str | Path, base: Path | None = None, reader: Reader = yamls) -> Resolved:
    """Return the constitution that `reference` names, with all that it extends, and where each part stands.

    Args:
        reference: a name out of `shipped()` or `installed()`, or a path.
        base: the folder that a relative path starts from; by default the current one.
        reader: where files are read from; by default the disk.

    Raises BadInput with every mistake as "file:line: what is wrong; the remedy".
    """
    source = _find(reference, _File((base or Path()) / "-", reader))
    reading = _Reading()
    resolved = reading.resolve(reading.read(source), source)
    return replace(resolved, files=tuple(reading.files))


def parse(text: str, name: str = "constitution.yaml", base: Path | None = None) -> Constitution:
    """Return the constitution that YAML `text` holds. Raises BadInput.

    name: what problems call it.
    base: the folder where paths in it start; by default the current one.
    """
    return _Reading().resolve(yamls.parse(text, name), _File((base or Path()) / "-", yamls)).constitution


def shipped() -> list[str]:
    """Return the names of the constitutions that come with Solon, sorted."""
    return sorted(each.name.removesuffix(".yaml") for each in _library().iterdir() if each.name.endswith(".yaml"))


def shipped_text(name: str) -> str:
    """Return a shipped constitution as it stands in its file, comments and all. Raises BadInput."""
    if name not in shipped():
        raise BadInput(f"no constitution {name!r} is shipped; {one_of(name, shipped())}")
    return (_library() / f"{name}.yaml").read_text(encoding="utf-8")


def installed() -> list[str]:
    """Return the names of the constitutions that installed packages offer, sorted."""
    return sorted({each.name for each in _offers()})


@dataclass(frozen=True)
class _File:
    """A file, by its path; a relative one starts in the current folder."""

    path: Path
    reader: Reader

    @property
    def key(self) -> str:
        return os.path.abspath(self.path)  # noqa: PTH100, links are not followed: a reader's files may not be on disk

    def beside(self, written: str) -> _File:
        return _File(yamls.located(written, self.path.parent), self.reader)

    def there(self) -> bool:
        try:
            return self.reader is not yamls or self.path.exists()
        except (OSError, ValueError):
            # a name that no file could have
            return False

    def read(self) -> yamls.Document:
        return self.reader.read(self.path)


@dataclass(frozen=True)
class _Resource:
    """A file of an installed package, by its path within the package, with '/'."""

    package: str
    path: str

    @property
    def key(self) -> str:
        return f"{self.package}:{self.path}"

    @property
    def name(self) -> str:
        return self.path.removeprefix("library/") if self.package == HOME else f"{self.package}/{self.path}"

    def beside(self, written: str) -> _Resource:
        path = posixpath.normpath(posixpath.join(posixpath.dirname(self.path), written))
        if path.startswith(("/", "../")) or path == "..":
            raise BadInput(f"{written!r} leads out of the package {self.package!r}; name a file within it")
        return _Resource(self.package, path)

    def there(self) -> bool:
        return self._file().is_file()

    def read(self) -> yamls.Document:
        try:
            data = self._file().read_bytes()
        except (OSError, KeyError) as error:
            why = getattr(error, "strerror", None) or words_of(error)
            raise BadInput(f"the package {self.package!r} has no readable file {self.path!r}: {why}") from None
        return yamls.decode(data, self.name)

    def _file(self) -> Traversable:
        try:
            return resources.files(self.package).joinpath(self.path)
        except Exception as error:  # noqa: BLE001, the package's own code runs when it is imported
            raise BadInput(
                f"the package {self.package!r} cannot be imported: {words_of(error)}; reinstall it"
            ) from None


class _Reading:
    """One reading: every file is opened once, however many ways lead to it."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self._done: dict[str, Resolved | BadInput] = {}

    def read(self, source: _File | _Resource) -> yamls.Document:
        if isinstance(source, _File):
            self.files.append(source.path)
        page = source.read()
        if {"constitution", "prompts"} <= set(page.tree):
            # one mistake, not one for each of its keys
            named = short(str(page.tree["constitution"]))
            raise BadInput(f"{page.name}: is a recipe, no constitution; name the one that it names, {named!r}")
        return page

    def resolve(
        self, document: yamls.Document, source: _File | _Resource, chain: Mapping[str, str] | None = None
    ) -> Resolved:
        """Return the constitution of a page; `chain` are the pages that led to it: {key: name}."""
        chain = {**(chain or {}), source.key: document.name}
        parents: list[tuple[Asked, Resolved]] = []
        problems: list[str] = []
        for each in asked(document):
            try:
                parents.append((each, self._parent(each, document, source, chain)))
            except BadInput as problem:
                problems += problem.problems
        return inherit(document, parents, problems)

    def _parent(
        self, asked: Asked, document: yamls.Document, source: _File | _Resource, chain: Mapping[str, str]
    ) -> Resolved:
        def here(text: str) -> str:
            # what was found in the parent's own file is told by its line there
            return text if _PLACED.match(text) else document.problem(asked.loc, f"extends {short(asked.use)!r}: {text}")

        try:
            parent = _find(asked.use, source)
            if parent.key in chain:
                names = [*chain.values()]
                circle = " -> ".join([*names[list(chain).index(parent.key) :], chain[parent.key]])
                raise BadInput(f"the files extend each other in a circle, {circle}; take one `extends` out")
            if len(chain) > DEEPEST:
                raise BadInput(f"extended through more than {DEEPEST} files; write it flatter")
            page = None if parent.key in self._done else self.read(parent)
        except BadInput as problem:
            raise BadInput(here(each) for each in problem.problems) from None
        if page is not None:
            try:
                self._done[parent.key] = self.resolve(page, parent, chain)
            except BadInput as problem:
                self._done[parent.key] = problem
        done = self._done[parent.key]
        if isinstance(done, BadInput):
            raise done
        return done


def _find(reference: str | Path, around: _File | _Resource) -> _File | _Resource:
    """Return what a reference means that is written in the file `around`. Raises BadInput where a name is unknown."""
    name = str(reference)
    if isinstance(reference, str) and (not name.strip() or len(name) > LONGEST or not name.isprintable()):
        raise BadInput(f"{short(name)!r} is no name and no path; write it in one line of letters and usual signs")
    if not isinstance(reference, str) or "/" in name or name.endswith((".yaml", ".yml")):
        return around.beside(name)
    named = [each for each in _offers() if each.name == name]
    if name in shipped() and not named:
        return _Resource(HOME, f"library/{name}.yaml")
    if name in shipped() or len({each.value for each in named}) > 1:
        whose = [*(["Solon"] if name in shipped() else []), *(each.dist.name if each.dist else "?" for each in named)]
        raise BadInput(
            f"the name {name!r} is offered by several packages, {', '.join(whose)}; uninstall one, or copy the file "
            "that you mean, and write the path of the copy"
        )
    if named:
        package, colon, file = named[0].value.partition(":")
        if not colon:
            raise BadInput(f"the entry point {name!r} of {GROUP!r} is {named[0].value!r}; expected 'package:file.yaml'")
        return _Resource(package.strip(), file.strip())
    path = around.beside(name)
    if not path.there():
        others, file = installed(), f"{name}.yaml"
        remedy = f"{one_of(name, [*shipped(), *others])} (or write the path of a YAML file)"
        if around.beside(file).there():
            remedy = f"did you mean {file!r}?"
        raise BadInput(f"no constitution {name!r} is shipped{' or installed' if others else ''}; {remedy}")
    return path


def _offers() -> metadata.EntryPoints:
    return metadata.entry_points(group=GROUP)


def _library() -> Traversable:
    return resources.files(HOME) / "library"


HOME = "solon.constitution"
_PLACED = re.compile(r"[^\n]+?:[0-9]+: ")
