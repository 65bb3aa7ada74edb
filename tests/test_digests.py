"""The canonical form is a contract: what these digests pin names every call that anybody ever paid for."""

from __future__ import annotations

import hashlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from solon.digests import canonical, tagged, uniform

TEXT = st.text(st.characters())  # half characters (lone surrogates) too
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def test_keys_are_sorted_nothing_is_escaped_and_no_blank_is_written() -> None:
    assert canonical({"b": 1.0, "a": "é", "c": [1, None, True]}) == '{"a":"é","b":1.0,"c":[1,null,true]}'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ('😀  \x00\n"\\/', '"😀  \\u0000\\n\\"\\\\/"'),
        (1e-7, "1e-07"),
        (0.1, "0.1"),
        (1e22, "1e+22"),
        (2**70, "1180591620717411303424"),
        ({}, "{}"),
        ({"é": 1, "z": 2, "Z": 3}, '{"Z":3,"z":2,"é":1}'),
    ],
)
def test_the_canonical_form_of_odd_values_is_pinned(value: object, text: str) -> None:
    assert canonical(value) == text


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), {"deep": [float("nan")]}])
def test_what_is_no_number_has_no_canonical_form(value: object) -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical(value)


def test_what_json_cannot_say_has_no_canonical_form() -> None:
    with pytest.raises(TypeError):
        canonical({"a": {1, 2}})


def test_a_tagged_hash_is_the_sha256_of_tag_and_value() -> None:
    # printf '%s' '["solon.test/1",{"a":"é","b":1.0}]' | sha256sum
    digest = "b9267efaf5b32c728aa6b9f291cad73598148427a5bbb5f7e4c42fdf4a977304"
    assert tagged("solon.test/1", {"b": 1.0, "a": "é"}) == digest
    assert hashlib.sha256('["solon.test/1",{"a":"é","b":1.0}]'.encode()).hexdigest() == digest


def test_equal_content_under_two_tags_has_two_names() -> None:
    assert tagged("solon.call/1", "x") != tagged("solon.prompt/1", "x")
    # the tag cannot be mistaken for the content: ["a", "b"] as a whole is named
    assert tagged("a", ["b"]) != tagged("a", "b")


def test_half_a_character_has_a_name_of_its_own() -> None:
    names = {tagged("t", text) for text in ("\ud83d", "\ude00", "\ud83d\ude00", "😀", "�", "")}
    assert len(names) == 6


@given(JSON)
def test_a_value_that_went_through_json_keeps_its_name(value: object) -> None:
    assert tagged("t", json.loads(canonical(value))) == tagged("t", value)
    assert tagged("t", json.loads(json.dumps(value))) == tagged("t", value)


@given(st.dictionaries(TEXT, JSON, max_size=5))
def test_the_order_in_which_keys_were_given_does_not_matter(value: dict[str, object]) -> None:
    assert canonical(dict(reversed(value.items()))) == canonical(value)


def test_uniform_is_pinned() -> None:
    assert uniform("solon.draw/1", 7, "row", "step", "p") == 0.21537980007209956


@given(st.lists(TEXT | st.integers(), max_size=4))
def test_uniform_lies_between_0_and_1_and_is_neither(parts: list[str | int]) -> None:
    assert 0.0 < uniform(*parts) < 1.0


def test_uniform_fills_its_range_evenly() -> None:
    numbers = [uniform("even", index) for index in range(2000)]
    tenths = [sum(low / 10 <= number < (low + 1) / 10 for number in numbers) for low in range(10)]
    assert all(140 < count < 260 for count in tenths), tenths  # 200 expected, 13.4 its standard deviation
    assert uniform("a", "b") != uniform("ab")
