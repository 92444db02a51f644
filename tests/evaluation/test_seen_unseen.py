import inspect
import json
import logging
import math
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator, print_csv_format, verify_results
from PIL import Image

from mm_ovseg.decision import Calibration
from mm_ovseg.errors import ConfigError, DataError, VocabularyError
from mm_ovseg.evaluation import SeenUnseenSemSegEvaluator
from tests.process_group import run_in_group

DATASET = "seen_unseen_test"
CLASSES = ["city", "road", "forest", "water", "farmland"]
UNSEEN = ["road", "water"]
SIZE = (40, 50)


def make_samples(folder, *, num_images=5, classes=CLASSES, present=None):
    """Write label maps; return dataset dicts and the scores of a predictor that is right about half of the time."""
    generator = np.random.default_rng(3)
    samples, outputs = [], []
    for index in range(num_images):
        label = generator.choice(len(classes) if present is None else present, SIZE)
        scores = torch.from_numpy(generator.random((len(classes), *SIZE))).float()
        scores.scatter_add_(0, torch.from_numpy(label)[None], torch.full((1, *SIZE), 0.4))
        label[generator.random(SIZE) < 0.1] = 255
        path = folder / f"label_{index}.png"
        Image.fromarray(label.astype(np.uint8)).save(path)
        samples.append({"file_name": f"rgb_{index}.png", "sem_seg_file_name": str(path)})
        outputs.append({"sem_seg": scores})
    return samples, outputs


@pytest.fixture
def register():
    """A function that registers samples under DATASET."""

    def register_samples(samples, **metadata):
        DatasetCatalog.register(DATASET, lambda: samples)
        values = {"stuff_classes": CLASSES, "unseen_classes": UNSEEN, "ignore_label": 255} | metadata
        MetadataCatalog.get(DATASET).set(**values)

    yield register_samples
    DatasetCatalog.remove(DATASET)
    MetadataCatalog.remove(DATASET)


@pytest.fixture
def data(tmp_path, register):
    samples, outputs = make_samples(tmp_path)
    register(samples)
    return samples, outputs


def evaluate(samples, outputs, **arguments):
    return evaluate_all(samples, outputs, **arguments)["sem_seg"]


def evaluate_all(samples, outputs, **arguments):
    evaluator = SeenUnseenSemSegEvaluator(DATASET, **arguments)
    evaluator.reset()
    for sample, output in zip(samples, outputs, strict=True):
        evaluator.process([sample], [output])
    return evaluator.evaluate()


def all_pixels(samples, outputs):
    labels = [torch.from_numpy(np.array(Image.open(sample["sem_seg_file_name"]))) for sample in samples]
    return torch.stack([output["sem_seg"].argmax(0) for output in outputs]), torch.stack(labels).long()


def test_agrees_with_torchmetrics(data):
    # Here, as it takes a second, in every process of the tests.
    from torchmetrics.functional.classification import multiclass_accuracy, multiclass_jaccard_index

    scores = evaluate(*data)
    predictions, labels = all_pixels(*data)
    arguments = {"num_classes": 5, "ignore_index": 255}
    iou = 100 * multiclass_jaccard_index(predictions, labels, average="none", **arguments).double()
    accuracy = 100 * multiclass_accuracy(predictions, labels, average="none", **arguments).double()
    assert [scores[f"IoU-{name}"] for name in CLASSES] == pytest.approx(iou.tolist(), rel=1e-5)
    assert [scores[f"ACC-{name}"] for name in CLASSES] == pytest.approx(accuracy.tolist(), rel=1e-5)
    assert scores["mIoU"] == pytest.approx(iou.mean().item(), rel=1e-5)
    assert scores["mIoU-unseen"] == pytest.approx(iou[[1, 3]].mean().item(), rel=1e-5)
    assert scores["mIoU-seen"] == pytest.approx(iou[[0, 2, 4]].mean().item(), rel=1e-5)
    pixel_accuracy = 100 * multiclass_accuracy(predictions, labels, average="micro", **arguments).item()
    assert scores["pACC"] == pytest.approx(pixel_accuracy, rel=1e-5)


def read_label_map(path, dtype):
    return np.array(Image.open(path), dtype)


@pytest.mark.parametrize("present", [None, [0, 1, 2, 4]])
def test_agrees_with_detectron2(tmp_path, register, present):
    samples, outputs = make_samples(tmp_path, present=present)
    if present:
        # Where an absent class is predicted, releases of Detectron2 differ; see segmentation_metrics.
        for output in outputs:
            output["sem_seg"][3] = -1
    register(samples)
    # How Detectron2's main branch itself would read label maps fails with NumPy 2.
    options = inspect.signature(SemSegEvaluator).parameters
    loading = {"sem_seg_loading_fn": read_label_map} if "sem_seg_loading_fn" in options else {}
    reference = SemSegEvaluator(DATASET, distributed=False, **loading)
    reference.reset()
    reference.process(samples, outputs)
    expected = reference.evaluate()["sem_seg"]
    scores = evaluate(samples, outputs)
    names = [*("mIoU", "fwIoU", "mACC", "pACC"), *(f"{kind}-{name}" for kind in ("IoU", "ACC") for name in CLASSES)]
    for name in names:
        assert scores[name] == pytest.approx(expected[name], rel=1e-12, nan_ok=True), name


def test_a_class_absent_from_the_labels_is_left_out_of_the_means_even_if_predicted(tmp_path, register):
    samples, outputs = make_samples(tmp_path, present=[0, 1, 2, 4])
    register(samples)
    scores = evaluate(samples, outputs)
    assert math.isnan(scores["IoU-water"]) and math.isnan(scores["ACC-water"])
    present = [scores[f"IoU-{name}"] for name in CLASSES if name != "water"]
    assert scores["mIoU"] == pytest.approx(np.mean(present))
    assert scores["mIoU-unseen"] == scores["IoU-road"]


def test_ignored_pixels_do_not_count(data):
    samples, outputs = data
    before = evaluate(samples, outputs)
    for sample, output in zip(samples, outputs, strict=True):
        ignored = torch.from_numpy(np.array(Image.open(sample["sem_seg_file_name"])) == 255)
        assert ignored.any()
        output["sem_seg"][:, ignored] = 0
        output["sem_seg"][1, ignored] = 9
    assert evaluate(samples, outputs) == before


def test_label_values_and_ignore_label_of_the_metadata_are_used(tmp_path, register):
    raw = np.array([[10, 20], [30, 200]], np.uint8)
    Image.fromarray(raw).save(tmp_path / "label.png")
    samples = [{"file_name": "rgb.png", "sem_seg_file_name": str(tmp_path / "label.png")}]
    register(samples, ignore_label=200, label_values={10: 4, 20: 3, 30: 2})
    prediction = torch.tensor([[4, 3], [1, 1]])
    outputs = [{"sem_seg": torch.nn.functional.one_hot(prediction, 5).permute(2, 0, 1)}]
    scores = evaluate(samples, outputs)
    assert [scores[f"IoU-{name}"] for name in CLASSES[2:]] == [0, 100, 100]
    assert scores["pACC"] == pytest.approx(200 / 3)


def test_unseen_classes_can_be_given(data):
    scores = evaluate(*data, unseen_classes=["farmland"])
    assert scores["mIoU-unseen"] == scores["IoU-farmland"]
    assert math.isnan(evaluate(*data, unseen_classes=[])["mIoU-unseen"])
    with pytest.raises(VocabularyError, match="'Water'.*'water'"):
        SeenUnseenSemSegEvaluator(DATASET, unseen_classes=["Water"])


def test_skipped_images_are_counted_and_reset_forgets(data):
    samples, outputs = data
    evaluator = SeenUnseenSemSegEvaluator(DATASET)
    evaluator.process(samples, outputs)
    evaluator.reset()
    evaluator.process(samples[:3], outputs[:3])
    scores = evaluator.evaluate()["sem_seg"]
    assert (scores["num_images"], scores["num_skipped"]) == (3, 2)
    assert scores == evaluate(samples[:3], outputs[:3])


def test_an_unknown_label_value_is_an_error_that_names_file_and_value(data):
    samples, outputs = data
    path = samples[2]["sem_seg_file_name"]
    Image.fromarray(np.full(SIZE, 77, np.uint8)).save(path)
    with pytest.raises(DataError, match="77") as error:
        evaluate(samples, outputs)
    assert path in str(error.value)


def test_a_label_of_another_size_is_an_error_that_names_the_file(data):
    samples, outputs = data
    path = samples[1]["sem_seg_file_name"]
    Image.fromarray(np.zeros(SIZE[::-1], np.uint8)).save(path)
    with pytest.raises(DataError, match="50 x 40.*rgb_1.png has 40 x 50") as error:
        evaluate(samples, outputs)
    assert path in str(error.value)


def test_labels_that_cannot_be_used_are_left_out_where_the_config_says_so(data, caplog):
    samples, outputs = data
    expected = evaluate(samples[2:], outputs[2:])
    torn, misfit = (Path(sample["sem_seg_file_name"]) for sample in samples[:2])
    torn.write_bytes(torn.read_bytes()[:100])
    Image.fromarray(np.zeros(SIZE[::-1], np.uint8)).save(misfit)
    for place, path in enumerate((torn, misfit)):
        with pytest.raises(DataError, match=re.escape(str(path))):
            evaluate(samples[place : place + 1], outputs[:1])
    with caplog.at_level("WARNING", logger="mm_ovseg"):
        assert evaluate(samples, outputs, skip_corrupt=True) == expected
    assert expected["num_skipped"] == 2
    for path in (torn, misfit):
        assert f"A sample is left out (INPUT.SKIP_CORRUPT): {path}" in caplog.text


def test_other_wrong_inputs_are_clear_errors(data):
    samples, outputs = data
    with pytest.raises(DataError, match=r"rgb_0\.png has no label map"):
        evaluate([{"file_name": "rgb_0.png"}], outputs[:1])
    with pytest.raises(VocabularyError, match="scores 4 classes.*has 5"):
        evaluate(samples[:1], [{"sem_seg": outputs[0]["sem_seg"][:4]}])
    with pytest.raises(ConfigError, match="'nowhere', which is not registered"):
        SeenUnseenSemSegEvaluator("nowhere")
    with pytest.raises(DataError, match="0 of its 5 images"):
        evaluate([], [])
    for sample in samples:
        Image.fromarray(np.full(SIZE, 255, np.uint8)).save(sample["sem_seg_file_name"])
    with pytest.raises(DataError, match="5 of its 5 images"):
        evaluate(samples, outputs)


def test_output_files(data, tmp_path):
    samples, outputs = data
    for output in outputs:
        output["sem_seg"][1] = -1
    folder = tmp_path / "new" / "inference"
    scores = evaluate(samples, outputs, output_dir=folder, unseen_classes=[])
    text = (folder / "sem_seg_evaluation.json").read_text()
    report = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert report["results"].pop("hIoU") is None and report["results"].pop("mIoU-unseen") is None
    assert report["results"] == {name: value for name, value in scores.items() if not math.isnan(value)}
    assert (report["dataset"], report["classes"], report["unseen_classes"]) == (DATASET, CLASSES, [])
    _, labels = all_pixels(samples, outputs)
    counts = torch.bincount(labels[labels != 255], minlength=5).tolist()
    assert np.array(report["confusion_matrix"]).sum(axis=1).tolist() == counts
    assert np.array(report["confusion_matrix"])[:, 1].sum() == 0
    assert np.array(Image.open(folder / "confusion_matrix.png").convert("L")).std() > 5
    assert np.array(Image.open(folder / "reliability.png").convert("L")).std() > 5
    written = {"sem_seg_evaluation.json", "confusion_matrix.png", "reliability.png"}
    assert {path.name for path in folder.iterdir()} == written
    assert report["confidence"].pop("ECE-unseen") is None and report["confidence"]["ECE"] > 0
    assert report["confidence_curves"]["unseen"] is None
    assert sum(report["confidence_curves"]["all"]["pixels"]) == sum(counts)


def test_an_unwritable_output_folder_is_a_data_error(data, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match="sem_seg_evaluation.json cannot be written"):
        evaluate(*data, output_dir=tmp_path / "file")


def test_works_with_detectron2s_printing_and_verification(data, caplog):
    samples, outputs = data
    evaluator = SeenUnseenSemSegEvaluator(DATASET)
    evaluator.process(samples, outputs)
    with caplog.at_level(logging.INFO):
        results = evaluator.evaluate()
        print_csv_format(results)
    assert "| road" in caplog.text
    assert "copypaste: mIoU,hIoU,fwIoU,mACC,pACC,num_images,num_skipped" in caplog.text
    cfg = get_cfg()
    cfg.TEST.EXPECTED_RESULTS = [["sem_seg", "mIoU-unseen", results["sem_seg"]["mIoU-unseen"], 0.01]]
    assert verify_results(cfg, results)


def evaluate_share(folder, samples, outputs, rank):
    """Evaluate every second sample, in one of two processes."""
    DatasetCatalog.register("shared", lambda: samples)
    MetadataCatalog.get("shared").set(stuff_classes=CLASSES, unseen_classes=UNSEEN, ignore_label=255)
    evaluator = SeenUnseenSemSegEvaluator("shared", output_dir=folder / "inference", **EVERY_TEST)
    evaluator.process(samples[rank::2], outputs[rank::2])
    return evaluator.evaluate()


EVERY_TEST = {
    "skip_corrupt": True,
    "calibration": Calibration(0.5, 0.1, min_score=0.6),
    "num_absent_names": 2,
    "single_names": True,
}


def test_two_processes_give_exactly_the_scores_of_one(data, tmp_path):
    samples, outputs = data
    Path(samples[1]["sem_seg_file_name"]).write_bytes(b"torn")
    for output in outputs:
        output["single_names"] = output["sem_seg"].flip(1)
        output["absent_names"] = torch.cat([output["sem_seg"], output["sem_seg"][:2].flip(2)])
    results = run_in_group(partial(evaluate_share, tmp_path, samples, outputs), tmp_path)
    assert results == [evaluate_all(samples, outputs, **EVERY_TEST), None]
    assert list(results[0]) == ["sem_seg", "confidence", "absent_names", "single_names"]
    assert results[0]["sem_seg"]["num_skipped"] == 1 and results[0]["absent_names"]["decision-none"] > 0
    assert (tmp_path / "inference" / "sem_seg_evaluation.json").exists()
