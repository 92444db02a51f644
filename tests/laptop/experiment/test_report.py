import json

import numpy as np
import pytest

from laptop.drawn_world import SYNTHETIC_CLASSES
from laptop.experiment.protocol import (
    BASELINES,
    STAGE_1,
    TEST_DATASETS,
    VARIANTS,
    Schedule,
    build_steps,
    shifted_names,
)
from laptop.experiment.report import GROUPS, RECALLS, collect_results, write_report

SEEDS = (1, 2)


def write(path, results):
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = (100 * np.eye(5, dtype=int)).tolist()
    path.write_text(json.dumps({"results": results, "confusion_matrix": matrix}))


@pytest.fixture
def output(tmp_path):
    """Scores that tell where they come from: 10 a variant, 1 a seed."""
    keys = (*GROUPS, *(f"IoU-{name}" for name in SYNTHETIC_CLASSES))
    for seed in SEEDS:
        for number, variant in enumerate((*VARIANTS, *BASELINES)):
            for dataset in TEST_DATASETS:
                file = tmp_path / f"seed_{seed}" / variant / "inference" / dataset / "sem_seg_evaluation.json"
                write(file, dict.fromkeys(keys, 10.0 * number + seed))
        for number, run in enumerate(("full_rgb", "full_sar", "dropped_rgb", "dropped_sar")):
            for dataset in TEST_DATASETS[:2]:
                file = tmp_path / f"seed_{seed}" / run / "inference" / dataset / "sem_seg_evaluation.json"
                write(file, dict.fromkeys(GROUPS, 200.0 + 10 * number + seed))
        for shift in range(1, 5):
            folder = tmp_path / f"seed_{seed}" / f"shifted_{shift}" / "inference"
            write(folder / TEST_DATASETS[0] / "sem_seg_evaluation.json", dict.fromkeys(GROUPS, float(shift)))
        for number, name in enumerate(("before", *STAGE_1)):
            folder = tmp_path / f"seed_{seed}" / f"cmu_{name}" / "inference"
            chance = {f"{what}_chance@{rank}": 0.25 for what in ("token", "image") for rank in (1, 5)}
            write(
                folder / "laptop_pairs_val" / "retrieval_evaluation.json",
                {**dict.fromkeys(RECALLS, 5.0 * number), **chance},
            )
    return tmp_path


def test_the_report_says_what_the_evaluations_say(output):
    results, tables, picture = write_report(output, SEEDS)
    assert json.loads(results.read_text()) == collect_results(output, SEEDS)
    text = tables.read_text()
    # 31 and 32: mean 31.5, sample deviation 0.7; the paper's 73.1 stands beside it
    row = next(line for line in text.splitlines() if line.startswith("| DINO-SAR by InfoNCE (the method) "))
    assert [cell.strip() for cell in row.split("|")[2:6]] == [*3 * ["31.5 ± 0.7"], "73.1"]
    assert "2.5 ± 0.0" in text  # the mean of the shifts 1 to 4
    table = text[text.index("### With one image alone") : text.index("### Retrieval")].splitlines()
    means = [[cell.split("±")[0].strip() for cell in line.split("|")[2:8]] for line in table[4:]]
    assert means[:6] == [6 * [mean] for mean in ("31.5", "201.5", "211.5", "51.5", "221.5", "231.5")]
    assert means[6] == 2 * ["4.0", "6.7", "10.0"]  # of five classes of equal share
    assert picture.stat().st_size > 10_000


def test_one_seed_has_no_spread(output):
    tables = write_report(output, SEEDS[:1])[1].read_text()
    assert "±" not in tables and "31.0" in tables


def test_the_steps_of_a_seed_hang_together(tmp_path):
    steps = build_steps(tmp_path, SEEDS, Schedule().scaled(0.01))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) == 4 + 2 * (3 + 1 + len(STAGE_1) + len(VARIANTS) + len(BASELINES) + 8)
    for index, step in enumerate(steps):
        assert set(step.needs) <= set(names[:index])
        for other in steps[:index]:  # whatever file of another step a command names, it waits for
            if str(other.output) in step.command:
                assert other.name in step.needs or step.name.startswith("region")
    for shift in range(1, 5):
        assert all(np.array(shifted_names(shift)) != np.array(SYNTHETIC_CLASSES))
        assert sorted(shifted_names(shift)) == sorted(SYNTHETIC_CLASSES)


def test_a_scale_leaves_nothing_empty():
    assert vars(Schedule(train_scenes=100).scaled(0.001)) == dict.fromkeys(vars(Schedule()), 2)
