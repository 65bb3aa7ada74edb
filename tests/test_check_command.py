"""`solon check` as a lint: recipes with their prompts, three formats, exit codes, and the hook for pre-commit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from run_kit import Desk, Solon, desk
from typer.main import get_command

from solon import yamls
from solon.cli import app
from solon.commands.checks import Checked, check_files
from solon.constitution import resolve
from solon.constitution.rules import RULES
from solon.dataset import read_prompts
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import read_recipe
from solon.review.advice import Meetings, advise

ROOT = Path(__file__).parents[1]
GENERAL = "name: x\nprinciples:\n  - {id: a, text: Be good.}\n"


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """A folder with a recipe that deserves no advice, and where we are."""
    monkeypatch.chdir(tmp_path)
    return desk(tmp_path, prompts=40)


def rules(checked: Checked) -> list[tuple[str | None, str, int | None]]:
    return [(problem.rule, Path(problem.file).name, problem.line) for problem in checked.problems]


# -- recipes ---------------------------------------------------------------------------------------------------------


def test_a_recipe_is_checked_with_its_constitution(made: Desk) -> None:
    assert rules(check_files(["recipe.yaml"])) == []
    made.constitution.write_text(GENERAL)
    assert rules(check_files(["."])) == [("too-general", "constitution.yaml", 3)]


def test_a_principle_whose_tag_no_prompt_carries_is_told_at_its_line(made: Desk) -> None:
    made.reword("{id: kind, text", "{id: kind, applies_to: [vers, news], text")
    (made.path / "prompts.jsonl").write_text(
        "".join(f'{{"prompt": "Number {number}?", "tags": ["verse", "talk"]}}\n' for number in range(40))
    )
    made.write(prompts="prompts.jsonl")
    (problem,) = check_files(["recipe.yaml"]).problems
    assert (problem.rule, problem.severity, problem.line) == ("unmet", "warning", 4)
    assert "no prompt of prompts.jsonl carries one of the tags 'vers', 'news'" in problem.text
    assert problem.text.endswith("did you mean 'verse'?")
    made.reword("[vers,", "[verse,")
    assert rules(check_files(["recipe.yaml"])) == []


def test_an_unmet_principle_can_be_meant(made: Desk) -> None:
    made.reword("{id: kind, text: Be kind to whoever asks.}", "{id: kind, applies_to: [verse], text: Be kind.}")
    assert rules(check_files(["recipe.yaml"])) == [("unmet", "constitution.yaml", 4)]
    made.reword("Be kind.}", "Be kind.}  # solon: ignore[unmet]")
    assert rules(check_files(["recipe.yaml"])) == []
    assert rules(check_files(["constitution.yaml"])) == []  # it needs a recipe to be of use


def test_of_a_shipped_constitution_what_prompts_never_meet_is_told_at_the_recipe(made: Desk) -> None:
    (made.path / "own.yaml").write_text(
        "name: own\nextends: first-steps\noverride:\n  plain-words: {applies_to: [verse]}\n"
    )
    made.write(constitution="own.yaml")
    assert rules(check_files(["recipe.yaml"])) == [("unmet", "own.yaml", 4)]
    made.write(constitution="first-steps")
    assert rules(check_files(["recipe.yaml"])) == []


def test_principles_that_no_row_draws_are_noted_together(made: Desk) -> None:
    """Exactly those that the plan's own dice leave out; tiny weights are told with the wordings."""
    (made.path / "prompts.txt").write_text("How?\nWhy?\n")
    recipe = read_recipe("recipe.yaml")
    dice = Dice(recipe, recipe.constitution_object(made.path))
    drawn = {draw.principle for prompt in read_prompts(recipe.prompts, made.path) for draw in dice.throw(prompt)}
    left = [each for each in ("plain", "kind", "brief", "careful") if each not in drawn]
    assert 0 < len(left) < 4
    (problem,) = check_files(["recipe.yaml"]).problems
    assert (problem.rule, problem.severity, Path(problem.file).name) == ("not-drawn", "note", "recipe.yaml")
    assert f"{len(left)} of 4 principles are drawn for none of the 2 prompts: {', '.join(left)};" in problem.text
    assert problem.line == yamls.read("recipe.yaml").line(("prompts",))
    page = made.recipe.read_text()
    made.recipe.write_text(page.replace("prompts: prompts.txt", "prompts: prompts.txt  # solon: ignore[not-drawn]"))
    assert rules(check_files(["recipe.yaml"])) == []


def test_a_principle_without_words_for_the_story_is_named_as_such(made: Desk) -> None:
    made.reword("    preference: Which response is less likely to hurt somebody?\n", "")
    made.write(story={"kind": "preference"})
    (problem,) = check_files(["recipe.yaml"]).problems
    assert (problem.rule, "careful (it has no words for this story)" in problem.text) == ("not-drawn", True)


def test_one_prompt_is_spoken_of_as_one(made: Desk) -> None:
    (made.path / "prompts.txt").write_text("Hello.\n")
    (problem,) = check_files(["recipe.yaml"]).problems
    assert " of 4 principles are not drawn for the one prompt: " in problem.text


def test_advice_on_a_recipe_is_there_for_callers(made: Desk) -> None:
    recipe, met = read_recipe("recipe.yaml"), Meetings()
    resolved = resolve(recipe.constitution, made.path)
    for prompt in read_prompts(recipe.prompts, made.path):
        met.add(prompt, [])
    (advice,) = advise(recipe, yamls.read("recipe.yaml"), resolved, met)
    assert "4 of 4 principles are drawn for none of the 40 prompts" in advice.text


def test_a_comment_in_a_recipe_silences_nothing_of_its_constitution(made: Desk) -> None:
    made.constitution.write_text(GENERAL)
    with made.recipe.open("a") as file:
        file.write("# solon: ignore-file[too-general]\n")
    found = rules(check_files(["recipe.yaml"]))
    assert [(rule, file) for rule, file, _ in found] == [
        ("too-general", "constitution.yaml"), ("useless-ignore", "recipe.yaml"),
    ]  # fmt: skip


# -- mistakes --------------------------------------------------------------------------------------------------------


def test_the_constitution_of_a_broken_recipe_is_checked_too(made: Desk) -> None:
    made.constitution.write_text("name: x\nprinciples: [{id: a, txt: b}]\n")
    made.write(window=0)
    found = rules(check_files(["recipe.yaml"]))
    assert [file for _, file, _ in found] == ["constitution.yaml", "recipe.yaml"]


def test_what_is_shared_is_told_once(made: Desk) -> None:
    shutil.copy("recipe.yaml", "second.yaml")
    made.constitution.write_text(GENERAL)
    checked = check_files(["recipe.yaml", "./second.yaml", "constitution.yaml", made.constitution.absolute()])
    assert rules(checked) == [("too-general", "constitution.yaml", 3)]
    assert [page.summary is not None for page in checked.pages] == [True] * 4


@pytest.mark.parametrize(
    ("name", "data"),
    [("empty.yaml", b""), ("broken.yaml", b"a: [\n"), ("binary.yaml", b"\0\xff"), ("nowhere.yaml", None)],
)
def test_a_file_that_cannot_be_read_keeps_nothing_from_being_checked(made: Desk, name: str, data: bytes | None) -> None:
    if data is not None:
        Path(name).write_bytes(data)
    made.constitution.write_text(GENERAL)
    checked = check_files([name, "constitution.yaml"])
    assert [(problem.severity, problem.file) for problem in checked.problems] == sorted(
        [("error", name), ("note", "constitution.yaml")], key=lambda each: each[1]
    )
    assert [page.summary is None for page in checked.pages] == [True, False]


def test_an_unknown_constitution_is_told_at_the_recipes_line(made: Desk) -> None:
    made.write(constitution="counsl")
    (problem,) = check_files(["recipe.yaml"]).problems
    assert (problem.file, problem.line) == ("recipe.yaml", 1)
    assert "did you mean 'counsel'?" in problem.text


def test_a_home_folder_that_nobody_has_is_a_mistake_and_no_traceback(made: Desk) -> None:
    made.write(prompts="~nobody-of-this-name/prompts.txt")
    (problem,) = check_files(["recipe.yaml"]).problems
    assert (problem.file, problem.severity) == ("~nobody-of-this-name/prompts.txt", "error")
    assert "home directory" in problem.text


def test_a_page_that_only_extends_is_a_constitution(made: Desk) -> None:
    Path("mine.yaml").write_text("name: mine\nextends: first-steps\n")
    assert "a constitution of 3 principles" in str(check_files(["mine.yaml"]).pages[0].summary)


# -- the command -----------------------------------------------------------------------------------------------------


def test_advice_ends_with_0_and_strictly_with_1(made: Desk, solon: Solon) -> None:
    made.constitution.write_text(GENERAL)
    told = solon("check", "recipe.yaml")
    assert told.code == 0
    assert re.fullmatch(r"constitution\.yaml:3: note: .* \[too-general\]", told.err.splitlines()[0])
    assert told.err.splitlines()[-1] == "1 note"
    assert told.out == "recipe.yaml: a revision recipe, 40 prompts, 1 principle\n"
    assert solon("check", "recipe.yaml", "--strict").code == 1
    made.reword("Be good", "Be brief")
    assert solon("check", "recipe.yaml", "--strict").code == 0


def test_mistakes_and_advice_stand_by_file_and_line_and_are_counted(made: Desk, solon: Solon) -> None:
    made.constitution.write_text(GENERAL + "  - {id: b, text: Be good.}\n")
    Path("bad.yaml").write_text("modle: x\n")
    told = solon("check", "constitution.yaml", "bad.yaml")
    assert told.code == 1
    places = [re.match(r"([a-z.]+):(\d+): ", line) for line in told.err.splitlines()[:-1]]
    found = [(place[1], int(place[2])) for place in places if place]
    assert found == sorted(found)
    assert len(found) == len(places)
    assert re.fullmatch(r"\d mistakes, 1 warning, 2 notes", told.err.splitlines()[-1])


def test_programs_get_one_object(made: Desk, solon: Solon) -> None:
    made.constitution.write_text(GENERAL)
    told = solon("check", "recipe.yaml", "nowhere.yaml", "--format", "json")
    said = json.loads(told.out)
    assert (told.code, told.err) == (1, "")
    assert [(page["file"], page["summary"] is None) for page in said["files"]] == [
        ("recipe.yaml", False), ("nowhere.yaml", True),
    ]  # fmt: skip
    assert said["problems"][0] == {
        "file": "constitution.yaml", "line": 3, "severity": "note", "rule": "too-general",
        "text": said["problems"][0]["text"],
    }  # fmt: skip
    assert said["problems"][1] == {
        "file": "nowhere.yaml", "line": None, "severity": "error", "rule": None,
        "text": "no such file; did you mean recipe.yaml?",
    }  # fmt: skip


def test_a_workflow_gets_annotations_whatever_is_in_a_name(made: Desk, solon: Solon) -> None:
    made.constitution.write_text(GENERAL.replace("a,", "a, weight: 100000,") + "  - {id: b, text: Be brief.}\n")
    shutil.copy("constitution.yaml", "a,b:50%.yaml")
    told = solon("check", "a,b:50%.yaml", "no\nsuch\r.yaml", "--format", "github")
    first, second, third = told.out.splitlines()
    assert told.code == 1
    assert first.startswith("::notice file=a%2Cb%3A50%25.yaml,line=3,title=solon check%3A too-general::'text' of 'a'")
    assert second.startswith("::warning file=a%2Cb%3A50%25.yaml,line=4,title=solon check%3A hardly-drawn::")
    assert "0.001 %25 of what is drawn" in second
    assert third.startswith("::error file=no%0Asuch%0D.yaml,title=solon check::no such file")


def test_a_problem_is_one_line_of_text_whatever_is_in_a_name(made: Desk, solon: Solon) -> None:
    assert solon("check", "no\nsuch\x1b[31m.yaml").err.splitlines()[0] == "no␊such␛[31m.yaml: no such file"


def test_an_unknown_format_is_refused(made: Desk, solon: Solon) -> None:
    assert solon("check", "recipe.yaml", "--format", "xml").code == 2


def test_what_init_writes_deserves_no_advice(tmp_path: Path, solon: Solon) -> None:
    solon("init", tmp_path / "new")
    assert solon("check", "--strict", tmp_path / "new", tmp_path / "new" / "constitution.yaml").code == 0


def test_the_page_of_rules_shows_what_the_command_says(made: Desk, solon: Solon) -> None:
    page = (ROOT / "docs" / "rules.md").read_text(encoding="utf-8")
    example, ignoring = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    ((command, *lines),) = [block.splitlines() for block in re.findall(r"```console\n(.*?)```", page, flags=re.DOTALL)]
    assert command == "$ solon check constitution.yaml"
    made.constitution.write_text(example, encoding="utf-8")
    told = solon("check", "constitution.yaml")
    assert told.err.splitlines() + told.out.splitlines() == [lines[0], lines[2], lines[1]]
    made.constitution.write_text(ignoring, encoding="utf-8")
    assert {problem.rule for problem in check_files(["constitution.yaml"]).problems} <= {"useless-ignore"}


def test_every_rule_of_recipes_is_given_somewhere_in_this_file() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [name for name, rule in RULES.items() if rule.asks == "recipe" and f'"{name}"' not in text] == []


# -- the hook --------------------------------------------------------------------------------------------------------


def test_the_hook_names_a_command_and_the_files_that_it_reads() -> None:
    text = (ROOT / ".pre-commit-hooks.yaml").read_text(encoding="utf-8")
    (hook,) = yamls.parse("hooks:\n" + text, ".pre-commit-hooks.yaml").value["hooks"]
    assert (hook["id"], hook["language"], hook["types"]) == ("solon-check", "python", ["yaml"])
    program, command = hook["entry"].split()
    assert f'{program} = "solon.cli:main"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert command in get_command(app).commands
    read = [
        "constitution.yaml", "recipe.yaml", "my-constitution.yml", "rules/house.constitution.yaml", "a/b_recipe.yml",
    ]  # fmt: skip
    left = ["constitution.md", "unconstitution.yaml", "recipe.yaml.bak", "recipes.yaml", "docker-compose.yml"]
    assert [name for name in read + left if re.search(hook["files"], name)] == read
    assert re.search(hook["exclude"], "runs/recipe-0123/recipe.yaml")
    assert not any(re.search(hook["exclude"], name) for name in read)
