import pytest

from mm_ovseg.plain_data import parse_json, parse_table, parse_yaml

BOMB = "a: &a [1, 2, 3, 4, 5, 6, 7, 8, 9]\n" + "".join(
    f"{key}: &{key} [{', '.join(['*' + before] * 9)}]\n" for before, key in zip("abcdefghi", "bcdefghij", strict=True)
)


def test_plain_values():
    content = {"a": [1, 2.5, "é", None, True], "b": {"c": []}}
    assert parse_yaml("a: [1, 2.5, é, null, true]\nb: {c: []}") == content
    assert parse_json('{"a": [1, 2.5, "é", null, true], "b": {"c": []}}') == content
    assert parse_yaml("") is None


def test_aliases_and_merged_keys():
    assert parse_yaml("a: &a {x: 1}\nb: {<<: *a, y: *a}") == {"a": {"x": 1}, "b": {"x": 1, "y": {"x": 1}}}


def test_truth_values_and_whole_numbers_are_those_of_yaml_1_2():
    text = "[yes, no, on, off, y, true, False, 010, -7, +7, 1_000, 12:30, 0x10, 0b1, 1.5, 1e3, null, ~]"
    plain = [
        "yes",
        "no",
        "on",
        "off",
        "y",
        True,
        False,
        10,
        -7,
        7,
        "1_000",
        "12:30",
        "0x10",
        "0b1",
        1.5,
        "1e3",
        None,
        None,
    ]
    assert parse_yaml(text) == plain


def test_keys_that_are_merged_in_may_be_there_again():
    text = "a: &a {x: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}"
    assert parse_yaml(text) == {"a": {"x": 1}, "b": {"x": 2}, "c": {"x": 3}}


def test_a_table_of_texts_takes_aliases_of_texts_only():
    assert parse_table("a: &x city\nb: *x") == {"a": "city", "b": "city"}
    with pytest.raises(ValueError, match="a single text belongs there"):
        parse_table("a: &x {b: c}\nd: *x")


@pytest.mark.parametrize(
    "text", [BOMB, "[" * 5000, "{" * 5000, '{"a":' * 5000, "a\0: b", "a: b\n---\nc: d", "a" * 10_000_001]
)
def test_hostile_tables(text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_table(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (BOMB, "aliases stand for more than"),
        ("&a [*a]", "aliases stand for more than"),
        ("[" * 5000, "nested too deeply"),
        ("1" * 5000, "integer string conversion"),
        ("when: 2001-99-99", "month must be in"),
        ("!!int ''", "IndexError"),
        ("!!timestamp x", "AttributeError"),
        ("!!python/object/apply:os.system ['touch pwned']", "could not determine a constructor"),
        ("a: [1", "expected ',' or ']'"),
        ("a: 1\nb: 2\na: 3", "keys 'a' and 'a' are the same"),
        ("a: {10: 1, 010: 2}", "keys '10' and '010' are the same"),
        ("a: {1: 1, 1.0: 2}", "keys '1' and '1.0' are the same"),
        ("a\0", "special characters are not allowed"),
        ("a" * 10_000_001, "it has 10000001 characters"),
    ],
)
def test_hostile_yaml(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a": ' * 100_000, "1" * 5000, "{", "", "[" + "1," * 5_000_000, '[{"a": 1, "a": 2}]']
)
def test_hostile_json(text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
