"""What an edit costs: calls asked anew after seven edits, beside what cannot be avoided, and what the plan had said.

    python benchmarks/edits.py [--rows 2000] [--json]         answers hang on every word of the question
    python benchmarks/edits.py --chance 8 [--rows 1000]       and some are refused, unchanged or silent, by chance

Prompts are made up, the constitution is cai-2022 with its sixteen principles, the story is revision with two rounds,
the models are scripted: 7 calls a row. One run is walked first; each edit is then made in a copy of its folder,
planned, and run.

minimum:  calls of the edited recipe that the first run never put, found without ledger, plan's counts or run: both
          recipes are walked whole, straight to the model, and the keys of their questions are compared
by stage: calls of the stages that the edit touches and of those after them: what an engine asks that keeps or redoes
          whole stages. An edited principle touches all stages but the first, another file of prompts touches all

With --chance, each seed is another world: 5 % of answers are refused, 8 % of revisions change nothing, 3 % of verdicts
are silent, by a hash of the question.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from solon import yamls
from solon.calls import Call, Reply
from solon.cast import Cast
from solon.commands import Planned, plan_recipe, run_recipe
from solon.constitution import load
from solon.dataset import RowStore
from solon.pipelines.plan import planning
from solon.pipelines.recipe import read_recipe
from solon.workshop import Workshop

Line = dict[str, Any]
EDITED = "dangerous-advice"


def reword(folder: Path) -> None:
    def said(principle: dict[str, Any]) -> None:
        for role in ("critique", "revision", "preference"):
            principle[role] += " Say so in plain words."

    _principle(folder, said)


def add(folder: Path) -> None:
    _constitution(folder, lambda page: page["principles"].append({"id": "brief", "text": "Say it in few words."}))


def remove(folder: Path) -> None:
    def without(page: dict[str, Any]) -> None:
        page["principles"] = [each for each in page["principles"] if each["id"] != EDITED]

    _constitution(folder, without)


def reweight(folder: Path) -> None:
    _principle(folder, lambda principle: principle.update(weight=2.0))


def preamble(folder: Path) -> None:
    _constitution(folder, lambda page: page.update(preamble="The assistant speaks with a friend."))


def more_prompts(folder: Path) -> None:
    lines = (folder / "prompts.txt").read_text().splitlines()
    more = [prompt(len(lines) + number) for number in range(max(len(lines) // 10, 1))]
    (folder / "prompts.txt").write_text("\n".join([*lines, *more]) + "\n")


def prompt_in_front(folder: Path) -> None:
    file = folder / "prompts.txt"
    file.write_text("What is to be done first of all?\n" + file.read_text())


EDITS: dict[str, Callable[[Path], None]] = {
    "reword one principle": reword,
    "add one": add,
    "remove one": remove,
    "double one's weight": reweight,
    "put a preamble before all": preamble,
    "add 10 % prompts": more_prompts,
    "insert one prompt in front": prompt_in_front,
}


def _constitution(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    page = yamls.read(folder / "constitution.yaml").value
    edit(page)
    (folder / "constitution.yaml").write_text(yamls.dump(page))


def _principle(folder: Path, edit: Callable[[dict[str, Any]], None]) -> None:
    _constitution(folder, lambda page: edit(next(each for each in page["principles"] if each["id"] == EDITED)))


def prompt(number: int) -> str:
    return f"How do I get {number} neighbours to agree on thing number {number * number % 1009}?"


def settle(folder: Path, rows: int, script: str) -> None:
    """Write a recipe's folder."""
    folder.mkdir(parents=True)
    (folder / "model.py").write_text(script)
    (folder / "prompts.txt").write_text("".join(prompt(number) + "\n" for number in range(rows)))
    (folder / "constitution.yaml").write_text(load("cai-2022").to_yaml())
    page = {"constitution": "constitution.yaml", "prompts": "prompts.txt", "model": "scripted:model.py:answer"}
    (folder / "recipe.yaml").write_text(yamls.dump({**page, "story": {"kind": "revision", "rounds": 2}}))


async def edited(base: Path, name: str, edit: Callable[[Path], None]) -> tuple[Path, Planned, int]:
    """Make an edit in a copy of a run's folder; return the copy, the plan, and how many calls its run asked."""
    folder = base.with_name(f"{base.name} {name}")
    shutil.copytree(base, folder, symlinks=True)
    edit(folder)
    planned = await plan_recipe(folder / "recipe.yaml")
    done = await run_recipe(folder / "recipe.yaml")
    return folder, planned, done.progress.asked


async def questions(folder: Path) -> set[str]:
    """Return the keys of every call that a recipe's rows put, each row walked straight to the model."""
    keys: set[str] = set()
    path = folder / "recipe.yaml"
    recipe = read_recipe(path).model_copy(update={"ledger": "none.db", "runs": "none"})
    async with Workshop(recipe, folder) as shop:
        cast, model = await shop.cast(), shop.model("judge")

        async def ask(call: Call) -> Reply:
            keys.add(call.key)
            return await model(call)

        direct = Cast(*(replace(player, ask=ask) for player in cast.players()))
        async with planning(recipe, folder, cast) as plan:
            with RowStore.open(plan.rows, read_only=True) as store:
                for row in store.rows():
                    await plan.story(row, direct)
        assert shop.tally.known == shop.tally.asked == 0
    return keys


async def exact(folder: Path, rows: int) -> list[Line]:
    """Return one line an edit: what the plan said, what was asked, and what had to be."""
    base = folder / "base"
    settle(base, rows, SCRIPT)
    await run_recipe(base / "recipe.yaml")
    before, lines = await questions(base), []
    for name, edit in EDITS.items():
        copy, planned, asked = await edited(base, name, edit)
        after, survey = await questions(copy), planned.survey
        answers = survey.rows if edit not in (more_prompts, prompt_in_front) else 0
        lines.append(
            {
                "edit": name,
                "calls": len(after),
                "asked": asked,
                "minimum": len(after - before),
                "by_stage": len(after) - answers,
                **{each: getattr(survey, each) for each in ("known", "certain", "expected", "at_most")},
                "difference": planned.difference.summary if planned.difference is not None else "",
            }
        )
        shutil.rmtree(copy)
    return lines


async def by_chance(folder: Path, rows: int, seed: int) -> list[Line]:
    """Return one line an edit: what was expected of a cast whose answers may fail, and what was asked."""
    base, lines = folder / "base", []
    settle(base, rows, f"SEED = {seed}\n{SCRIPT}{CHANCE}")
    done = await run_recipe(base / "recipe.yaml")
    for name, edit in EDITS.items():
        copy, planned, asked = await edited(base, name, edit)
        survey = planned.survey
        assert survey.certain <= survey.expected <= survey.at_most
        assert survey.certain <= asked <= survey.at_most
        lines.append(
            {
                "seed": seed,
                "edit": name,
                "first_run": done.progress.asked,
                "expected": survey.expected,
                "likely": survey.likely,
                "at_most": survey.at_most,
                "asked": asked,
            }
        )
        shutil.rmtree(copy)
    return lines


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--rows", type=int, default=None, help="prompts of the first run")
    options.add_argument("--chance", type=int, default=0, metavar="SEEDS", help="a cast whose answers may fail")
    options.add_argument("--json", action="store_true", help="figures for machines")
    given = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if given.chance:
            lines = []
            for seed in range(1, given.chance + 1):
                lines += asyncio.run(by_chance(Path(folder) / str(seed), given.rows or 1000, seed))
        else:
            lines = asyncio.run(exact(Path(folder), given.rows or 2000))
    if given.json:
        print(json.dumps(lines, indent=1))
    else:
        (print_chance if given.chance else print_exact)(lines)


def print_exact(lines: list[Line]) -> None:
    print("| edit | calls | asked anew | minimum | by stage | plan: known | certain | expected | at most |")
    print("| --- " + "| ---: " * 8 + "|")
    for line in lines:
        shares = " | ".join(
            f"{line[name]:,} ({line[name] / line['calls']:.1%})" for name in ("asked", "minimum", "by_stage")
        )
        plan = " | ".join(f"{line[name]:,.0f}" for name in ("known", "certain", "expected", "at_most"))
        print(f"| {line['edit']} | {line['calls']:,} | {shares} | {plan} |")


def print_chance(lines: list[Line]) -> None:
    print("| edit | runs | asked, mean | off by, mean | worst | worst, of the first run's calls | likely |")
    print("| --- " + "| ---: " * 6 + "|")
    for name in EDITS:
        own = [line for line in lines if line["edit"] == name]
        asked = sum(line["asked"] for line in own) / len(own)
        off = [line["expected"] - line["asked"] for line in own]
        worst = max(abs(each) / line["asked"] for each, line in zip(off, own, strict=True))
        of_all = max(abs(each) / line["first_run"] for each, line in zip(off, own, strict=True))
        likely = sum(line["likely"][0] <= line["asked"] <= line["likely"][1] for line in own)
        print(
            f"| {name} | {len(own)} | {asked:,.0f} | {sum(off) / len(own) / asked:+.2%} | {worst:.2%} | {of_all:.2%} "
            f"| {likely} of {len(own)} |"
        )


SCRIPT = '''
"""Words that hang on every word of the question."""
import hashlib

VERSION = "1"
LOGPROBS = True


def answer(call):
    digest = hashlib.sha256(call.to_json().encode()).hexdigest()
    if call.labels:
        p = (1 + int(digest[:6], 16)) / (2 + 0xFFFFFF)
        return {"A": p, "B": 1 - p}
    return f"Words {digest[:16]}."
'''

CHANCE = """

from solon.calls import Reply

always = answer


def answer(call):
    chance = int(hashlib.sha256(f"{SEED} {call.key}".encode()).hexdigest()[:8], 16) / 2**32
    if call.labels:
        return Reply("") if chance < 0.03 else always(call)
    if chance < 0.05:
        return Reply("", finish="refusal")
    # a revision is asked for with the answer and its critique before it
    said = [message.content for message in call.messages if message.role == "assistant"]
    return said[0] if len(said) == 2 and chance < 0.05 + 0.95 * 0.08 else always(call)
"""


if __name__ == "__main__":
    main()
