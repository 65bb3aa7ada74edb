"""The YAML reader: what it reads, what it refuses, and in which words."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from solon import yamls
from solon.errors import BadInput


def refusal(text: str) -> tuple[str, ...]:
    """What people are told about a file c.yaml that holds `text`."""
    with pytest.raises(BadInput) as caught:
        assert yamls.parse(text, "c.yaml").value is None
    return caught.value.problems


@pytest.fixture(params=["libyaml", "pure"])
def parser(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both parsers of PyYAML: not every machine has libyaml."""
    if request.param == "pure":
        monkeypatch.setattr(yamls, "_LOADER", yaml.SafeLoader)
    return str(request.param)


# ---- values --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("yes", "yes"),
        ("on", "on"),
        ("Off", "Off"),
        ("y", "y"),
        ("", None),
        ("~", None),
        ("null", None),
        ("12", 12),
        ("-7", -7),
        ("+7", 7),
        ("007", 7),
        ("0o17", 15),
        ("0xff", 255),
        ("1e-5", 1e-5),
        ("1.5", 1.5),
        (".5", 0.5),
        ("3.", 3.0),
        (".inf", math.inf),
        ("-.INF", -math.inf),
        ("1_000", "1_000"),
        ("12:30", "12:30"),
        ("2022-12-15", "2022-12-15"),
        ("1.2.3", "1.2.3"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("!!str 12", "12"),
        ("[a, 2, true]", ["a", 2, True]),
        ("{a: {b: c}}", {"a": {"b": "c"}}),
        ("|\n  one\n  two\n", "one\ntwo\n"),
        (">-\n  one\n  two\n", "one two"),
    ],
)
def test_a_value_is_what_yaml_1_2_says(parser: str, written: str, value: Any) -> None:
    read = yamls.parse(f"key: {written}\n", "c.yaml").value["key"]
    assert (read, type(read)) == (value, type(value))


def test_nan_is_a_number() -> None:
    assert math.isnan(yamls.parse("key: .nan\n", "c.yaml").value["key"])


def test_keys_are_text_whatever_they_look_like(parser: str) -> None:
    assert yamls.parse("1: a\nno: b\ntrue: c\nnull: d\n", "c.yaml").value == {
        "1": "a",
        "no": "b",
        "true": "c",
        "null": "d",
    }


def test_an_alias_stands_for_what_it_names(parser: str) -> None:
    text = "words: &words [a, b]\nagain: *words\nname: &n x\nname2: *n\n"
    assert yamls.parse(text, "c.yaml").value == {
        "words": ["a", "b"],
        "again": ["a", "b"],
        "name": "x",
        "name2": "x",
    }


def test_lines_are_those_of_the_keys() -> None:
    document = yamls.parse("# first\nname: x\nlist:\n  - id: a\n    text: >-\n      b\n  - id: c\n", "c.yaml")
    assert document.line(()) == 2
    assert document.line(("name",)) == 2
    assert document.line(("list",)) == 3
    assert document.line(("list", 0)) == 4
    assert document.line(("list", 0, "text")) == 5
    assert document.line(("list", 1, "id")) == 7


def test_the_line_of_what_is_not_there_is_that_of_what_surrounds_it() -> None:
    document = yamls.parse("name: x\nlist:\n  - id: a\n  - id: c\n", "c.yaml")
    assert document.line(("list", 1, "weight")) == 4
    assert document.line(("list", 9, "id")) == 2
    assert document.line(("nowhere", "at", 3)) == 1
    assert document.problem(("list", 1, "id"), "is wrong") == "c.yaml:4: is wrong"


# ---- files that are no YAML ----------------------------------------------------------------------------------------

BROKEN = [
    ("", 1, "the file is empty"),
    (" \n\n", 1, "the file is empty"),
    ("# words\n\n", 1, "the file holds only comments"),
    ("- a\n", 1, "found a list"),
    ("\njust words\n", 2, "found the text 'just words'"),
    ("a: 1\n\tb: 2\n", 2, "a tab indents this line"),
    ("a:\n\tb: 2\n", 2, "a tab indents this line"),
    ("a: 1\nb: c: d\n", 2, "put a text that holds ': ' in quotes"),
    ("a:1\nb: 2\n", 2, "'key: value' with a blank after the ':'"),
    ("a: 'b\nc: d\n", 1, "the quote that opens here is never closed"),
    ('a: 1\nb: "c\nd: e\n', 2, "the quote that opens here is never closed"),
    ("a: 1\nb: [c, d\ne: f\n", 2, "the '[' that opens here is not closed"),
    ("a: {b: 1\n", 1, "the '{' that opens here is not closed"),
    ("a:\n  b: 1\n c: 2\n", 3, "the indentation of this line fits nothing above it"),
    ("a:\n  - b\n  c: 2\n", 3, "the indentation of this line fits nothing above it"),
    ("a: @b\n", 1, "a text cannot begin with '@'; put it in quotes"),
    ("a: `b`\n", 1, "a text cannot begin with '`'; put it in quotes"),
    ("a: %b\n", 1, "a text cannot begin with '%'; put it in quotes"),
    ("a: *b\n", 1, "a text that begins with '*' needs quotes"),
    ("a: &b [*b]\n", 1, "'*b' refers to itself"),
    ("a: 1\n---\nb: 2\n", 2, "a second document begins here"),
    ("a: 1\nb: \x07\n", 2, "control character U+0007"),
    ("a: \x00\n", 1, "control character U+0000"),
    ("a: \ud800\n", 1, "control character U+D800"),
    ('a: "\\q"\n', 1, "a backslash in double quotes must be doubled"),
    ("a: ]\n", 1, "not YAML: "),
    ("a: " + "[" * 200_000, 1, "nested more than 50 deep"),
    ("- " * 100_000, 1, "nested more than 50 deep"),
]


@pytest.mark.parametrize(("text", "line", "told"), BROKEN, ids=[repr(text[:24]) for text, _, _ in BROKEN])
def test_what_is_no_yaml_is_told_in_one_line_with_its_place(parser: str, text: str, line: int, told: str) -> None:
    (problem,) = refusal(text)
    assert problem.startswith(f"c.yaml:{line}: ")
    assert told in problem
    assert "\n" not in problem


def test_few_aliases_cannot_grow_into_millions_of_values() -> None:
    doubling = "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    (problem,) = refusal("a0: &a0 [x, x]\n" + doubling)
    assert "more than 200,000 values, each alias ('*name') counted as what it stands for" in problem


def test_every_fault_of_the_file_itself_is_told_at_once(parser: str) -> None:
    text = (
        "name: x\n"
        "seed: !!python/name:os.system 1\n"
        "name: y\n"
        "? [a]\n"
        ": b\n"
        "<<: {c: d}\n"
        "when: !date 2022-12-15\n"
        f"long: {'1' * 5000}\n"
    )
    assert refusal(text) == (
        "c.yaml:2: tag '!!python/name:os.system' is not read here; remove it",
        "c.yaml:3: key 'name' is given twice (first on line 1); keep one",
        "c.yaml:4: a key must be one word or text, not a list or a mapping",
        "c.yaml:6: merge keys ('<<') are not read here; write the keys out",
        "c.yaml:7: tag '!date' is not read here; remove it",
        "c.yaml:8: a number of 5,000 digits; put it in quotes if it is a text",
    )


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}#&*!|>'\"%@`, \n\t?1.e~<\\"), max_size=60))
def test_any_text_is_a_document_or_bad_input(text: str) -> None:
    """Nothing that a file can hold lets another error through."""
    try:
        document = yamls.parse(text, "c.yaml")
    except BadInput as error:
        assert all(problem.startswith("c.yaml:") for problem in error.problems)
    else:
        assert isinstance(document.tree, dict)


# ---- files that cannot be read -------------------------------------------------------------------------------------


def read_refusal(path: Path) -> str:
    with pytest.raises(BadInput) as caught:
        yamls.read(path)
    (problem,) = caught.value.problems
    return problem


def test_a_file_is_read_with_or_without_a_byte_order_mark(tmp_path: Path) -> None:
    for mark in (b"", b"\xef\xbb\xbf"):
        (tmp_path / "c.yaml").write_bytes(mark + "name: Søren\r\nseed: 1\r\n".encode())
        assert yamls.read(tmp_path / "c.yaml").value == {"name": "Søren", "seed": 1}


def test_a_missing_file_is_told_with_its_nearest_neighbour(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("a: 1\n")
    path = tmp_path / "recipy.yaml"
    assert read_refusal(path) == f"{path}: no such file; did you mean {tmp_path / 'recipe.yaml'}?"


def test_a_missing_file_without_neighbours_is_just_missing(tmp_path: Path) -> None:
    assert read_refusal(tmp_path / "c.yaml") == f"{tmp_path / 'c.yaml'}: no such file"
    assert "the folder" in read_refusal(tmp_path / "nowhere" / "c.yaml")


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    assert read_refusal(tmp_path) == f"{tmp_path}: is a folder; name the YAML file in it"


def test_a_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "c.yaml")
    assert read_refusal(tmp_path / "c.yaml") == f"{tmp_path / 'c.yaml'}: is a pipe; save what it brings as a file"


@pytest.mark.parametrize("sign", ["\x85", "\u2028", "\u2029"])
def test_a_line_end_that_no_editor_shows_is_told_where_it_stands(sign: str) -> None:
    written = f"a: 1\nb: Be{sign} kind.\nc: 2\n"
    assert refusal(written) == (f"c.yaml:2: control character U+{ord(sign):04X} in the text; remove it",)
    assert yamls.parse('a: "x\\N\\L\\P"\n', "c.yaml").value == {"a": "x\x85\u2028\u2029"}, "an escape may stand"


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_text("a: 1\n")
    path.chmod(0)
    try:
        path.read_text()
    except PermissionError:
        assert read_refusal(path) == f"{path}: may not be read; check its permissions"
    else:
        pytest.skip("this user may read everything")


def test_a_path_that_no_file_can_have_is_bad_input(tmp_path: Path) -> None:
    assert "cannot be read: " in read_refusal(tmp_path / ("x" * 5000))
    assert "cannot be read: " in read_refusal(tmp_path / "a\0b")
    (tmp_path / "file").write_text("a: 1\n")
    assert "cannot be read: Not a directory" in read_refusal(tmp_path / "file" / "c.yaml")


def test_bytes_that_are_not_utf_8_are_told_with_their_line(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"name: x\ntext: caf\xe9\n")
    assert read_refusal(path) == f"{path}:2: byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_a_line_of_ten_megabytes_is_refused_and_one_of_five_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.yaml"
    path.write_bytes(b"text: " + b"x" * 10_000_000)
    assert read_refusal(path) == f"{path}: larger than 10 MB; a file of this kind holds a few pages"
    path.write_bytes(b"text: " + b"x" * 5_000_000)
    assert len(yamls.read(path).value["text"]) == 5_000_000


# ---- writing -------------------------------------------------------------------------------------------------------

TEXTS = st.text(max_size=30) | st.sampled_from(
    ["no", "1e5", "0o17", "007", ".5", "~", "a: b", "x\n  y\n", "x\u2028y\n", "- a", "1e5\n"]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(st.dictionaries(TEXTS, VALUES, min_size=1, max_size=4))
def test_what_is_dumped_reads_back_the_same(value: dict[str, Any]) -> None:
    assert yamls.parse(yamls.dump(value), "c.yaml").value == value


def test_long_texts_are_dumped_as_blocks_and_keys_in_their_order() -> None:
    shared = ["x"]
    assert yamls.dump({"b": "one\ntwo\n", "a": shared, "c": shared}) == "b: |\n  one\n  two\na:\n- x\nc:\n- x\n"


def test_reading_needs_no_pydantic() -> None:
    script = "import sys, solon.yamls as y; y.parse('a: 1', 'c'); print('pydantic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
