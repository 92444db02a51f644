#!/usr/bin/env python
r"""Convert a published checkpoint to mm_ovseg's names.

python tools/convert_official_checkpoint.py released.pth weights/mm_ovseg_vitb16.safetensors
python tools/convert_official_checkpoint.py dino_sar.pth weights/dino_sar.pth --variant dino

Takes MM-OVSeg, GSNet and CAT-Seg, stage-1 checkpoints, and OpenAI's CLIP, DINO v1 and DINOv3; the names in the file
tell which one it is. Nothing but tensors and plain containers is read from it. Training and demo take published models
as they are, too (MODEL.WEIGHTS); a converted file loads faster, is safe to pass on, and says where it comes from.
"""

import argparse
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import mm_ovseg
from mm_ovseg.checkpoint.files import check_weights_suffix, load_weights_file, local_weights_path, write_weights_file
from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant, find_renames
from mm_ovseg.checkpoint.rename_tables import Rename
from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
from mm_ovseg.command_line import clean_exit
from mm_ovseg.errors import CheckpointError
from mm_ovseg.files import check_outputs, check_writable_folder, sha256


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="IN", help="a published file, local or hf://organisation/repository/file")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write, .safetensors or .pth")
    parser.add_argument("--variant", choices=VARIANTS, help="what IN is (default: as its names tell)")
    return parser.parse_args(arguments)


def describe_fate(rename: Rename) -> str:
    """What becomes of a released tensor."""
    if not rename.targets:
        return f"dropped: {rename.reason}"
    return f"derived: {rename.reason}" if rename.derive else "kept, under our name"


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one file."""
    args = parse_arguments(arguments)
    check_weights_suffix(args.output)
    source = local_weights_path(args.input)
    check_outputs({"name for the result": [args.output]}, {"the file to convert": [source]})
    check_writable_folder(args.output.parent)
    state_dict = unwrap_state_dict(load_weights_file(source))
    try:
        renames = find_renames(state_dict, args.variant)
        converted = convert_official_state_dict(state_dict, args.variant)
    except CheckpointError as error:
        raise CheckpointError(f"{args.input}: {error}") from error
    variant = args.variant or detect_variant(state_dict)

    origin = {
        "source": Path(args.input).name,
        "source_sha256": sha256(source),
        "variant": variant,
        "mm_ovseg_version": mm_ovseg.__version__,
    }
    write_weights_file(args.output, converted, origin)
    print(f"{args.input} is {VARIANTS[variant].title}: {len(state_dict)} tensors into {len(converted)}.")
    for fate, count in Counter(describe_fate(renames[name]) for name in state_dict).items():
        print(f"  {count:4d} {fate}")
    print(f"Wrote {args.output}, to be given as {VARIANTS[variant].use}.")


if __name__ == "__main__":
    main()
