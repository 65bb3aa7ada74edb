"""How much CPU a start costs, in seconds and as a multiple of the bare interpreter's own start (best of 7).

python benchmarks/startup.py
"""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

OFFLINE = Path(__file__).parents[1] / "examples" / "offline"
LIMIT = 0.3
"""Seconds that `solon --help` may cost."""


def cpu(arguments: list[str], cwd: str) -> float:
    """Return the CPU seconds, user and system, of the cheapest of seven runs."""
    costs = []
    for _ in range(7):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(arguments, cwd=cwd, check=True, stdout=subprocess.DEVNULL)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(costs)


def main() -> int:
    solon = [sys.executable, "-m", "solon"]
    commands = {
        "python -c pass": [sys.executable, "-c", "pass"],
        "import solon": [sys.executable, "-c", "import solon"],
        "solon --help": [*solon, "--help"],
        "solon check recipe.yaml": [*solon, "check", "recipe.yaml"],
        "solon plan recipe.yaml": [*solon, "plan", "recipe.yaml"],
        "solon run recipe.yaml (all known)": [*solon, "run", "recipe.yaml", "-q"],
    }
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(OFFLINE, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("runs", ".solon"))
        costs = {name: cpu(arguments, folder) for name, arguments in commands.items()}
    bare = costs["python -c pass"]
    print(f"{'best of 7':36} {'CPU time':>12}  against the bare interpreter")
    for name, seconds in costs.items():
        print(f"{name:36} {seconds:6.3f} s CPU  {seconds / bare:6.1f} x")
    slow = costs["solon --help"] > LIMIT
    print(f"solon --help {'costs more than' if slow else 'stays under'} {LIMIT} s")
    return int(slow)


if __name__ == "__main__":
    sys.exit(main())
