"""One small model, exported once each way through the command line, and all that is asked of the files."""

import json
import re
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open

from mm_ovseg.decision import Decision
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ExportError
from mm_ovseg.export import SegmentationGraph, check_agreement, exported_file, write_export
from mm_ovseg.inference import Predictor
from tests.conftest import ROOT, random_pair, run_cli

CONFIG = "configs/quickstart/demo.yaml"
CLASSES = ("city", "road", "forest", "water", "farmland")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A working folder like the repository, for the documentation's relative paths."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("configs", "demo", "datasets"):
        (folder / name).symlink_to(ROOT / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder


@pytest.fixture(scope="module")
def predictor(project):
    """The shipped model, in PyTorch."""
    return Predictor(load_config(CONFIG, ["MODEL.DEVICE", "cpu"]), CLASSES)


@pytest.fixture(scope="module")
def document():
    return (ROOT / "docs" / "EXPORT.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def exported(project, document):
    """What the documentation's command prints and leaves in output/export."""
    pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    command = re.search(r"^mm-ovseg (export .*?)\n```", document, flags=re.DOTALL | re.MULTILINE)[1]
    words = [word.strip('"') for word in re.findall(r'"[^"]*"|[^\s\\]+', command)]
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda *texts, **_: printed.append(" ".join(map(str, texts))))
        run_cli(*words)
    return "\n".join(printed)


def test_the_example_of_the_documentation_gives_the_map_of_pytorch(exported, document, predictor, project):
    example, example_of_none = re.findall(r"```python\n(.*?)```", document, flags=re.DOTALL)[:2]
    names = {}
    exec(compile(example, "EXPORT.md", "exec"), names)
    pair = "demo/assets/pair/val"
    expected = predictor(f"{pair}/rgb/00000.tif", f"{pair}/sar/00000.tif", with_scores=True)
    assert names["scores"].shape == (1, 5, 192, 192) and len(np.unique(expected.class_map)) > 2
    np.testing.assert_allclose(names["scores"][0], expected.scores, atol=1e-4)
    assert (names["class_map"] == expected.class_map).mean() > 0.999
    exec(compile(example_of_none, "EXPORT.md", "exec"), names)
    decision = Decision(CLASSES[:3], background=CLASSES[3:], min_score=0.3)
    of_pytorch = decision(torch.from_numpy(names["scores"][0]))[0].numpy()
    np.testing.assert_array_equal(names["class_map"], of_pytorch)
    assert {0, 254} < set(np.unique(of_pytorch))
    assert ((of_pytorch == 254) & (expected.confidence < 0.3)).any()
    assert ((of_pytorch == 254) & (expected.confidence > 0.3)).any()


def test_the_command_reports_the_difference_from_pytorch(exported, project):
    made = {path.name for path in (project / "output" / "export").iterdir()}
    assert made == {"model.onnx", "classes.npy"}
    differences = [float(number) for number in re.findall(r"\((\S+) relative\)", exported)]
    assert len(differences) == 2 and all(0 < difference < 1e-4 for difference in differences)
    assert "2 x 35 x 69 pixels, 20 classes" in exported and "3 x 5 x 64" in exported


def test_every_axis_but_the_channels_is_open_and_the_file_says_what_it_is(exported, project):
    import onnxruntime

    session = onnxruntime.InferenceSession(project / "output" / "export" / "model.onnx")
    assert {tensor.name: tensor.shape for tensor in session.get_inputs()} == {
        "image": ["batch", 3, "height", "width"],
        "sar_image": ["batch", 3, "height", "width"],
        "text_embeddings": [3, "classes", 64],
    }
    assert [tensor.name for tensor in session.get_outputs()] == ["scores", "logits"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert metadata["config"] == "demo.yaml" and metadata["weights"] == "quickstart://"
    assert len(json.loads(metadata["templates"])) == 3 and metadata["sar_scale"] == "8bit"


def test_a_program_of_pytorch_without_sar_for_a_limited_vocabulary(predictor, project, capsys):
    names = project / "names.safetensors"
    arguments = ["--config-file", CONFIG, "--output", "rgb.pt2", "--without-sar"]
    arguments += ["--classes", "wood; lake, river", "--text-output", str(names)]
    run_cli("export", *arguments, "--opts", "MODEL.AGGREGATOR.MAX_CLASSES", "8", "MODEL.CALIBRATION", "not read.json")
    assert "8 classes: maximum difference" in capsys.readouterr().out
    with safe_open(names, "pt") as file:
        text = file.get_tensor("text_embeddings")
        assert json.loads(file.metadata()["classes"]) == ["wood", "lake, river"]
        assert len(json.loads(file.metadata()["templates"])) == len(text) == 3
    metadata = {"config": ""}
    loaded = torch.export.load(project / "rgb.pt2", extra_files=metadata)
    assert metadata["config"] == "demo.yaml"
    assert not any("model.text." in name for name in loaded.state_dict)
    program = loaded.module()
    image = random_pair()["image"]
    scores, _ = program(image[None], None, text)
    predictor.set_vocabulary(["wood", "lake, river"])
    [output] = predictor.model([{"image": image, "sar_image": None}])
    predictor.set_vocabulary(CLASSES)
    torch.testing.assert_close(scores[0], output["sem_seg"], rtol=0, atol=1e-5)
    with pytest.raises(AssertionError):
        program(image[None], None, torch.ones(3, 9, 64))


@pytest.mark.parametrize("with_sar", [True, False])
def test_the_graph_is_the_model(predictor, with_sar):
    pairs = [random_pair(seed=seed) for seed in (0, 1)]
    items = [{"image": pair["image"], "sar_image": pair["sar_image"] if with_sar else None} for pair in pairs]
    image, sar_image = (torch.stack([pair[key] for pair in pairs]) for key in ("image", "sar_image"))
    with torch.no_grad():
        text = predictor.model.text(CLASSES)
        scores, logits = SegmentationGraph(predictor.model)(image, sar_image if with_sar else None, text)
    assert logits.shape == (2, 5, 64, 64)
    torch.testing.assert_close(scores, torch.stack([output["sem_seg"] for output in predictor.model(items)]))


@pytest.mark.parametrize("wrong", [1.001, float("nan")])
def test_a_file_that_computes_something_else_is_refused(predictor, wrong):
    graph = SegmentationGraph(predictor.model)

    def run(inputs):
        with torch.no_grad():
            scores, logits = graph(**inputs)
        return scores, logits * wrong

    with pytest.raises(ExportError, match="gives different results than PyTorch"):
        check_agreement(graph, run)
    assert all(agreement.relative == 0 for agreement in check_agreement(graph, lambda inputs: graph(**inputs)))


class Stub(torch.nn.Module):
    """Stands for a model whose graph takes no time."""

    input_names = ("image", "sar_image", "text_embeddings")

    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.full((3, 1, 1), 2.0))

    def forward(self, image, sar_image, text_embeddings):
        return image * self.scale + sar_image, text_embeddings * 3


@pytest.fixture
def stub(monkeypatch):
    """A graph that export_program makes at once."""
    inputs = (torch.ones(2, 3, 4, 5), torch.ones(2, 3, 4, 5), torch.ones(1, 6, 7))
    program = torch.export.export(Stub(), inputs)
    monkeypatch.setattr(exported_file, "export_program", lambda _graph: program)
    return Stub()


@pytest.mark.parametrize("suffix", exported_file.EXPORT_SUFFIXES)
def test_of_a_refused_file_nothing_is_left(stub, monkeypatch, tmp_path, suffix):
    if suffix == ".onnx":
        pytest.importorskip("onnxruntime")
        pytest.importorskip("onnxscript")

    def refuse(_graph, run):
        assert len(list(tmp_path.iterdir())) == 2  # what was there, and the folder that is being written
        raise ExportError("It differs.")

    monkeypatch.setattr(exported_file, "check_agreement", refuse)
    model = tmp_path / f"model{suffix}"
    model.write_text("an earlier one")
    with pytest.raises(ExportError):
        write_export(stub, model, {})
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an earlier one"]


def test_large_weights_lie_beside_the_onnx_file(stub, monkeypatch, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    monkeypatch.setattr(exported_file, "MAX_SINGLE_FILE_BYTES", 0)
    monkeypatch.setattr(exported_file, "check_agreement", lambda _graph, run: [])
    write_export(stub, tmp_path / "made" / "model.onnx", {"who": "we"})
    assert {path.name for path in (tmp_path / "made").iterdir()} == {"model.onnx", "model.onnx.data"}
    session = onnxruntime.InferenceSession(tmp_path / "made" / "model.onnx")
    assert session.get_modelmeta().custom_metadata_map == {"who": "we"}
    image, text = np.full((2, 3, 4, 5), 7, np.float32), np.ones((1, 6, 7), np.float32)
    first, _ = session.run(None, {"image": image, "sar_image": image, "text_embeddings": text})
    assert (first == 21).all()


@pytest.mark.parametrize(
    "arguments, words",
    [
        ([], ["nothing to write", "--output"]),
        (["--output", "model.h5"], ["model.h5", ".onnx"]),
        (["--output", "model.pt2", "--classes", "water"], ["--text-output"]),
        (["--text-output", "names.npy"], ["--classes"]),
        (["--classes", "water", "--text-output", "names.txt"], ["names.txt", ".npy"]),
        (["--classes", "water,water", "--text-output", "names.npy"], ["more than once: water"]),
        (["--output", str(ROOT / "setup.py" / "model.pt2")], ["cannot be written"]),
        (["--config-file", "configs/quickstart/cmu.yaml", "--output", "model.pt2"], ["CrossModalUnification"]),
    ],
)
def test_wrong_input_is_one_sentence_and_status_2(project, capsys, arguments, words):
    with pytest.raises(SystemExit) as stopped:
        run_cli("export", "--config-file", CONFIG, *arguments)
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ") and message.count("\n") == 1
    assert all(word in message for word in words)


def test_without_the_packages_it_says_so(project, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(SystemExit):
        run_cli("export", "--config-file", CONFIG, "--output", "model.onnx")
    assert "mm_ovseg[export]" in capsys.readouterr().err
