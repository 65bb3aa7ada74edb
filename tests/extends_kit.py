"""Pages that extend others: a folder to write them in, a package that offers some, and the page under test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from solon.constitution import Resolved, resolve
from solon.errors import BadInput

Write = Callable[..., None]
Install = Callable[..., None]

BASE = """\
name: Base
licence: MIT
source: a book
preamble: Be good.
principles:
  - id: harmless
    text: Do no harm.
    tags: [harm]
    cases:
      - {prompt: Hello?, better: Hello., worse: Go away.}
  - id: honest
    text: Say what is so.
  - id: never-dose
    kind: hard_constraint
    text: Never state a dose.
"""


def writer(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Make `folder` the current one; return what writes YAML files there, by name. base.yaml is there already."""
    monkeypatch.chdir(folder)

    def write(**pages: str) -> None:
        for name, text in pages.items():
            (folder / f"{name}.yaml").write_text(text, encoding="utf-8")

    write(base=BASE)
    return write


def installer(site: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Make `site` a folder of installed packages; return what installs one: its entry points, and its files."""

    def install(points: dict[str, str], files: dict[str, str], name: str = "house_rules") -> None:
        for path, text in files.items():
            file = site / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        info = site / f"{name}-1.0.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        lines = "".join(f"{point} = {value}\n" for point, value in points.items())
        (info / "entry_points.txt").write_text(f"[solon.constitutions]\n{lines}")

    monkeypatch.syspath_prepend(str(site))
    return install


def mine(text: str) -> Resolved:
    """Write mine.yaml into the current folder, and read it."""
    Path("mine.yaml").write_text(f"name: mine\n{text}", encoding="utf-8")
    return resolve("mine.yaml")


def problems(text: str) -> list[str]:
    """Return what is said against such a mine.yaml."""
    with pytest.raises(BadInput) as caught:
        mine(text)
    return list(caught.value.problems)
