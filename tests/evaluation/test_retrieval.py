import json
import math

import pytest
import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog
from detectron2.utils import comm

from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.evaluation import RetrievalEvaluator
from mm_ovseg.evaluation.retrieval import expected_hits

DATASET = "retrieval_pairs"


@pytest.fixture(autouse=True)
def registered():
    """A dataset of seven pairs."""
    DatasetCatalog.register(DATASET, lambda: 7 * [{}])
    yield
    DatasetCatalog.remove(DATASET)


def unit(*shape, seed=0):
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def output(sar_blocks, rgb_blocks, valid=None):
    if valid is None:
        valid = torch.ones(len(sar_blocks[0]), dtype=torch.bool)
    return {"sar_tokens": sar_blocks, "image_tokens": rgb_blocks, "valid": valid}


def evaluated(outputs, blocks=(4,), order=None, **arguments):
    evaluator = RetrievalEvaluator(DATASET, blocks=blocks, **arguments)
    for index in range(len(outputs)) if order is None else order:
        evaluator.process([{"file_name": f"{index}.png"}], [outputs[index]])
    return evaluator.evaluate()["retrieval"]


def test_the_same_features_are_always_found_and_those_of_the_neighbour_never():
    tokens = [unit(6, 8, seed=seed) for seed in range(7)]
    scores = evaluated([output([block], [block]) for block in tokens])
    recalls = {name: value for name, value in scores.items() if "recall" in name}
    assert len(recalls) == 16 and set(recalls.values()) == {100}
    # Every SAR token is the RGB token of its neighbour, every image the next one.
    moved = [output([tokens[i].roll(1, dims=0)], [tokens[i]]) for i in range(7)]
    scores = evaluated(moved)
    assert scores["token_sar_to_rgb_recall@1"] == scores["token_rgb_to_sar_recall@1"] == 0
    assert scores["image_sar_to_rgb_recall@1"] == 100  # the mean does not know of places
    scores = evaluated([output([tokens[(i + 1) % 7]], [tokens[i]]) for i in range(7)])
    assert scores["image_sar_to_rgb_recall@1"] == scores["image_rgb_to_sar_recall@1"] == 0


def test_chance_is_exact_and_is_what_features_that_say_nothing_score():
    constant = F.one_hot(torch.zeros(10, dtype=torch.int64), 4).float()
    outputs = [output([constant], [constant]) for _ in range(6)]
    outputs.append(output([constant[:3]], [constant[:3]]))
    scores = evaluated(outputs)
    for direction in ("sar_to_rgb", "rgb_to_sar"):
        for rank in (1, 5):
            assert scores[f"token_{direction}_recall@{rank}"] == pytest.approx(scores[f"token_chance@{rank}"])
            assert scores[f"image_{direction}_recall@{rank}"] == pytest.approx(scores[f"image_chance@{rank}"])
    assert scores["token_chance@1"] == pytest.approx(100 * 7 / 63)  # one right guess a pair
    assert scores["token_chance@5"] == pytest.approx(100 * (6 * 5 + 3) / 63)
    assert scores["image_chance@5"] == pytest.approx(100 * 5 / 7)


def test_random_features_score_about_chance():
    outputs = [output([unit(200, 16, seed=seed)], [unit(200, 16, seed=100 + seed)]) for seed in range(7)]
    scores = evaluated(outputs)
    assert scores["token_chance@5"] == pytest.approx(2.5)
    assert 1.5 < scores["token_sar_to_rgb_recall@5"] < 3.5  # 1400 tries with probability 0.025


def naive_recall(queries, candidates, rank):
    hits = 0
    for index, query in enumerate(queries):
        similarity = [float(query @ candidate) for candidate in candidates]
        hits += sorted(range(len(similarity)), key=lambda i: -similarity[i]).index(index) < rank
    return hits / len(queries)


def test_scores_are_those_of_a_naive_loop_and_gaps_in_the_data_play_no_part():
    outputs = []
    for seed in range(7):
        rgb = [unit(12, 5, seed=seed), unit(12, 3, seed=seed + 50)]  # blocks may have other widths, as CLIP's
        sar = [F.normalize(block + 0.5 * unit(*block.shape, seed=seed + 100), dim=1) for block in rgb]
        valid = torch.rand(12, generator=torch.Generator().manual_seed(seed)) < (0.0 if seed == 3 else 0.7)
        outputs.append(output(sar, rgb, valid))
    scores = evaluated(outputs, blocks=(4, 8))
    assert (scores["num_pairs"], scores["num_without_data"], scores["num_skipped"]) == (6, 1, 0)
    used = [one for one in outputs if one["valid"].any()]
    counts = [int(one["valid"].sum()) for one in used]
    assert scores["num_tokens"] == sum(counts)
    for index, block in enumerate((4, 8)):
        sar, rgb = ([one[key][index][one["valid"]] for one in used] for key in ("sar_tokens", "image_tokens"))
        mean_sar, mean_rgb = ([F.normalize(x.mean(dim=0), dim=0) for x in tokens] for tokens in (sar, rgb))
        for rank in (1, 5):
            for direction, (a, b, mean_a, mean_b) in {
                "sar_to_rgb": (sar, rgb, mean_sar, mean_rgb),
                "rgb_to_sar": (rgb, sar, mean_rgb, mean_sar),
            }.items():
                found = [naive_recall(x, y, rank) * n for x, y, n in zip(a, b, counts, strict=True)]
                tokens = scores[f"token_{direction}_recall@{rank}-block{block}"]
                assert tokens == pytest.approx(100 * sum(found) / sum(counts))
                images = scores[f"image_{direction}_recall@{rank}-block{block}"]
                assert images == pytest.approx(100 * naive_recall(mean_a, mean_b, rank))
                assert 0 < tokens < 100 or rank == 5
    name = "token_sar_to_rgb_recall@1"
    assert scores[name] == pytest.approx((scores[f"{name}-block4"] + scores[f"{name}-block8"]) / 2)


def test_ties_count_as_drawn_in_random_order():
    similarity = torch.tensor([[0.5, 0.5, 0.9, 0.5], [0.1, 0.7, 0.2, 0.0], [0.3, 0.3, 0.3, 0.3]])
    partner = torch.tensor([0, 1, 2])
    torch.testing.assert_close(expected_hits(similarity, partner, 1), torch.tensor([0, 1, 0.25]).double())
    torch.testing.assert_close(expected_hits(similarity, partner, 3), torch.tensor([2 / 3, 1, 0.75]).double())


def test_several_processes_score_exactly_as_one(monkeypatch):
    outputs = [output([unit(30, 6, seed=seed)], [unit(30, 6, seed=40 + seed)]) for seed in range(7)]
    alone = evaluated(outputs)
    first, second = (RetrievalEvaluator(DATASET, blocks=[4]) for _ in range(2))
    for index in (5, 0, 6):
        first.process([{"file_name": f"{index}.png"}], [outputs[index]])
    for index in (3, 1, 4, 2):
        second.process([{"file_name": f"{index}.png"}], [outputs[index]])
    monkeypatch.setattr(comm, "all_gather", lambda own: [second._pairs, own])
    assert first.evaluate()["retrieval"] == alone
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert first.evaluate() is None


def test_the_file_and_the_table_hold_the_scores(tmp_path, caplog):
    tokens = [unit(6, 8, seed=seed) for seed in range(6)]
    with caplog.at_level("INFO"):
        scores = evaluated([output([block, block], [block, block]) for block in tokens], (4, 8), output_dir=tmp_path)
    report = json.loads((tmp_path / "retrieval_evaluation.json").read_text())
    assert report == {"dataset": DATASET, "blocks": [4, 8], "results": scores}
    assert all(math.isfinite(value) for value in scores.values()) and scores["num_skipped"] == 1
    (row,) = (line for line in caplog.text.splitlines() if "token, SAR to RGB, @1" in line)
    assert [cell.strip() for cell in row.split("|")[2:-1]] == ["100.00", "100.00", "100.00", "16.67"]
    assert "block 8" in caplog.text and "chance" in caplog.text


def test_many_pairs_are_compared_some_at_a_time(monkeypatch):
    outputs = [output([unit(4, 6, seed=seed)], [unit(4, 6, seed=40 + seed)]) for seed in range(7)]
    whole = evaluated(outputs)
    monkeypatch.setattr("mm_ovseg.evaluation.retrieval.ROWS_AT_ONCE", 3)
    assert evaluated(outputs) == whole


def test_a_dataset_without_any_data_is_an_error():
    tokens = unit(6, 8)
    with pytest.raises(DataError, match="1 of its 7 pairs were processed and none has a token"):
        evaluated([output([tokens], [tokens], torch.zeros(6, dtype=torch.bool))])
    with pytest.raises(ConfigError, match="'nowhere', which is not registered"):
        RetrievalEvaluator("nowhere", blocks=[4])
