import pytest
import torch

from mm_ovseg.errors import DataError
from mm_ovseg.modeling.modality import BOTH, RGB_ALONE, SAR_ALONE, answer_masks, has_data, replace_where

IMAGE = torch.zeros(3, 2, 2)
EVERYWHERE, NOWHERE = torch.ones(2, 2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
TOP, LEFT = torch.tensor([[True, True], [False, False]]), torch.tensor([[True, False], [True, False]])


@pytest.mark.parametrize("masks,expected", [
    ({}, {BOTH: EVERYWHERE}),
    ({"image_valid": EVERYWHERE, "sar_valid": EVERYWHERE}, {BOTH: EVERYWHERE}),
    ({"sar_image": None}, {RGB_ALONE: EVERYWHERE}),
    ({"sar_valid": NOWHERE}, {RGB_ALONE: EVERYWHERE}),
    ({"image_valid": NOWHERE}, {SAR_ALONE: EVERYWHERE}),
    ({"image_valid": TOP}, {SAR_ALONE: ~TOP, BOTH: TOP}),
    ({"image_valid": TOP, "sar_valid": TOP}, {BOTH: TOP}),
    ({"image_valid": TOP, "sar_valid": ~TOP}, {RGB_ALONE: TOP, SAR_ALONE: ~TOP}),
    ({"image_valid": TOP, "sar_valid": LEFT}, {RGB_ALONE: TOP & ~LEFT, SAR_ALONE: LEFT & ~TOP, BOTH: TOP & LEFT}),
    ({"image_valid": NOWHERE, "sar_valid": NOWHERE}, {RGB_ALONE: NOWHERE}),
    ({"image_valid": NOWHERE, "sar_image": None}, {RGB_ALONE: NOWHERE}),
])  # fmt: skip
def test_each_pixel_is_answered_by_what_is_there(masks, expected):
    found = answer_masks({"image": IMAGE, "sar_image": IMAGE, **masks})
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[answer], expected[answer]) for answer in expected)


def test_a_mask_of_another_size_is_an_error():
    with pytest.raises(DataError, match=r"'sar_valid' of a\.png has shape \(3, 2\); it must be \(2, 2\)"):
        answer_masks({"file_name": "a.png", "image": IMAGE, "sar_valid": torch.ones(3, 2, dtype=torch.bool)})


def test_scores_are_replaced_by_the_nearest_pixel_of_the_mask():
    new, old = torch.ones(1, 4, 2), torch.zeros(1, 4, 2)
    assert torch.equal(replace_where(TOP, new, old)[0], torch.tensor([[1.0, 1], [1, 1], [0, 0], [0, 0]]))


def test_an_image_is_missing_where_its_mask_is_false_everywhere():
    assert has_data([{}, {"sar_valid": None}, {"sar_valid": TOP}, {"sar_valid": NOWHERE}], "sar_valid") == [
        *[True] * 3,
        False,
    ]
