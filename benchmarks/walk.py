"""How fast rows are walked where nobody has to be waited for: rows of five calls a second, on one core.

    python benchmarks/walk.py [rows]        # 5,000 by default

A revision story of one round (respond, critique, revise, judge in both orders) with a scripted model that answers at
once. Three walks of the same recipe: everything asked; everything known (a run folder that is gone, a ledger that is
whole: what a re-export or an edit's plan does); and the same once more as a plan. All in one process, one thread beside
the ledger's own. `--profile` prints where the time of the second walk goes.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import json
import pstats
import resource
import shutil
import tempfile
import time
from pathlib import Path

from solon.commands import plan_recipe, run_recipe

MODEL = """
import random
LOGPROBS = True
VERSION = "1"
WORDS = (
    "one answer of ordinary length with words that come again as they do in any text that people write about a thing "
    "which they know because they have seen it themselves or because somebody told them of it long ago"
).split()


def answer(call):
    draw = random.Random(call.key)
    if call.labels:
        p = draw.random()
        return {"A": p, "B": 1 - p}
    return " ".join(draw.choices(WORDS, k=100)) + "."
"""

RECIPE = """\
constitution: cai-2022
prompts: prompts.jsonl
model: scripted:model.py:answer
story: {kind: revision, rounds: 1}
window: 256
"""


def prepare(folder: Path, rows: int) -> Path:
    """Write the recipe, its model and its prompts; return the recipe's path."""
    (folder / "model.py").write_text(MODEL)
    (folder / "recipe.yaml").write_text(RECIPE)
    with (folder / "prompts.jsonl").open("w") as file:
        for number in range(rows):
            prompt = f"Question {number}: how do people do thing {number * 7919 % 1000}?"
            file.write(json.dumps({"prompt": prompt}) + "\n")
    return folder / "recipe.yaml"


def cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="?", type=int, default=5000)
    parser.add_argument("--profile", choices=("asked", "known", "plan"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        recipe = prepare(folder, given.rows)
        for walk in ("asked", "known", "plan"):
            if walk == "known":
                shutil.rmtree(folder / "runs")
            profile = cProfile.Profile() if given.profile == walk else None
            began, used = time.perf_counter(), cpu()
            if profile:
                profile.enable()
            if walk == "plan":
                asyncio.run(plan_recipe(recipe))
            else:
                done = asyncio.run(run_recipe(recipe))
                assert done.progress.done == given.rows, done.progress
            if profile:
                profile.disable()
                pstats.Stats(profile).sort_stats("tottime").print_stats(45)
            seconds, used = time.perf_counter() - began, cpu() - used
            calls = 5 * given.rows
            print(
                f"{walk:6} {given.rows / seconds:8,.0f} rows/s  {given.rows / used:8,.0f} rows a CPU second  "
                f"{1e6 * used / calls:6.0f} us CPU a call  (planning and export included)"
            )


if __name__ == "__main__":
    main()
