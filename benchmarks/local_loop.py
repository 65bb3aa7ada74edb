"""How fast the loop runs on a local model: a recipe of its own walked once, nothing known before, all included.

    python benchmarks/local_loop.py [--recipe examples/quickstart/revision.yaml] [--rows 16]

Tokens a second are those of answers, over the walk's seconds: loading the model, reading prompts, judging, the ledger
and the rows are in it. CPU seconds are the process's own, all threads together; on a machine that others use too they
say more than the clock. The recipe is copied to a folder that is thrown away, and its model loaded from the cache.
"""

from __future__ import annotations

import argparse
import asyncio
import shutil
import tempfile
import time
from pathlib import Path

from solon.commands import run_recipe

SAMPLE = Path(__file__).parents[1] / "examples" / "quickstart" / "revision.yaml"


async def main(recipe: Path, rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for file in recipe.parent.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        started: list[float] = []
        done = await run_recipe(
            Path(folder) / recipe.name,
            limit=rows,
            ready=lambda *_: started.extend((time.perf_counter(), time.process_time())),
        )
        seconds, cpu = time.perf_counter() - started[0], time.process_time() - started[1]
    used = done.progress.usage
    print(
        f"{recipe.name}: {rows} rows, {done.progress.asked} calls, {used.input} tokens of questions, {used.output} of "
        f"answers: {seconds:.1f} s, {used.output / seconds:.1f} tokens/s; {cpu:.1f} CPU s, "
        f"{used.output / cpu:.1f} tokens a CPU second"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--recipe", type=Path, default=SAMPLE)
    parser.add_argument("--rows", type=int, default=16)
    given = parser.parse_args()
    asyncio.run(main(given.recipe, given.rows))
