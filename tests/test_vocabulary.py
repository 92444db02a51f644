import pytest

from mm_ovseg.errors import VocabularyError
from mm_ovseg.vocabulary import parse_class_names, seen_classes, select_unseen, validate_class_names


def test_commas_part_classes():
    assert parse_class_names("water, road ,burnt  forest") == ("water", "road", "burnt forest")


def test_semicolons_part_classes_and_commas_synonyms():
    assert parse_class_names("water,river, lake; road") == ("water, river, lake", "road")


@pytest.mark.parametrize("text", ["", "   ", ","])
def test_no_class_is_an_error(text):
    with pytest.raises(VocabularyError, match="empty"):
        parse_class_names(text)


def test_an_empty_name_between_commas_is_an_error():
    with pytest.raises(VocabularyError, match="empty"):
        parse_class_names("water,,road")


def test_a_repeated_name_is_named_whatever_its_case():
    with pytest.raises(VocabularyError, match="Water"):
        parse_class_names("water,road,Water")


def test_a_text_is_not_a_list_of_names():
    with pytest.raises(VocabularyError, match="list"):
        validate_class_names("water")


def test_unseen_names_take_the_spelling_and_order_of_the_classes():
    assert select_unseen(("Water", "city", "Road"), ("road", "water")) == ("Water", "Road")


def test_a_name_of_commas_only_is_no_name():
    with pytest.raises(VocabularyError, match="empty"):
        validate_class_names([" , "])


def test_a_trailing_semicolon_makes_synonyms_of_one_class():
    assert parse_class_names("water,river;") == ("water, river",)
    assert parse_class_names("water,river", ";") == ("water, river",)


def test_letters_that_unicode_writes_in_two_ways_are_the_same():
    with pytest.raises(VocabularyError, match="more than once"):
        validate_class_names(["for\u00eat", "fore\u0302t"])


def test_an_unseen_name_that_is_no_class_is_named():
    with pytest.raises(VocabularyError, match="lava"):
        select_unseen(("water",), ("lava",))


@pytest.mark.parametrize("names", [None, 3, "water", {"water"}])
def test_unseen_names_must_be_a_list(names):
    with pytest.raises(VocabularyError, match="must be a list"):
        select_unseen(("water",), names)


@pytest.mark.parametrize("check", [validate_class_names, lambda names: select_unseen(("water",), names)])
def test_a_name_that_is_no_text_is_named(check):
    with pytest.raises(VocabularyError, match="False is not a string"):
        check(["water", False])


def test_seen_classes_are_the_others_in_their_order():
    assert seen_classes(["road", "city", "water", "forest"], ("water", "road")) == ("city", "forest")
    assert seen_classes((), ()) == ()


def test_names_typed_in_utf_8_where_the_locale_is_another():
    typed = "道路,Wälder".encode().decode("ascii", "surrogateescape")  # as Python makes sys.argv of it
    assert parse_class_names(typed) == ("道路", "Wälder")
    with pytest.raises(VocabularyError, match="contains a control character"):
        parse_class_names("W\udce4lder,road")  # cp1252
