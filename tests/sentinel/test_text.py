import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.modeling.backbone.text_tower import build_text_tower
from sentinel import text, text_steps
from sentinel.teacher import fit_projection, project
from sentinel.text import collect_texts, distil, embed, start_from_targets, texts_without
from sentinel.text_measure import HELD_OUT_NAMES, held_out_words, measure_text
from sentinel.text_steps import make_text, read_captions, teach_texts
from sentinel.words import ADJECTIVES, CLASS_NAMES, NOUNS, PROMPTS, combine
from tests.sentinel.teachers import WORDS
from tests.sentinel.teachers import embed_words as teacher

MODEL = "EfficientNet-Lite0-sentinel"
CAPTIONS = ["many planes are parked in an airport", "a river between two forests"]


def test_phrases_differ_and_are_the_same_for_a_seed():
    first = combine(200, np.random.default_rng(0))
    assert len(set(first)) == 200
    assert first == combine(300, np.random.default_rng(0))[:200]
    assert not {""} & {*NOUNS, *ADJECTIVES, *CLASS_NAMES}
    assert all(prompt.count("{}") == 1 for prompt in PROMPTS)


def test_texts_are_bare_and_in_prompts_and_drawn_by_their_groups_shares():
    texts = collect_texts(WORDS, CAPTIONS, ["burnt forest", "dry river bed"])
    assert sum(texts.values()) == pytest.approx(1)
    assert texts[CAPTIONS[0]] == pytest.approx(0.15 / 2)
    assert texts["music"] == pytest.approx(0.3 / 6)
    assert "burnt forest" in texts and "dry river bed" not in texts
    assert any(prompted != "dry river bed" and "dry river bed" in prompted for prompted in texts)


def test_held_out_words_are_in_no_text_nor_their_plurals():
    texts = ["a wheat field", "Wheat", "a radar image of dunes", "wheaten", "a dune-like hill", "sand"]
    assert texts_without(texts, ["wheat", "dune"]).tolist() == [3, 5]


def test_the_held_out_words_are_no_words_of_prompts_or_class_names():
    names = {name for group in HELD_OUT_NAMES.values() for name in group}
    words = ["the"] * 1000 + ["forest", "scene", "banana", "wheat"] + [f"word{index}" for index in range(1000)]
    held_out = held_out_words(words, number=200)
    assert len(held_out) == len(set(held_out)) == 200
    assert names < set(held_out)
    assert not {"the", "forest", "scene"} & set(held_out)


@torch.no_grad()
def test_embedding_texts_by_their_length_changes_nothing(monkeypatch):
    monkeypatch.setattr(text, "LENGTH_GROUP", 2)
    torch.manual_seed(0)
    tower, tokenizer = build_text_tower(MODEL)
    tokens = tokenizer(["many planes are parked in an airport", "a lake", "wheat", "a very long road", "sea"])
    expected = torch.nn.functional.normalize(tower(tokens), dim=-1)
    torch.testing.assert_close(embed(tower, tokens), expected)
    torch.testing.assert_close(torch.nn.functional.normalize(tower(tokens), dim=-1), expected)


def test_tokens_start_as_the_targets_of_their_texts():
    tower, tokenizer = build_text_tower(MODEL)
    before = tower.token_embedding.weight.detach().clone()
    start_from_targets(tower, tokenizer, lambda texts: teacher(texts)[:, :128], without=["river"])
    after = tower.token_embedding.weight.detach()
    (forest,), (river,) = tokenizer.encode("forest"), tokenizer.encode("river")
    torch.testing.assert_close(after[forest], 0.5 * torch.from_numpy(teacher(["forest"])[0, :128]))
    for unchanged in (river, tokenizer.sot_token_id, tokenizer.eot_token_id):
        assert torch.equal(after[unchanged], before[unchanged])


def test_the_tower_learns_its_texts():
    torch.manual_seed(0)
    tower, tokenizer = build_text_tower(MODEL)
    texts = [*CLASS_NAMES, *HELD_OUT_NAMES]
    projection = fit_projection([teacher(texts)], 128)
    before = measure_text(tower.eval(), tokenizer, teacher, projection, {"names": CLASS_NAMES})
    weights = np.full(len(texts), 1 / len(texts))
    targets = project(teacher(texts), projection)
    distances = distil(
        tower, tokenizer, texts, weights, targets, iterations=60, batch_size=64, seed=0, learning_rate=3e-3
    )
    after = measure_text(tower, tokenizer, teacher, projection, {"names": CLASS_NAMES})
    assert len(distances) == 60 and not tower.training
    assert before["names cosine"] < 0.2 and after["names cosine"] > 0.5
    assert after["teacher's meaning"] == before["teacher's meaning"]


class Lookup(torch.nn.Module):
    """A tower that knows the targets, and turns away from them for the texts ``wrong``."""

    attn_mask = torch.zeros(1, 1)

    def __init__(self, projection, wrong):
        super().__init__()
        self.texts, self.projection, self.wrong = [None], projection, wrong

    def tokenize(self, texts):
        self.texts += texts
        return torch.arange(len(self.texts) - len(texts), len(self.texts))[:, None]

    def forward(self, tokens):
        texts = [self.texts[index] for index in tokens[:, 0].tolist()]
        signs = torch.tensor([[-1.0 if text in self.wrong else 1.0] for text in texts])
        return signs * torch.from_numpy(project(teacher(texts), self.projection))


def test_measures_are_shares_of_the_texts():
    projection = fit_projection([teacher([*CLASS_NAMES, *HELD_OUT_NAMES])], 100)
    tower = Lookup(projection, wrong={"one forest", "two roads"})
    groups = {"good": ["a dune", "forest"], "mixed": ["one forest", "two roads", "a lake", "a sea"]}
    measures = measure_text(tower, tower.tokenize, teacher, projection, groups)
    for measure in ("cosine", "top-1", "top-5"):
        assert measures[f"good {measure}"] == pytest.approx(1)
        assert measures[f"mixed {measure}"] == pytest.approx(0 if measure == "cosine" else 0.5)
    assert measures["meaning"] == measures["teacher's meaning"]


def test_the_teacher_is_asked_once_for_the_same_texts(tmp_path, few_texts):
    asked = []

    def counting(texts):
        asked.append(len(texts))
        return teacher(texts)

    first = teach_texts(tmp_path, WORDS, CAPTIONS, counting, 128)
    second = teach_texts(tmp_path, WORDS, CAPTIONS, counting, 128)
    assert len(asked) == 1
    assert first[0] == second[0]
    np.testing.assert_array_equal(first[1], second[1])
    np.testing.assert_array_equal(project(teacher(list(first[0])), second[2]), first[1])
    teach_texts(tmp_path, WORDS, CAPTIONS[:1], counting, 128)
    assert len(asked) == 2


def test_a_tower_is_written_with_its_measures(tmp_path, few_texts):
    measures = make_text(tmp_path, CAPTIONS * 2, name=MODEL, teacher=teacher, seed=3, iterations=2)
    tower, _ = build_text_tower(MODEL)
    weights = load_file(tmp_path / "text_seed3.safetensors")
    assert {value.dtype for value in weights.values()} == {torch.float16}
    tower.load_state_dict(weights)
    assert json.loads((tmp_path / "text_seed3.json").read_text()) == measures
    again = make_text(tmp_path / "again", CAPTIONS, name=MODEL, teacher=teacher, seed=3, iterations=2)
    assert again == measures
    make_text(tmp_path, CAPTIONS, name=MODEL, teacher=teacher, seed=3, iterations=2, hold_out=True)
    assert (tmp_path / "text_seed3_held_out.safetensors").is_file()


def test_captions_are_read_by_file(tmp_path):
    path = tmp_path / "captions.csv"
    path.write_text('file,caption\na/1.jpg,"a lake, frozen"\na/1.jpg,snow\nb/2.jpg,a road\n')
    assert read_captions(path) == {"a/1.jpg": ["a lake, frozen", "snow"], "b/2.jpg": ["a road"]}
    with pytest.raises(DataError, match="missing.csv"):
        read_captions(tmp_path / "missing.csv")
    path.write_text("file,caption\n")
    with pytest.raises(DataError, match="captions.csv has no captions"):
        read_captions(path)


def test_frequent_words_are_long_and_of_latin_letters(monkeypatch):
    words = ["of", "river", "don't", "naïve", "loam", "tarn"]
    monkeypatch.setitem(sys.modules, "wordfreq", SimpleNamespace(top_n_list=lambda language, n: words[:n]))
    assert text_steps.frequent_words(0, 5) == ["river", "loam"] and text_steps.frequent_words(5, 9) == ["tarn"]
    monkeypatch.setitem(sys.modules, "wordfreq", None)
    with pytest.raises(ConfigError, match="pip install -r projects/sentinel/requirements.txt"):
        text_steps.frequent_words(0, 10)
