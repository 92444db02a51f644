import pytest
import torch
from detectron2.modeling import build_model
from torch.nn.parallel import DistributedDataParallel

from mm_ovseg.engine import load_config
from mm_ovseg.engine.many_vocabularies import ManyVocabularies
from mm_ovseg.errors import VocabularyError
from tests.conftest import ROOT, random_pair
from tests.process_group import run_in_group

NAMES = ("city", "road")
VOCABULARIES = {"single": [["water"], ["burnt forest"]], "more": [["city", "road", "river"]]}


@pytest.fixture
def model(make_model):
    model = make_model().eval()
    model.set_vocabulary(NAMES)
    return model


@torch.no_grad()
def test_scores_are_those_of_each_vocabulary_alone_and_the_model_keeps_its_own(model):
    batch, asked = [random_pair(48, 64, 0), random_pair(30, 20, 1)], ManyVocabularies(model, VOCABULARIES)
    assert not asked.training and not model.training
    outputs = asked(batch)
    assert model.vocabulary == NAMES
    for key, vocabularies in {"sem_seg": [NAMES], **VOCABULARIES}.items():
        alone = []
        for names in vocabularies:
            model.set_vocabulary(names)
            alone.append([output["sem_seg"] for output in model(batch)])
        for output, scores in zip(outputs, zip(*alone, strict=True), strict=True):
            assert torch.equal(output[key], torch.cat(scores))
    assert asked([]) == []  # all of a batch was skipped


@torch.no_grad()
def test_images_and_names_are_encoded_once(model):
    asked, calls = ManyVocabularies(model, VOCABULARIES), []
    for name, module in {
        "clip": model.clip,
        "dino": model.dino,
        "sar": model.dino_sar,
        "text": model.text.tower,
    }.items():
        module.register_forward_hook(lambda *_, name=name: calls.append(name))
    asked([random_pair()])
    assert sorted(calls) == ["clip", "dino", "sar", *4 * ["text"]]
    calls.clear()
    asked([random_pair(seed=1)])
    assert sorted(calls) == ["clip", "dino", "sar"]


@torch.no_grad()
def test_the_model_keeps_its_names_after_an_error(model):
    asked = ManyVocabularies(model, {"wrong": [["water"], ["sea", "Sea"]]})
    with pytest.raises(VocabularyError, match="more than once"):
        asked([random_pair()])
    assert model.vocabulary == NAMES


@torch.no_grad()
def asked_by_one_process(rank):
    torch.manual_seed(0)
    cfg = load_config(ROOT / "configs/quickstart/mm_ovseg.yaml", ["MODEL.DEVICE", "cpu"], needs_datasets=False)
    model = build_model(cfg).eval()
    model.set_vocabulary(NAMES)
    alone, wrapped = (ManyVocabularies(each, VOCABULARIES) for each in (model, DistributedDataParallel(model)))
    batches = [[random_pair(seed=seed)] for seed in range(1 + rank)]  # one process has more of them
    return [
        all(torch.equal(tensor, expected[key]) for key, tensor in output.items())
        for batch in batches
        for output, expected in zip(wrapped(batch), alone(batch), strict=True)
    ]


def test_the_wrapper_of_several_processes_changes_nothing(tmp_path):
    assert run_in_group(asked_by_one_process, tmp_path) == [[True], [True, True]]
