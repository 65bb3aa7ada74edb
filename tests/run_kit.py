"""A folder with a recipe, its prompts and a scripted model whose answers hang on every word of the question."""

from __future__ import annotations

import hashlib
import os
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from solon import yamls
from solon.cli import main

MODEL = '''
"""Answers with words that hang on the whole call. Notes every call; MODEL_DELAY makes it slow."""
import asyncio, hashlib, os
from pathlib import Path

VERSION = "1"
LOGPROBS = True
HERE = Path(__file__).parent
flying = 0


async def answer(call):
    await noted(call)
    return said(call)


async def noted(call):
    global flying
    with (HERE / "asked.txt").open("a") as file:
        file.write(call.key + "\\n")
    flying += 1
    with (HERE / "flying.txt").open("a") as file:
        file.write(f"{flying}\\n")
    await asyncio.sleep(float(os.environ.get("MODEL_DELAY", "0")) * (1 + int(call.key[-1], 16)) / 16)
    flying -= 1


def said(call):
    digest = hashlib.sha256(call.to_json().encode()).hexdigest()
    if call.labels:
        p = (1 + int(digest[:6], 16)) / (2 + 0xFFFFFF)
        return {"A": p, "B": 1 - p}
    return f"Words {digest[:16]}."


async def other(call):
    await noted(call)
    return said(call) if call.labels else "Other " + said(call)
'''

CONSTITUTION = """\
name: Four principles
principles:
  - {id: plain, text: Use plain words.}
  - {id: kind, text: Be kind to whoever asks.}
  - {id: brief, text: Be brief.}
  - id: careful
    critique: Point out what could hurt somebody.
    revision: Take out what could hurt somebody.
    preference: Which response is less likely to hurt somebody?
"""


@dataclass(frozen=True)
class Told:
    """What a command said: its exit code, standard output and standard error."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Desk:
    """A folder with everything that a run needs."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.yaml"

    @property
    def constitution(self) -> Path:
        return self.path / "constitution.yaml"

    @property
    def latest(self) -> Path:
        return (self.path / "runs" / "latest").resolve()

    def write(self, **changed: Any) -> None:
        """Write the recipe anew, with these keys changed (None takes one out)."""
        page = {**yamls.read(self.recipe).value, **changed} if self.recipe.exists() else changed
        page = {key: value for key, value in page.items() if value is not None}
        self.recipe.write_text(yamls.dump(page), encoding="utf-8")

    def reword(self, old: str, new: str) -> None:
        text = self.constitution.read_text(encoding="utf-8")
        assert old in text
        self.constitution.write_text(text.replace(old, new), encoding="utf-8")

    def asked(self) -> list[str]:
        """Return the keys of all calls that the scripted model was asked, in order."""
        file = self.path / "asked.txt"
        return file.read_text().splitlines() if file.exists() else []

    def remembered(self) -> set[str]:
        """Return the keys in the ledger: the calls that are finished."""
        file = self.path / ".solon" / "ledger.db"
        if not file.exists():
            return set()
        connection = sqlite3.connect(file)
        try:
            return {f"c1:{key.hex()}" for (key,) in connection.execute("SELECT key FROM calls")}
        except sqlite3.OperationalError:  # it was just being made
            return set()
        finally:
            connection.close()


def desk(path: Path, *, prompts: int = 4, **recipe: Any) -> Desk:
    """Return a new folder; `recipe` changes the recipe's keys."""
    path.mkdir(parents=True, exist_ok=True)
    (path / "model.py").write_text(MODEL, encoding="utf-8")
    (path / "constitution.yaml").write_text(CONSTITUTION, encoding="utf-8")
    lines = "".join(f"How do I do thing number {number}?\n" for number in range(prompts))
    (path / "prompts.txt").write_text(lines, encoding="utf-8")
    made = Desk(path)
    made.write(
        **{
            "constitution": "constitution.yaml",
            "prompts": "prompts.txt",
            "model": "scripted:model.py:answer",
            "story": {"kind": "revision", "rounds": 1},
            **recipe,
        }
    )
    return made


class Solon:
    """The command line in this process: `solon("run", path)` is `solon run path`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, *arguments: object) -> Told:
        self._monkeypatch.setattr(sys, "argv", ["solon", *map(str, arguments)])
        self._capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        told = self._capsys.readouterr()
        assert "Traceback" not in told.err
        return Told(code, told.out, told.err)


def started(*arguments: object, cwd: Path, env: Mapping[str, str] | None = None) -> subprocess.Popen[str]:
    """Return `python -m solon ...`, just started in `cwd`."""
    return subprocess.Popen(
        [sys.executable, "-m", "solon", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # a shell that starts the tests in the background lets its children ignore Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def finished(process: subprocess.Popen[str], timeout: float = 60) -> Told:
    """Return what a started command said when it has ended."""
    out, err = process.communicate(timeout=timeout)
    assert "Traceback" not in err, err
    return Told(process.returncode, out, err)


def data_of(run: Path) -> dict[str, str]:
    """Return the digest of every data file of a run's dataset."""
    data = run / "dataset" / "data"
    files = sorted(file for file in data.rglob("*") if file.is_file())
    return {str(file.relative_to(data)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def twice(keys: list[str]) -> set[str]:
    """Return the keys that stand there more than once."""
    return {key for key, count in Counter(keys).items() if count > 1}
