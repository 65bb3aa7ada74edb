"""`solon watch`: every save is looked at, however an editor saves; a mistake is told, and watching goes on."""

from __future__ import annotations

import asyncio
import re
import signal
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from run_kit import Desk, desk, finished, started

from solon.commands import run_recipe, watching
from solon.commands.watching import Looked, watch
from solon.errors import BadInput
from solon.pipelines.run import RunFolder
from solon.rows import Pair, Row

Next = Callable[[], Awaitable[Looked]]


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path)


@asynccontextmanager
async def watched(
    made: Desk, *, go: int | None = None, tell: Callable[[Looked], None] = lambda looked: None
) -> AsyncIterator[Next]:
    """Watch a desk; what is lent gives the next look. Nothing may be told that nobody waited for."""
    looks: asyncio.Queue[Looked] = asyncio.Queue()
    stop = asyncio.Event()

    def told(looked: Looked) -> None:
        looks.put_nowait(looked)
        tell(looked)

    task = asyncio.create_task(watch(made.recipe, go=go, stop=stop, tell=told, settle=0.02))

    async def following() -> Looked:
        waiting = asyncio.create_task(looks.get())
        await asyncio.wait({waiting, task}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            task.result()
        assert waiting.done(), "nothing was told"
        return waiting.result()

    try:
        yield following
    finally:
        stop.set()
        await asyncio.wait_for(task, 30)
    assert looks.empty()


def saved_by_renaming(path: Path, text: str) -> None:
    new = path.with_name(".4913~")
    new.write_text(text)
    new.replace(path)


async def test_the_first_look_checks_and_plans_and_has_nothing_to_compare_with(made: Desk) -> None:
    async with watched(made) as looked:
        first = await looked()
    assert first.checked == f"{made.recipe}: a revision recipe, 4 prompts, 4 principles"
    assert (first.saved, first.problems, first.difference, first.settings) == ((), (), None, ())
    assert first.planned
    assert (first.planned.survey.known, first.planned.survey.certain) == (0, 4)
    assert made.asked() == []


async def test_a_save_is_told_with_what_it_did(made: Desk) -> None:
    async with watched(made) as looked:
        before = await looked()
        made.reword("Be brief.", "Be short.")
        after = await looked()
    assert after.saved == (made.constitution,)
    assert after.difference is not None
    assert after.difference.summary == "1 principle reworded, 3 untouched"
    assert before.planned and after.planned
    assert before.planned.name != after.planned.name


async def test_prompts_and_recipe_are_watched_too(made: Desk) -> None:
    async with watched(made) as looked:
        await looked()
        (made.path / "prompts.txt").write_text("One?\nTwo?\n")
        prompts = await looked()
        made.write(seed=7, window=3)
        recipe = await looked()
    assert prompts.saved == (made.path / "prompts.txt",)
    assert prompts.planned
    assert prompts.planned.survey.rows == 2
    assert recipe.saved == (made.recipe,)
    assert recipe.settings == ("seed", "window")
    assert not recipe.difference


async def test_editors_that_save_by_renaming_are_seen_again_and_again(made: Desk) -> None:
    text = made.constitution.read_text()
    async with watched(made) as looked:
        await looked()
        for words in ("Be short.", "Be terse.", "Be curt."):
            saved_by_renaming(made.constitution, text.replace("Be brief.", words))
            told = await looked()
            assert told.difference is not None
            assert told.difference.edits[2].new.text == words  # type: ignore[union-attr]


async def test_a_file_that_is_away_for_a_moment_is_waited_for(made: Desk) -> None:
    text = made.constitution.read_text()
    async with watched(made) as looked:
        await looked()
        made.constitution.unlink()
        await asyncio.sleep(0.05)
        made.constitution.write_text(text.replace("Be brief.", "Be short."))
        told = await looked()
    assert not told.problems
    assert told.difference


async def test_a_file_that_stays_away_is_told_and_seen_when_it_comes_back(made: Desk) -> None:
    text = made.constitution.read_text()
    async with watched(made) as looked:
        await looked()
        made.constitution.unlink()
        gone = await looked()
        assert gone.problems == (f"{made.constitution}: no such file",)
        assert gone.planned is None
        made.constitution.write_text(text)
        assert not (await looked()).problems


async def test_a_half_written_file_is_told_by_its_line_and_compared_with_the_last_good_one(made: Desk) -> None:
    async with watched(made) as looked:
        await looked()
        made.reword("name: Four principles", "name: [Four")
        broken = await looked()
        assert [problem.startswith(f"{made.constitution}:1: ") for problem in broken.problems] == [True]
        assert (broken.planned, broken.difference) == (None, None)
        made.reword("name: [Four", "name: Four principles")
        made.reword("Be brief.", "Be short.")
        mended = await looked()
    assert mended.difference is not None
    assert mended.difference.summary == "1 principle reworded, 3 untouched"


async def test_a_broken_recipe_keeps_its_files_watched(made: Desk) -> None:
    page = made.recipe.read_text()
    async with watched(made) as looked:
        await looked()
        made.recipe.write_text(page + "critque: 1\n")
        assert "unknown key 'critque'" in (await looked()).problems[0]
        made.reword("Be brief.", "Be short.")
        assert (await looked()).saved == (made.constitution,)
        made.recipe.write_text(page)
        assert (await looked()).difference


async def test_what_a_constitution_extends_is_watched_even_before_it_can_be_read(made: Desk) -> None:
    house = made.path / "rules" / "house.yaml"
    house.parent.mkdir()
    house.write_text("name: House\nextends: ../constitution.yaml\n")
    text = made.constitution.read_text()
    made.constitution.write_text(text + "colour: red\n")
    made.write(constitution="rules/house.yaml")
    async with watched(made) as looked:
        assert "unknown key 'colour'" in (await looked()).problems[0]
        made.constitution.write_text(text)
        assert not (await looked()).problems
        made.reword("Be brief.", "Be short.")
        told = await looked()
    assert told.difference is not None
    assert told.difference.touched == ("brief",)


async def test_a_recipe_that_names_other_files_is_followed_to_them(made: Desk) -> None:
    other = made.path / "other"
    other.mkdir()
    (other / "rules.yaml").write_text("name: Other\nprinciples:\n  - {id: one, text: Be one.}\n")
    async with watched(made) as looked:
        await looked()
        made.write(constitution="other/rules.yaml")
        assert not (await looked()).problems
        (other / "rules.yaml").write_text("name: Other\nprinciples:\n  - {id: one, text: Be the first.}\n")
        told = await looked()
        assert told.saved == (other / "rules.yaml",)
        assert told.difference is not None
        assert told.difference.touched == ("one",)


async def test_a_shipped_constitution_needs_no_watching(made: Desk) -> None:
    made.write(constitution="first-steps")
    async with watched(made) as looked:
        assert (await looked()).planned


async def test_advice_is_told_once(made: Desk) -> None:
    advice = "  - {id: brief-too, text: Be brief always.}\n  - {id: brief-three, text: Be brief always!}\n"
    made.constitution.write_text(made.constitution.read_text() + advice)
    async with watched(made) as looked:
        first = await looked()
        made.reword("Be kind to whoever asks.", "Be kind to everybody who asks.")
        second = await looked()
    assert any("[near-duplicate]" in line for line in first.advice)
    assert not any("[near-duplicate]" in line for line in second.advice)
    assert second.advised >= 1
    assert first.advised == 0


async def test_a_plan_that_cannot_be_made_is_told_beside_the_edit(made: Desk) -> None:
    async with watched(made) as looked:
        await looked()
        made.reword("Be brief.", "Be short.")
        made.write(model="scripted:nowhere.py:answer")
        told = await looked()
    assert "nowhere.py" in told.problems[0]
    assert told.difference
    assert told.planned is None


async def test_go_walks_the_first_rows_and_tells_which_came_out_otherwise(made: Desk) -> None:
    async with watched(made, go=3) as looked:
        assert (await looked()).planned
        first = (await looked()).went
        made.reword("Be brief.", "Be short.")
        assert (await looked()).difference
        second = (await looked()).went
    assert first and second
    assert (first.rows, first.compared, first.changes) == (3, False, ())
    assert first.done.progress.asked == 3 * 5
    assert (second.rows, second.compared, second.gone) == (3, True, 0)
    assert second.same + len(second.changes) == 3
    assert 0 < second.done.progress.asked < 3 * 5
    drew = {
        row.id
        for run in (first, second)
        for row in _rows(run.done.folder, 3)
        if "brief" in {draw.principle for draw in row.draws}
    }
    assert {change.row.id for change in second.changes} == drew
    for change in second.changes:
        assert isinstance(change.before, Pair)
        assert isinstance(change.after, Pair)
        assert (change.before.p_chosen, change.before.chosen) != (change.after.p_chosen, change.after.chosen)


def _rows(folder: RunFolder, limit: int) -> list[Row]:
    with folder.store(read_only=True) as store:
        return list(store.rows(limit, unfinished=False))


async def test_rows_that_come_and_go_are_counted(made: Desk) -> None:
    async with watched(made, go=4) as looked:
        await looked()
        await looked()
        lines = (made.path / "prompts.txt").read_text().splitlines()
        (made.path / "prompts.txt").write_text("\n".join([*lines[1:3], "A new one?"]) + "\n")
        await looked()
        went = (await looked()).went
    assert went
    assert (went.rows, went.same, went.gone) == (3, 2, 2)
    assert [(change.before, change.after is None) for change in went.changes] == [(None, False)]


async def test_a_save_during_a_run_is_looked_at_after_it(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_DELAY", "0.1")
    edited = False

    def edit(looked: Looked) -> None:
        nonlocal edited
        if looked.planned and not edited:
            edited = True
            # the run is under way when the timer ends
            threading.Timer(0.1, made.reword, ("Be brief.", "Be short.")).start()

    async with watched(made, go=4, tell=edit) as looked:
        assert (await looked()).difference is None
        first = (await looked()).went
        assert first
        assert first.done.pairs == 4
        after = await looked()
        assert after.saved == (made.constitution,)
        assert after.difference
        assert (await looked()).went


async def test_a_run_that_is_halted_is_told_and_watching_goes_on(made: Desk) -> None:
    async with watched(made, go=2) as looked:
        await looked()
        await looked()
        (made.path / "model.py").write_text("raise ValueError('broken model')\n")
        made.reword("Be brief.", "Be short.")
        told = await looked()
        assert "broken model" in told.problems[0]
        assert told.difference


async def test_stopping_in_the_middle_of_a_run_keeps_what_is_finished(
    made: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODEL_DELAY", "0.2")
    async with watched(made, go=4) as looked:
        assert (await looked()).planned
        while not made.asked():  # noqa: ASYNC110, what is waited for is a file
            await asyncio.sleep(0.01)
    assert set(made.asked()) == made.remembered()
    monkeypatch.setenv("MODEL_DELAY", "0")
    assert (await run_recipe(made.recipe)).pairs == 4
    assert len(made.asked()) == len(set(made.asked()))


@pytest.mark.parametrize(
    "trouble",
    [
        OSError(28, "No space left on device (os error 28)"),
        FileNotFoundError("No path was found."),
        ExceptionGroup("errors", [RuntimeError("error in the watcher")]),
    ],
    ids=lambda trouble: type(trouble).__name__,
)
async def test_where_the_kernel_tells_nothing_the_files_are_looked_at(
    made: Desk, monkeypatch: pytest.MonkeyPatch, trouble: Exception
) -> None:
    async def refused(*folders: Path, **options: object) -> AsyncIterator[object]:
        raise trouble
        yield

    monkeypatch.setattr(watching, "awatch", refused)
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    async with watched(made) as looked:
        await looked()
        made.reword("Be brief.", "Be short.")
        assert (await looked()).difference


async def test_a_folder_that_is_replaced_is_watched_on(made: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "POLL_SECONDS", 0.05)
    rules = made.path / "rules"
    rules.mkdir()
    (rules / "house.yaml").write_text("name: House\nprinciples:\n  - {id: one, text: Be one.}\n")
    made.write(constitution="rules/house.yaml")
    async with watched(made) as looked:
        await looked()
        rules.rename(made.path / "old")
        assert (await looked()).problems
        rules.mkdir()
        (rules / "house.yaml").write_text("name: House\nprinciples:\n  - {id: one, text: Be the first.}\n")
        assert (await looked()).difference


async def test_there_must_be_a_recipe_to_begin_with(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none\.yaml: no such file; give a recipe"):
        await watch(tmp_path / "none.yaml", stop=asyncio.Event(), tell=print)


async def test_a_watch_that_is_stopped_before_it_begins_tells_nothing(made: Desk) -> None:
    stop, told = asyncio.Event(), list[Looked]()
    stop.set()
    await watch(made.recipe, stop=stop, tell=told.append)
    assert told == []


# the command


def read_until(process: subprocess.Popen[str], text: str) -> str:
    """Return what a command has printed when `text` is in it."""
    assert process.stdout
    said = ""
    patience = threading.Timer(60, process.kill)
    patience.start()
    try:
        while text not in said:
            line = process.stdout.readline()
            assert line, said
            said += line
    finally:
        patience.cancel()
    return said


def test_the_command_prints_each_look_and_ends_well_on_ctrl_c(made: Desk) -> None:
    made.reword("text: Be brief.", 'text: "Be [brief]."')
    process = started(
        "watch", "recipe.yaml", "--go", "2", cwd=made.path, env={"PYTHONUNBUFFERED": "1", "COLUMNS": "90"}
    )
    said = read_until(process, "to compare with from now on")
    assert "recipe.yaml: a revision recipe, 4 prompts, 4 principles" in said
    assert re.search(
        r"plan \w{12}: 20 of 20 calls are new \(certain 4, at most 20\), about \$0\.00, time unknown", said
    )
    assert "2 rows to compare with from now on; 10 calls asked, 0 known; $0.00" in said
    made.reword("Be [brief].", "Be [short].")
    said = read_until(process, "came out otherwise")
    assert "saved: constitution.yaml" in said
    assert "text       Be [[-brief-]{+short+}]." in said
    assert "constitution: 1 principle reworded, 3 untouched" in said
    made.reword("name: Four", "name: [Four")
    said = read_until(process, "watching goes on")
    assert "constitution.yaml:1: " in said
    process.send_signal(signal.SIGINT)
    told = finished(process)
    assert (told.code, told.err) == (0, "")
    assert "watching ends" in told.out


def test_a_flipped_row_shows_its_sides_and_the_words_of_each_draft(made: Desk) -> None:
    """The scripted answers hang on every word, so an edit changes the revisions that it reaches."""
    process = started("watch", "recipe.yaml", "--go", "4", cwd=made.path, env={"PYTHONUNBUFFERED": "1"})
    read_until(process, "to compare with from now on")
    made.constitution.write_text("preamble: Serve people.\n" + made.constitution.read_text())
    said = read_until(process, "came out otherwise")
    assert "4 rows came out otherwise, 0 as before; " in said
    assert said.count("How do I do thing number") == 4
    assert said.count("  ->  ") == 4
    assert "    revision.1  Words [-" in said
    assert "    response    " not in said, "its words are those of before"
    process.terminate()
    assert finished(process).code == 0


def test_two_interrupts_leave_at_once(made: Desk) -> None:
    process = started("watch", "recipe.yaml", "--go", "4", cwd=made.path,
                      env={"PYTHONUNBUFFERED": "1", "MODEL_DELAY": "60"})  # fmt: skip
    read_until(process, "running the first 4 rows")
    while not made.asked():
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    read_until(process, "watching ends")
    process.send_signal(signal.SIGINT)
    assert finished(process, timeout=15).code == 130


def test_a_recipe_that_is_not_there_ends_the_command(made: Desk) -> None:
    told = finished(started("watch", "none.yaml", cwd=made.path))
    assert (told.code, told.err) == (2, "solon: none.yaml: no such file; give a recipe\n")
