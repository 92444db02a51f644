import functools

import numpy as np
import pytest
from PIL import Image

from laptop.drawn_world import write_synthetic_dataset
from tests.conftest import ROOT, run_cli, run_cli_process


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    write_synthetic_dataset(folder / "synthetic", num_train=3, num_val=1, size=64)
    return folder


@pytest.fixture
def run_here(datasets, monkeypatch, forget_datasets):
    """A function that runs the command in this process, in the folder of the datasets."""
    monkeypatch.setenv("DETECTRON2_DATASETS", str(datasets))
    monkeypatch.chdir(datasets)
    return functools.partial(run_cli, "dataset preview")


def test_a_registered_dataset(datasets):
    words = ["synthetic_train", "--num", "2", "--dataset-file", ROOT / "projects/laptop/datasets.yaml"]
    done = run_cli_process("dataset preview", *words, cwd=datasets, env={"DETECTRON2_DATASETS": str(datasets)})
    assert done.returncode == 0, done.stderr
    assert "2 of the 3 samples of synthetic_train" in done.stdout
    picture = np.array(Image.open(datasets / "synthetic_train_preview.png").convert("RGB"))
    height, width = picture.shape[:2]
    assert 0.6 < height / width < 0.85  # two rows of three square panels
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize("classes", ["", ", classes: [city, road]"])
def test_a_dataset_declared_in_yaml_without_labels(run_here, tmp_path, classes):
    declaration = f"{{root: synthetic/val, rgb: rgb, sar: sar{classes}}}"
    (tmp_path / "mine.yaml").write_text(f"datasets:\n  mine: {declaration}\n")
    output = tmp_path / "sheets" / "mine.pdf"
    run_here("mine", "--dataset-file", str(tmp_path / "mine.yaml"), "--output", str(output))
    assert output.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["synthetic_val", "--opts", "INPUT.SAR.BANDS", "[2]"], ["00000.png", "INPUT.SAR.BANDS"]),  # as the config says
        (["synthetic_val", "--num", "0"], ["--num"]),
        (["pie_cloud_val"], ["pie_cloud_val", "DETECTRON2_DATASETS"]),
        (["nowhere"], ["'nowhere'", "ddhr_sk_val", "pie_cloud_train"]),  # the registered datasets
        (["synthetic_val", "--output", "picture.bmp"], ["picture.bmp"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(run_here, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        run_here("--dataset-file", str(ROOT / "projects/laptop/datasets.yaml"), *arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert all(word in message for word in words)
