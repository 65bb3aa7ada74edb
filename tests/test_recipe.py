"""The recipe: one page, every mistake told at once, everything else a default that a test turns."""

from __future__ import annotations

from pathlib import Path

import pytest
from run_kit import Desk, desk

from solon.calls import Sampling
from solon.errors import BadInput
from solon.pipelines.recipe import find_recipe, read_recipe

GOOD = "constitution: first-steps\nprompts: prompts.txt\nmodel: scripted:m.py:answer\nstory: revision\n"


def page(tmp_path: Path, text: str, name: str = "recipe.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return path


def problems(tmp_path: Path, text: str) -> list[str]:
    """Return what is told of a bad page, without its folder."""
    with pytest.raises(BadInput) as told:
        read_recipe(page(tmp_path, text))
    return [line.removeprefix(f"{tmp_path}/") for line in told.value.problems]


def test_four_lines_are_a_recipe(tmp_path: Path) -> None:
    recipe = read_recipe(page(tmp_path, GOOD))
    assert recipe.story.kind == "revision"
    assert recipe.prompts.path == "prompts.txt"
    assert recipe.model.use == "scripted:m.py:answer"
    assert (recipe.window, recipe.seed, recipe.ledger, recipe.runs) == (None, 0, ".solon/ledger.db", "runs")


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("recipe.yaml", "recipe"),
        ("first try.yaml", "first-try"),
        ("älter.v2.yml", "lter.v2"),
        (".hidden.yaml", "hidden"),
    ],
)
def test_the_name_is_the_files_name_unless_the_page_gives_one(tmp_path: Path, file: str, name: str) -> None:
    assert read_recipe(page(tmp_path, GOOD, file)).name == name
    assert read_recipe(page(tmp_path, GOOD + "name: mine-2\n", file)).name == "mine-2"


def test_a_file_name_that_makes_no_name_asks_for_one(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="add `name: "):
        read_recipe(page(tmp_path, GOOD, "ß.yaml"))


def test_a_name_that_leads_out_of_its_folder_is_refused(tmp_path: Path) -> None:
    assert problems(tmp_path, GOOD + "name: ../x\n") == [
        "recipe.yaml:5: 'name': name '../x' names a folder: letters, digits, dot, dash and underscore only"
    ]


def test_a_folder_stands_for_the_recipe_in_it(tmp_path: Path) -> None:
    path = page(tmp_path, GOOD)
    assert find_recipe(tmp_path) == path
    assert read_recipe(tmp_path).name == "recipe"


def test_the_copy_in_a_run_folder_is_no_recipe_to_start(tmp_path: Path) -> None:
    """Its relative paths start somewhere else."""
    page(tmp_path, GOOD)
    (tmp_path / "run.json").write_text("{}")
    for given in (tmp_path, tmp_path / "recipe.yaml"):
        with pytest.raises(BadInput, match="copy that a run keeps"):
            read_recipe(given)


def test_a_missing_file_and_a_folder_without_a_recipe_are_told(tmp_path: Path) -> None:
    page(tmp_path, GOOD)
    with pytest.raises(BadInput, match=r"no such file; did you mean .*recipe\.yaml"):
        read_recipe(tmp_path / "recipes.yaml")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="is a folder"):
        read_recipe(tmp_path / "empty")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "modle: x\n", "recipe.yaml:5: unknown key 'modle'; did you mean 'model'?"),
        (
            GOOD.replace("story: revision", "story: {kind: revision, round: 2}"),
            "recipe.yaml:4: unknown key 'round' in 'story'; did you mean 'rounds'?",
        ),
        (
            GOOD + "cast:\n  critik: {temperature: 1}\n",
            "recipe.yaml:6: unknown key 'critik' in 'cast'; did you mean 'critic'?",
        ),
        (
            GOOD + "cast:\n  judge:\n    temprature: 1\n",
            "recipe.yaml:7: unknown key 'temprature' in 'judge' in 'cast'; did you mean 'temperature'?",
        ),
        (
            GOOD.replace("scripted:m.py:answer", "{use: scripted:m.py:answer, pice: {}}"),
            "recipe.yaml:3: unknown key 'pice' in 'model'; did you mean 'price'?",
        ),
        (
            GOOD.replace("scripted:m.py:answer", "{use: scripted:m.py:answer, price: {inptu: 1, output: 2}}"),
            "recipe.yaml:3: unknown key 'inptu' in 'price' in 'model'; did you mean 'input'?",
        ),
        (
            GOOD + "judging: {both_order: true}\n",
            "recipe.yaml:5: unknown key 'both_order' in 'judging'; did you mean 'both_orders'?",
        ),
        (
            GOOD + "export: {test_fracton: 0}\n",
            "recipe.yaml:5: unknown key 'test_fracton' in 'export'; did you mean 'test_fraction'?",
        ),
        (
            GOOD.replace("prompts.txt", "{path: prompts.txt, colum: q}"),
            "recipe.yaml:2: unknown key 'colum' in 'prompts'; did you mean 'column'?",
        ),
    ],
)
def test_an_unknown_key_is_refused_at_every_level_with_the_nearest_known_one(
    tmp_path: Path, text: str, told: str
) -> None:
    assert problems(tmp_path, text) == [told]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (GOOD + "window: 0\n", "recipe.yaml:5: 'window' must be at least 1, found the number 0"),
        (GOOD + "window: many\n", "recipe.yaml:5: 'window': expected a whole number, found the text 'many'"),
        (GOOD + "seed: 1.5\n", "recipe.yaml:5: 'seed': expected a whole number, found the number 1.5"),
        (GOOD + "cast: [judge]\n", "recipe.yaml:5: 'cast': expected a mapping (`key: value` lines), found a list"),
        (
            GOOD.replace("story: revision", "story: revisoin"),
            "recipe.yaml:4: 'story': no story 'revisoin'; did you mean 'revision'?",
        ),
        (
            GOOD.replace("story: revision", "story: {rounds: 2}"),
            "recipe.yaml:4: 'story': say which story it is: `kind: revision` or `kind: preference`",
        ),
        (
            GOOD.replace("story: revision", "story: {kind: preference, rounds: 2}"),
            "recipe.yaml:4: 'story': a preference story has no `rounds`; take it out, or write `kind: revision`",
        ),
        (GOOD + "seed: true\n", "recipe.yaml:5: 'seed': expected a whole number, found true"),
        (
            GOOD.replace("model: scripted:m.py:answer", "model: opanai:gpt"),
            "recipe.yaml:3: 'model': unknown model 'opanai:gpt'; write smollm2 or one of openai:<...>",
        ),
        (GOOD + "cast: {judge: {temperature: .nan}}\n", "recipe.yaml:5: 'temperature' in 'judge' in 'cast'"),
        (
            GOOD + "cast: {judge: {temperature: hot}}\n",
            "recipe.yaml:5: 'temperature' in 'judge' in 'cast': expected a number from 0 to 2, or provider, which "
            "leaves it to the provider; found 'hot'",
        ),
        (GOOD + "judging: {clamp: [0.6, 0.4]}\n", "recipe.yaml:5: 'judging': clamp [0.6, 0.4] must be [low, high]"),
        (
            GOOD + "judging: {clamp: 0.4}\n",
            "recipe.yaml:5: 'clamp' in 'judging': expected a list, found the number 0.4",
        ),
        (GOOD + "judging: {clamp: nine}\n", "recipe.yaml:5: 'clamp' in 'judging': expected one of auto, none, found"),
        (GOOD + "judging: {verdict: 3}\n", "recipe.yaml:5: 'verdict' in 'judging': expected one of auto, logprobs,"),
        (GOOD + "judging: {tie: .nan}\n", "recipe.yaml:5: 'tie' in 'judging'"),
        (
            GOOD.replace("scripted:m.py:answer", "{use: openai:m, options: {top_k: .inf}}"),
            "recipe.yaml:3: 'options' cannot be sent as JSON",
        ),
        (
            GOOD + "cast: {judge: {model: {use: openai:m, options: {top_k: .nan}}}}\n",
            "recipe.yaml:5: 'options' cannot be sent as JSON",
        ),
        (
            GOOD.replace("story: revision", "story: preference") + "cast: {responder: {temperature: 0}}\n",
            "recipe.yaml:5: the responder's temperature is 0, so that all candidates would be the same text",
        ),
        (
            GOOD.replace("scripted:m.py:answer", "{use: scripted:m.py:answer, form: text}")
            + "cast:\n  critic:\n    system: Be strict.\n",
            "recipe.yaml:7: the critic is a base model (form: text), which takes no system prompt",
        ),
    ],
)
def test_a_wrong_value_is_told_with_its_line_and_what_would_be_right(tmp_path: Path, text: str, told: str) -> None:
    (problem,) = problems(tmp_path, text)
    assert problem.startswith(told)


def test_every_mistake_of_a_page_is_told_at_once_in_the_order_of_its_lines(tmp_path: Path) -> None:
    told = problems(tmp_path, "promts: x\nmodel: nobody\nstory: {kind: revision, rounds: 99}\nwindow: 0\n")
    assert [line.split(":")[1] for line in told] == ["1", "1", "2", "3", "4"]
    assert "did you mean 'prompts'?" in told[1] or "did you mean 'prompts'?" in told[0]


def test_a_role_takes_its_own_words_then_everyones_then_the_defaults(tmp_path: Path) -> None:
    recipe = read_recipe(
        page(
            tmp_path,
            GOOD + "cast:\n  everyone: {temperature: 0.3, max_tokens: 50, again: 2, cut: sentence, system: All.}\n"
            "  critic: {temperature: provider, top_p: 0.9, again: 0}\n  judge: {max_tokens: 9, cut: keep}\n",
        )
    )
    assert recipe.sampling("responder") == Sampling(0.3, None, 50)
    assert recipe.sampling("critic") == Sampling(None, 0.9, 50)
    # a judge's temperature is never taken from everyone
    assert recipe.sampling("judge") == Sampling(0.0, None, 9)
    critic, judge = recipe.role("critic"), recipe.role("judge")
    assert (critic.again, critic.cut, critic.system) == (0, "sentence", "All.")
    assert (judge.again, judge.cut) == (2, "keep")


def test_a_roles_defaults_are_those_of_the_paper(tmp_path: Path) -> None:
    recipe = read_recipe(page(tmp_path, GOOD))
    assert recipe.sampling("reviser") == Sampling(1.0, None, 1024)
    assert recipe.sampling("judge") == Sampling(0.0, None, 1024)
    assert recipe.role("critic").model == recipe.model


def test_a_preference_story_has_two_roles(tmp_path: Path) -> None:
    assert read_recipe(page(tmp_path, GOOD.replace("revision", "preference"))).roles() == ("responder", "judge")
    assert len(read_recipe(page(tmp_path, GOOD)).roles()) == 4


def test_ledger_and_runs_lie_beside_the_recipe_or_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    recipe = read_recipe(page(tmp_path, GOOD + "ledger: ~/all.db\nruns: out\n"))
    assert recipe.ledger_path(tmp_path) == tmp_path / "home" / "all.db"
    assert recipe.runs_folder(tmp_path) == tmp_path / "out"


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path)


def test_a_constitution_without_words_for_a_role_that_the_story_needs_is_told(made: Desk) -> None:
    made.constitution.write_text("name: No judge\nprinciples:\n  - {id: a, critique: Look., revision: Write.}\n")
    recipe = read_recipe(made.recipe)
    with pytest.raises(BadInput, match="step 'judge' needs a principle with `preference` wording"):
        recipe.constitution_object(made.path)


def test_a_constitution_of_weight_nought_is_told(made: Desk) -> None:
    made.constitution.write_text("name: Nought\nprinciples:\n  - {id: a, text: Be good., weight: 0}\n")
    with pytest.raises(BadInput, match="add the weight, the wording, or a `text`"):
        read_recipe(made.recipe).constitution_object(made.path)
