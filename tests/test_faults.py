"""Whatever is wrong, a person gets one clear line and the documented exit code, and nothing paid for is lost."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from run_kit import Desk, Solon, data_of, desk, finished, started
from wire import Answer, Wire, chat, error

from solon.commands import run_recipe
from solon.rows import SetAside


@pytest.fixture
def solon(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Solon:
    return Solon(monkeypatch, capsys)


@pytest.fixture
def made(tmp_path: Path) -> Desk:
    return desk(tmp_path / "desk")


def one_line(solon: Solon, *arguments: object, code: int) -> str:
    """Run a command that fails with this exit code, and return its one line."""
    told = solon(*arguments)
    assert told.code == code, told
    (line,) = told.err.splitlines()
    assert line.startswith("solon: ")
    return line


# -- what a person wrote -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("constitution: [x\nprompts: y\n", "recipe.yaml:1: the '[' that opens here is not closed"),
        ("constitution: 'x\n", "recipe.yaml:1: the quote that opens here is never closed"),
        ("a: b: c\n", "recipe.yaml:1: a ':' where no key can stand"),
        ("\tmodel: x\n", "recipe.yaml:1: a tab indents this line"),
        ("model: x\nmodel: y\n", "recipe.yaml:2: key 'model' is given twice"),
        ("- a\n", "recipe.yaml:1: expected `key: value` lines at the top, found a list"),
        ("", "recipe.yaml:1: the file is empty"),
        ("# nothing\n", "recipe.yaml:1: the file holds only comments"),
        ("a: &a [*a]\n", "recipe.yaml:1: '*a' refers to itself"),
        ("a: \x07\n", "recipe.yaml:1: control character U+0007"),
    ],
)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_page_that_is_no_yaml_is_told_with_its_line(
    made: Desk, solon: Solon, page: str, told: str, command: str
) -> None:
    made.recipe.write_text(page)
    assert told in solon(command, made.recipe).err
    assert solon(command, made.recipe).code == 2


def test_a_page_in_another_encoding_is_told_with_its_line(made: Desk, solon: Solon) -> None:
    made.recipe.write_bytes(made.recipe.read_bytes() + "name: Ä\n".encode("latin-1"))
    assert "is not UTF-8; save the file as UTF-8" in one_line(solon, "run", made.recipe, code=2)


@pytest.mark.parametrize(
    ("principles", "told"),
    [
        ("[]", "'principles' must not be empty"),
        ('[{id: "", text: x}]', "'id' in"),
        ("[{id: a, text: x}, {id: a, text: y}]", "id 'a' is already taken on line 2"),
        ("[{id: a, text: x, weight: -1}]", "'weight' in principle 'a' must be at least 0, found the number -1"),
        ("[{id: a, text: x, weihgt: 1}]", "unknown key 'weihgt' in principle 'a'; did you mean 'weight'?"),
        ("[{id: a, critique: x, revision: y}]", "the story's step 'judge' needs a principle with `preference`"),
        (
            "[{id: a, text: x, weight: 0}]",
            "with `critique` and `revision` wording and a weight above 0",
        ),
    ],
)
def test_a_constitution_that_cannot_be_used_is_told(made: Desk, solon: Solon, principles: str, told: str) -> None:
    made.constitution.write_text(f"name: Bad\nprinciples: {principles}\n")
    assert told in one_line(solon, "run", made.recipe, code=2)
    assert told in solon("check", made.recipe).err


def test_a_constitution_that_is_not_there_is_told(made: Desk, solon: Solon) -> None:
    made.write(constitution="cai-2023")
    assert "did you mean 'cai-2022'?" in one_line(solon, "run", made.recipe, code=2)
    made.write(constitution="constitutoin.yaml")
    assert "did you mean" in one_line(solon, "run", made.recipe, code=2)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("p.jsonl", b"", "no prompts in it"),
        ("p.txt", b"\n \n\n", "no prompts in it"),
        ("p.jsonl", b'{"prompt": "Hi"}\n{"prompt": "  "}\n', "p.jsonl:2: 'prompt' is only white space"),
        ("p.jsonl", b'{"prompt": "Hi"}\n{"prompt": "Hi\n', "p.jsonl:2: not JSON"),
        ("p.jsonl", b'{"question": 3}\n', "p.jsonl:1: 'question' is a number"),
        ("p.jsonl", b'{"ask": "Hi"}\n', "p.jsonl:1: none of the columns"),
        ("p.txt", b"Hi\n\xff\xfe\n", "p.txt:2: not UTF-8"),
        ("p.txt", b"Hi\n" + b"x" * 10_000_000 + b"\n", "p.txt:2: the line is longer than 8 MiB"),
        ("p.csv", b"a,b\n1,2\n", "none of the columns"),
        ("p.parquet", b"PAR1", "not a Parquet file"),
        ("p.docx", b"x", "unknown kind of file"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_prompts_that_cannot_be_used_are_told(made: Desk, solon: Solon, name: str, content: bytes, told: str) -> None:
    (made.path / name).write_bytes(content)
    made.write(prompts=name)
    assert told in one_line(solon, "run", made.recipe, code=2)
    assert told in one_line(solon, "plan", made.recipe, code=2)
    assert made.asked() == []
    assert [entry.name for entry in (made.path / "runs").iterdir()] == []


def test_a_column_that_is_not_there_is_told(made: Desk, solon: Solon) -> None:
    (made.path / "p.jsonl").write_text('{"prompt": "Hi"}\n')
    made.write(prompts={"path": "p.jsonl", "column": "promt"})
    assert "no column 'promt'; columns there: prompt; did you mean 'prompt'?" in one_line(
        solon, "run", made.recipe, code=2
    )


def test_prompts_that_no_principle_applies_to_are_told(made: Desk, solon: Solon) -> None:
    made.constitution.write_text("name: Tagged\nprinciples:\n  - {id: a, text: x, applies_to: [law]}\n")
    (made.path / "p.jsonl").write_text('{"prompt": "Hi", "tags": ["law"]}\n{"prompt": "Ho", "tags": ["cooking"]}\n')
    made.write(prompts="p.jsonl")
    assert "a prompt tagged cooking" in one_line(solon, "run", made.recipe, code=2)
    told = solon("check", made.recipe)
    assert told.code == 1
    assert "p.jsonl: prompt 2: " in told.err


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ("scripted:nowhere.py:answer", "nowhere.py"),
        ("scripted:model.py:anser", "no function 'anser'; it has answer, "),
        ("scripted:model.py", "a scripted model is scripted:<replies.jsonl> or scripted:<file.py>:<function>"),
        ("scripted:broken.py:answer", "broken.py:1"),
        ("scripted:replies.jsonl", "replies.jsonl:1"),
        ("opnai:gpt", "unknown model 'opnai:gpt'; write smollm2 or one of openai:<...>"),
        ("openai:", "unknown model 'openai:'"),
        ("local:no/where/model.gguf", "no/where/model.gguf"),
    ],
)
def test_a_model_that_cannot_be_opened_is_told(made: Desk, solon: Solon, model: str, told: str) -> None:
    (made.path / "broken.py").write_text("def answer(call:\n")
    (made.path / "replies.jsonl").write_text('{"wen": ""}\n')
    made.write(model=model)
    assert told in one_line(solon, "run", made.recipe, code=2)


# -- what a model says ---------------------------------------------------------------------------------------

ODD = '''
from solon.calls import Reply
from solon.errors import CallFailed

def odd(call):
    """Row 1 is answered oddly, the others as ever."""
    if "number 1" in call.messages[0].content:
        return ANSWER(call)
    return said(call)
'''


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ('""', "empty_answer"),
        ('" \\n\\t "', "empty_answer"),
        ('"and so on " * 2000', "repetition"),
        ('Reply("cut off in the mid", finish="length")', "cut_answer"),
        ('Reply("", finish="length", thinking="Hmm.")', "empty_answer"),
        ('Reply("I will not.", finish="refusal")', "refused"),
    ],
)
def test_an_answer_that_is_none_sets_its_row_aside_and_the_others_are_finished(
    made: Desk, solon: Solon, answer: str, reason: str
) -> None:
    with (made.path / "model.py").open("a") as file:
        file.write(ODD.replace("ANSWER(call)", answer))
    made.write(model="scripted:model.py:odd")
    told = solon("run", made.recipe, "-q")
    assert told.code == 0
    assert f"{reason}: " in told.out
    shown = solon("show", "1", "--run", made.latest).out
    assert f"set aside: {reason}" in shown
    # such an answer is remembered as what it is: nobody pays for it again
    assert solon("run", made.recipe, "-q").code == 0


async def test_half_a_json_a_refused_prompt_and_a_broken_body_set_rows_aside(tmp_path: Path) -> None:
    """The judge that answers half a JSON has not said; what the server cannot say is a failure, not a judgement."""
    made = desk(tmp_path, prompts=3, window=1, story={"kind": "revision", "rounds": 1})
    made.write(judging={"verdict": "structured", "both_orders": False})
    letter = Answer(chat('{"answer": "A"}'))
    too_long = Answer(error("maximum context length is 10 tokens", code="context_length_exceeded"), 400)
    async with Wire(letter, Answer(chat('{"answer": ')), Answer("<html>oops"), too_long) as wire:
        judge = {"use": "openai:judge", "base_url": f"{wire.url}/v1", "patience": 0.0}
        made.write(cast={"judge": {"model": judge}})
        done = await run_recipe(made.recipe)
    with done.folder.store(read_only=True) as store:
        reasons = [one.reason for one in store.outcomes() if isinstance(one, SetAside)]
    assert reasons == ["judge_silent", "unreadable_answer", "too_long"]
    assert (done.pairs, done.views.get("preference")) == (0, None)


def test_a_run_without_a_single_pair_is_told_by_its_exit_code(made: Desk, solon: Solon) -> None:
    with (made.path / "model.py").open("a") as file:
        file.write(ODD.replace("ANSWER(call)", '""').replace("number 1", ""))
    made.write(model="scripted:model.py:odd")
    told = solon("run", made.recipe, "-q")
    assert told.code == 1
    assert "empty_answer" in told.out


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Answer(error("bad key", code="invalid_api_key"), 401), "OTHER_KEY"),
        (Answer(error("The model `m` does not exist", code="model_not_found"), 404), "no such model"),
        (Answer(error("You exceeded your current quota", code="insufficient_quota"), 429), "no credit"),
        (
            Answer(error("Unsupported value: temperature", code="unsupported_value", param="temperature"), 400),
            "temperature",
        ),
    ],
    ids=["wrong key", "unknown model", "no credit", "refused parameter"],
)
async def test_what_no_later_call_can_mend_stops_the_run_at_once(
    tmp_path: Path, answer: Answer, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTHER_KEY", "sk-secret-0123456789")
    made = desk(tmp_path, prompts=30, window=2)
    async with Wire(answer) as wire:
        model = {"use": "openai:m", "base_url": f"{wire.url}/v1", "key_env": "OTHER_KEY"}
        made.write(cast={"responder": {"model": model}})
        told = await asyncio.to_thread(lambda: finished(started("run", made.recipe, cwd=made.path)))
        assert len(wire.requests) <= 2
    (line,) = [line for line in told.err.splitlines() if "rows into" not in line]
    assert (told.code, told.out) == (3, "")
    assert line.startswith("solon: openai:m at http://")
    assert words in line
    assert "sk-secret" not in line


def test_a_server_where_nobody_listens_stops_the_run_at_once(made: Desk, solon: Solon) -> None:
    made.write(cast={"responder": {"model": {"use": "openai:m", "base_url": "http://127.0.0.1:9/v1"}}})
    told = solon("run", made.recipe, "-q")
    assert told.code == 3
    assert told.err.count("\n") == 1
    assert "nobody answers" in told.err


def test_a_missing_key_is_told_before_anything_is_asked(
    made: Desk, solon: Solon, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    made.write(cast={"reviser": {"model": "openai:gpt-x"}})
    assert "no key in OPENAI_API_KEY" in one_line(solon, "run", made.recipe, code=3)
    assert made.asked() == []


# -- disks ---------------------------------------------------------------------------------------------------


def limited(made: Desk, size: int, *arguments: str) -> tuple[int, str]:
    """Run a command that may write no file longer than `size`; return its exit code and standard error."""

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    done = subprocess.run(
        [sys.executable, "-m", "solon", *arguments],
        cwd=made.path,
        capture_output=True,
        text=True,
        preexec_fn=limit,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


def test_a_full_disk_is_one_clear_line_and_what_was_paid_for_is_kept(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=400, window=8)
    code, err = limited(made, 200_000, "run", str(made.recipe), "-q")
    assert code == 4
    assert len(err.splitlines()) == 1
    assert err.startswith("solon: ")
    finished = made.remembered()
    assert finished
    asked = len(made.asked())
    code, err = limited(made, resource.RLIM_INFINITY, "run", str(made.recipe), "-q")
    assert (code, err) == (0, "")
    assert not set(made.asked()[asked:]) & finished


def test_a_disk_that_is_full_at_the_export_leaves_the_rows_and_the_export_before(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=150)
    assert limited(made, resource.RLIM_INFINITY, "run", str(made.recipe), "-q")[0] == 0
    data = data_of(made.latest)
    code, err = limited(made, 40_000, "export")  # room for SQLite's own small files
    assert code == 4
    assert "the export before, if any, stands" in err
    assert data_of(made.latest) == data


def test_a_disk_too_full_for_the_plan_is_told(tmp_path: Path) -> None:
    made = desk(tmp_path, prompts=3)
    for command in ("plan", "run"):
        code, err = limited(made, 5_000, command, str(made.recipe))
        assert code == 4
        assert len([line for line in err.splitlines() if line.startswith("solon: ")]) == 1


@pytest.mark.parametrize("changed", [{"runs": "file/runs"}, {"ledger": "file/ledger.db"}], ids=str)
def test_a_folder_that_cannot_be_written_is_told(made: Desk, solon: Solon, changed: dict[str, str]) -> None:
    (made.path / "file").touch()
    made.write(**changed)
    for command in ("plan", "run"):
        assert "file" in one_line(solon, command, made.recipe, code=4)


@pytest.mark.skipif(os.geteuid() == 0, reason="to root no folder is read-only")
def test_a_read_only_folder_is_told(made: Desk, solon: Solon) -> None:
    made.path.chmod(0o555)
    try:
        assert "rights" in one_line(solon, "run", made.recipe, code=4)
    finally:
        made.path.chmod(0o755)


def test_a_run_folder_that_became_read_only_can_still_be_looked_at(made: Desk, solon: Solon) -> None:
    assert solon("run", made.recipe, "-q").code == 0
    for entry in made.latest.iterdir():
        entry.chmod(0o444 if entry.is_file() else 0o555)
    assert "Words" in solon("show", "0", "--run", made.latest).out


# -- ledgers and run folders of another time -----------------------------------------------------------------


def test_a_ledger_of_a_newer_version_is_told(made: Desk, solon: Solon) -> None:
    assert solon("run", made.recipe, "-q").code == 0
    connection = sqlite3.connect(made.path / ".solon" / "ledger.db")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    for command in ("run", "plan"):
        assert "written by a newer Solon" in one_line(solon, command, made.recipe, code=4)
    # the row itself lies in the run folder, and can still be read
    shown = solon("show", "0", "--run", made.latest)
    assert shown.code == 0
    assert "Words" in shown.out
    assert "written by a newer Solon" in shown.out


@pytest.mark.parametrize("content", [b"not a database at all, not by far", b""], ids=["text", "empty"])
def test_what_is_no_ledger_is_told_or_made(made: Desk, solon: Solon, content: bytes) -> None:
    (made.path / ".solon").mkdir()
    (made.path / ".solon" / "ledger.db").write_bytes(content)
    if content:
        assert "ledger.db" in one_line(solon, "run", made.recipe, code=4)
    else:
        assert solon("run", made.recipe, "-q").code == 0


def test_a_plan_of_a_newer_version_is_told(made: Desk, solon: Solon) -> None:
    assert solon("run", made.recipe, "-q").code == 0
    connection = sqlite3.connect(made.latest / "rows.db")
    connection.execute("PRAGMA user_version = 99")
    connection.commit()
    connection.close()
    for arguments in (("run", made.recipe), ("show", "0", "--run", made.latest), ("export", made.latest)):
        assert "newer Solon" in one_line(solon, *arguments, code=4)


def test_a_planning_that_was_cut_off_is_never_taken_for_the_whole(made: Desk, solon: Solon) -> None:
    assert solon("run", made.recipe, "-q").code == 0
    connection = sqlite3.connect(made.latest / "rows.db")
    connection.execute("DELETE FROM meta")
    connection.commit()
    connection.close()
    assert "its planning was cut off; delete the file and run again" in one_line(solon, "run", made.recipe, code=4)
    (made.latest / "rows.db").unlink()
    assert solon("run", made.recipe, "-q").code == 0


def test_something_else_in_the_place_of_the_dataset_is_never_written_over(made: Desk, solon: Solon) -> None:
    assert solon("run", made.recipe, "-q").code == 0
    (made.latest / "dataset" / "notes.txt").write_text("mine")
    assert "would be lost" in one_line(solon, "run", made.recipe, "-q", code=2)
    assert "would be lost" in one_line(solon, "export", made.latest, code=2)
    assert (made.latest / "dataset" / "notes.txt").read_text() == "mine"


def test_texts_of_all_kinds_come_through_and_do_nothing_to_a_screen(tmp_path: Path, solon: Solon) -> None:
    """Brackets, pictures, escape sequences, marks that turn the line round, half characters."""
    made = desk(tmp_path, prompts=1, model="scripted:model.py:odd")
    with (made.path / "model.py").open("a") as file:
        file.write(
            "\ndef odd(call):\n    if call.labels:\n        return said(call)\n"
            "    return '[bold]x[/bold] :smile: \\x1b[31mred \\u202eabc [/] \\x00 end ' + call.key\n"
        )
    assert solon("run", made.recipe, "-q").code == 0
    for shown in (solon("show", "0", "--run", made.latest, "--calls"), solon("pairs", made.latest)):
        assert shown.code == 0
        assert "[bold]x[/bold] :smile:" in shown.out
        assert "\N{SYMBOL FOR ESCAPE}[31mred" in shown.out
        assert not {"\x1b", "\u202e", "\x00"} & set(shown.out)


def test_an_answer_that_only_looks_like_json_is_words(made: Desk, solon: Solon) -> None:
    with (made.path / "model.py").open("a") as file:
        file.write(ODD.replace("ANSWER(call)", json.dumps('{"answer": "A"')))
    made.write(model="scripted:model.py:odd")
    told: Any = solon("run", made.recipe, "-q")
    assert told.code == 0
    assert "unchanged" in told.out  # its answer and its revision are the same half of a JSON
