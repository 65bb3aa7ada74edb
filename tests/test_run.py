"""The run: a window of rows at once, resumable, one walker to a folder, and a dataset of whole rows at the end."""

from __future__ import annotations

import asyncio
import gc
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, data_of, desk, twice

from solon.commands import Done, plan_recipe, run_recipe
from solon.errors import BadInput, Halt, Locked, StorageError
from solon.pipelines.export import export_run
from solon.pipelines.run import RunFolder
from solon.pipelines.walk import Progress
from solon.rows import Row, SetAside


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


def outcomes(done: Done) -> dict[str, str]:
    """Return {prompt: reason, or "pair"} of the finished rows."""
    with done.folder.store(read_only=True) as store:
        return {
            outcome.row.prompt.messages[-1].content: outcome.reason if isinstance(outcome, SetAside) else "pair"
            for outcome in store.outcomes()
        }


def card(done: Done) -> str:
    return (done.folder.dataset / "README.md").read_text(encoding="utf-8")


# -- rows ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changed",
    [
        {"story": {"kind": "revision", "rounds": 2}},
        {"story": {"kind": "preference", "candidates": 3}},
        {"story": {"kind": "preference"}, "judging": {"reasoning": True}},
    ],
    ids=str,
)
async def test_windows_of_1_and_64_make_the_same_bytes(
    tmp_path: Path, changed: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order in which answers come decides nothing, between rows and inside of one."""
    data = []
    for window, delay in ((1, "0"), (64, "0.05")):
        monkeypatch.setenv("MODEL_DELAY", delay)
        made = desk(tmp_path / str(window), prompts=8, window=window, **changed)
        done = await run_recipe(made.recipe)
        assert done.pairs + sum(done.reasons.values()) == 8
        data.append(data_of(done.folder.path))
    assert data[0] == data[1] != {}


@pytest.mark.parametrize("window", [1, 3])
async def test_the_window_bounds_the_rows_in_flight(made: Desk, window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DELAY", "0.005")
    made.write(window=window, judging={"both_orders": False})
    await run_recipe(made.recipe)
    flying = [int(line) for line in (made.path / "flying.txt").read_text().split()]
    assert max(flying) == window


async def test_no_more_rows_are_held_than_the_window(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=120, window=4, story={"kind": "preference"}, judging={"both_orders": False})
    held: dict[int, int] = {}

    def look(progress: Progress) -> None:
        if progress.done % 30 == 29 and progress.done not in held:
            held[progress.done] = rows_alive() - before

    def rows_alive() -> int:
        return sum(isinstance(one, Row) for one in gc.get_objects())

    gc.collect()
    before = rows_alive()
    await run_recipe(made.recipe, tell=look)
    assert len(held) == 4
    assert max(held.values()) <= 2 * 4 + 2  # a row and its copy in an outcome just written


async def test_a_base_model_that_ran_on_into_another_turn_gave_a_good_answer(made: Desk) -> None:
    text = """
from solon.calls import Reply
VERSION, LOGPROBS = "1", True


def answer(call):
    if call.labels:
        return {label: 0.5 + 0.4 * (label == " (A)") for label in call.labels}
    return Reply(f" Words {call.key[-8:]}.\\n\\nHuman: and then", finish="length")
"""
    (made.path / "model.py").write_text(text)
    made.write(model={"use": "scripted:model.py:answer", "form": "text"}, story="preference")
    done = await run_recipe(made.recipe)
    assert done.progress.answers == {"good": 8}, "two candidates of four rows; verdicts were no words"


async def test_a_limit_walks_the_first_rows_and_the_next_start_goes_on_in_the_same_folder(made: Desk) -> None:
    whole = (await plan_recipe(made.recipe)).folder
    part = await run_recipe(made.recipe, limit=1)
    assert (part.planned, part.pairs, part.progress.total, part.folder.path) == (4, 1, 1, whole)
    assert list(outcomes(part)) == ["How do I do thing number 0?"]
    assert part.views["preference"] == 1
    again = await run_recipe(made.recipe, limit=1)
    assert (again.progress.asked, again.progress.done) == (0, 1)
    rest = await run_recipe(made.recipe)
    assert (rest.folder.path, rest.pairs, rest.progress.begun_with) == (whole, 4, 1)
    assert twice(made.asked()) == set()


async def test_a_limit_beyond_the_plan_is_the_plan(made: Desk) -> None:
    assert (await run_recipe(made.recipe, limit=99)).progress.total == 4


async def test_a_second_start_asks_nothing_and_writes_the_same_bytes(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    data, asked = data_of(first.folder.path), made.asked()
    second = await run_recipe(made.recipe)
    assert made.asked() == asked
    assert data_of(second.folder.path) == data
    assert (second.progress.asked, second.progress.known, second.pairs) == (0, 0, 4)


async def test_another_folder_with_the_same_ledger_asks_nothing(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    made.write(runs="elsewhere")
    second = await run_recipe(made.recipe)
    assert (second.progress.asked, second.progress.known) == (0, 20)
    assert data_of(second.folder.path) == data_of(first.folder.path)


# -- offline, refresh ----------------------------------------------------------------------------------------


async def test_offline_finishes_what_memory_knows_and_asks_nobody(made: Desk) -> None:
    await run_recipe(made.recipe, limit=2)
    asked = made.asked()
    made.write(runs="elsewhere")
    done = await run_recipe(made.recipe, offline=True)
    assert made.asked() == asked
    assert (done.pairs, done.progress.aside["not_known"]) == (2, 2)
    assert done.reasons == {}  # nothing has become of the other two: they are unfinished
    assert done.views["preference"] == 2
    assert (await run_recipe(made.recipe)).pairs == 4


async def test_refresh_asks_every_call_anew_once_and_keeps_the_new_answer(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    asked = made.asked()
    script = (made.path / "model.py").read_text()
    (made.path / "model.py").write_text(script.replace('f"Words {', 'f"New words {'))
    assert (await run_recipe(made.recipe)).progress.asked == 0
    fresh = await run_recipe(made.recipe, refresh=True)
    assert fresh.folder.path == first.folder.path
    assert fresh.progress.asked == 20
    assert twice(made.asked()[len(asked) :]) == set()
    with fresh.folder.store(read_only=True) as store:
        assert all(draft.text.startswith("New words") for one in store.outcomes() for draft in one.drafts)
    assert (await run_recipe(made.recipe)).progress.asked == 0


async def test_refresh_of_the_first_rows_leaves_the_others_finished(made: Desk) -> None:
    await run_recipe(made.recipe)
    done = await run_recipe(made.recipe, refresh=True, limit=1)
    assert (done.progress.asked, done.pairs, done.views["pairs"]) == (5, 4, 4)


async def test_offline_and_refresh_contradict_each_other(made: Desk) -> None:
    with pytest.raises(BadInput, match="give one of them"):
        await run_recipe(made.recipe, offline=True, refresh=True)


# -- failures ------------------------------------------------------------------------------------------------

FAILING = '''
from solon.errors import CallFailed, Halt

async def failing(call):
    """Row 2 gets no answer while the file `down` is there."""
    await noted(call)
    if "number 2" in call.messages[0].content and (HERE / "down").exists():
        raise CallFailed("no_answer", "it rained")
    return said(call)

async def halting(call):
    await noted(call)
    if "number 2" in call.messages[0].content and (HERE / "down").exists():
        await asyncio.sleep(0.05)
        raise Halt("no credit; top up the account")
    if "number 3" in call.messages[0].content:
        await asyncio.sleep(0.2)
    return said(call)
'''


def failing(made: Desk, function: str) -> Path:
    with (made.path / "model.py").open("a") as file:
        file.write(FAILING)
    made.write(model=f"scripted:model.py:{function}")
    down = made.path / "down"
    down.touch()
    return down


async def test_a_failure_sets_its_row_aside_and_the_next_start_walks_just_that_row(made: Desk) -> None:
    down = failing(made, "failing")
    done = await run_recipe(made.recipe)
    assert (done.pairs, done.reasons, done.progress.failed) == (3, {"no_answer": 1}, 1)
    assert outcomes(done)["How do I do thing number 2?"] == "no_answer"
    assert done.views["set_aside"] == 1
    down.unlink()
    asked = len(made.asked())
    again = await run_recipe(made.recipe)
    assert (again.pairs, again.reasons, len(made.asked()) - asked) == (4, {}, 5)
    assert again.progress.begun_with == 3
    whole = await run_recipe(desk_like(made, down.parent.parent / "unbroken").recipe)
    assert data_of(again.folder.path) == data_of(whole.folder.path)


def desk_like(made: Desk, path: Path) -> Desk:
    """Return a copy of a desk that has not run yet."""
    path.mkdir()
    for name in ("recipe.yaml", "constitution.yaml", "prompts.txt", "model.py"):
        shutil.copy(made.path / name, path / name)
    return Desk(path)


async def test_offline_leaves_a_failed_row_as_it_is(made: Desk) -> None:
    failing(made, "failing")
    await run_recipe(made.recipe)
    done = await run_recipe(made.recipe, offline=True)
    assert (done.pairs, done.reasons, done.progress.aside) == (3, {"no_answer": 1}, {})


async def test_the_plan_counts_a_failed_row_as_one_to_walk(made: Desk) -> None:
    failing(made, "failing")
    await run_recipe(made.recipe)
    survey = (await plan_recipe(made.recipe)).survey
    assert (survey.finished, survey.certain, survey.at_most) == (3, 1, 5)


async def test_a_halt_ends_the_run_at_once_and_keeps_what_is_finished_and_in_flight(made: Desk) -> None:
    down = failing(made, "halting")
    made.write(window=4)
    with pytest.raises(Halt, match="no credit"):
        await run_recipe(made.recipe)
    remembered = made.remembered()
    # row 3 was slower than the halt: its answer is paid for, and so it is there
    assert len(made.asked()) - len(remembered) == 1
    folder = RunFolder.open(made.latest)
    assert [walk["asked"] for walk in folder.walks()] == [len(remembered)]
    assert not folder.dataset.exists()
    down.unlink()
    asked = len(made.asked())
    done = await run_recipe(made.recipe)
    assert done.pairs == 4
    assert not set(made.asked()[asked:]) & remembered


async def test_a_halt_leaves_an_earlier_export_alone(made: Desk) -> None:
    down = failing(made, "halting")
    down.unlink()
    first = await run_recipe(made.recipe, limit=1)
    data = data_of(first.folder.path)
    down.touch()
    with pytest.raises(Halt):
        await run_recipe(made.recipe)
    assert data_of(first.folder.path) == data


async def test_a_stop_drops_rows_but_no_call_that_is_paid_for(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DELAY", "0.1")
    made.write(window=2)
    first = await run_recipe(made.recipe, limit=1)
    data = data_of(first.folder.path)
    stop = asyncio.Event()

    def tell(progress: Progress) -> None:
        if progress.asked >= 3:
            stop.set()

    done = await run_recipe(made.recipe, stop=stop, tell=tell)
    assert done.progress.interrupted
    assert set(made.asked()) == made.remembered()
    # calls that were answered after the stop are counted too
    assert done.progress.asked == len(made.asked()) - 5
    assert done.views == {}
    assert data_of(first.folder.path) == data  # an interrupted run does not replace an earlier export
    monkeypatch.setenv("MODEL_DELAY", "0")
    rest = await run_recipe(made.recipe)
    assert rest.pairs == 4
    assert twice(made.asked()) == set()


async def test_a_stop_before_the_first_row_asks_nothing(made: Desk) -> None:
    stop = asyncio.Event()
    stop.set()
    done = await run_recipe(made.recipe, stop=stop)
    assert done.progress.interrupted
    assert made.asked() == []


async def test_a_stop_after_the_last_row_is_no_interruption(made: Desk) -> None:
    stop = asyncio.Event()

    def tell(progress: Progress) -> None:
        if progress.done == 4:
            stop.set()

    done = await run_recipe(made.recipe, stop=stop, tell=tell)
    assert not done.progress.interrupted
    assert done.views["preference"] == 4


async def test_memory_alone_can_be_stopped(tmp_path: Path) -> None:
    """Rows that end at a known answer never wait for anything, and Ctrl-C is heard all the same."""
    made = desk(tmp_path, prompts=60, window=2, model="scripted:model.py:mute")
    with (made.path / "model.py").open("a") as file:
        file.write("\ndef mute(call):\n    return ''\n")
    assert (await run_recipe(made.recipe)).reasons == {"empty_answer": 60}
    made.write(runs="elsewhere")
    stop = asyncio.Event()
    heard: list[int] = []

    def tell(progress: Progress) -> None:
        if progress.done == 3 and not heard:
            heard.append(1)
            asyncio.get_running_loop().call_soon(stop.set)  # as a signal's handler does

    done = await run_recipe(made.recipe, stop=stop, tell=tell)
    assert done.progress.interrupted
    assert done.progress.done < 10


# -- the folder ----------------------------------------------------------------------------------------------


async def test_a_run_folder_holds_what_the_docstring_of_run_says(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    there = {entry.name for entry in done.folder.path.iterdir()}
    assert there == {
        "recipe.yaml", "constitution.yaml", "rows.db", "run.json", "status.json", "walks.jsonl", "dataset", "lock",
    }  # fmt: skip
    assert (done.folder.path / "recipe.yaml").read_text() == made.recipe.read_text()
    assert made.latest == done.folder.path.resolve()
    facts = json.loads((done.folder.path / "run.json").read_text())
    assert facts["cast"]["judge"]["identity"] == "scripted:model:answer@1"
    assert done.folder.ledger == (made.path / ".solon" / "ledger.db").resolve()


async def test_latest_points_to_the_last_run(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    made.write(story={"kind": "preference"})
    second = await run_recipe(made.recipe)
    assert made.latest == second.folder.path.resolve() != first.folder.path.resolve()
    made.write(story={"kind": "revision", "rounds": 1})
    await run_recipe(made.recipe)
    assert made.latest == first.folder.path.resolve()


async def test_another_way_to_export_counts_at_the_next_start_of_the_same_plan(made: Desk) -> None:
    first = await run_recipe(made.recipe)
    assert set(first.views) >= {"preference", "kto"}
    made.write(export={"test_fraction": 0.0, "views": ["sft"]})
    second = await run_recipe(made.recipe)
    assert second.folder.path == first.folder.path
    assert set(second.views) == {"sft"}
    assert list(data_of(second.folder.path)) == ["sft/train.parquet"]


async def test_a_moved_ledger_is_found_after_the_next_start(made: Desk) -> None:
    await run_recipe(made.recipe)
    shutil.move(made.path / ".solon" / "ledger.db", made.path / "all.db")
    made.write(ledger="all.db")
    done = await run_recipe(made.recipe)
    assert done.folder.ledger == (made.path / "all.db").resolve()


async def test_the_card_tells_the_recipes_own_name_and_what_was_spent(made: Desk) -> None:
    recipe = made.recipe.rename(made.path / "first try.yaml")
    text = recipe.read_text().replace(
        "scripted:model.py:answer", "{use: scripted:model.py:answer, price: {input: 1000, output: 1000}}"
    )
    recipe.write_text(text)
    done = await run_recipe(recipe)
    assert done.dollars is not None
    assert done.dollars > 0
    assert "solon run first try.yaml" in card(done)
    assert f"{done.dollars:,.2f} US dollars" in card(done)


async def test_walks_are_added_up_and_a_price_once_unknown_stays_unknown(made: Desk) -> None:
    await run_recipe(made.recipe, limit=2)
    done = await run_recipe(made.recipe)
    walks = done.folder.walks()
    assert [walk["asked"] for walk in walks] == [10, 10]
    assert "20 calls answered by models" in card(done)
    lines = (done.folder.path / "walks.jsonl").read_text().replace('"dollars": 0.0', '"dollars": null')
    (done.folder.path / "walks.jsonl").write_text(lines)
    with done.folder.store(read_only=True) as store:
        export_run(done.folder, store)
    assert "price unknown" in card(done)


async def test_a_torn_note_of_a_killed_walk_hides_nothing(made: Desk) -> None:
    done = await run_recipe(made.recipe, limit=2)
    file = done.folder.path / "walks.jsonl"
    file.write_text(file.read_text() + '{"started": 12, "secon')
    done = await run_recipe(made.recipe)
    assert [walk["asked"] for walk in done.folder.walks()] == [10, 10]


# -- one walker, half-made folders ---------------------------------------------------------------------------


async def test_two_runs_never_walk_one_folder(made: Desk) -> None:
    inside: list[str] = []

    async def second() -> None:
        with pytest.raises(Locked, match=r"process \d+ walks this run; wait for its end, or stop it"):
            await run_recipe(made.recipe)
        inside.append("refused")

    tasks: list[asyncio.Task[None]] = []

    def ready(folder: RunFolder, planned: int) -> None:
        tasks.append(asyncio.get_running_loop().create_task(second()))

    async def slow() -> Done:
        return await run_recipe(made.recipe, ready=ready)

    (made.path / "model.py").write_text(
        (made.path / "model.py").read_text().replace('"MODEL_DELAY", "0"', '"MODEL_DELAY", "0.2"')
    )
    done = await slow()
    await asyncio.gather(*tasks)
    assert inside == ["refused"]
    assert done.pairs == 4


async def test_the_lock_file_of_a_dead_process_blocks_nobody(made: Desk) -> None:
    done = await run_recipe(made.recipe, limit=1)
    (done.folder.path / "lock").write_text("999999")
    assert (await run_recipe(made.recipe)).pairs == 4


async def test_a_folder_whose_making_was_cut_short_is_made_anew(made: Desk) -> None:
    folder = (await plan_recipe(made.recipe)).folder
    folder.mkdir(parents=True)
    (folder / "rows.db").write_bytes(b"half a plan")
    (folder / "rows.db-wal").write_bytes(b"and its journal")
    assert (await run_recipe(made.recipe)).pairs == 4


async def test_a_folder_that_lost_its_rows_gets_them_back_from_the_ledger(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    data = data_of(done.folder.path)
    (done.folder.path / "rows.db").unlink()
    again = await run_recipe(made.recipe)
    assert (again.progress.asked, again.progress.known) == (0, 20)
    assert data_of(again.folder.path) == data


async def test_half_a_plan_in_a_whole_folder_is_told_with_the_remedy(made: Desk) -> None:
    done = await run_recipe(made.recipe)
    (done.folder.path / "rows.db").write_bytes(b"half a plan")
    for attempt in (run_recipe, plan_recipe):
        with pytest.raises(StorageError, match=r"rows\.db"):
            await attempt(made.recipe)
    (done.folder.path / "rows.db").unlink()
    assert (await run_recipe(made.recipe)).progress.asked == 0


@pytest.mark.parametrize(
    ("text", "told"),
    [(None, "no run folder"), ("{", "no run folder"), ("[]", "no run folder|missing"), ("{}", "is missing")],
)
def test_what_is_no_run_folder_is_told(tmp_path: Path, text: str | None, told: str) -> None:
    with pytest.raises(StorageError, match="no such run folder"):
        RunFolder.open(tmp_path / "runs" / "latest")
    if text is not None:
        (tmp_path / "run.json").write_text(text)
    with pytest.raises(StorageError, match=told):
        RunFolder.open(tmp_path)


def test_progress_tells_how_long_the_rest_takes_from_the_rows_of_this_walk() -> None:
    progress = Progress(total=100, done=50, begun_with=50)
    assert progress.seconds_left is None
    progress.done = 75
    assert progress.seconds_left == pytest.approx(progress.seconds, abs=0.1)
