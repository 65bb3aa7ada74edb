"""What the documents say is what the house does: pages, trees, recipes and commands in them are checked."""

from __future__ import annotations

import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.main import get_command

from solon import yamls
from solon.cli import app
from solon.errors import REASONS, SolonError
from solon.pipelines.recipe import Recipe, read_recipe
from solon.schemas import schema, schema_text

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / name
    for name in (
        "README.md",
        "ARCHITECTURE.md",
        "CHANGELOG.md",
        "docs/recipe.md",
        "docs/constitution.md",
        "docs/edits.md",
        "docs/forms.md",
        "docs/rules.md",
        "docs/tutorial.md",
        "docs/answers.md",
        "docs/batch.md",
        "docs/engine.md",
        "docs/ledger.md",
        "docs/money.md",
        "docs/pace.md",
        "docs/watching-a-run.md",
        "docs/wire.md",
    )
]


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text(encoding="utf-8"), flags=re.DOTALL)


def test_the_tree_in_the_architecture_is_the_tree_on_disk() -> None:
    """`python docs/tree.py --write` was run after the last change of structure."""
    page = ROOT / "ARCHITECTURE.md"
    rendered = runpy.run_path(str(ROOT / "docs" / "tree.py"))["rendered"]
    text = page.read_text(encoding="utf-8")
    assert rendered(text) == text


@pytest.mark.parametrize("text", [text for page in PAGES for text in blocks(page, "yaml")])
def test_a_recipe_in_the_documents_is_a_recipe(text: str) -> None:
    """A YAML block with a story is read whole; one without is a part that fits into a recipe."""
    value = yamls.parse(text, "block.yaml").value
    whole = {"constitution": "cai-2022", "prompts": "prompts.jsonl", "model": "smollm2", "story": "revision"}
    if "principles" in value:
        from solon.constitution import parse

        assert parse(text).principles
        return
    Recipe.model_validate({**whole, **value})


RECIPES = [path for path in sorted((ROOT / "examples").rglob("*.yaml")) if "runs" not in path.parts]


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_example_recipe_can_be_read(path: Path) -> None:
    recipe = read_recipe(path)
    recipe.constitution_object(path.parent)


def test_every_command_in_the_documents_exists() -> None:
    """`solon plan`, `solon models check`, ... : each is a command, each `--option` is one of its options."""
    said = set()
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        for line in re.findall(r"^\s*(?:\$ )?(solon [^\n#]*)", "\n".join(blocks(page, "(?:sh|console)")), re.MULTILINE):
            said.add(line.strip())
        said |= set(re.findall(r"`(solon [a-z][^`]*)`", text))
    assert said
    for line in said:
        command, context = get_command(app), None
        words = line.split()[1:]
        while words and hasattr(command, "commands") and words[0] in command.commands:
            command = command.commands[words.pop(0)]
        assert not hasattr(command, "commands") or not words or words[0].startswith("-"), f"no such command: {line}"
        known = {name for parameter in command.params for name in parameter.opts} | {"--help"}
        for word in words:
            if word.startswith("-") and not re.fullmatch(r"-\d+", word):
                assert word.split("=")[0] in known, f"{line}: no option {word}"
        del context


@pytest.mark.parametrize("name", ["recipe.md", "constitution.md"])
def test_the_reference_is_made_from_the_classes_that_read_the_pages(name: str) -> None:
    """`python docs/reference.py --write` was run after the last change of a key."""
    pages = runpy.run_path(str(ROOT / "docs" / "reference.py"))["PAGES"]
    assert pages[name]() == (ROOT / "docs" / name).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", ["constitution", "recipe"])
def test_the_shipped_schema_is_made_from_the_classes_that_read_the_page(page: str) -> None:
    """`python docs/reference.py --write` was run after the last change of a key."""
    assert schema_text(page) == schema(page)


def test_every_key_of_both_pages_is_explained() -> None:
    """A key without a word about it in its class's docstring is a key that nobody can use."""
    for name in ("recipe.md", "constitution.md"):
        silent = re.findall(r"^\| (`[a-z_]+`) \|[^|]*\| \|$", (ROOT / "docs" / name).read_text("utf-8"), re.MULTILINE)
        assert silent == [], f"docs/{name}: nothing is said of {silent}"


def test_every_make_target_in_the_documents_exists() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)`", page.read_text(encoding="utf-8")):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"{page.name}: make {target}"


def test_every_link_within_the_project_leads_somewhere() -> None:
    for page in PAGES:
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / link).exists(), f"{page.name}: {link}"


def test_the_exit_codes_of_the_errors_are_documented() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    codes = {each.exit_code for each in SolonError.__subclasses__()} | {0, 130}
    for code in codes:
        assert re.search(rf"\| {code} \|", text), f"README: exit code {code}"


def test_every_reason_has_a_sentence() -> None:
    assert all(len(sentence.split()) >= 3 for sentence in REASONS.values())


def test_the_walk_through_the_house_runs(tmp_path: Path) -> None:
    """examples/walk.sh, offline, with a scripted model."""
    folder = tmp_path / "examples"
    shutil.copytree(ROOT / "examples", folder, ignore=shutil.ignore_patterns("runs", ".solon", "models"))
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(
        ["sh", str(folder / "walk.sh"), str(tmp_path / "walk")], capture_output=True, text=True, env={"PATH": path},
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "chosen revision.1" in done.stdout


async def test_by_hand_gives_what_a_run_gives(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """examples/by_hand.py, with the scripted model of examples/offline; the second time it asks nothing."""
    main = runpy.run_path(str(ROOT / "examples" / "by_hand.py"))["main"]
    use = f"scripted:{ROOT / 'examples' / 'offline' / 'replies.py'}:answer"
    await main(use, str(tmp_path / "ledger.db"))
    first = capsys.readouterr().out
    await main(use, str(tmp_path / "ledger.db"))
    assert "chosen     the revision" in first
    assert "5 calls asked, 0 known" in first
    assert "0 calls asked, 5 known" in capsys.readouterr().out
