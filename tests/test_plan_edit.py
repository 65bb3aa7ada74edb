"""A plan after an edit: what is expected of a run, by step and by principle, and what the edit was."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import re
import shutil
import sqlite3
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from run_kit import MODEL, Desk, Solon, desk
from story_kit import FIRST, cast_of, row_of

from solon import yamls
from solon.calls import Message
from solon.commands import Planned, plan_recipe, run_recipe
from solon.dataset import RowStore
from solon.errors import StorageError
from solon.pipelines.past import OWN, Past
from solon.pipelines.preference import Preference
from solon.pipelines.revision import Revision
from solon.rows import Prompt, SetAside

ROWS = 200


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder whose 200 rows were walked once."""
    made = desk(tmp_path_factory.mktemp("base") / "desk", prompts=ROWS, story={"kind": "revision", "rounds": 2})
    asyncio.run(run_recipe(made.recipe))
    return made.path


@pytest.fixture
def made(walked: Path, tmp_path: Path) -> Desk:
    return Desk(Path(shutil.copytree(walked, tmp_path / "desk", symlinks=True)))


def constitution(made: Desk, edit: Callable[[dict[str, Any]], None]) -> None:
    page = yamls.read(made.constitution).value
    edit(page)
    made.constitution.write_text(yamls.dump(page))


def reword_critique(made: Desk) -> None:
    made.reword("Point out what could hurt", "Point out whatever could hurt")


def reword_judge(made: Desk) -> None:
    made.reword("Which response is less likely", "Which of them is less likely")


def add(made: Desk) -> None:
    constitution(made, lambda page: page["principles"].append({"id": "new", "text": "Be new."}))


def remove(made: Desk) -> None:
    constitution(made, lambda page: page["principles"].pop(1))


def reweight(made: Desk) -> None:
    constitution(made, lambda page: page["principles"][2].update(weight=2.0))


def more_prompts(made: Desk) -> None:
    with (made.path / "prompts.txt").open("a") as file:
        file.writelines(f"And what of thing number {number}?\n" for number in range(ROWS // 10))


def another_judge(made: Desk) -> None:
    made.write(cast={"judge": {"model": {"use": "scripted:model.py:answer", "identity": "scripted:another"}}})


def preamble(made: Desk) -> None:
    constitution(made, lambda page: page.update(preamble="You speak with a friend."))


EDITS = {
    reword_critique: "1 principle reworded, 3 untouched",
    reword_judge: "1 principle reworded, 3 untouched",
    add: "1 principle added, 4 untouched",
    remove: "1 principle removed, 3 untouched",
    reweight: "1 principle reweighted, 3 untouched",
    more_prompts: "no difference",
    another_judge: "no difference",
    preamble: "preamble changed, 4 principles untouched",
}


async def held(made: Desk) -> tuple[Planned, Counter[str], Counter[str]]:
    """Plan and run; return the plan, and the calls that were asked by step and by principle."""
    planned = await plan_recipe(made.recipe)
    before = set(made.asked())
    done = await run_recipe(made.recipe)
    steps: Counter[str] = Counter()
    principles: Counter[str] = Counter()
    goes_by = Revision(FIRST, rounds=2).goes_by
    with done.folder.store(read_only=True) as store:
        for outcome in store.outcomes():
            for asked in outcome.asked:
                if asked.key not in before:
                    steps[asked.step] += 1
                    die = goes_by(asked.step)
                    principles[outcome.row.drawn(die).principle if die else ""] += 1
    assert steps.total() == done.progress.asked
    return planned, steps, principles


# -- exact, where answers hang on every word and never fail ---------------------------------------------------


@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
async def test_what_is_expected_is_what_is_asked_by_step_and_by_principle(
    made: Desk, edit: Callable[[Desk], None]
) -> None:
    edit(made)
    planned, steps, principles = await held(made)
    survey = planned.survey
    assert survey.expected == steps.total() > 0
    assert {step: count.expected for step, count in survey.steps.items() if count.expected} == steps
    assert {id: count.expected for id, count in survey.principles.items() if count.expected} == principles
    assert sum(count.known for count in survey.principles.values()) == survey.known
    assert survey.certain <= survey.expected <= survey.at_most
    assert planned.difference is not None
    assert planned.difference.summary == EDITS[edit]


async def test_candidates_and_their_judging_are_expected_exactly(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=60, story={"kind": "preference", "candidates": 3})
    await run_recipe(made.recipe)
    for edit in (reword_judge, more_prompts, remove):
        edit(made)
        survey = (await plan_recipe(made.recipe)).survey
        assert survey.certain <= survey.expected == (await run_recipe(made.recipe)).progress.asked > 0


async def test_nothing_is_expected_of_a_plan_whose_rows_are_finished(made: Desk) -> None:
    planned = await plan_recipe(made.recipe)
    assert (planned.survey.expected, planned.seconds, planned.expected.dollars) == (0, 0, 0)
    assert not planned.difference


async def test_memory_alone_says_how_far_rows_go_where_no_run_is_left(made: Desk) -> None:
    shutil.rmtree(made.path / "runs")
    reword_critique(made)
    planned = await plan_recipe(made.recipe)
    # rows that never met the edited principle are known to their end
    assert 0 < planned.survey.evidence < ROWS
    assert planned.against is planned.difference is None
    assert planned.survey.expected == (await run_recipe(made.recipe)).progress.asked


async def test_without_anything_to_go_by_every_later_step_is_expected_once(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=5)
    survey = (await plan_recipe(made.recipe)).survey
    assert (survey.certain, survey.expected, survey.at_most, survey.evidence) == (5, 25, 25, 0)
    assert survey.likely is None
    made.write(cast={"critic": {"again": 2}})
    survey = (await plan_recipe(made.recipe)).survey
    assert (survey.expected, survey.at_most) == (25, 35)


async def test_a_limit_expects_of_the_first_rows_alone(made: Desk) -> None:
    reword_critique(made)
    whole, part = (await plan_recipe(made.recipe)).survey, (await plan_recipe(made.recipe, limit=50)).survey
    assert part.rows == 50
    assert part.evidence == ROWS
    assert 0 < part.expected < whole.expected
    assert part.expected == (await run_recipe(made.recipe, limit=50)).progress.asked


# -- rows that stop early -------------------------------------------------------------------------------------

STOPPING = '''

from solon.calls import Reply


async def stopping(call):
    """Decline every fourth critique, whatever it is asked by; leave every third answer as it is."""
    await noted(call)
    number = int(call.messages[0].content.rstrip("?").split()[-1]) if not call.labels else 0
    spoken = [message.content for message in call.messages if message.role == "assistant"]
    if len(spoken) == 1 and number % 4 == 0:
        return Reply("", finish="refusal")
    return spoken[0] if len(spoken) == 2 and number % 3 == 0 else said(call)


async def stammering(call):
    """Say nothing to every other critic's first question."""
    await noted(call)
    spoken = [message for message in call.messages if message.role == "assistant"]
    odd = int(call.messages[0].content.rstrip("?").split()[-1]) % 2 if not call.labels else 0
    return "" if len(spoken) == 1 and odd and call.attempt == 0 else said(call)
'''


def stopping_desk(path: Path, function: str, **recipe: Any) -> Desk:
    made = desk(path, prompts=120, model=f"scripted:model.py:{function}", **recipe)
    (made.path / "model.py").write_text(MODEL + STOPPING)
    return made


async def test_rows_that_stop_by_their_nature_are_expected_to_stop_again(tmp_path: Path) -> None:
    made = stopping_desk(tmp_path / "desk", "stopping")
    first = (await run_recipe(made.recipe)).progress.asked
    preamble(made)
    survey = (await plan_recipe(made.recipe)).survey
    asked = (await run_recipe(made.recipe)).progress.asked
    # every row is walked again, so the shares and the rows' own walks come to the same
    assert survey.expected == pytest.approx(asked)
    assert asked == first - 120
    assert survey.at_most == 4 * 120
    assert survey.likely is not None
    assert survey.likely[0] < asked < survey.likely[1]


async def test_a_row_that_stopped_is_expected_to_ask_less_than_one_that_did_not(tmp_path: Path) -> None:
    made = stopping_desk(tmp_path / "desk", "stopping")
    await run_recipe(made.recipe)
    preamble(made)
    for stops, rest in ((True, "0"), (False, "1")):
        made.write(prompts="one.txt")
        (made.path / "one.txt").write_text(f"How do I do thing number {rest}?\n")
        survey = (await plan_recipe(made.recipe)).survey
        mean = 3 / 4 * (1 + 2 / 3 * 2)  # beyond the critique: a revision, and a judge who is asked twice
        assert survey.expected == pytest.approx(1 + (1 - OWN) * mean + OWN * (0 if stops else 3))


async def test_a_second_attempt_is_expected_as_often_as_it_was_made(tmp_path: Path) -> None:
    made = stopping_desk(tmp_path / "desk", "stammering", cast={"critic": {"again": 2}})
    await run_recipe(made.recipe)
    preamble(made)
    survey = (await plan_recipe(made.recipe)).survey
    assert survey.steps["critique.1"].expected == pytest.approx(180, rel=0.001)
    assert survey.expected == pytest.approx((await run_recipe(made.recipe)).progress.asked, rel=0.001)


async def test_a_failure_of_before_says_nothing_of_how_far_a_row_goes(tmp_path: Path) -> None:
    made = desk(tmp_path / "desk", prompts=20)
    lines = ['{"when": "critique only", "reply": "So."}', '{"when": "Which response", "reply": "Answer: A"}']
    (made.path / "r.jsonl").write_text("\n".join(lines) + '\n{"when": "thing number 1?", "reply": "Hm."}\n')
    made.write(model="scripted:r.jsonl", cast={"responder": {"model": "scripted:model.py:answer"}})
    done = await run_recipe(made.recipe)
    assert done.reasons == {"no_answer": 20}  # nobody answers the reviser
    preamble(made)
    survey = (await plan_recipe(made.recipe)).survey
    assert survey.evidence == 0
    assert survey.expected == 20 * 4


# -- by chance ------------------------------------------------------------------------------------------------


@pytest.fixture
def edits() -> ModuleType:
    """Return benchmarks/edits.py."""
    path = Path(__file__).parents[1] / "benchmarks" / "edits.py"
    spec = importlib.util.spec_from_file_location("benchmark_of_edits", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


async def test_of_a_thousand_rows_that_stop_by_chance_the_expected_calls_are_within_two_percent(
    edits: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the run's calls. What a few hundred rows do by chance nobody can say nearer: see docs/edits.md."""
    monkeypatch.setattr(edits, "EDITS", {"reword": edits.reword})
    for line in await edits.by_chance(tmp_path / "world", 1000, 2):
        assert 5000 < line["first_run"] < 7000
        assert 500 < line["asked"] < line["at_most"]
        assert abs(line["expected"] - line["asked"]) <= 0.02 * line["first_run"]
        assert line["likely"][0] <= line["asked"] <= line["likely"][1]
        assert line["likely"][1] - line["likely"][0] < 0.2 * line["asked"]


def test_the_benchmark_asks_the_minimum_and_its_plan_knows_it(
    edits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edits.py", "--rows", "20", "--json"])
    edits.main()
    lines = json.loads(capsys.readouterr().out)
    assert [line["edit"] for line in lines] == list(edits.EDITS)
    for line in lines:
        assert line["asked"] == line["minimum"] == line["expected"]
        assert 0 < line["asked"] <= line["by_stage"] <= line["calls"]
    edits.print_exact(lines)
    assert capsys.readouterr().out.count("\n") == len(lines) + 2


def test_the_benchmark_tells_the_worst_of_several_worlds(
    edits: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["edits.py", "--rows", "20", "--chance", "2"])
    monkeypatch.setattr(edits, "EDITS", {"reword": edits.reword})
    edits.main()
    assert re.search(r"\| reword \| 2 \| \d+ \| [+-][\d.]+% \|.* of 2 \|\n$", capsys.readouterr().out)


# -- the past -------------------------------------------------------------------------------------------------

STORY = Revision(FIRST)
ALL = ["respond", "critique.1", "revise.1", "judge.ab", "judge.ba"]


def test_a_forecast_is_the_mean_of_what_rows_asked_from_a_step_on() -> None:
    past, row = Past(STORY, cast_of()), row_of(STORY)
    assert past.forecast("critique.1", "kind") is None
    for asked in (ALL, ALL, ALL[:2], ALL[:1]):
        past.add(row, asked)
    said = past.forecast("critique.1", "kind")
    assert said == pytest.approx({"critique.1": 1, "revise.1": 2 / 3, "judge.ab": 2 / 3, "judge.ba": 2 / 3})
    own = past.forecast("critique.1", "kind", Counter(ALL[:2]))
    assert own is not None
    assert own["revise.1"] == pytest.approx((1 - OWN) * 2 / 3)
    # a walk that never came to the step says nothing of what follows it
    assert past.forecast("critique.1", "kind", Counter(ALL[:1])) == said


def test_a_principle_that_stops_rows_is_told_from_the_others_and_chance_is_not() -> None:
    def forecast(stopping: int, others: int, least: int) -> tuple[float, float]:
        past = Past(STORY, cast_of())
        for principle, stops in (("kind", stopping), ("honest", others), ("third", others)):
            for number in range(least):
                row = row_of(STORY)
                draws = tuple(type(draw)(draw.step, principle, "d") for draw in row.draws)
                past.add(type(row)(0, row.prompt, draws), ALL[:2] if number % 10 < stops else ALL)
        said = past.forecast("critique.1", "kind"), past.forecast("critique.1", "never met")
        assert said[0] is not None
        assert said[1] is not None
        return said[0]["revise.1"], said[1]["revise.1"]

    own, whole = forecast(stopping=8, others=1, least=100)
    assert own == pytest.approx(0.2, abs=0.02)
    assert whole == pytest.approx((0.2 + 0.9 + 0.9) / 3)
    own, whole = forecast(stopping=2, others=1, least=10)  # 8 of 10 against 9 of 10 is nothing
    assert own == whole


def test_steps_that_are_new_in_a_story_are_expected_once() -> None:
    past = Past(Revision(FIRST, rounds=2), cast_of())
    past.add(row_of(STORY), [*ALL, "judge.one"])
    said = past.forecast("critique.1", "kind", Counter(ALL))
    assert said is not None
    assert (said["critique.2"], said["revise.2"], said["judge.ab"]) == (1, 1, 1)
    assert past.forecast("critique.2", "kind") is None


def test_rows_that_all_went_on_leave_some_doubt_about_the_next() -> None:
    past = Past(STORY, cast_of())
    doubts = []
    for _ in range(2):
        for _ in range(50):
            past.add(row_of(STORY), ALL)
        doubts.append(past.variance("critique.1", 10, 0))
    assert 0 < doubts[1] < doubts[0]


@pytest.mark.parametrize("story", [Revision(FIRST, rounds=3), Preference(FIRST, candidates=3)], ids=["rev", "pref"])
def test_each_step_goes_by_a_die_of_its_story_or_by_none(story: Revision | Preference) -> None:
    dice = {step for step, _ in story.draws()}
    by = {step: story.goes_by(step) for step, _ in story.steps(cast_of())}
    assert {die for die in by.values() if die} == dice
    assert all((by[step] is None) == step.startswith("respond") for step in by)
    assert by.get("revise.2") == by.get("critique.2")


def test_an_outcome_is_found_by_its_rows_id(tmp_path: Path) -> None:
    rows = [Prompt((Message("user", words),)) for words in ("a", "b")]
    with RowStore.create(tmp_path / "rows.db") as store:
        for prompt in rows:
            store.add(prompt, [])
    with RowStore.open(tmp_path / "rows.db") as store:
        store.finish(SetAside(store.row(1), "tie", "even"))
        found = store.outcome_of(rows[1].id)
        assert isinstance(found, SetAside)
        assert (found.row.index, found.detail) == (1, "even")
        assert store.outcome_of(rows[0].id) is None
        assert store.outcome_of(rows[1].id[:12]) is None


# -- which run it is against ----------------------------------------------------------------------------------


async def test_the_newest_run_of_the_recipe_is_compared_with_and_another_one_can_be_named(made: Desk) -> None:
    first = made.latest
    reword_critique(made)
    second = (await run_recipe(made.recipe)).folder.path
    preamble(made)
    planned = await plan_recipe(made.recipe)
    assert planned.against == second
    assert planned.difference is not None
    assert planned.difference.summary == "preamble changed, 4 principles untouched"
    planned = await plan_recipe(made.recipe, against=first)
    assert planned.against == first
    assert planned.difference is not None
    assert planned.difference.summary == "preamble changed, 1 principle reworded, 3 untouched"
    # the same recipe under another name has no run yet
    made.write(name="another")
    assert (await plan_recipe(made.recipe)).against is None


async def test_a_trial_of_a_few_rows_does_not_hide_what_the_run_before_it_knows(made: Desk) -> None:
    reword_critique(made)
    await run_recipe(made.recipe, limit=3)
    preamble(made)
    survey = (await plan_recipe(made.recipe)).survey
    assert survey.evidence == ROWS  # each row once, by its newest walk


async def test_a_run_that_is_named_and_is_none_is_one_clear_line(made: Desk) -> None:
    with pytest.raises(StorageError, match="nowhere: no such run folder"):
        await plan_recipe(made.recipe, against=made.path / "nowhere")
    shutil.copytree(made.latest, made.path / "broken")
    (made.path / "broken" / "constitution.yaml").unlink()
    with pytest.raises(StorageError, match=r"broken.constitution.yaml: no such file; .* run its recipe again"):
        await plan_recipe(made.recipe, against=made.path / "broken")


def test_earlier_runs_that_cannot_be_read_are_told_and_do_not_stop_a_plan(made: Desk, solon: Solon) -> None:
    runs = made.path / "runs"
    (runs / "half").mkdir()
    (runs / "half" / "run.json").write_text("{")
    for name, file, words in (("bad", "constitution.yaml", "name: ["), ("torn", "rows.db", "no database")):
        shutil.copytree(made.latest, runs / name)
        (runs / name / file).write_text(words)
    reword_critique(made)
    told = solon("plan", made.recipe).out
    assert told.count("not looked at:") == 3
    for name in ("half", "bad", "torn"):
        assert re.search(rf"not looked at: .*{name}", told)
    assert "1 principle reworded, 3 untouched" in told


async def test_a_run_folder_without_its_rows_is_planned_as_the_run_that_fills_it_again(made: Desk) -> None:
    (made.latest / "rows.db").unlink()
    planned = await plan_recipe(made.recipe)
    assert not planned.exists
    assert planned.survey.finished == planned.survey.at_most == 0


async def test_a_run_is_read_while_another_process_writes_it(made: Desk) -> None:
    writer = sqlite3.connect(made.latest / "rows.db", isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("DELETE FROM walks WHERE idx < 10")
        reword_critique(made)
        assert (await plan_recipe(made.recipe)).survey.evidence == ROWS
    finally:
        writer.close()


# -- tokens, dollars, time ------------------------------------------------------------------------------------


async def test_tokens_are_those_of_earlier_runs_where_no_call_of_a_step_is_known_any_more(made: Desk) -> None:
    made.write(model={"use": "scripted:model.py:answer", "price": {"input": 100, "output": 1000}})
    preamble(made)
    planned = await plan_recipe(made.recipe)
    assert planned.survey.steps["critique.1"].known == 0
    done = await run_recipe(made.recipe)
    usage = done.progress.usage
    assert planned.expected.output == pytest.approx(usage.output, rel=0.02)
    assert planned.expected.input == pytest.approx(usage.input, rel=0.2)  # the preamble's own words are new
    assert planned.expected.dollars == pytest.approx(done.dollars, rel=0.2)


async def test_time_goes_by_the_last_run_that_asked_and_is_unknown_before(made: Desk) -> None:
    preamble(made)
    (made.latest / "walks.jsonl").write_text(
        '{"started": 1, "seconds": 3, "known": 0, "asked": 1}\n{"started": 2, "seconds": 5, "known": 9, "asked": 0}\n'
        '{"started": 3, "seconds": 7, "known": 0, "asked": 19}\n'
    )
    planned = await plan_recipe(made.recipe)
    assert planned.rate == 20 / 10
    assert planned.seconds == planned.survey.expected / 2 == 600
    (made.latest / "walks.jsonl").unlink()
    assert (await plan_recipe(made.recipe)).seconds is None


# -- the command ----------------------------------------------------------------------------------------------


def test_the_closing_lines_say_what_was_edited_and_what_is_new(
    made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(made.path)
    reword_critique(made)
    told = solon("plan", "recipe.yaml").out
    lines = told.splitlines()
    name = made.latest.name
    assert lines[-2] == f"against runs/{name}: 1 principle reworded, 3 untouched"
    assert re.fullmatch(
        r"plan \w{12}: \d{3} of 1,400 calls are new \(certain \d+, likely \d{3} to \d{3}, at most \d{3}\), "
        r"about \$0.00, about \d+ s",
        lines[-1],
    )
    assert re.search(r"\ncareful +reworded +\d+ +\d+ +\d+ +\d+\n", told)
    assert re.search(r"\nplain +\d+ +0 +\d+ +\d+\n", told)
    assert "goes as far as it did for 200 rows before" in told
    assert lines[-1] != solon("plan", "recipe.yaml", "--limit", "20").out.splitlines()[-1]


def test_no_table_of_principles_where_nothing_of_them_is_new(made: Desk, solon: Solon) -> None:
    told = solon("plan", made.recipe).out
    assert not re.search(r"^principle ", told, re.MULTILINE)
    assert "0 of 1,400 calls are new, nothing to pay for" in told


def test_figures_for_machines_hold_all_of_it(made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made.path)
    reword_critique(made)
    figures = json.loads(solon("plan", "recipe.yaml", "--format", "json", "--against", "runs/latest").out)
    for counts in ("steps", "principles"):
        for name in ("known", "certain", "expected", "at_most"):
            assert sum(each[name] for each in figures[counts]) == figures[name]
    assert figures["rows"] == figures["evidence_rows"] == ROWS
    assert figures["likely"][0] <= figures["expected"] <= figures["likely"][1]
    assert figures["difference"] == "1 principle reworded, 3 untouched"
    assert figures["against"] == "runs/latest"
    assert {each["principle"] for each in figures["principles"]} == {None, "plain", "kind", "brief", "careful"}
    assert figures["seconds"] > 0
    assert figures["spend"]["expected"]["dollars"] == 0


def test_many_principles_are_told_by_the_dearest(made: Desk, solon: Solon) -> None:
    constitution(
        made, lambda page: page["principles"].extend({"id": f"p{n}", "text": f"Be {n}."} for n in range(60))
    )  # fmt: skip
    told = solon("plan", made.recipe).out
    assert re.search(r"\nand \d+ more principles: see --format json\n", told)
    assert "60 added" in told.replace("60 principles added", "60 added")
