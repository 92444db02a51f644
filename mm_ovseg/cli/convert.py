"""Convert a published checkpoint to mm_ovseg's names.

mm-ovseg convert released.pth weights/mm_ovseg_vitb16.safetensors
mm-ovseg convert dino_sar.pth weights/dino_sar.pth --variant dino

Reads checkpoints of MM-OVSeg, GSNet, CAT-Seg, EBSeg, FGAseg, SegEarth-OV's upsampler, stage 1, OpenAI's CLIP, DINO v1
and DINOv3, and recognises them by their parameter names. Only tensors and plain containers are unpickled. Published
checkpoints also work unconverted (MODEL.WEIGHTS); a converted file loads faster, is safe to share, and records its
origin.
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import mm_ovseg
from mm_ovseg.errors import CheckpointError

if TYPE_CHECKING:
    from mm_ovseg.checkpoint.rename_tables import Rename

# As in mm_ovseg.checkpoint.official.
VARIANTS = ("vitb16", "vitl14", "gsnet", "catseg", "ebseg", "fgaseg", "segearth", "dino", "dinov3", "clip")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the two files, and the kind of the first one."""
    parser.add_argument("input", metavar="IN", help="a published file, local or hf://organisation/repository/file")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write, .safetensors or .pth")
    parser.add_argument("--variant", choices=VARIANTS, help="kind of checkpoint (default: found by parameter names)")


def run(args: argparse.Namespace) -> None:
    """Convert one file."""
    from mm_ovseg.checkpoint import official
    from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
    from mm_ovseg.checkpoint.weights_file import (
        check_weights_suffix,
        load_weights_file,
        local_weights_path,
        write_weights_file,
    )
    from mm_ovseg.files import check_outputs, check_writable_folder, sha256

    check_weights_suffix(args.output)
    source = local_weights_path(args.input)
    check_outputs({"name for the result": [args.output]}, {"the file to convert": [source]})
    check_writable_folder(args.output.parent)
    state_dict = unwrap_state_dict(load_weights_file(source))
    try:
        renames = official.find_renames(state_dict, args.variant)
        converted = official.convert_official_state_dict(state_dict, args.variant)
    except CheckpointError as error:
        raise CheckpointError(f"{args.input}: {error}") from error
    name = args.variant or official.detect_variant(state_dict)
    origin = {
        "source": Path(args.input).name,
        "source_sha256": sha256(source),
        "variant": name,
        "mm_ovseg_version": mm_ovseg.__version__,
    }
    write_weights_file(args.output, converted, origin)
    variant = official.VARIANTS[name]
    print(f"{args.input} is {variant.title}: {len(state_dict)} tensors into {len(converted)}.")
    for fate, count in Counter(_describe_fate(renames[name]) for name in state_dict).items():
        print(f"  {count:4d} {fate}")
    print(f"Wrote {args.output}; use it as {variant.use}.")


def _describe_fate(rename: "Rename") -> str:
    if not rename.targets:
        return f"dropped: {rename.reason}"
    return f"derived: {rename.reason}" if rename.derive else "renamed"
