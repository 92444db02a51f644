#!/usr/bin/env python
r"""Write only the weights of a checkpoint, in a file that is small and safe to share.

python tools/publish_weights.py output/mm_ovseg_vitb16_384/model_best.pth flood.safetensors --half

Training checkpoints also hold the optimiser and the schedule. --half stores the weights in 16 bits; models still
compute in 32 bits. Use the result as MODEL.WEIGHTS, with the config of the training.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

import mm_ovseg
from mm_ovseg.checkpoint.state_dict import unwrap_state_dict
from mm_ovseg.checkpoint.weights_file import (
    check_weights_suffix,
    load_weights_file,
    local_weights_path,
    write_weights_file,
)
from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import CheckpointError
from mm_ovseg.files import check_outputs, check_writable_folder, sha256


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("input", metavar="IN", help="a checkpoint of train_net.py")
    parser.add_argument("output", metavar="OUT", type=Path, help="the file to write, .safetensors or .pth")
    parser.add_argument("--half", action="store_true", help="store 16 bits per number")
    return parser.parse_args(arguments)


def halve(name: str, tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in 16 bits, if it holds floating-point numbers.

    Raises:
        CheckpointError: it has a finite value beyond the limit of 16 bits.
    """
    if not tensor.is_floating_point():
        return tensor
    half = tensor.half()
    if not torch.equal(half.isfinite(), tensor.isfinite()):
        raise CheckpointError(f"{name} has values beyond ±65504, the limit of 16 bits; leave out --half.")
    return half


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Write one file."""
    args = parse_arguments(arguments)
    check_weights_suffix(args.output)
    source = local_weights_path(args.input)
    check_outputs({"name for the result": [args.output]}, {"the checkpoint": [source]})
    check_writable_folder(args.output.parent)
    try:
        state_dict = unwrap_state_dict(load_weights_file(source))
        if args.half:
            state_dict = {name: halve(name, tensor) for name, tensor in state_dict.items()}
    except CheckpointError as error:
        raise CheckpointError(f"{args.input}: {error}") from error
    origin = {
        "source": Path(args.input).name,
        "source_sha256": sha256(source),
        "mm_ovseg_version": mm_ovseg.__version__,
    }
    write_weights_file(args.output, state_dict, origin)
    sizes = [path.stat().st_size / 1e6 for path in (source, args.output)]
    print(f"{args.output}: {len(state_dict)} tensors, {sizes[1]:.1f} MB instead of {sizes[0]:.1f}.")


if __name__ == "__main__":
    main()
