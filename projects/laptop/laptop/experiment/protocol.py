"""The comparisons of the laptop experiment, as command lines."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laptop.drawn_world import SYNTHETIC_CLASSES, SYNTHETIC_UNSEEN_CLASSES
from laptop.experiment.runner import Step

__all__ = [
    "ANSWERING",
    "ANSWER_DATASETS",
    "BASELINES",
    "MODALITIES",
    "STAGE_1",
    "TEST_DATASETS",
    "VARIANTS",
    "Baseline",
    "Schedule",
    "Variant",
    "build_steps",
    "shifted_names",
]

TEST_DATASETS = ("laptop_val", "laptop_clear_val", "laptop_region_b_val")
STAGE_1 = {  # name: config and its overrides
    "infonce": ("cmu.yaml", ()),
    "mse": ("cmu.yaml", ("CMU.LOSS", "mse")),
    "l1": ("cmu.yaml", ("CMU.LOSS", "l1")),
    "clip": ("cmu_clip.yaml", ()),
}


@dataclass(frozen=True)
class Variant:
    """One model of stage 2.

    Attributes:
        title: for tables.
        dino_sar: initial weights of the SAR dense encoder: a name in ``STAGE_1``, "rgb" for the RGB weights, or None
            for no SAR encoder.
        clip_sar: the same for CLIP.
        paper: its mIoU in the paper, setting 2, in percent.
        dino: whether there is a dense encoder.
        fitted: whether its projection into the text space starts from CLIP's features; the paper's starts at random.
        dropped: whether training leaves an image out of some pairs, as the config says; the paper's does not.
    """

    title: str
    dino_sar: str | None
    clip_sar: str | None
    paper: float
    dino: bool = True
    fitted: bool = True
    dropped: bool = False


VARIANTS = {
    "clip_only": Variant("optical only, CLIP alone (as CAT-Seg)", None, None, 54.2, dino=False),
    "optical_only": Variant("optical only", None, None, 55.0),
    "no_cmu": Variant("SAR encoder with RGB weights (no CMU)", "rgb", None, 64.1),
    "full": Variant("DINO-SAR by InfoNCE (the method)", "infonce", None, 73.1),
    "unfitted": Variant("the method, its projection from random", "infonce", None, 73.1, fitted=False),
    "dropped": Variant("the method, trained with dropped modalities", "infonce", None, 73.1, dropped=True),
    "clip_sar": Variant("CLIP-SAR only", None, "clip", 65.4),
    "both": Variant("CLIP-SAR and DINO-SAR", "infonce", "clip", 66.5),
    "mse": Variant("DINO-SAR by MSE", "mse", None, 67.7),
    "l1": Variant("DINO-SAR by L1", "l1", None, 69.0),
}


# These are calibrated, and evaluated with both images and with each alone (TEST.MODALITIES).
ANSWERING = ("full", "dropped")
MODALITIES = {"both": "RGB and SAR", "rgb": "RGB alone", "sar": "SAR alone"}
ANSWER_DATASETS = TEST_DATASETS[:2]
CALIBRATION_DATASETS = ("laptop_calibration", "laptop_clear_calibration")
ABSENT_NAMES = 20


@dataclass(frozen=True)
class Baseline:
    """One of the paper's other systems, from RGB alone.

    Attributes:
        title, paper: as of a :class:`Variant`.
        config: its file.
        trained: whether it is trained, with the schedule of stage 2.
        sam: whether it has an encoder that stands in for SAM's.
    """

    title: str
    paper: float
    config: str
    trained: bool = True
    sam: bool = False


BASELINES = {
    "segearth_ov": Baseline("SegEarth-OV, not trained", 17.6, "segearth_ov.yaml", trained=False),
    "ebseg": Baseline("EBSeg", 51.1, "ebseg.yaml", sam=True),
    "fgaseg": Baseline("FGAseg", 51.6, "fgaseg.yaml"),
}


@dataclass(frozen=True)
class Schedule:
    """The amount of data and training.

    Attributes:
        train_scenes, test_scenes, calibration_scenes: numbers of synthetic scenes.
        clip, dense, sam, stage_1, stage_2: iterations.
    """

    train_scenes: int = 160
    test_scenes: int = 48
    calibration_scenes: int = 24
    clip: int = 600
    dense: int = 500
    sam: int = 500
    stage_1: int = 400
    stage_2: int = 400

    def scaled(self, factor: float) -> "Schedule":
        """The schedule with all numbers scaled, for quick trials."""
        return Schedule(**{name: max(2, round(value * factor)) for name, value in vars(self).items()})


def shifted_names(shift: int) -> tuple[str, ...]:
    """The class names, each assigned to another class, so that a model is asked for the wrong names."""
    return (*SYNTHETIC_CLASSES[shift:], *SYNTHETIC_CLASSES[:shift])


def build_steps(output: Path, seeds: Sequence[int], schedule: Schedule) -> list[Step]:
    """All command lines of the experiment; also writes the class files of the shifted names.

    Args:
        output: folder for everything.
        seeds: everything is trained for each, including encoders.
        schedule: iterations and scenes.
    """
    datasets = output / "datasets" / "laptop"
    steps = []
    for name, seed, counts, extra in (
        ("region_a", 0, (schedule.train_scenes, 0), ("--size", "192")),
        ("region_a_test", 1, (0, schedule.test_scenes), ("--size", "64")),
        ("region_a_calibration", 5, (0, schedule.calibration_scenes), ("--size", "64")),
        ("region_b_test", 2, (0, schedule.test_scenes), ("--size", "64", "--domain", "b")),
    ):
        numbers = ("--num-train", str(counts[0]), "--num-val", str(counts[1]), "--seed", str(seed))
        command = ("projects/laptop/write_scenes.py", str(datasets / name), *numbers, *extra)
        steps.append(Step(name, command, datasets / name / "manifest.json"))
    scenes = tuple(step.name for step in steps)
    for shift in range(1, len(SYNTHETIC_CLASSES)):
        file = shifted_names_file(output, shift)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"classes": shifted_names(shift), "unseen": SYNTHETIC_UNSEEN_CLASSES}))
    for seed in seeds:
        steps += _steps_of_seed(output, seed, schedule, scenes)
    return steps


def shifted_names_file(output: Path, shift: int) -> Path:
    """The path of a class file with shifted names."""
    return output / "names" / f"shifted_by_{shift}.json"


def _steps_of_seed(output: Path, seed: int, schedule: Schedule, scenes: tuple[str, ...]) -> list[Step]:
    folder = output / f"seed_{seed}"
    pretrained = {encoder: folder / f"{encoder}.safetensors" for encoder in ("clip", "dense", "sam")}
    steps = [
        Step(
            f"seed_{seed}-{encoder}",
            ("projects/laptop/pretrain.py", encoder, "--dataset", "laptop_clear_train")
            + (("--config-file", "projects/laptop/configs/ebseg.yaml") if encoder == "sam" else ())
            + ("--iterations", str(getattr(schedule, encoder)), "--seed", str(seed), "--output", str(file)),
            file,
            scenes,
        )
        for encoder, file in pretrained.items()
    ]
    encoders = (f"seed_{seed}-clip", f"seed_{seed}-dense")
    weights = (
        "MODEL.CLIP.PRETRAINED",
        str(pretrained["clip"]),
        "MODEL.DENSE_ENCODER.PRETRAINED",
        str(pretrained["dense"]),
    )

    def train_net(
        name: str,
        config: str,
        options: Sequence[object],
        needs: Sequence[str] = (),
        *,
        flags: Sequence[str] = (),
        result: str = "model_final.pth",
    ) -> Step:
        command = ("train_net.py", "--config-file", f"projects/laptop/configs/{config}", *flags)
        command += (*weights, "SEED", seed, "OUTPUT_DIR", folder / name, *options)
        return Step(f"seed_{seed}-{name}", tuple(map(str, command)), folder / name / result, (*encoders, *needs))

    # With a learning rate of 0, the student remains the initial copy of its teacher.
    steps.append(train_net("cmu_before", "cmu.yaml", ("SOLVER.MAX_ITER", 1, "SOLVER.BASE_LR", 0.0)))
    for name, (config, options) in STAGE_1.items():
        steps.append(train_net(f"cmu_{name}", config, ("SOLVER.MAX_ITER", schedule.stage_1, *options)))
    for name, variant in VARIANTS.items():
        options, needs = ["SOLVER.MAX_ITER", schedule.stage_2, "MODEL.DENSE_ENCODER.ENABLED", variant.dino], []
        if not variant.fitted:
            options += ["MODEL.DENSE_ENCODER.FIT_DATASET", ""]
        if not variant.dropped:
            options += ["INPUT.DROP_RGB", 0.0, "INPUT.DROP_SAR", 0.0]
        for key, source in (("DENSE_ENCODER_SAR", variant.dino_sar), ("CLIP_SAR", variant.clip_sar)):
            options += [f"MODEL.{key}.ENABLED", source is not None]
            if source == "rgb":
                options += [f"MODEL.{key}.WEIGHTS", pretrained["dense"]]
            elif source is not None:
                options += [f"MODEL.{key}.WEIGHTS", folder / f"cmu_{source}" / "model_final.pth"]
                needs.append(f"seed_{seed}-cmu_{source}")
        steps.append(train_net(name, "mm_ovseg.yaml", options, needs))
    for name, baseline in BASELINES.items():
        options, needs = ["SOLVER.MAX_ITER", schedule.stage_2, "MODEL.DENSE_ENCODER.FIT_DATASET", ""], []
        if baseline.sam:
            options += ["MODEL.EBSEG.SAM.PRETRAINED", pretrained["sam"]]
            needs.append(f"seed_{seed}-sam")
        result = {"flags": ("--eval-only",), "result": f"inference/{TEST_DATASETS[-1]}/sem_seg_evaluation.json"}
        steps.append(train_net(name, baseline.config, options, needs, **({} if baseline.trained else result)))
    for name in ANSWERING:
        steps += _steps_of_answers(name, folder / name / "model_final.pth", seed, train_net)
    cloudy = TEST_DATASETS[0]
    full = ("MODEL.WEIGHTS", folder / "full" / "model_final.pth")
    for shift in range(1, len(SYNTHETIC_CLASSES)):
        prompts = ("DATASETS.TEST", f"('{cloudy}',)", "TEST.PROMPT_FILES", f"('{shifted_names_file(output, shift)}',)")
        steps.append(
            train_net(
                f"shifted_{shift}",
                "mm_ovseg.yaml",
                (*full, *prompts),
                (f"seed_{seed}-full",),
                flags=("--eval-only",),
                result=f"inference/{cloudy}/sem_seg_evaluation.json",
            )
        )
    return steps


def _steps_of_answers(name: str, model: Path, seed: int, train_net: Callable[..., Step]) -> list[Step]:
    """Calibrate a model, and evaluate it with what it is shown, and with the two tests of an open vocabulary."""
    command = ("-m", "mm_ovseg", "calibrate", "--config-file", "projects/laptop/configs/mm_ovseg.yaml")
    command += ("--dataset", *CALIBRATION_DATASETS, "--opts", "MODEL.WEIGHTS", str(model))
    calibrate = Step(
        f"seed_{seed}-{name}_calibration",
        command,
        model.with_name("model_final.calibration.json"),  # where evaluations find it
        (f"seed_{seed}-{name}", "region_a_calibration"),
    )
    steps = [calibrate]
    result = f"inference/{ANSWER_DATASETS[-1]}/sem_seg_evaluation.json"
    for modality in MODALITIES:
        options = ["MODEL.WEIGHTS", model, "DATASETS.TEST", str(ANSWER_DATASETS), "TEST.MODALITIES", modality]
        if modality == "both":
            options += ["TEST.ABSENT_NAMES", ABSENT_NAMES, "TEST.SINGLE_NAMES", True]
        needs = (*calibrate.needs[:1], calibrate.name)
        run = f"{name}_{modality}"
        steps.append(train_net(run, "mm_ovseg.yaml", options, needs, flags=("--eval-only",), result=result))
    return steps
