r"""Export a trained model to a file that runs without this package, and the text embeddings of class names.

mm-ovseg export --config-file configs/quickstart/demo.yaml --output output/export/model.onnx \
    --classes "water,road,settlement" --text-output output/export/classes.npy
mm-ovseg export --config-file configs/mm_ovseg_vitb16_384.yaml --output model.pt2 --without-sar \
    --opts MODEL.WEIGHTS model.pth
mm-ovseg export --config-file configs/quickstart/demo.yaml --classes "lake;wood" --text-output more.npy

model.onnx runs in onnxruntime, model.pt2 in PyTorch (torch.export.load). Inputs are image and sar_image (B, 3, H, W),
0..255, and text_embeddings (P, T, C), for any classes and any number and size of images. Outputs are scores
(B, T, H, W), 0..1, and the logits from which they are computed. Every export is checked against PyTorch. ONNX needs
pip install 'mm_ovseg[export]'; docs/EXPORT.md shows how to use the files.
"""

import argparse
import json
import time
from pathlib import Path
from typing import TYPE_CHECKING

import mm_ovseg
from mm_ovseg.cli.arguments import add_config_arguments
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

PLACEHOLDER_NAMES = ("class",)  # the model needs a vocabulary, the exported graph does not


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the model, and the two files to write."""
    add_config_arguments(parser)
    parser.add_argument("--output", type=Path, metavar="MODEL", help="the model to write, .onnx or .pt2")
    parser.add_argument("--without-sar", action="store_true", help="leave out the SAR encoders, for RGB alone")
    parser.add_argument(
        "--classes", metavar="NAMES", help='"water,road"; with synonyms: "water,river; road"; or a JSON class file'
    )
    parser.add_argument("--text-output", type=Path, metavar="TEXT", help="their embeddings, .npy or .safetensors")


def run(args: argparse.Namespace) -> None:
    """Export, check and report."""
    import torch

    from mm_ovseg.engine import config_inputs, load_config
    from mm_ovseg.export import SegmentationGraph, write_export, write_text_file
    from mm_ovseg.files import check_outputs
    from mm_ovseg.inference import Predictor
    from mm_ovseg.inference.typed_classes import read_vocabulary, vocabulary_inputs

    _check_arguments(args)
    names = read_vocabulary(args.classes, None).classes if args.classes is not None else PLACEHOLDER_NAMES
    # No dataset is needed; graphs are traced in float32 on the CPU.
    overrides = ["DATASETS.TRAIN", "()", "DATASETS.TEST", "()", "MODEL.DEVICE", "cpu", "MODEL.COMPILE", "False"]
    overrides += ["MODEL.CALIBRATION", "none"]  # its numbers are no part of the graph
    overrides = [*args.opts, *overrides, "MODEL.INFERENCE_DTYPE", "float32"]
    cfg = load_config(args.config_file, overrides, needs_datasets=False)
    outputs = [] if args.output is None else [args.output, Path(f"{args.output}.data")]
    check_outputs(
        {"--output": outputs, "--text-output": [args.text_output]},
        {**config_inputs(cfg, args.config_file), **vocabulary_inputs(args.classes)},
    )
    torch.manual_seed(0)  # for parameters that no checkpoint fills
    model = Predictor(cfg, names).model
    if args.text_output is not None:
        shape = write_text_file(args.text_output, model.text, names)
        print(f"Wrote {args.text_output}: {' x '.join(map(str, shape))} (templates, classes, channels).")
    if args.output is not None:
        start = time.perf_counter()
        graph = SegmentationGraph(model, with_sar=not args.without_sar)
        agreements = write_export(graph, args.output, _describe(args, cfg))
        size = sum(path.stat().st_size for path in outputs if path.exists()) / 1e6
        print(f"Wrote and checked {args.output}: {size:.1f} MB, {time.perf_counter() - start:.0f} s.")
        print("Beside PyTorch:", *(f"  {agreement}" for agreement in agreements), sep="\n")


def _check_arguments(args: argparse.Namespace) -> None:
    """Check that all outputs can be written, before any long computation."""
    from mm_ovseg.export.exported_file import check_export_requirements
    from mm_ovseg.export.text_file import check_text_suffix
    from mm_ovseg.files import check_writable_folder

    if args.output is None and args.text_output is None:
        raise ConfigError("There is nothing to write; give --output, --text-output, or both.")
    if (args.classes is None) != (args.text_output is None):
        raise ConfigError("--classes and --text-output go together; give both or neither.")
    if args.output is not None:
        check_export_requirements(args.output)
        check_writable_folder(args.output.parent)
    if args.text_output is not None:
        check_text_suffix(args.text_output)
        check_writable_folder(args.text_output.parent)


def _describe(args: argparse.Namespace, cfg: "CfgNode") -> dict[str, str]:
    """The metadata of the file."""
    return {
        "mm_ovseg_version": mm_ovseg.__version__,
        "config": Path(args.config_file).name,
        "weights": cfg.MODEL.WEIGHTS or "random",
        "image_size": str(cfg.MODEL.CLIP.IMAGE_SIZE),
        "clip": cfg.MODEL.CLIP.NAME,
        "templates": json.dumps(list(cfg.MODEL.TEXT.TEMPLATES)),
        "sar_scale": cfg.INPUT.SAR.SCALE,
        "sar_range": json.dumps(list(cfg.INPUT.SAR.RANGE)),
    }
