import pytest
import torch
from detectron2.modeling import build_model
from safetensors.torch import save_file
from torch import nn

from mm_ovseg.checkpoint.checkpointer import StrictCheckpointer
from mm_ovseg.errors import CheckpointError


def build():
    return nn.Linear(3, 2)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_state_dict_is_loaded_whole(tmp_path, suffix, prefix):
    source, target, path = build(), build(), tmp_path / f"weights.{suffix}"
    state = {prefix + name: value for name, value in source.state_dict().items()}
    save_file(state, path) if suffix == "safetensors" else torch.save(state, path)
    StrictCheckpointer(target).load(str(path))
    assert torch.equal(source.weight, target.weight) and torch.equal(source.bias, target.bias)


@pytest.mark.parametrize("wrap", [
    lambda state: {"state_dict": state, "epoch": 3},
    lambda state: {**state, "epoch": 3, "settings": {"rate": 0.1}},
])  # fmt: skip
def test_what_other_trainings_put_around_a_state_dict_is_left_out(tmp_path, wrap):
    source, target = build(), build()
    torch.save(wrap(source.state_dict()), tmp_path / "weights.pth")
    StrictCheckpointer(target).load(str(tmp_path / "weights.pth"))
    assert torch.equal(source.weight, target.weight)


@pytest.mark.parametrize("content,message", [
    ({"model": None}, "2 missing"), ({"model": [torch.zeros(1)]}, "2 missing"), ({}, "2 missing"),
    ({"model": {"weight": torch.zeros(2, 3), "bias": [0, 0]}}, "not tensors: bias"),
    ({0: torch.zeros(2, 3)}, "not a string"), ({"a": {"b": torch.zeros(1)}}, "2 missing"),
])  # fmt: skip
def test_odd_contents_are_refused_by_name(tmp_path, content, message):
    torch.save(content, tmp_path / "odd.pth")
    with pytest.raises(CheckpointError, match=rf"odd\.pth.*{message}"):
        StrictCheckpointer(build()).load(str(tmp_path / "odd.pth"))


def test_no_path_loads_nothing():
    model = build()
    before = model.weight.clone()
    assert StrictCheckpointer(model).load("") == {}
    assert torch.equal(model.weight, before)


@pytest.mark.parametrize("state,message", [
    ({"weight": torch.zeros(2, 3)}, r"1 missing \(bias\)"),
    ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "scale": torch.zeros(1)}, r"1 left over \(scale\)"),
    ({"weight": torch.zeros(4, 3), "bias": torch.zeros(2)}, r": 1 of another shape \(weight is \(4, 3\), not"),
])  # fmt: skip
def test_weights_of_another_architecture_are_refused(tmp_path, state, message):
    torch.save({"model": state}, tmp_path / "other.pth")
    with pytest.raises(CheckpointError, match=rf"other\.pth.*another architecture.*{message}"):
        StrictCheckpointer(build()).load(str(tmp_path / "other.pth"))


def test_a_published_model_is_converted_and_the_log_says_so(released_catseg, make_cfg, caplog):
    model = build_model(make_cfg("configs/siblings/catseg_vitb16_384.yaml"))
    with caplog.at_level("INFO", logger="mm_ovseg"):
        StrictCheckpointer(model).load(str(released_catseg))
    assert not any(parameter.any() for parameter in model.parameters())  # the file holds zeros
    assert "released.pth is the published CAT-Seg ViT-B/16: 484 tensors were converted to 529 of ours" in caplog.text


def test_a_published_model_in_another_config_is_told_its_own(released_catseg, make_model):
    with pytest.raises(CheckpointError, match=r"another architecture.*configs/siblings/catseg_vitb16_384\.yaml"):
        StrictCheckpointer(make_model()).load(str(released_catseg))


def test_a_published_model_that_is_not_whole_is_refused_by_name(released_state_dict, tmp_path):
    state = released_state_dict("catseg")
    del state["upsample1.bias"]
    torch.save(state, tmp_path / "part.pth")
    with pytest.raises(CheckpointError, match=r"part\.pth: .*CAT-Seg.*1 missing \(upsample1\.bias\)"):
        StrictCheckpointer(build()).load(str(tmp_path / "part.pth"))


def test_a_published_model_of_another_size_is_refused_with_its_shapes(released_state_dict, make_cfg, tmp_path):
    state = released_state_dict("catseg")
    query = "sem_seg_head.predictor.transformer.layers.0.attention.attention.q.weight"
    torch.save({**state, query: torch.zeros(2, 3)}, tmp_path / "other.pth")
    model = build_model(make_cfg("configs/siblings/catseg_vitb16_384.yaml"))
    with pytest.raises(CheckpointError, match=r"classes\.0\.query\.weight is \(2, 3\), not \(128, 256\)"):
        StrictCheckpointer(model).load(str(tmp_path / "other.pth"))


def test_an_encoder_is_not_a_model(tmp_path):
    names = ("cls_token", "pos_embed", "blocks.0.attn.qkv.weight")
    torch.save({"teacher": {f"backbone.{name}": torch.zeros(1) for name in names}}, tmp_path / "dino.pth")
    with pytest.raises(
        CheckpointError, match=r"dino\.pth: The file holds DINO v1, only an encoder.*MODEL\.DENSE_ENCODER\.PRETRAINED"
    ):
        StrictCheckpointer(build()).load(str(tmp_path / "dino.pth"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="gone.pth"):
        StrictCheckpointer(build()).load(str(tmp_path / "gone.pth"))


def test_resuming_goes_back_as_far_as_the_first_checkpoint_that_can_be_read(tmp_path, caplog):
    model = build()
    checkpointer = StrictCheckpointer(model, str(tmp_path))
    for name in ("model_0000001", "model_0000009", "model_0000003", "model_0000005"):
        checkpointer.save(name)
    (tmp_path / "model_0000003.pth").write_bytes(b"")
    (tmp_path / "model_0000005.pth").unlink()
    (tmp_path / "model_0000009.pth").write_bytes(b"")  # of a longer run before this one
    weight = model.weight.clone()
    model.weight.data.zero_()
    with caplog.at_level("WARNING", logger="mm_ovseg"):
        checkpointer.resume_or_load("", resume=True)
    assert torch.equal(model.weight, weight)
    first, second = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert "model_0000005.pth does not exist" in first and first.endswith("model_0000003.pth.")
    assert "model_0000003.pth is not a readable" in second and second.endswith("model_0000001.pth.")
    (tmp_path / "model_0000001.pth").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model_0000001\.pth is not.*no checkpoint before it"):
        checkpointer.resume_or_load("", resume=True)


def test_all_machines_must_resume_from_the_same_checkpoint(tmp_path, monkeypatch):
    checkpointer = StrictCheckpointer(build(), str(tmp_path))
    monkeypatch.setattr("mm_ovseg.checkpoint.checkpointer.comm.all_gather", lambda mine: [("one", "model_3.pth"), mine])
    monkeypatch.setattr("mm_ovseg.checkpoint.checkpointer.platform.node", lambda: "two")
    with pytest.raises(CheckpointError, match=r"finds model_3\.pth on one but no checkpoint on two; use an OUTPUT_DIR"):
        checkpointer.resume_or_load("", resume=True)
    checkpointer.resume_or_load("", resume=False)


def test_weights_of_another_architecture_are_no_reason_to_go_back(tmp_path):
    checkpointer = StrictCheckpointer(build(), str(tmp_path))
    checkpointer.save("model_0000001")
    StrictCheckpointer(nn.Linear(4, 2), str(tmp_path)).save("model_0000003")
    with pytest.raises(CheckpointError, match=r"model_0000003.*another architecture"):
        checkpointer.resume_or_load("", resume=True)


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(tmp_path, monkeypatch):
    checkpointer = StrictCheckpointer(build(), str(tmp_path))
    checkpointer.save("model_0000001")

    def fail(content, path):
        path.write_bytes(b"half")
        raise RuntimeError("PytorchStreamWriter failed writing file data/0: file write failed")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(CheckpointError, match=r"model_0000003\.pth cannot be written.*model_0000001\.pth is complete"):
        checkpointer.save("model_0000003")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000001.pth"]
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")


def test_the_best_checkpoint_is_not_where_training_resumes(tmp_path):
    checkpointer = StrictCheckpointer(build(), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_best")
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_0000001.pth")
