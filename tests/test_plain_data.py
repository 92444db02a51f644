import pytest

from mm_ovseg.plain_data import parse_json, parse_yaml

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
        ("a\0", "special characters are not allowed"),
        ("a" * 10_000_001, "it has 10000001 characters"),
    ],
)
def test_hostile_yaml(text, reason):
    with pytest.raises(ValueError, match=reason) as caught:
        parse_yaml(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a": ' * 100_000, "1" * 5000, "{", "", "[" + "1," * 5_000_000])
def test_hostile_json(text):
    with pytest.raises(ValueError, match=r".") as caught:
        parse_json(text)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 1000
