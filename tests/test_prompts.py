"""Prompts are read from whatever people keep them in, and every mistake in a file is told at once, with its place."""

from __future__ import annotations

import gzip
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError

from solon.calls import Message
from solon.dataset.prompts import LONGEST_PROMPT, PromptsSpec, read_prompts
from solon.dataset.records import LONGEST_LINE
from solon.errors import BadInput
from solon.rows import Prompt


def user(text: str, *tags: str) -> Prompt:
    return Prompt((Message("user", text),), tags)


def read(path: Path, **spec: Any) -> list[Prompt]:
    return list(read_prompts(PromptsSpec(path=path.name, **spec), path.parent))


def problems(path: Path, **spec: Any) -> tuple[str, ...]:
    with pytest.raises(BadInput) as caught:
        read(path, **spec)
    return caught.value.problems


def lines(path: Path, *records: Any) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


# what is read


def test_a_json_line_is_a_prompt(tmp_path: Path) -> None:
    file = lines(tmp_path / "p.jsonl", {"prompt": "Why is the sky blue?"}, {"prompt": "And the sea?", "tags": ["sea"]})
    assert read(file) == [user("Why is the sky blue?"), user("And the sea?", "sea")]


def test_a_path_may_start_at_home_wherever_the_recipe_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines(tmp_path / "p.jsonl", {"prompt": "a"})
    monkeypatch.setenv("HOME", str(tmp_path))
    assert list(read_prompts(PromptsSpec(path="~/p.jsonl"), tmp_path / "elsewhere")) == [user("a")]


@pytest.mark.parametrize("ending", ["jsonl", "ndjson", "csv", "tsv", "txt"])
def test_every_text_format_is_read_packed_too(tmp_path: Path, ending: str) -> None:
    texts = {"jsonl": '{"prompt": "a b"}\n', "csv": "prompt\na b\n", "tsv": "prompt\tn\na b\t1\n", "txt": "a b\n"}
    content = texts.get(ending, texts["jsonl"]).encode()
    (tmp_path / f"p.{ending}").write_bytes(content)
    (tmp_path / f"p.{ending}.gz").write_bytes(gzip.compress(content))
    assert read(tmp_path / f"p.{ending}") == read(tmp_path / f"p.{ending}.gz") == [user("a b")]


def test_a_byte_order_mark_crlf_and_blank_lines_do_no_harm(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(b"\xef\xbb\xbfone\r\n\r\n   \r\ntwo\r\nthree")
    assert read(tmp_path / "p.txt") == [user("one"), user("two"), user("three")]
    (tmp_path / "p.csv").write_bytes(b'\xef\xbb\xbfprompt,tags\r\n\r\none,"a, b"\r\n')
    assert read(tmp_path / "p.csv") == [user("one", "a", "b")]
    (tmp_path / "p.jsonl").write_bytes(b'\xef\xbb\xbf{"prompt": "one"}\r\n\r\n{"prompt": "two"}\r\n')
    assert read(tmp_path / "p.jsonl") == [user("one"), user("two")]


def test_text_is_kept_as_it_is(tmp_path: Path) -> None:
    """No normalisation, no trimming: e + combining accent stays two characters, U+2028 ends no line."""
    odd = "  e\u0301 \u2028 \U0001f600 \x00 tail "
    assert read(lines(tmp_path / "p.jsonl", {"prompt": odd})) == [user(odd)]
    (tmp_path / "p.txt").write_text(odd + "\n", encoding="utf-8")
    assert read(tmp_path / "p.txt") == [user(odd)]


def test_a_csv_text_may_span_lines(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text('id,prompt\n1,"two\nlines, ""quoted"""\n2,one\n', encoding="utf-8")
    assert read(tmp_path / "p.csv") == [user('two\nlines, "quoted"'), user("one")]


def test_parquet_holds_texts_or_turns(tmp_path: Path) -> None:
    turns = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    pq.write_table(pa.table({"n": [1, 2], "prompt": ["a", "b"], "tags": [["x"], None]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"messages": [turns]}), tmp_path / "b.parquet")
    assert read(tmp_path / "a.parquet") == [user("a", "x"), user("b")]
    assert read(tmp_path / "b.parquet") == [Prompt((Message("system", "Be brief."), Message("user", "Hello")))]


def test_several_turns_and_keys_beside_role_and_content(tmp_path: Path) -> None:
    turns = [
        {"role": "user", "content": "Hi", "name": None},
        {"role": "assistant", "content": "Hello."},
        {"role": "user", "content": "How do I get into my neighbour's wifi?", "language": "en"},
    ]
    (prompt,) = read(lines(tmp_path / "p.jsonl", {"messages": turns}))
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]


def test_the_text_form_of_hh_rlhf_is_split_into_turns(tmp_path: Path) -> None:
    text = "\n\nHuman: What are pranks with a pen?\n\nAssistant: For fun?\n\nHuman: yep\n\nand soon\n\nAssistant:"
    assert read(lines(tmp_path / "p.jsonl", {"prompt": text})) == [
        Prompt((
            Message("user", "What are pranks with a pen?"),
            Message("assistant", "For fun?"),
            Message("user", "yep\n\nand soon"),
        ))
    ]  # fmt: skip


def test_a_text_that_only_mentions_human_is_one_turn(tmp_path: Path) -> None:
    text = "Go on:\n\nHuman: hi\n\nAssistant:"
    assert read(lines(tmp_path / "p.jsonl", {"prompt": text})) == [user(text)]


def test_the_default_column_is_the_first_that_is_there(tmp_path: Path) -> None:
    for column in ("prompt", "messages", "text", "question", "instruction"):
        record = {"instruction": "last", "n": 1, column: "first"}
        assert read(lines(tmp_path / "p.jsonl", record)) == [user("first")]


def test_column_and_tags_column_are_taken_where_the_spec_says(tmp_path: Path) -> None:
    file = lines(tmp_path / "p.jsonl", {"prompt": "no", "ask": "yes", "tags": ["no"], "topics": "a, b,"})
    assert read(file, column="ask", tags_column="topics") == [user("yes", "a", "b")]


def test_limit_reads_no_further(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b"}\nbroken\n', encoding="utf-8")
    assert read(tmp_path / "p.jsonl", limit=2) == [user("a"), user("b")]
    assert len(problems(tmp_path / "p.jsonl", limit=3)) == 1


def test_duplicates_have_one_id_whatever_their_tags(tmp_path: Path) -> None:
    first, second, other = read(
        lines(tmp_path / "p.jsonl", {"prompt": "a", "tags": ["x"]}, {"prompt": "a"}, {"prompt": "a "})
    )
    assert first.id == second.id != other.id


def test_datasets_are_read_by_name_or_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    table = datasets.Dataset.from_dict({"text": ["a", "b"], "n": [1, 2]})
    table.save_to_disk(tmp_path / "one")
    datasets.DatasetDict({"train": table, "test": table.select([1])}).save_to_disk(tmp_path / "two")
    (tmp_path / "three").mkdir()
    lines(tmp_path / "three" / "train.jsonl", {"question": "c"})

    def load(**spec: Any) -> list[Prompt]:
        return list(read_prompts(PromptsSpec(**spec), tmp_path))

    assert load(dataset="one") == load(dataset="two") == [user("a"), user("b")]
    assert load(dataset="two", split="test") == [user("b")]
    assert load(dataset="three") == [user("c")]
    assert datasets.are_progress_bars_disabled() is False
    for spec, told in [
        ({"dataset": "two", "split": "tset"}, "two: no split 'tset'; splits there: train, test; did you mean 'test'?"),
        ({"dataset": "one", "split": "train"}, "one: one table without splits; leave `split` out"),
        (
            {"dataset": "one", "column": "txt"},
            "one: row 1: no column 'txt'; columns there: text, n; did you mean 'text'?",
        ),
    ]:
        with pytest.raises(BadInput) as caught:
            load(**spec)
        assert str(caught.value) == told


def test_a_dataset_that_cannot_be_loaded_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    (tmp_path / "empty").mkdir()
    for name in ("nobody/nothing-of-the-kind", "empty"):
        with pytest.raises(BadInput) as caught:
            list(read_prompts(PromptsSpec(dataset=name), tmp_path))
        (told,) = str(caught.value).splitlines()
        assert told.startswith(f"{name}: cannot be loaded (") and "check the name" in told


# what is refused


def test_a_spec_names_one_source() -> None:
    for spec in ({}, {"path": "a", "dataset": "b"}, {"path": "a", "split": "train"}, {"path": "a", "limit": 0}):
        with pytest.raises(ValidationError):
            PromptsSpec(**spec)
    assert PromptsSpec(dataset="a/b", config="c", split="d").source == "a/b/c[d]"


@pytest.mark.parametrize(
    ("record", "told"),
    [
        ({"prompt": ""}, "'prompt' is empty; write a text, or leave the record out"),
        ({"prompt": " \n\t\u3000"}, "'prompt' is only white space; write a text, or leave the record out"),
        ({"prompt": None}, "'prompt' is null; write a text, or a list of {role, content}"),
        ({"prompt": 7}, "'prompt' is a number; write a text, or a list of {role, content}"),
        ({"prompt": []}, "'prompt' is an empty list; write at least the user's turn"),
        ({"prompt": ["hi"]}, "turn 1 of 'prompt' is a text; write {role, content}"),
        ({"prompt": "a\ud83d"}, "'prompt' holds half a character (\\ud83d); write the whole pair, or none"),
        ({"prompt": "x" * (LONGEST_PROMPT + 1)},
         "the prompt has 1,000,001 characters; shorten it to 1,000,000 at most"),
        ({"promt": "a"}, "no 'prompt' here; columns there: promt; is 'promt' misspelt?"),
        ({"prompt": "a", "tags": 3}, "'tags' is a number; write a list of tags, or \"one, two\""),
        ({"prompt": "a", "tags": ["b", 3]}, "'tags' holds a number; write a list of tags, or \"one, two\""),
        ({"prompt": [{"from": "human", "value": "a"}]}, "turn 1 of 'prompt' has `from` and `value`; rename them to "
         "`role` (human is user, gpt is assistant) and `content`"),
        ({"prompt": [{"role": "human", "content": "a"}]},
         "turn 1 of 'prompt' has the role 'human'; choose from user, assistant, system"),
        ({"prompt": [{"role": "user", "contents": "a"}]},
         "turn 1 of 'prompt' has no 'content'; keys there: role, contents; is 'contents' misspelt?"),
        ({"prompt": [{"role": "user", "content": [{"type": "text"}]}]},
         "turn 1 of 'prompt' holds a list; write a text"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]},
         "'prompt' ends with a turn of the assistant; cut off what follows the user's last turn"),
        ({"prompt": [{"role": "user", "content": "a"}, {"role": "system", "content": "b"}]},
         "turn 2 of 'prompt' is a system message; move it to the front"),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b"}, 'begins with "\\n\\nHuman:" but does not end with '
         '"\\n\\nAssistant:"; cut the last answer off, or write a list of {role, content}'),
        ({"prompt": "\n\nHuman:\n\nAssistant:"}, "turn 1 (Human) is empty; write a text, or leave the record out"),
        ({"prompt": "\n\nHuman: a\n\nAssistant: b\n\nAssistant:"},
         "two of Assistant's turns stand at the end; end with Human's and one open Assistant's"),
    ],
)  # fmt: skip
def test_a_bad_record_is_told_with_its_line(tmp_path: Path, record: dict[str, Any], told: str) -> None:
    file = lines(tmp_path / "p.jsonl", {"prompt": "good"}, record)
    assert problems(file) == (f"{file}:2: {told}",)


def test_all_mistakes_are_told_at_once_and_the_rest_is_counted(tmp_path: Path) -> None:
    file = lines(tmp_path / "p.jsonl", {"prompt": "good"}, *[{"prompt": ""}] * 25, {"prompt": "good"})
    told = problems(file)
    assert len(told) == 21
    assert told[0].startswith(f"{file}:2: ") and told[19].startswith(f"{file}:21: ") and told[20] == "and 5 more"


def test_one_bad_line_does_not_hide_the_next(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    file.write_bytes(b'{"prompt": "half\n[1]\n{"prompt": "\xff"}\n' + b"[" * 100_000 + b'\n{"prompt": null}\n"text"\n')
    told = problems(file)
    assert [line.removeprefix(f"{file}:")[:2] for line in told] == ["1:", "2:", "3:", "4:", "5:", "6:"]
    assert told[0].endswith("not JSON (Unterminated string starting at column 12); write one object a line")
    assert told[1].endswith('a list, not an object; write {"prompt": "..."}, one a line')
    assert told[2].endswith("not UTF-8 (byte 0xff at byte 13); save the file as UTF-8")
    assert "JSON that cannot be read" in told[3]


def test_what_was_good_before_a_mistake_does_not_make_the_file_good(tmp_path: Path) -> None:
    given = []
    with pytest.raises(BadInput):
        for prompt in read_prompts(
            PromptsSpec(path=lines(tmp_path / "p.jsonl", {"prompt": "a"}, {}, {"prompt": "b"}).name), tmp_path
        ):
            given.append(prompt)
    assert given == [user("a")]


def test_a_line_of_ten_megabytes_is_told_without_being_held(tmp_path: Path) -> None:
    file = tmp_path / "p.jsonl"
    with file.open("wb") as stream:
        stream.write(b'{"prompt": "a"}\n{"prompt": "')
        for _ in range(64):
            stream.write(b"x" * (1 << 20))
        stream.write(b'"}\n{"prompt": ""}\n')
    tracemalloc.start()
    told = problems(file)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (
        told[0]
        == f"{file}:2: the line is longer than 8 MiB; a prompt is one question; keep other columns out of the file"
    )
    assert told[1].startswith(f"{file}:3: 'prompt' is empty")
    assert peak < 4 * LONGEST_LINE


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"prompt\na\n\"b\n" + b"more\n" * 10, ":3: not CSV (unexpected end of data); is a quote opened here"),
        (b"prompt,n\na\nb,1,2\n", ":2: 1 cells under 2 columns; quote a text that holds the delimiter"),
        (b"prompt,prompt\na,b\n", ":1: the column 'prompt' is there twice; rename one of them"),
        (b"promt,n\na,1\n", ":2: none of the columns prompt, messages, text, question, instruction; "
         "columns there: promt, n; is 'promt' misspelt? say which one holds the prompt (`column: ...`)"),
        (b'n,prompt\n1,"a\n\xff\nb"\n2,c\n3,\n', ":3: not UTF-8 (byte 0xff at byte 1)"),
        (b'prompt\n"' + b"x\n" * (5 << 20), ":2: not CSV (field larger than field limit"),
        (b"prompt\n", "p.csv: no prompts in it; write at least one"),
    ],
)  # fmt: skip
def test_a_bad_csv_is_told_with_its_line(tmp_path: Path, content: bytes, told: str) -> None:
    (tmp_path / "p.csv").write_bytes(content)
    assert told in problems(tmp_path / "p.csv")[0]


def test_a_csv_record_after_bad_utf8_keeps_its_line(tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_bytes(b'n,prompt\n1,"a\n\xff\nb"\n2,c\n3,\n')
    assert [line.split(": ")[0] for line in problems(tmp_path / "p.csv")] == [
        f"{tmp_path}/p.csv:3",
        f"{tmp_path}/p.csv:6",
    ]


def test_bad_parquet_is_told_with_its_row(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(
        4, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0\2\0\0\0\3\0\0\0"), pa.py_buffer(b"a\xff "), None, 0
    )
    file = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": bad}), file)
    assert problems(file) == (
        f"{file}: row 2: not UTF-8; write the column again, as text",
        f"{file}: row 3: 'prompt' is empty; write a text, or leave the record out",
        f"{file}: row 4: 'prompt' is only white space; write a text, or leave the record out",
    )
    pq.write_table(pa.table({"n": [1, 2]}), file)
    assert problems(file, column="n") == tuple(
        f"{file}: row {row}: 'n' is a number; write a text, or a list of {{role, content}}" for row in (1, 2)
    )
    assert problems(file)[0].startswith(f"{file}: row 1: none of the columns prompt, messages")
    file.write_bytes(b"no parquet at all")
    assert problems(file)[0].startswith(f"{file}: not a Parquet file (")


def test_a_parquet_file_damaged_in_the_middle_is_told(tmp_path: Path) -> None:
    file = tmp_path / "p.parquet"
    pq.write_table(pa.table({"prompt": [os.urandom(500).hex() for _ in range(400)]}), file, use_dictionary=False)
    content = bytearray(file.read_bytes())
    content[2000:200_000] = b"\xee" * 198_000
    file.write_bytes(content)
    assert "damaged from here on" in problems(file)[-1]


def test_a_torn_archive_is_told(tmp_path: Path) -> None:
    packed = gzip.compress(os.urandom(100_000).hex().encode())
    (tmp_path / "p.txt.gz").write_bytes(packed[: len(packed) // 2])
    (tmp_path / "q.txt.gz").write_bytes(b"no gzip")
    for name in ("p", "q"):
        assert "the archive is torn, or no gzip" in problems(tmp_path / f"{name}.txt.gz")[0]


def test_files_that_cannot_be_used_are_told_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "prompts.jsonl").write_text("", encoding="utf-8")
    (tmp_path / "prompts.json").write_text("[]", encoding="utf-8")
    (tmp_path / "folder").mkdir()
    assert problems(tmp_path / "prompts.jsonl") == ("prompts.jsonl: no prompts in it; write at least one",)
    assert problems(tmp_path / "prompt.jsonl") == (
        f"{tmp_path}/prompt.jsonl: no such file; did you mean 'prompts.jsonl'?",
    )
    assert "unknown kind of file; choose from .jsonl" in problems(tmp_path / "prompts.json")[0]
    assert "is a folder; give a file" in problems(tmp_path / "folder")[0]


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    def peak(count: int) -> int:
        file = tmp_path / f"{count}.jsonl"
        with file.open("w", encoding="utf-8") as stream:
            for number in range(count):
                stream.write(json.dumps({"prompt": f"{number} " + "x" * 200}) + "\n")
        tracemalloc.start()
        assert sum(1 for _ in read_prompts(PromptsSpec(path=file.name), tmp_path)) == count
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most

    assert peak(20_000) < 1.5 * peak(1_000) + 100_000


def test_a_tag_that_no_data_file_can_hold_is_refused_where_it_stands(tmp_path: Path) -> None:
    """Half a character would pass every step and end the export, after everything was paid."""
    (tmp_path / "p.jsonl").write_text('{"prompt": "Hello", "tags": ["\\ud800"]}\n')
    with pytest.raises(BadInput, match=r"p\.jsonl:1: 'tags' holds half a character"):
        list(read_prompts(PromptsSpec(path="p.jsonl"), tmp_path))
