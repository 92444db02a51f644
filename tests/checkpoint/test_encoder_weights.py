import pytest
import torch

from mm_ovseg.checkpoint.encoder_weights import read_encoder_file, read_student_file
from mm_ovseg.errors import CheckpointError


def stage_1_file(tmp_path, tower, average):
    names = [f"teacher.{tower}.norm.weight", f"student.{tower}.norm.weight", "log_scale"]
    if average:
        names += ["student_average.n_averaged", f"student_average.module.{tower}.norm.weight"]
    path = tmp_path / "stage_1.pth"
    torch.save({"model": {name: torch.tensor([float(index)]) for index, name in enumerate(names)}}, path)
    return path


@pytest.mark.parametrize("tower", ["model", "visual"])
@pytest.mark.parametrize("average,expected", [(False, 1.0), (True, 4.0)])
def test_the_student_of_stage_1_is_taken_or_its_moving_average_where_there_is_one(tmp_path, tower, average, expected):
    path = stage_1_file(tmp_path, tower, average)
    for read in (read_encoder_file, read_student_file):
        assert read(path) == {"norm.weight": torch.tensor([expected])}


def test_other_files_have_no_student(tmp_path):
    torch.save({"norm.weight": torch.zeros(1)}, tmp_path / "encoder.pth")
    assert read_student_file(tmp_path / "encoder.pth") is None
    torch.save({"model": {"norm.weight": "words"}}, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=r"odd\.pth: 'model' of the checkpoint holds values that are not tensors"):
        read_student_file(tmp_path / "odd.pth")
