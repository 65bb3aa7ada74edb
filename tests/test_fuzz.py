"""Whatever stands in a file, the loader says what is wrong with it: no traceback, no hang, no flood of memory.

A few hundred broken files here; `make fuzz` tries 20,000 (the environment variable SOLON_FUZZ says how many).
"""

from __future__ import annotations

import os
import random
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from solon import yamls
from solon.constitution import Constitution, load, shipped, shipped_text
from solon.errors import BadInput
from solon.pipelines.recipe import Recipe, is_recipe, read_recipe

ROOT = Path(__file__).parents[1]
COUNT = int(os.environ.get("SOLON_FUZZ", "400"))
SECONDS = 10.0  # for one file, on a busy machine: a hang is minutes
MEGABYTES = 100

REAL = [shipped_text(name) for name in shipped()] + [
    path.read_text(encoding="utf-8") for path in sorted((ROOT / "examples").rglob("*.yaml")) if "runs" not in path.parts
]
EXTENDING = """\
name: child
extends: [{use: cai-2022, without: [identify-harm]}, first-steps]
override:
  honest: {weight: 2, text: null}
principles:
  - {id: own, text: A rule., weight: 1e-3, tags: [a, b], applies_to: [x]}
"""

SNIPPETS = [
    "\t", "\n", ":", " : ", "- ", "&a ", "*a", "*b ", "!!python/object:os.system ", "!tag ", "<<: *a\n", "? ", "| ",
    ">-\n", "%YAML 1.2\n", "---\n", "...\n", "{", "}", "[", "]", '"', "'", "#", "\\", "\x00", "\x85", "\u2028",
    "\u202e", "\ufeff", "\U0001f600", "\ud800", "null", "~", "true", "1e999", ".nan", ".inf", "0x10", "1_000",
    "2026-01-01", "- - - - - - ",
    "principles:\n", "  - id: x\n", "extends: ", "extends: child.yaml\n", "override:\n",
    "  weight: -1\n", "id: x\n", "text: |\n", "kind: hard_constraint\n", "cases:\n  - {}\n",
    "a" * 5000, "[" * 200, "{a: " * 100, "\r", "\r\n",
    "أمن", "שלום", "\u2067right to left\u2069",
]  # fmt: skip


def mutated(text: str, dice: random.Random) -> str:
    """Return a real file with a few accidents in it."""
    for _ in range(dice.randint(1, 6)):
        lines = text.split("\n")
        place, line = dice.randrange(len(text) + 1), dice.randrange(len(lines))
        match dice.randrange(8):
            case 0:
                text = text[:place] + dice.choice(SNIPPETS) + text[place:]
            case 1:
                text = text[:place] + text[place + dice.randint(1, 40) :]
            case 2:
                text = "\n".join([*lines[:line], lines[line], *lines[line:]])
            case 3:
                text = "\n".join([*lines[:line], *lines[line + dice.randint(1, 5) :]])
            case 4:
                other = dice.choice(REAL).split("\n")
                begin = dice.randrange(len(other))
                text = "\n".join([*lines[:line], *other[begin : begin + 8], *lines[line:]])
            case 5:
                text = "\n".join([*lines[:line], dice.choice([" ", "  ", "\t"]) + lines[line], *lines[line + 1 :]])
            case 6:
                text = text[:place]
            case _:
                text = (
                    text[:place] + chr(dice.choice([dice.randrange(128), dice.randrange(0x3000)])) + text[place + 1 :]
                )
    return text


def said_of(text: str, folder: Path) -> list[str] | None:
    """Return what the loader says against a file of these words; None where it takes it."""
    file = folder / "child.yaml"
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    try:
        if is_recipe(file):
            recipe = read_recipe(file)
            assert isinstance(recipe, Recipe)
        else:
            constitution = load(file)
            assert isinstance(constitution, Constitution)
            # what was taken is whole: it can be written and read again
            assert yamls.parse(constitution.to_yaml(), "again").value
    except BadInput as problem:
        return list(problem.problems)
    return None


def checked(text: str, folder: Path) -> bool:
    """Return whether a file is taken; fail where what is said is no clear line, or came too late."""
    begun = time.process_time()
    said = said_of(text, folder)
    assert time.process_time() - begun < SECONDS, text[:500]
    if said is None:
        return True
    assert said, text[:500]
    for line in said:
        # (the file's own words may hold a line end that is none to YAML; no message quotes it)
        assert line.strip(), line
        assert "\n" not in line, line
        assert len(line) < 2000, line[:200]
    return False


def peak() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_broken_files_end_in_a_clear_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Real files with accidents in them."""
    dice = random.Random(20221215)
    texts = [*REAL, EXTENDING]
    for text in texts:
        checked(text, tmp_path)
    before, taken, slowest = peak(), 0, 0.0
    for _ in range(COUNT):
        begun = time.process_time()
        taken += checked(mutated(dice.choice(texts), dice), tmp_path)
        slowest = max(slowest, time.process_time() - begun)
    grown = peak() - before
    told = f"{COUNT:,} mutated files: {taken:,} taken, {COUNT - taken:,} refused, slowest {slowest:.2f} s, "
    with capsys.disabled():
        if COUNT > 1000:
            sys.stdout.write(f"\n{told}{grown:.0f} MB above the start\n")
    assert grown < MEGABYTES


KEYS = """
    name id text critique revision preference weight tags applies_to rank kind rationale exemplars cases prompt better
    worse response principles extends override use without only preamble licence constitution prompts model story
    rounds cast judge seed window export limit path
"""
keys = st.sampled_from(KEYS.split()) | st.text(max_size=8)
scalars = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
    | st.sampled_from(["cai-2022", "first-steps", "child.yaml", "hard_constraint", "revision", "x" * 300])
)  # fmt: skip
trees = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=5), max_leaves=30
)


@settings(max_examples=max(COUNT // 4, 50), deadline=None, suppress_health_check=list(HealthCheck), database=None)
@given(st.dictionaries(keys, trees, min_size=1, max_size=6))
def test_any_tree_of_values_ends_in_a_constitution_or_a_clear_line(
    tmp_path_factory: pytest.TempPathFactory, tree: dict[str, object]
) -> None:
    try:
        text = yamls.dump(tree)
        yamls.parse(text, "tree")
    except (BadInput, UnicodeEncodeError):
        return  # half a character cannot be written
    checked(text, tmp_path_factory.getbasetemp())


def bombs() -> Iterator[tuple[str, str]]:
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
    )
    yield "a billion laughs", laughs
    yield (
        "laughs of mappings",
        "a0: &a0 {x: y}\n" + "".join(f"a{n}: &a{n} {{p: *a{n - 1}, q: *a{n - 1}}}\n" for n in range(1, 40)),
    )
    yield "an anchor that holds itself", "name: &a [*a]\n"
    yield "a hundred thousand brackets", "name: " + "[" * 100_000
    yield "a hundred thousand mappings", "{a: " * 100_000
    yield "deep dashes", "- " * 100_000
    yield "one key a hundred thousand times", "a: 1\n" * 100_000
    yield "a key of 5 MB", "k" * 5_000_000 + ": 1\n"
    yield "a text of 5 MB", f"name: x\nprinciples:\n  - id: a\n    text: {'word ' * 1_000_000}\n"
    yield "an id of 5 MB", f"name: x\nprinciples:\n  - id: {'a' * 5_000_000}\n    text: b\n"
    yield "an unknown kind of 5 MB", f"name: x\nprinciples:\n  - id: a\n    text: b\n    kind: {'k' * 5_000_000}\n"
    yield "a number of 5 MB", f"seed: {'9' * 5_000_000}\n"
    yield "a comment of 9 MB", "# " + "c" * 9_000_000 + "\nname: x\n"
    yield "an open quote and 5 MB", 'name: "' + "q" * 5_000_000
    yield "right to left", "name: \u202eeman\nprinciples:\n  - id: \u202ea\n    text: \u202eesrever\n"
    yield "tags", "name: !!python/object/apply:os.system ['true']\n"
    yield "a merge key", "a: &a {name: x}\n<<: *a\n"
    yield "tabs", "name:\tx\n\tprinciples: []\n"
    yield "ten thousand principles of one id", "name: x\nprinciples:\n" + "  - {id: a, text: b}\n" * 10_000
    yield "it extends itself", "name: child\nextends: child.yaml\n"
    yield "it extends a thousand", f"name: child\nextends: [{', '.join(['cai-2022'] * 1000)}]\n"
    yield "it extends a folder", "name: child\nextends: ./\n"
    yield "it extends a device", "name: child\nextends: /dev/zero\n"


@pytest.mark.parametrize(("text"), [text for _, text in bombs()], ids=[name for name, _ in bombs()])
def test_a_bomb_goes_off_without_harm(text: str, tmp_path: Path) -> None:
    before = peak()
    checked(text, tmp_path)
    assert peak() - before < MEGABYTES
