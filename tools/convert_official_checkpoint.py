#!/usr/bin/env python
r"""Convert a published checkpoint to mm_ovseg's names.

python tools/convert_official_checkpoint.py released.pth weights/mm_ovseg_vitb16.safetensors
python tools/convert_official_checkpoint.py dino_sar.pth weights/dino_sar.pth --variant dino

Takes MM-OVSeg, GSNet and CAT-Seg, stage-1 checkpoints, and OpenAI's CLIP, DINO v1 and DINOv3; the names in the file
tell which one it is. Nothing but tensors and plain containers is read from it. Training and demo take published models
as they are, too (MODEL.WEIGHTS); a converted file loads faster, is safe to pass on, and says where it comes from.
"""

import argparse
import hashlib
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

import mm_ovseg
from mm_ovseg.checkpoint.files import load_weights_file, local_weights_path
from mm_ovseg.checkpoint.layouts import Entry
from mm_ovseg.checkpoint.official import VARIANTS, convert_official_state_dict, detect_variant, find_layout
from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
from mm_ovseg.command_line import clean_exit
from mm_ovseg.errors import CheckpointError, DataError, brief_reason
from mm_ovseg.files import check_writable_folder, complete_file

SUFFIXES = (".pth", ".safetensors")


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="IN", help="a published file, local or hf://organisation/repository/file")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write, .safetensors or .pth")
    parser.add_argument("--variant", choices=VARIANTS, help="what IN is (default: as its names tell)")
    return parser.parse_args(arguments)


def sha256(path: Path) -> str:
    """The hash of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def describe_fate(entry: Entry) -> str:
    """What becomes of a released tensor."""
    if not entry.targets:
        return f"dropped: {entry.reason}"
    return f"derived: {entry.reason}" if entry.derive else "kept, under our name"


def write_checkpoint(path: Path, state_dict: Mapping[str, torch.Tensor], origin: Mapping[str, str]) -> None:
    """Write tensors and where they come from, as safetensors or as Detectron2 does, by the suffix.

    Raises:
        DataError: the file cannot be written.
    """
    try:
        with complete_file(path) as temporary:
            if path.suffix == ".safetensors":
                # Copies, since safetensors takes no tensors that share memory.
                tensors = {
                    name: tensor.clone(memory_format=torch.contiguous_format) for name, tensor in state_dict.items()
                }
                save_file(tensors, temporary, metadata={"format": "pt", **origin})
                umask = os.umask(0)
                os.umask(umask)
                temporary.chmod(0o666 & ~umask)  # safetensors closes its files to everybody else
            else:
                torch.save({"model": dict(state_dict), "conversion": dict(origin)}, temporary)
    except (RuntimeError, SafetensorError) as error:  # what torch and safetensors make of a full disk
        raise DataError(
            f"{path} cannot be written ({brief_reason(error)}); check the space there, or choose another place."
        ) from error


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Convert one file."""
    args = parse_arguments(arguments)
    if args.output.suffix not in SUFFIXES:
        raise CheckpointError(f"{args.output} has no suffix that says its format; use .safetensors or .pth.")
    source = local_weights_path(args.input)
    if args.output.exists() and args.output.samefile(source):
        raise CheckpointError(f"{args.output} is the file to convert; choose another name for the result.")
    check_writable_folder(args.output.parent)
    state_dict = unwrap_state_dict(load_weights_file(source))
    try:
        layout = find_layout(state_dict, args.variant)
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
    write_checkpoint(args.output, converted, origin)
    print(f"{args.input} is {VARIANTS[variant].title}: {len(state_dict)} tensors into {len(converted)}.")
    for fate, count in Counter(describe_fate(layout[name]) for name in state_dict).items():
        print(f"  {count:4d} {fate}")
    print(f"Wrote {args.output}, to be given as {VARIANTS[variant].use}.")


if __name__ == "__main__":
    main()
