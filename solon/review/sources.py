"""Where a constitution to compare comes from: a file, a name, a recipe, a run folder, or a revision of a repository.

    constitution_at("HEAD~1:rules/house.yaml")      as it was one commit ago, and so all that it extends
    constitution_at("runs/latest")                  as the run was made with
    constitution_at("recipe.yaml")                  as the recipe names it now

A revision is written as git writes it, `REV:path`; the path starts in the current folder, and `:path` is what is
staged for the next commit. A file that is there wins over a revision of the same spelling.
"""

from __future__ import annotations

import os
import posixpath
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from solon import yamls
from solon.complaints import short, words_of
from solon.constitution import Constitution, Resolved
from solon.constitution.load import installed, resolve, shipped
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe, is_recipe, read_recipe, speaks_as_recipe
from solon.pipelines.run import RunFolder
from solon.rows import Prompt

__all__ = ["Found", "Revision", "constitution_at", "constitution_now"]


@dataclass(frozen=True)
class Found:
    """A constitution and where it was found.

    resolved: the constitution, with the place of every part
    name:   what people call the place
    recipe: the recipe or run that it was found by, None where it was named itself, or at a revision
    base:   the folder where the recipe's paths start
    run:    the run folder, where it was one: the rows to speak of are those of its plan
    """

    resolved: Resolved
    name: str
    recipe: Recipe | None = None
    base: Path = Path()
    run: RunFolder | None = None

    @property
    def constitution(self) -> Constitution:
        return self.resolved.constitution

    @contextmanager
    def prompts(self) -> Iterator[Iterator[Prompt] | None]:
        """Lend the prompts of the run's plan, one by one from the disk; None where it is no run."""
        if self.run is None:
            yield None
            return
        with self.run.store(read_only=True) as store:
            yield (row.prompt for row in store.rows(unfinished=False))


def constitution_at(reference: str | Path, base: Path | None = None) -> Found:
    """Return the constitution that `reference` means.

    Args:
        reference: a path of a constitution, a recipe or a run folder; a shipped or installed name; or `REV:path`.
        base: the folder where a relative path starts; by default the current one.

    Raises BadInput, and StorageError for a run folder that cannot be read.
    """
    base, name = base or Path(), str(reference)
    if isinstance(reference, str) and name in (*shipped(), *installed()):
        return Found(resolve(name), name)
    path = yamls.located(reference, base)
    if not _is_there(path):
        split = _REVISION.fullmatch(name)
        return _at_revision(split["rev"], split["path"], base) if split else Found(resolve(reference, base), name)
    kept = path if path.is_dir() else path.parent
    if (kept / "run.json").is_file():
        return Found(resolve(path), name) if path.name == "constitution.yaml" else _of_run(RunFolder.open(kept), name)
    if is_recipe(path):
        recipe = read_recipe(path)
        return Found(resolve(recipe.constitution, kept), name, recipe, kept)
    return Found(resolve(path), name)


def constitution_now(run: Found) -> Found:
    """Return the constitution that the recipe of a run names today. Raises BadInput where there is none any more."""
    assert run.run is not None
    written = run.run.facts.get("file")
    file = Path(os.path.normpath(run.run.path.resolve() / written)) if isinstance(written, str) else None
    if file is None or not file.is_file():
        which = f", {_shown(file)}," if file else ""
        raise BadInput(
            f"{run.name}: the recipe that it was made from{which} is not there any more; name the constitution to "
            "compare it with"
        )
    recipe = read_recipe(file)
    return Found(
        resolve(recipe.constitution, file.parent), f"{recipe.constitution} of {_shown(file)}", recipe, file.parent
    )


class Revision:
    """Reads files as they were at a revision: a Reader for `constitution.resolve`.

    revision: whatever git takes for one; "" is what is staged
    folder:   a folder of the repository; names in problems are relative to it

    Raises BadInput where git or the repository is missing, or the revision is not in it.
    """

    def __init__(self, revision: str, folder: Path) -> None:
        self.revision = revision
        self.folder = folder
        if revision.startswith("-"):
            raise BadInput(f"{revision!r} is no revision; write for example HEAD~1:constitution.yaml")
        found = self._git("rev-parse", "--show-prefix")
        self._prefix = os.fsdecode(found.stdout.removesuffix(b"\n"))
        if found.returncode:
            raise BadInput(
                f"{folder.resolve()}: no repository that git can read ({_words(found)}); name a file instead"
            )
        if revision and self._git("rev-parse", "--verify", "--quiet", f"{revision}^{{tree}}").returncode:
            raise BadInput(
                f"no revision {short(revision)!r} in the repository of {folder.resolve()}; "
                "`git log --oneline` lists what there is"
            )

    def read(self, path: Path, /) -> yamls.Document:
        """Return the file at `path` as it was. Raises BadInput."""
        inside = Path(os.path.relpath(path, self.folder)).as_posix()
        name = f"{self.revision}:{inside}"
        # from the top: a bare repository knows no other paths
        blob = f"{self.revision}:{posixpath.normpath(self._prefix + inside)}"
        size = self._git("cat-file", "-s", blob)
        if size.returncode:
            when = f"at revision {short(self.revision)!r}" if self.revision else "staged"
            raise BadInput(f"{name}: no such file {when} ({_words(size)}); paths start in {self.folder.resolve()}")
        if int(size.stdout) > yamls.MOST_BYTES:
            raise BadInput(f"{name}: larger than {yamls.MOST_BYTES // 1_000_000} MB; a constitution holds a few pages")
        told = self._git("cat-file", "blob", blob)
        if told.returncode:
            raise BadInput(f"{name}: is a folder there; name the YAML file in it")
        return yamls.decode(told.stdout, name)

    def _git(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        try:
            return subprocess.run(
                ["git", "-C", str(self.folder), *arguments],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                check=False,
            )
        except FileNotFoundError:
            raise BadInput(f"{self.revision}: reading a revision needs git, which is not installed") from None
        except (OSError, ValueError) as problem:
            raise BadInput(f"{short(self.revision)!r}: git cannot be asked ({words_of(problem)})") from None


def _of_run(run: RunFolder, name: str) -> Found:
    constitution, recipe = run.constitution, run.recipe
    plan = f"{run.facts['recipe']}-{run.facts['plan']}"
    return Found(constitution, name if plan in name else f"{name} ({plan})", recipe, run.path, run)


def _at_revision(revision: str, written: str, base: Path) -> Found:
    reader = Revision(revision, base)
    path = yamls.located(written, base)
    document = reader.read(path)
    if speaks_as_recipe(document):
        recipe = yamls.build(Recipe, document)
        return Found(resolve(recipe.constitution, path.parent, reader), f"{recipe.constitution} of {document.name}")
    return Found(resolve(path.absolute(), None, reader), document.name)


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):
        # a name that no file could have
        return False


def _shown(file: Path) -> str:
    """Return a path as people would write it here."""
    near = os.path.relpath(file)
    return str(file) if near.startswith("..") else near


def _words(done: subprocess.CompletedProcess[bytes]) -> str:
    said = done.stderr.decode("utf-8", "replace").strip().splitlines()
    return short(said[0].removeprefix("fatal: "), 200).rstrip(".") if said else "it does not say why"


_REVISION = re.compile(r"(?P<rev>(?:[^:{]|\{[^}]*\})*):(?P<path>.+)", re.DOTALL)
"""`REV:path`; a colon within braces, as in `main@{2024-01-01 10:00:00}`, is the revision's."""
