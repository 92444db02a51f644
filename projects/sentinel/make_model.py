#!/usr/bin/env python
r"""Make the small Sentinel model from the training sets: data, text tower, RGB encoders, both stages, calibration.

python projects/sentinel/make_model.py --source ../shared/realtrain --output output/sentinel   # hours on two cores
python projects/sentinel/make_model.py --source ../shared/realtrain --output output/sentinel --seeds 1 --dry-run

Every step is a command line, which --dry-run prints. Finished steps are not repeated, and interrupted trainings
continue. The encoders of stage 0 are those of seed 1; both stages are trained for each seed. Needs the packages of
projects/sentinel/requirements.txt.
"""

import argparse
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import TrainingError

ROOT = Path(__file__).resolve().parents[2]
Step = tuple[Path, list[str]]  # a file that exists once the step is done, and the arguments of Python


def build_steps(source: Path, output: Path, seeds: Sequence[int]) -> Iterator[Step]:
    """The steps in order; ``output / "datasets"`` is $DETECTRON2_DATASETS."""
    project = "projects/sentinel"
    data, text = output / "datasets" / "sentinel", output / "text"
    encoders = {name: output / f"{name}.safetensors" for name in ("teacher", "clip", "dense")}
    yield data / "complete.json", [f"{project}/prepare.py", "--source", str(source), "--output", str(data)]
    captions = str(source / "aid_captions.csv")
    yield (
        text / "text_seed1.safetensors",
        [f"{project}/distil_text.py", "--captions", captions, "--output", str(text)],
    )
    pretrain = [f"{project}/pretrain.py", "--source", str(source), "--text", str(text), "--output"]
    teacher = ["--teacher", str(encoders["teacher"])]
    yield encoders["teacher"], [*pretrain, str(encoders["teacher"]), "teacher"]
    yield encoders["clip"], [*pretrain, str(encoders["clip"]), *teacher, "clip"]
    pairs = ["--pairs", str(data / "pairs" / "train" / "rgb")]
    yield encoders["dense"], [*pretrain, str(encoders["dense"]), *teacher, *pairs, "dense"]
    for seed in seeds:
        yield from _training_steps(output, encoders, seed)


def _training_steps(output: Path, encoders: dict[str, Path], seed: int) -> Iterator[Step]:
    """Both stages of one seed, its weights in 16 bits, and their calibration."""
    folder = output / f"seed_{seed}"
    stage_1, stage_2, weights = folder / "cmu", folder / "mm_ovseg", folder / "sentinel.safetensors"
    train = ["train_net.py", "--resume", "--config-file"]
    common = ["MODEL.DENSE_ENCODER.PRETRAINED", str(encoders["dense"]), "SEED", str(seed), "MODEL.DEVICE", "cpu"]
    yield (
        stage_1 / "model_final.pth",
        [*train, "configs/sentinel/cmu.yaml", *common, "OUTPUT_DIR", str(stage_1)],
    )
    yield (
        stage_2 / "model_final.pth",
        [*train, "configs/sentinel/mm_ovseg.yaml", *common, "OUTPUT_DIR", str(stage_2)]
        + ["MODEL.CLIP.PRETRAINED", str(encoders["clip"])]
        + ["MODEL.DENSE_ENCODER_SAR.WEIGHTS", str(stage_1 / "model_final.pth")],
    )
    yield weights, ["tools/publish_weights.py", str(stage_2 / "model_final.pth"), str(weights), "--half"]
    yield (
        weights.with_name("sentinel.calibration.json"),
        ["-m", "mm_ovseg", "calibrate", "--config-file", "configs/sentinel/mm_ovseg.yaml"]
        + ["--dataset", "sentinel_pairs_calibration", "sentinel_mosaics_val"]
        + ["--opts", "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights)],
    )


def run_step(done: Path, command: Sequence[str], datasets: Path) -> None:
    """Run a step in the repository's folder unless its file exists.

    Raises:
        TrainingError: it fails.
    """
    if done.exists():
        print(f"{done} is there.", flush=True)
        return
    print(f"$ python {shlex.join(command)}", flush=True)
    environment = {"DETECTRON2_DATASETS": str(datasets), "HF_HUB_OFFLINE": "1"}
    paths = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    result = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env={**os.environ, **environment, "PYTHONPATH": paths}, check=False
    )
    if result.returncode or not done.exists():
        raise TrainingError(
            f"'python {shlex.join(command)}' failed: see above, then run the same command again to continue there."
        )


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Run the unfinished steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="folder of the training sets")
    parser.add_argument("--output", type=Path, default=Path("output/sentinel"), help="(default: output/sentinel)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2], help="random seeds (default: 1 2)")
    parser.add_argument("--dry-run", action="store_true", help="print the command lines and stop")
    args = parser.parse_args(arguments)
    output = args.output.resolve()
    for done, command in build_steps(args.source.resolve(), output, args.seeds):
        if args.dry_run:
            print(f"DETECTRON2_DATASETS={shlex.quote(str(output / 'datasets'))} python {shlex.join(command)}")
        else:
            run_step(done, command, output / "datasets")


if __name__ == "__main__":
    main()
