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


ANSWER_RUNS = [f"{name}_{modality}" for name in ("full", "dropped") for modality in ("both", "rgb", "sar")]


def write(path, results, **others):
    path.parent.mkdir(parents=True, exist_ok=True)
    matrix = (100 * np.eye(5, dtype=int)).tolist()
    path.write_text(json.dumps({"results": results, "confusion_matrix": matrix, **others}))


def answers(number, seed):
    """The other parts of the evaluation of a calibrated model: 10 a run, 1 a seed, more for each part."""
    keys = [f"{kind}{group}" for kind in ("ECE", "ECE-raw") for group in ("", "-seen", "-unseen")]
    kinds = [f"{kind}-{part}" for kind in ("argmax", "decision") for part in ("distractors", "absent", "none", "right")]
    value = 10.0 * number + seed
    return {
        "confidence": dict.fromkeys((*keys, "AURC"), 300 + value),
        "absent_names": dict.fromkeys(kinds, 400 + value),
        "single_names": dict.fromkeys([f"IoU-{name}" for name in SYNTHETIC_CLASSES], 500 + value),
    }


@pytest.fixture
def output(tmp_path):
    """Scores that tell where they come from: 10 a variant, 1 a seed."""
    keys = (*GROUPS, *(f"IoU-{name}" for name in SYNTHETIC_CLASSES))
    for seed in SEEDS:
        for number, variant in enumerate((*VARIANTS, *BASELINES)):
            for dataset in TEST_DATASETS:
                file = tmp_path / f"seed_{seed}" / variant / "inference" / dataset / "sem_seg_evaluation.json"
                write(file, dict.fromkeys(keys, 10.0 * number + seed))
        for number, run in enumerate(ANSWER_RUNS):
            for dataset in TEST_DATASETS[:2]:
                file = tmp_path / f"seed_{seed}" / run / "inference" / dataset / "sem_seg_evaluation.json"
                write(file, dict.fromkeys((*keys, "pACC"), 200.0 + 10 * number + seed), **answers(number, seed))
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


def means_of(text, heading):
    """The means in the rows of a table, without their first column."""
    table = text[text.index(f"### {heading}") :].split("\n\n###")[0].splitlines()
    rows = [line.split("|")[2:-1] for line in table if line.startswith("|")][2:]
    return [[cell.split("±")[0].strip() for cell in row] for row in rows]


def test_the_report_says_what_the_evaluations_say(output):
    results, tables, picture = write_report(output, SEEDS)
    assert json.loads(results.read_text()) == collect_results(output, SEEDS)
    text = tables.read_text()
    # 31 and 32: mean 31.5, sample deviation 0.7; the paper's 73.1 stands beside it
    row = next(line for line in text.splitlines() if line.startswith("| DINO-SAR by InfoNCE (the method) "))
    assert [cell.strip() for cell in row.split("|")[2:6]] == [*3 * ["31.5 ± 0.7"], "73.1"]
    assert "2.5 ± 0.0" in text  # the mean of the shifts 1 to 4
    means = means_of(text, "With each image alone")
    assert means[:6] == [6 * [f"{201.5 + 10 * number}"] for number in range(6)]
    assert means[6] == 2 * ["4.0", "6.7", "10.0"]  # of five classes of equal share
    sure = means_of(text, "How sure")
    assert [row[0] for row in sure] == [f"{301.5 + 10 * number}" for number in range(6) for _ in range(2)]
    assert sure[0] == [*7 * ["301.5"], "-101.5"]
    assert means_of(text, "Names of what is not there") == [8 * [f"{401.5 + 10 * run}"] for run in (0, 0, 3, 3)]
    alone = means_of(text, "One name alone")
    assert [row[0] for row in alone[:2]] == ["201.5", "501.5"] and len(alone) == 8
    assert picture.stat().st_size > 10_000


def test_one_seed_has_no_spread(output):
    tables = write_report(output, SEEDS[:1])[1].read_text()
    assert "±" not in tables and "31.0" in tables


def test_the_steps_of_a_seed_hang_together(tmp_path):
    steps = build_steps(tmp_path, SEEDS, Schedule().scaled(0.01))
    names = [step.name for step in steps]
    assert len(set(names)) == len(names) == 4 + 2 * (3 + 1 + len(STAGE_1) + len(VARIANTS) + len(BASELINES) + 4 + 8)
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
