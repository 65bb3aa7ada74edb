"""Defects that were found in other tools for preference data, each as a test that fails where Solon has it.

Everything goes the whole way: a recipe, prompts and a scripted model in a folder, `run_recipe`, and the data files.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from batch_kit import Batch, BatchServer, Walk, expected
from ledger_kit import Counting, question, until
from story_kit import candidates

from solon import yamls
from solon.calls import Call
from solon.commands import Done, run_recipe
from solon.errors import Halt
from solon.ledger import Ledger
from solon.pipelines.run import RunFolder
from solon.rows import Pair, SetAside

# A model of two candidates a prompt and a judge by log-probabilities; each test adds what misbehaves.
SCRIPT = """
import asyncio
import json
from pathlib import Path
from solon.calls import Reply
from solon.errors import CallFailed, Halt, Passing

VERSION = "1"
LOGPROBS = True
HERE = Path(__file__).parent


def answer(call):
    with (HERE / "asked.txt").open("a", encoding="utf-8") as file:
        file.write(call.to_json() + "\\n")
    return said(call)


def options(call):
    words = call.messages[-1].content
    code = words.split("[response A ")[1][:12]
    return [words.split(f"[response {slot} {code}]\\n")[1].split(f"\\n[end {code}]")[0] for slot in "AB"]


def weighed(call, better):
    a, b = options(call)
    p = 0.5 if a == b else 0.9 if better(a, b) else 0.1
    return {"A": p, "B": 1 - p}


def talk(call):
    return call.messages[-1].content


"""

GOOD_OR_BAD = '''
def said(call):
    """One good and one bad answer, in a place that hangs on the prompt; the judge knows which is which."""
    if call.labels:
        return weighed(call, lambda a, b: "good" in a)
    number = int(talk(call).split()[-1])
    return f"a {'good' if (number + call.sample) % 2 else 'bad'} answer to {number}"
'''

CONSTITUTION = """\
name: one
principles:
  - id: only
    critique: Say what is wrong.
    revision: Mend it.
    preference: Which one is shorter?
"""


def desk(path: Path, script: str, prompts: list[str], **recipe: Any) -> Path:
    """Write a recipe with all that it needs, and return its path."""
    (path / "model.py").write_text(SCRIPT + script, encoding="utf-8")
    (path / "constitution.yaml").write_text(CONSTITUTION, encoding="utf-8")
    (path / "prompts.txt").write_text("".join(f"{prompt}\n" for prompt in prompts), encoding="utf-8")
    page = {
        "constitution": "constitution.yaml",
        "prompts": "prompts.txt",
        "model": "scripted:model.py:answer",
        "story": "preference",
        "export": {"test_fraction": 0},
        **recipe,
    }
    (path / "recipe.yaml").write_text(yamls.dump(page), encoding="utf-8")
    return path / "recipe.yaml"


def numbered(count: int) -> list[str]:
    return [f"Question {number}" for number in range(count)]


def asked(recipe: Path) -> list[Call]:
    """Return every call that the model was asked, over all runs."""
    lines = (recipe.parent / "asked.txt").read_text(encoding="utf-8").splitlines()
    return [Call.from_json(line) for line in lines]


def outcomes(done: Done) -> dict[str, Pair | SetAside]:
    """Return {prompt: what became of it}."""
    with done.folder.store(read_only=True) as store:
        return {outcome.row.prompt.messages[-1].content: outcome for outcome in store.outcomes()}


def reasons(done: Done) -> dict[str, str]:
    return {
        prompt: outcome.reason if isinstance(outcome, SetAside) else "pair"
        for prompt, outcome in outcomes(done).items()
    }


def view(done: Done, name: str) -> list[dict[str, Any]]:
    """Return the rows of an exported view; none where there is no file."""
    files = sorted((done.folder.dataset / "data" / name).glob("*.parquet"))
    return [row for file in files for row in pq.read_table(file).to_pylist()]


def said(words: str | list[dict[str, str]]) -> str:
    return words if isinstance(words, str) else words[-1]["content"]


def prompts_of(rows: list[dict[str, Any]]) -> list[str]:
    return sorted(said(row["prompt"]) for row in rows)


# -- 1 -------------------------------------------------------------------------------------------------------


async def test_ties_and_missing_ratings_make_no_pair_and_spoil_no_other_row(tmp_path: Path) -> None:
    """distilabel (defect 1): equal ratings give chosen == rejected; one missing rating blanks the whole batch."""
    script = """
def said(call):
    words = talk(call)
    if call.labels:
        if "row-tie" in words:
            return {"A": 0.5, "B": 0.5}
        if "row-silent" in words:
            return Reply("?")
        if "row-half" in words and options(call)[0].endswith("0"):
            return Reply("?", logprobs=(None, None))
        return weighed(call, lambda a, b: a < b)
    return "the same text" if "row-same" in words else f"{words} {call.sample}"
"""
    prompts = [f"row-{name}" for name in ("one", "tie", "two", "silent", "half", "three", "same", "four")]
    done = await run_recipe(desk(tmp_path, script, prompts))
    assert reasons(done) == {
        "row-one": "pair", "row-two": "pair", "row-three": "pair", "row-four": "pair",
        "row-tie": "tie", "row-silent": "judge_silent", "row-half": "judge_silent", "row-same": "equal_candidates",
    }  # fmt: skip
    for name in ("preference", "reward", "pairs"):
        rows = view(done, name)
        assert len(rows) == 4
        for row in rows:
            assert row["chosen"] != row["rejected"]
            assert row["chosen"] and row["rejected"]
    for row in view(done, "preference"):
        prompt = said(row["prompt"])
        assert (said(row["chosen"]), said(row["rejected"])) == (f"{prompt} 0", f"{prompt} 1")
    assert Counter(row["reason"] for row in view(done, "set_aside")) == {
        "tie": 1, "judge_silent": 2, "equal_candidates": 1,
    }  # fmt: skip


# -- 2 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failure", ["Passing('no_answer', '429', throttled=True)", "CallFailed('unreadable_answer')"])
async def test_a_failed_row_is_asked_again_and_only_that(tmp_path: Path, failure: str) -> None:
    """distilabel (defect 2): a batch that failed once is cached as empty rows, and starting again returns them."""
    script = f"""
def said(call):
    words = talk(call)
    if call.labels:
        if "row-two" in words and (HERE / "down").exists():
            raise {failure}
        return weighed(call, lambda a, b: a < b)
    if words == "row-three" and call.sample == 1 and (HERE / "down").exists():
        raise {failure}
    return f"{{words}} {{call.sample}}"
"""
    recipe = desk(tmp_path, script, ["row-one", "row-two", "row-three", "row-four"])
    (tmp_path / "down").touch()
    first = await run_recipe(recipe)
    failed = failure.split("'")[1]
    assert reasons(first) == {"row-one": "pair", "row-two": failed, "row-three": failed, "row-four": "pair"}
    assert len(view(first, "preference")) == 2
    before = len(asked(recipe))
    finished = await remembered(tmp_path)

    (tmp_path / "down").unlink()
    second = await run_recipe(recipe)
    assert set(reasons(second).values()) == {"pair"}
    assert prompts_of(view(second, "preference")) == ["row-four", "row-one", "row-three", "row-two"]
    # nothing that was finished is paid for again: both orders of `two`, one candidate and both orders of `three`
    anew = [call.key for call in asked(recipe)[before:]]
    assert len(anew) == len(set(anew)) == 5
    assert not set(anew) & finished
    assert second.folder.path == first.folder.path

    third = await run_recipe(recipe)
    assert third.progress.asked == 0 and len(asked(recipe)) == before + 5
    assert view(third, "preference") == view(second, "preference")


async def remembered(base: Path) -> set[str]:
    ledger = Ledger.open(base / ".solon" / "ledger.db")
    try:
        return {entry.key for entry in ledger.entries()}
    finally:
        await ledger.close()


# -- 5 -------------------------------------------------------------------------------------------------------

LENGTHS = """
def said(call):
    if call.labels:
        longer = "Which one is longer?" in talk(call)
        return weighed(call, lambda a, b: (len(a) > len(b)) == longer)
    return "long " * (1 + call.sample) + str(call.messages[0].content)
"""


async def test_an_edited_principle_never_gets_yesterdays_labels(tmp_path: Path) -> None:
    """Curator (defect 5): the cache key leaves out the system prompt, so an edited constitution gets old answers."""
    recipe = desk(tmp_path, LENGTHS, numbered(3))
    before = await run_recipe(recipe)
    assert all(len(said(row["chosen"])) < len(said(row["rejected"])) for row in view(before, "preference"))
    asked_before = len(asked(recipe))

    (tmp_path / "constitution.yaml").write_text(CONSTITUTION.replace("shorter", "longer"), encoding="utf-8")
    after = await run_recipe(recipe)
    assert after.folder.path != before.folder.path
    assert len(view(after, "preference")) == 3
    assert all(len(said(row["chosen"])) > len(said(row["rejected"])) for row in view(after, "preference"))
    # the candidates did not meet the principle: only the judge is asked again
    assert [bool(call.labels) for call in asked(recipe)[asked_before:]] == [True] * 6
    assert {outcome.digest for outcome in outcomes(before).values() if isinstance(outcome, Pair)}.isdisjoint(
        outcome.digest for outcome in outcomes(after).values() if isinstance(outcome, Pair)
    )


async def test_an_edited_system_prompt_never_gets_yesterdays_answers(tmp_path: Path) -> None:
    """Curator (defect 5), the other half: the system prompt itself is edited."""
    texts = {}
    for system in ("Be terse.", "Be verbose.", None, "Be terse."):
        cast = {"cast": {"responder": {"system": system}}} if system else {}
        done = await run_recipe(desk(tmp_path, LENGTHS, numbered(1), **cast))
        (row,) = view(done, "preference")
        assert said(row["chosen"]) == f"long {system or 'Question 0'}"
        texts.setdefault(system, set()).add((said(row["chosen"]), done.folder.path))
    assert len(texts) == 3 and all(len(found) == 1 for found in texts.values())


async def test_an_edited_worked_example_never_gets_yesterdays_rows(tmp_path: Path) -> None:
    """Curator (defect 5), by another way: a text that stands in every question, and that no row draws."""
    script = """
LOGPROBS = False


def said(call):
    text = call.messages[-1].content
    if text.endswith("The answer is:"):
        return " (A)" if "marked" in text.split("(A) [[[")[1].split("]]]")[0] else " (B)"
    return " marked loud" if "LOUD" in text else " marked low" if text.endswith("Revision:") else " Words."
"""
    example = "    exemplars: [{prompt: p, response: r, critique: c, revision: LOW}]\n"
    recipe = desk(
        tmp_path, script, numbered(2), story={"kind": "revision"},
        model={"use": "scripted:model.py:answer", "form": "text"},
    )  # fmt: skip
    chosen = []
    for words in ("LOW", "LOUD"):
        (tmp_path / "constitution.yaml").write_text(CONSTITUTION + example.replace("LOW", words), encoding="utf-8")
        done = await run_recipe(recipe)
        chosen.append({said(row["chosen"]) for row in view(done, "preference")})
    assert chosen == [{"marked low"}, {"marked loud"}]


# -- 7 -------------------------------------------------------------------------------------------------------


async def test_the_verdict_decides_which_text_is_chosen(tmp_path: Path) -> None:
    """open-instruct (defect 7): a swap condition that is never true, so that the first text is always chosen."""
    done = await run_recipe(desk(tmp_path, GOOD_OR_BAD, numbered(8)))
    rows = view(done, "pairs")
    assert len(rows) == 8
    assert all("good" in said(row["chosen"]) and "bad" in said(row["rejected"]) for row in rows)
    assert Counter(row["chosen_draft"] for row in rows) == {"candidate.1": 4, "candidate.2": 4}


@pytest.mark.parametrize(("better", "chosen"), [("revised", "revision.1"), ("first", "response")])
async def test_the_verdict_decides_between_answer_and_revision_too(tmp_path: Path, better: str, chosen: str) -> None:
    """open-instruct (defect 7), for the other story."""
    script = f"""
def said(call):
    if call.labels:
        return weighed(call, lambda a, b: {better!r} in a)
    return "a revised answer" if "revised response only" in talk(call) else "the first answer"
"""
    done = await run_recipe(desk(tmp_path, script, numbered(3), story={"kind": "revision"}))
    assert [row["chosen_draft"] for row in view(done, "pairs")] == [chosen] * 3
    assert all(better in said(row["chosen"]) for row in view(done, "preference"))


async def test_one_failed_comparison_does_not_spoil_the_saving_of_the_others(tmp_path: Path) -> None:
    """open-instruct (defect 7), its second half: one pair without a verdict ends the save of all pairs."""
    script = GOOD_OR_BAD.replace(
        "    if call.labels:",
        '    if call.labels and "Question 2" in talk(call):\n'
        '        raise CallFailed("no_answer")\n'
        "    if call.labels:",
    )
    done = await run_recipe(desk(tmp_path, script, numbered(4)))
    assert reasons(done)["Question 2"] == "no_answer"
    assert len(view(done, "preference")) == 3


# -- 8 -------------------------------------------------------------------------------------------------------

UNREADABLE = [
    "", "Both are fine.", "Answer: A or B", "Answer: neither", "I think (A) and (B) are alike.", "42",
    'You want me to say "Answer: A" or "Answer: B".', "Answer:", "The answer is a matter of taste.",
]  # fmt: skip


@pytest.mark.parametrize("reasoning", [False, True])
async def test_a_verdict_that_cannot_be_read_never_becomes_a_label(tmp_path: Path, reasoning: bool) -> None:
    """DataDreamer (defect 8): an answer of the judge that cannot be parsed becomes a random label."""
    script = f"""
LOGPROBS = False
UNREADABLE = {UNREADABLE!r}


def said(call):
    if "[response A " not in talk(call):
        return f"{{talk(call)}} {{call.sample}}"
    number = int(talk(call).split("Question ")[1].split()[0])
    if number == len(UNREADABLE):
        return Reply("I will now weigh both. Answer: A", finish="length")
    if number > len(UNREADABLE):
        return "Answer: " + ("A" if options(call)[0].endswith("0") else "B")
    # one order is unreadable, the other is clear: half an answer is none
    return UNREADABLE[number] if options(call)[0].endswith("1") else "Answer: A"
"""
    count = len(UNREADABLE) + 2
    for seed in range(3):
        done = await run_recipe(
            desk(
                tmp_path,
                script,
                numbered(count),
                judging={"reasoning": reasoning},
                seed=seed,
                cast={"judge": {"cut": "keep"}},
            )
        )
        told = reasons(done)
        assert [told.pop(f"Question {number}") for number in range(count - 1)] == ["judge_silent"] * (count - 1)
        assert told == {f"Question {count - 1}": "pair"}
        assert prompts_of(view(done, "preference")) == [f"Question {count - 1}"]
        assert done.reasons == {"judge_silent": count - 1}


# -- 9 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("both", [True, False])
async def test_where_a_text_is_shown_does_not_hang_on_which_text_it_is(tmp_path: Path, both: bool) -> None:
    """NeMo-Aligner (defect 9): candidates are shown sorted by their temperature, so a place means a temperature."""
    for story in ({"kind": "preference"}, {"kind": "revision"}):
        place = tmp_path / story["kind"]
        place.mkdir()
        script = """
def said(call):
    if call.labels:
        return weighed(call, lambda a, b: a < b)
    late = call.sample or "revised response only" in talk(call)
    return f"{'late' if late else 'early'} {call.messages[0].content}"
"""
        recipe = desk(place, script, numbered(60), story=story, judging={"both_orders": both})
        await run_recipe(recipe)
        shown = Counter(candidates(call)[0].split()[0] for call in asked(recipe) if call.labels)
        assert sum(shown.values()) == 60 * (1 + both)
        if both:
            assert shown["early"] == shown["late"]
        else:
            assert 15 < shown["early"] < 45


async def test_a_judge_that_always_names_the_same_place_gives_no_pair(tmp_path: Path) -> None:
    """NeMo-Aligner (defect 9): where the judge names one place as chosen and as rejected, a random pair is labelled."""
    script = """
def said(call):
    return {"A": 0.97, "B": 0.03} if call.labels else f"{talk(call)} {call.sample}"
"""
    done = await run_recipe(desk(tmp_path, script, numbered(5), story={"kind": "preference", "candidates": 3}))
    assert (done.pairs, done.reasons) == (0, {"tie": 5})
    assert view(done, "preference") == []
    assert (done.quality.judged, done.quality.same_slot) == (5, 5)


async def test_judge_errors_are_counted_and_shown_each_with_its_reason(tmp_path: Path) -> None:
    """NeMo-Aligner (defect 9): all errors of the judge become dropped samples without a count."""
    script = """
def said(call):
    if not call.labels:
        return f"{talk(call)} {call.sample}"
    number = int(talk(call).split("Question ")[1].split()[0])
    if number == 0:
        return Reply("I will not.", finish="refusal")
    if number == 1:
        raise CallFailed("rejected_call", "400")
    return weighed(call, lambda a, b: a < b)
"""
    done = await run_recipe(desk(tmp_path, script, numbered(3)))
    assert done.reasons == {"judge_refused": 1, "rejected_call": 1}
    assert sorted((row["reason"], bool(row["detail"])) for row in view(done, "set_aside")) == [
        ("judge_refused", True), ("rejected_call", True),
    ]  # fmt: skip
    assert done.pairs + sum(done.reasons.values()) == done.planned == 3


@pytest.mark.parametrize("window", [1, 3, 64])
async def test_the_last_prompts_are_walked_whatever_the_window(tmp_path: Path, window: int) -> None:
    """NeMo-Aligner (defect 9): the last batch is dropped where it is not full."""
    done = await run_recipe(desk(tmp_path, GOOD_OR_BAD, numbered(7), window=window))
    assert prompts_of(view(done, "preference")) == numbered(7)


async def test_a_run_that_was_cut_off_goes_on_where_its_output_lies(tmp_path: Path) -> None:
    """NeMo-Aligner (defect 9): verdicts are written at the very end, and a file that exists stops the next start."""
    script = GOOD_OR_BAD.replace(
        "    if call.labels:",
        '    if "[response A " in talk(call) and "Question 5" in talk(call) and (HERE / "broken").exists():\n'
        '        raise Halt("no credit")\n'
        "    if call.labels:",
    )
    recipe = desk(tmp_path, script, numbered(8), window=1)
    (tmp_path / "broken").touch()
    with pytest.raises(Halt):
        await run_recipe(recipe)
    with RunFolder.open(tmp_path / "runs" / "latest").store(read_only=True) as store:
        assert store.finished == 5
    before = asked(recipe)

    (tmp_path / "broken").unlink()
    done = await run_recipe(recipe)
    assert prompts_of(view(done, "preference")) == numbered(8)
    anew = [call.key for call in asked(recipe)[len(before) :]]
    # of the row that broke off only the judging, and all of the two rows behind it
    assert len(anew) == 2 + 2 * 4
    assert len({call.key for call in asked(recipe)}) == 8 * 4


# -- 10 ------------------------------------------------------------------------------------------------------


async def test_finished_rows_are_on_disk_while_the_last_prompt_is_still_asked(tmp_path: Path) -> None:
    """llm-swarm (defect 10): everything sits in one gather, and nothing is written until all prompts are done."""
    script = """
async def said(call):
    if call.labels:
        return weighed(call, lambda a, b: a < b)
    while talk(call) == "Question 0" and not (HERE / "go").exists():
        await asyncio.sleep(0.01)
    return f"{talk(call)} {call.sample}"


async def answer(call):
    return await said(call)
"""
    recipe = desk(tmp_path, script, numbered(80), window=8)
    running = asyncio.create_task(run_recipe(recipe))
    try:
        written: list[Pair | SetAside] = []
        for _ in range(600):
            await asyncio.sleep(0.05)
            latest = tmp_path / "runs" / "latest"
            if (latest / "run.json").is_file():
                with RunFolder.open(latest).store(read_only=True) as store:
                    written = list(store.outcomes())
            if len(written) >= 79 or running.done():
                break
        assert not running.done()
        assert len(written) == 79, "all but the one that waits"
        assert all(isinstance(outcome, Pair) for outcome in written)
        assert "Question 0" not in {outcome.row.prompt.messages[-1].content for outcome in written}
    finally:
        (tmp_path / "go").touch()
        done = await running
    assert done.pairs == 80


async def test_a_revision_is_never_assumed_to_be_better_or_even_different(tmp_path: Path) -> None:
    """llm-swarm (defect 10): the revision is always chosen, and nobody looks whether it is better, or changed."""
    script = """
def said(call):
    if call.labels:
        return weighed(call, lambda a, b: "good" in a)
    number = int(call.messages[0].content.split()[-1])
    if "revised response only" not in talk(call):
        return "a good answer" if number == 0 else "a bad answer"
    return ["a bad revision", "a good revision", "a  bad answer", "Here is a revised response: a bad answer"][number]
"""
    done = await run_recipe(desk(tmp_path, script, numbered(4), story={"kind": "revision"}))
    assert reasons(done) == {
        "Question 0": "pair", "Question 1": "pair", "Question 2": "unchanged", "Question 3": "unchanged",
    }  # fmt: skip
    chosen = {said(row["prompt"]): (row["chosen_draft"], said(row["chosen"])) for row in view(done, "pairs")}
    assert chosen == {"Question 0": ("response", "a good answer"), "Question 1": ("revision.1", "a good revision")}
    assert done.quality.original_chosen == 1
    assert json.loads((done.folder.path / "run.json").read_text(encoding="utf-8"))["story"] == "revision"


# -- 13 ------------------------------------------------------------------------------------------------------


def written() -> int:
    """Return the bytes that this process has handed to the system to write, in all its life."""
    for line in Path("/proc/self/io").read_text(encoding="ascii").splitlines():
        if line.startswith("wchar: "):
            return int(line.split()[1])
    raise AssertionError("no wchar in /proc/self/io")


@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="the system does not count what a process writes")
async def test_what_a_reply_costs_to_write_down_does_not_grow_with_what_is_remembered(tmp_path: Path) -> None:
    """safety-tooling (defect 13): a cache of 20 JSON files a setting, one of which each save rewrites as a whole."""
    ledger, model = Ledger.open(tmp_path / "ledger.db"), Counting()
    door = ledger.door(model)
    numbers = iter(range(1_000_000))

    async def bytes_a_reply() -> float:
        """Ask one after the other: a commit a reply, which is when a reply costs most."""
        before = written()
        for _ in range(100):
            await door(question(next(numbers)))
        return (written() - before) / 100

    async def remember(count: int) -> None:
        await asyncio.gather(*(door(question(next(numbers))) for _ in range(count)))

    try:
        await remember(1000)
        few = await bytes_a_reply()
        await remember(9000)
        many = await bytes_a_reply()
    finally:
        await ledger.close()
    # ten times as much is remembered: a tree of pages grows by a page in depth at most, a file that is rewritten by ten
    assert many < 2 * few
    assert many < 100_000


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
async def test_answers_of_one_batch_job_are_kept_while_the_others_still_wait(tmp_path: Path, provider: str) -> None:
    """safety-tooling (defect 13): results of a batch are cached only after all its chunks have returned."""

    class Held(BatchServer):
        held = True

        def looked(self, batch: Batch) -> bool:
            return not (self.held and batch.number) and super().looked(batch)

    with Held(provider) as server:
        async with Walk(provider, server.url, tmp_path / "ledger.db") as walk:
            walk.desk.api.most_calls = 3
            ended = asyncio.create_task(walk.rows(6))
            try:
                await until(lambda: len(server.batches) >= 2 and len(walk.kept) >= 3)
                assert not ended.done()
                assert len(walk.kept) == 3
            finally:
                server.held = False
            assert await ended == expected(provider, server.url, 6)
        # whoever is killed then finds them: they were in the file, not in a process
        assert set(server.billed.values()) == {1}
