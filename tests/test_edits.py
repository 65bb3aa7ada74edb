"""Where constitutions to compare come from, what an edit means for rows, and `solon constitution diff`."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from run_kit import CONSTITUTION, Desk, Solon, desk

from solon.calls import Message
from solon.commands import run_recipe
from solon.constitution import Constitution, load, parse
from solon.errors import BadInput, StorageError
from solon.pipelines.plan import Dice
from solon.pipelines.recipe import read_recipe
from solon.review.edits import Moved, moved, moved_between
from solon.review.sources import constitution_at, constitution_now
from solon.rows import Prompt

ADDED = "  - {id: short, text: Say it in one sentence.}\n"


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return desk(tmp_path, prompts=60)


@pytest.fixture
def walked(made: Desk) -> Desk:
    asyncio.run(run_recipe(made.recipe, limit=2))
    return made


def git(folder: Path, *arguments: str) -> None:
    settings = ["-c", "user.name=Nobody", "-c", "user.email=nobody@example.org", "-c", "commit.gpgsign=false"]
    subprocess.run(["git", "-C", str(folder), *settings, *arguments], check=True, capture_output=True)


@pytest.fixture
def committed(made: Desk) -> Desk:
    """A repository of two commits; what is on disk is a third state."""
    git(made.path, "init", "-q", "-b", "main")
    git(made.path, "add", ".")
    git(made.path, "commit", "-qm", "one")
    made.reword("Be brief.", "Be very brief.")
    git(made.path, "commit", "-qam", "two: very")
    made.reword("Be very brief.", "Be as brief as can be.")
    return made


def brief(reference: str | Path, base: Path | None = None) -> str | None:
    return constitution_at(reference, base).constitution.principle("brief").text


# where constitutions come from


def test_files_recipes_runs_and_names_are_found(walked: Desk) -> None:
    walked.reword("Be brief.", "Be short.")
    assert brief("constitution.yaml") == brief(Path("constitution.yaml")) == "Be short."
    assert brief("recipe.yaml") == brief(walked.path) == "Be short."
    assert brief("runs/latest") == brief("runs/latest/constitution.yaml") == "Be brief."
    assert brief("runs/latest/recipe.yaml") == "Be brief."
    assert constitution_at("cai-2022").constitution == load("cai-2022")
    found = constitution_at("runs/latest")
    assert found.run
    assert found.name == f"runs/latest ({walked.latest.name})"
    assert constitution_at("recipe.yaml").recipe == read_recipe(walked.recipe)


def test_a_run_lends_the_prompts_of_its_own_plan(walked: Desk) -> None:
    (walked.path / "prompts.txt").write_text("Another one?\n")
    with constitution_at("runs/latest").prompts() as prompts:
        assert prompts is not None
        assert len(list(prompts)) == 60
    with constitution_at("recipe.yaml").prompts() as none:
        assert none is None


def test_a_file_is_read_as_it_was_at_a_revision(committed: Desk) -> None:
    assert brief("HEAD~1:constitution.yaml") == "Be brief."
    assert brief("main:constitution.yaml") == brief("HEAD@{0}:./constitution.yaml") == "Be very brief."
    assert brief("HEAD^{/two: very}:constitution.yaml") == "Be very brief.", "a colon within braces"
    assert brief(f"HEAD:{committed.constitution}") == "Be very brief."
    assert brief("constitution.yaml") == "Be as brief as can be."
    git(committed.path, "add", ".")
    committed.reword("Be as brief as can be.", "Be mute.")
    assert brief(":constitution.yaml") == "Be as brief as can be.", "what is staged"


def test_a_path_of_a_revision_starts_in_the_current_folder(committed: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    (committed.path / "rules").mkdir()
    monkeypatch.chdir(committed.path / "rules")
    assert brief("HEAD:../constitution.yaml") == "Be very brief."
    assert brief("HEAD:constitution.yaml", committed.path) == "Be very brief."
    with pytest.raises(BadInput, match=r"HEAD:constitution\.yaml: no such file at revision 'HEAD' .* start in .*rules"):
        brief("HEAD:constitution.yaml")


def test_a_recipe_at_a_revision_names_the_constitution_of_that_revision(committed: Desk) -> None:
    found = constitution_at("HEAD~1:recipe.yaml")
    assert found.constitution.principle("brief").text == "Be brief."
    assert found.recipe is None, "its prompts are those of then"


def test_what_is_extended_is_read_at_the_same_revision(made: Desk) -> None:
    (made.path / "rules").mkdir()
    house = made.path / "rules" / "house.yaml"
    house.write_text("name: House\nextends: ../constitution.yaml\nprinciples:\n  - {id: own, text: Own up.}\n")
    git(made.path, "init", "-q")
    git(made.path, "add", ".")
    git(made.path, "commit", "-qm", "one")
    made.reword("Be brief.", "Be short.")
    assert brief("rules/house.yaml") == "Be short."
    assert brief("HEAD:rules/house.yaml") == "Be brief."
    made.constitution.unlink()
    assert brief("HEAD:rules/house.yaml") == "Be brief."


def test_a_bare_repository_is_read_from_its_top(committed: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    bare = committed.path / "bare.git"
    git(committed.path, "clone", "-q", "--bare", ".", str(bare))
    monkeypatch.chdir(bare)
    assert brief("HEAD~1:constitution.yaml") == "Be brief."
    assert brief("main:recipe.yaml") == "Be very brief."


def test_show_takes_a_revision_too(committed: Desk, solon: Solon) -> None:
    told = solon("constitution", "show", "HEAD~1:constitution.yaml")
    assert re.search(r"text: Be brief\. +# HEAD~1:constitution\.yaml:\d", told.out)


def test_a_file_whose_name_looks_like_a_revision_wins(committed: Desk) -> None:
    odd = committed.path / "HEAD:constitution.yaml"
    odd.write_text(CONSTITUTION.replace("Be brief.", "Be odd."))
    assert brief("HEAD:constitution.yaml") == "Be odd."


@pytest.mark.parametrize(
    ("reference", "told"),
    [
        ("HEAD~9:constitution.yaml", "no revision 'HEAD~9' in the repository"),
        ("nowhere:constitution.yaml", "no revision 'nowhere'"),
        ("--output=here:constitution.yaml", "is no revision"),
        ("HEAD:nothing.yaml", "HEAD:nothing.yaml: no such file at revision 'HEAD'"),
        (":nothing.yaml", ":nothing.yaml: no such file staged"),
        ("HEAD:../outside.yaml", "outside repository"),
        ("HEAD:folder", "is a folder there"),
        ("HEAD:broken.yaml", "HEAD:broken.yaml:2: "),
        ("HEAD:large.yaml", "larger than 10 MB"),
        ("HEAD:binary.yaml", "is not UTF-8"),
        ("HEAD:", "no constitution 'HEAD:' is shipped"),
        ("\0:constitution.yaml", "git cannot be asked"),
        ("nothing.yaml", "nothing.yaml: no such file"),
        ("folder", "folder: is a folder"),
    ],
)
def test_what_cannot_be_found_is_told_in_one_line(made: Desk, reference: str, told: str) -> None:
    (made.path / "broken.yaml").write_text("name: [\n")
    (made.path / "large.yaml").write_text("#" * 10_000_001)
    (made.path / "binary.yaml").write_bytes(b"name: \xff\n")
    (made.path / "folder").mkdir()
    (made.path / "folder" / "x").touch()
    git(made.path, "init", "-q", "-b", "main")
    git(made.path, "add", ".")
    git(made.path, "commit", "-qm", "one")
    with pytest.raises(BadInput) as problem:
        constitution_at(reference)
    assert told in str(problem.value)
    assert "\n" not in str(problem.value)


def test_a_revision_needs_a_repository_and_git(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(made.path.parent))
    with pytest.raises(BadInput, match=r"no repository that git can read \(not a git repository"):
        brief("HEAD:constitution.yaml")
    monkeypatch.setenv("PATH", str(made.path))
    with pytest.raises(BadInput, match="needs git, which is not installed"):
        brief("HEAD:constitution.yaml")


def test_a_run_leads_to_what_its_recipe_names_now(walked: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    other = walked.path / "other.yaml"
    shutil.copy(walked.constitution, other)
    other.write_text(CONSTITUTION.replace("Be brief.", "Be other."))
    walked.write(constitution="other.yaml")
    monkeypatch.chdir(walked.path / "runs")
    now = constitution_now(constitution_at("latest"))
    assert now.constitution.principle("brief").text == "Be other."
    assert now.name == f"other.yaml of {walked.recipe}"
    walked.recipe.unlink()
    with pytest.raises(BadInput, match=rf"made from, {walked.recipe}, is not there any more"):
        constitution_now(constitution_at("latest"))


def test_a_damaged_run_folder_is_told(walked: Desk) -> None:
    (walked.latest / "run.json").write_text("{")
    with pytest.raises(StorageError, match=r"no readable run\.json"):
        constitution_at("runs/latest")


@pytest.mark.parametrize("name", ["constitution.yaml", "recipe.yaml"])
@pytest.mark.parametrize("words", ["name: [", None])
def test_a_run_whose_own_copies_cannot_be_read_is_no_bad_input(walked: Desk, name: str, words: str | None) -> None:
    if words is None:
        (walked.latest / name).unlink()
    else:
        (walked.latest / name).write_text(words)
    with pytest.raises(StorageError, match=rf"{name}.*; this is the run's own copy: run its recipe again"):
        constitution_at("runs/latest")


# what an edit means for rows


def means(made: Desk, text: str) -> Moved:
    return moved(read_recipe(made.recipe), made.path, parse(CONSTITUTION), parse(text))


def drawn(made: Desk, constitution: Constitution) -> dict[str, list[tuple[str, str]]]:
    """Return {prompt: what each step draws}, by the plan's own dice."""
    dice = Dice(read_recipe(made.recipe), constitution)
    lines = (made.path / "prompts.txt").read_text().splitlines()
    prompts = {line: Prompt((Message("user", line),)) for line in lines}
    return {line: [(draw.principle, draw.digest) for draw in dice.throw(prompt)] for line, prompt in prompts.items()}


def test_rewording_moves_no_row_and_touches_those_that_meet_it(made: Desk) -> None:
    text = CONSTITUTION.replace("Be brief.", "Be short.")
    done = means(made, text)
    meet = [steps for steps in drawn(made, parse(text)).values() if "brief" in {principle for principle, _ in steps}]
    assert (done.rows, done.moved, done.reworded, done.same) == (60, 0, len(meet), 60 - len(meet))
    assert sum(step.words["brief"] for step in done.steps.values()) == sum(
        principle == "brief" for steps in meet for principle, _ in steps
    )
    assert 0 < len(meet) < 60


def test_adding_moves_rows_to_the_added_principle_alone(made: Desk) -> None:
    done = means(made, CONSTITUTION + ADDED)
    before, after = drawn(made, parse(CONSTITUTION)), drawn(made, parse(CONSTITUTION + ADDED))
    assert done.moved == sum(before[line] != after[line] for line in before)
    assert 0 < done.moved < 60
    assert done.moved + done.same == done.rows == 60
    assert {now for step in done.steps.values() for _, now in step.flows} == {"short"}


def test_a_row_that_moves_is_not_counted_as_reworded_too(made: Desk) -> None:
    done = means(made, CONSTITUTION.replace("Be brief.", "Be short.") + ADDED)
    assert done.moved + done.reworded + done.same == 60
    assert sum(step.moved + step.reworded for step in done.steps.values()) >= done.moved + done.reworded


def test_a_preamble_reaches_every_row(made: Desk) -> None:
    done = means(made, "preamble: Serve people.\n" + CONSTITUTION)
    assert (done.moved, done.reworded, done.same) == (0, 60, 0)


def test_notes_reach_no_row(made: Desk) -> None:
    done = means(made, CONSTITUTION.replace("text: Be brief.", "text: Be brief., tags: [style]"))
    assert (done.moved, done.reworded, done.same) == (0, 0, 60)
    assert done.told == "of 60 rows 0 draw another principle, 0 meet changed words, 60 stay as they are"


def test_the_same_prompt_is_one_row(made: Desk) -> None:
    (made.path / "prompts.txt").write_text("One?\nTwo?\nOne?\n")
    assert means(made, CONSTITUTION).rows == 2


def test_rows_without_a_principle_are_told_on_both_sides(made: Desk) -> None:
    only_law = CONSTITUTION.replace("text: ", "applies_to: [law], text: ").replace(
        "id: careful\n", "id: careful\n    applies_to: [law]\n"
    )
    done = means(made, only_law)
    assert (done.unplanned, done.same) == (60, 0)
    assert "no principle can be drawn" in done.why_unplanned
    assert "60 find no principle any more" in done.told
    back = moved(read_recipe(made.recipe), made.path, parse(only_law), parse(CONSTITUTION))
    assert (back.newly, back.unplanned) == (60, 0)
    assert "60 find a principle that had none" in back.told


SHOWN = """\
    exemplars:
      - {prompt: Hi, response: Yo., critique: It is curt., revision: Hello.}
"""


@pytest.mark.parametrize(
    ("story", "form", "reached"),
    [
        ({"kind": "revision"}, "chat", 0),
        ({"kind": "revision"}, "text", 60),
        ({"kind": "revision", "shots": 1}, "chat", 60),
        ({"kind": "revision", "shots": 0}, "text", 0),
        ({"kind": "preference"}, "text", 0),
    ],
)
def test_worked_examples_reach_every_row_where_they_are_shown(
    made: Desk, story: dict[str, object], form: str, reached: int
) -> None:
    made.write(story=story, model={"use": "scripted:model.py:answer", "form": form})
    done = means(made, CONSTITUTION + SHOWN)
    assert (done.worked, done.same) == (reached, 60 - reached)
    assert ("60 meet changed worked examples" in done.told) == bool(reached)


def test_the_rows_of_a_run_are_those_of_its_plan(walked: Desk) -> None:
    (walked.path / "prompts.txt").write_text("Another one?\n")
    run, now = constitution_at("runs/latest"), constitution_at("recipe.yaml")
    assert moved_between(run, now, run).rows == 60
    assert moved_between(run, now, now).rows == 1
    with pytest.raises(ValueError, match="has no rows"):
        moved_between(run, now, constitution_at("constitution.yaml"))


def test_prompts_that_cannot_be_read_are_told(made: Desk) -> None:
    (made.path / "prompts.txt").unlink()
    with pytest.raises(BadInput, match=r"prompts\.txt"):
        means(made, CONSTITUTION)


# the command


def test_diff_speaks_of_principles_and_rows(committed: Desk, solon: Solon) -> None:
    committed.constitution.write_text(committed.constitution.read_text() + ADDED)
    told = solon("constitution", "diff", "HEAD~1:constitution.yaml", "recipe.yaml")
    assert told.code == 0
    assert (
        "brief: reworded\n    text       Be {+as +}brief{+ as can be+}.  [critique, revision, preference]" in told.out
    )
    assert "short: added\n    text       {+Say it in one sentence.+}" in told.out
    assert "share      0.0% -> 20.0% of the draws" in told.out
    assert "1 principle added, 1 reworded, 3 untouched" in told.out
    done = moved(
        read_recipe(committed.recipe), committed.path,
        constitution_at("HEAD~1:constitution.yaml").constitution, load("constitution.yaml", committed.path),
    )  # fmt: skip
    assert f"{done.told} (recipe.yaml)" in told.out


def test_rows_are_told_where_somebody_says_whose(committed: Desk, solon: Solon) -> None:
    pair = ("constitution", "diff", "HEAD:constitution.yaml", "constitution.yaml")
    assert " rows " not in solon(*pair).out
    assert "of 60 rows" in solon(*pair, "--recipe", "recipe.yaml").out
    told = solon(*pair, "--recipe", "constitution.yaml")
    assert (told.code, told.err) == (
        2, "solon: --recipe constitution.yaml: is neither a recipe nor a run folder\n"
    )  # fmt: skip


def test_a_run_alone_is_compared_with_what_its_recipe_names_now(walked: Desk, solon: Solon) -> None:
    told = solon("constitution", "diff", "runs/latest")
    assert told.out.endswith("\nno difference\n")
    walked.reword("Be brief.", "Be short.")
    told = solon("constitution", "diff", "runs/latest")
    assert f"- runs/latest ({walked.latest.name}): Four principles" in told.out
    assert "Be [-brief-]{+short+}." in told.out
    assert "of 60 rows 0 draw another principle" in told.out
    told = solon("constitution", "diff", "constitution.yaml")
    assert told.code == 2
    assert "is no run folder; name a second constitution" in told.err


def test_a_difference_ends_with_one_on_wish(committed: Desk, solon: Solon) -> None:
    pair = ("constitution", "diff", "HEAD:constitution.yaml")
    assert solon(*pair, "constitution.yaml").code == 0
    assert solon(*pair, "constitution.yaml", "--exit-code").code == 1
    assert solon(*pair, "HEAD:constitution.yaml", "--exit-code").code == 0


def test_json_holds_everything(committed: Desk, solon: Solon) -> None:
    text = committed.constitution.read_text().replace("id: kind,", "id: kind, weight: 3,")
    committed.constitution.write_text("preamble: Serve people.\n" + text + ADDED)
    told = solon("constitution", "diff", "HEAD:constitution.yaml", "recipe.yaml", "--format", "json")
    page = json.loads(told.out)
    assert page["different"] and page["every_wording"] and not page["worked_examples"]
    by_id = {each["id"]: each for each in page["principles"]}
    assert by_id["brief"]["written"][0]["words"][:2] == [["equal", "Be "], ["delete", "very"]]
    assert [change["name"] for change in by_id["brief"]["wordings"]] == ["critique", "revision", "preference"]
    assert by_id["kind"]["settings"] == [{"name": "weight", "old": 1.0, "new": 3.0}]
    assert by_id["short"]["old"] is None
    assert by_id["short"]["new"]["text"] == "Say it in one sentence."
    assert page["untouched"] == ["plain", "careful"]
    assert page["constitution"][0]["name"] == "preamble"
    assert page["rows"]["rows"] == page["rows"]["moved"] + page["rows"]["reworded"] == 60
    assert {step["step"] for step in page["rows"]["steps"]} == {"revision.1", "judge"}


def test_colours_stand_in_for_the_marks_on_a_terminal(
    committed: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    pair = ("constitution", "diff", "HEAD:constitution.yaml", "constitution.yaml")
    told = solon(*pair).out
    assert "\x1b[9;31mvery\x1b[0m" in told
    assert "[-" not in told
    monkeypatch.setenv("NO_COLOR", "1")
    assert "[-very-]" in solon(*pair).out


def test_what_an_edit_means_beyond_its_words_stands_below_it(made: Desk, solon: Solon) -> None:
    old, new = made.path / "old.yaml", made.path / "new.yaml"
    old.write_text(f"""\
name: Old
principles:
  - {{id: one, text: Give the first rule its due., critique: C., revision: R., preference: P.}}
  - {{id: two, text: Say where it comes from.}}
  - {{id: three, text: "Third rule, which is kept.", tags: [a]}}
  - id: four
    text: Show how it is done.
{SHOWN}
  - {{id: five, text: Never lie., kind: hard_constraint}}
  - {{id: six, text: {"A long rule goes on and on. " * 20}}}
  - {{id: seven, text: Come last.}}
""")
    new.write_text(f"""\
name: New
preamble: Serve people.
principles:
  - {{id: seven, text: Come last.}}
  - {{id: one, text: Give the first rule all its due., critique: C., revision: R., preference: P.}}
  - {{id: second, text: Say where it comes from.}}
  - {{id: three, text: "Third rule, which is kept.", tags: [b, c], weight: 0}}
  - id: four
    text: Show how it is done.
{SHOWN.replace("Hello", "Good day")}
  - {{id: five, text: Never lie to anybody., kind: hard_constraint}}
  - {{id: six, text: {"A long rule goes on and on. " * 20} Still.}}
""")
    told = solon("constitution", "diff", old, new).out
    assert (
        "preamble: changed\n    preamble   {+Serve people.+}\n    (stands in every wording: every row meets it)" in told
    )
    assert "name       [-Old-]{+New+}" in told
    assert "(changes no call: critic, reviser and judge are told the same words as before)" in told
    assert "two -> second: renamed\n" in told
    assert "(draws go by id: a renamed principle draws other rows)" in told
    assert "tags       a -> b, c" in told
    assert "weight     1 -> 0" in told
    assert "(weight 0: it is never drawn)" in told
    assert "(notes change no call)" in told
    assert "exemplars  1 of them -> 1 of them" in told
    assert "(exemplars stand in every critique and revision of a base model)" in told
    assert "(a hard constraint stands in every wording: every row meets it)" in told
    assert "seven: moved\n    place      7 -> 1\n    (changes no draw and no wording)" in told
    assert "characters ...] " in told, "a long unchanged stretch is shortened"


def test_control_characters_of_a_file_name_reach_no_terminal(made: Desk, solon: Solon) -> None:
    odd = made.path / "a\x1b[31m.yaml"
    odd.write_text(CONSTITUTION)
    told = solon("constitution", "diff", odd, made.constitution)
    assert "\x1b" not in told.out
