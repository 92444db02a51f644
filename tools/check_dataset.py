#!/usr/bin/env python
r"""Check datasets, and say what a person should fix, worst first.

python tools/check_dataset.py --config-file datasets/flood_config.yaml             # what the config trains and tests on
python tools/check_dataset.py synthetic_train synthetic_val
python tools/check_dataset.py my_datasets.yaml --json --opts INPUT.SAR.SCALE db    # all that a file declares

Found are files without partner, of one name, or that cannot be read; pairs on different grids; RGB, SAR and labels that
cannot be used with the settings under INPUT; NaN, blank images, SAR outside INPUT.SAR.RANGE; images that occur twice;
places and images that two datasets share; classes without a name of their own or in no label map.

Exit status: 0, training can run (there may be warnings); 1, it would stop; 2, the command line is wrong.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from mm_ovseg.command_line import clean_exit
from mm_ovseg.data import register_datasets_from_file
from mm_ovseg.data.check.dataset_check import check_datasets
from mm_ovseg.data.check.findings import ERROR, Finding, report_lines
from mm_ovseg.data.pair_reader import PairReader
from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset
from mm_ovseg.engine import load_config
from mm_ovseg.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help="datasets, or YAML files that declare them "
                        "(default: DATASETS.TRAIN and DATASETS.TEST of --config-file)")  # fmt: skip
    parser.add_argument("--dataset-file", action="append", default=[], metavar="YAML", help="declares datasets")
    parser.add_argument("--config-file", type=Path, help="how files are read (default: configs/base.yaml)")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="files of a kind; 0: all (default: 20)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON instead")
    parser.add_argument("--workers", type=int, help="threads that read (default: one for each core)")
    parser.add_argument("--opts", nargs=argparse.REMAINDER, default=[], help="config overrides: KEY VALUE ...")
    return parser.parse_args(arguments)


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Check, print, and say by the exit status whether training would stop."""
    args = parse_arguments(arguments)
    if args.show < 0 or (args.workers is not None and args.workers < 1):
        raise ConfigError("--show needs 0 or more, and --workers 1 or more.")
    cfg = load_config(args.config_file or ROOT / "configs" / "base.yaml", [*args.opts, "MODEL.DEVICE", "cpu"])
    datasets = _find_datasets(args, cfg)
    findings = check_datasets(datasets, PairReader.from_config(cfg), workers=args.workers)
    if args.json:
        report = {
            "datasets": [dataset.name for dataset in datasets],
            "findings": [entry.to_dict() for entry in findings],
        }
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        _print_report(datasets, findings, args.show)
    sys.exit(int(any(finding.severity == ERROR for finding in findings)))


def _find_datasets(args: argparse.Namespace, cfg: CfgNode) -> list[RGBSARDataset]:
    """The declarations of the datasets to check."""
    for path in args.dataset_file:
        register_datasets_from_file(path)
    names: list[str] = []
    for name in args.names:
        names += register_datasets_from_file(name) if Path(name).suffix in (".yaml", ".yml") else [name]
    if not args.names and args.config_file is not None:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names and args.dataset_file:
        raise ConfigError("--dataset-file declares datasets; name those to check, or give the file in their place.")
    if not names:
        raise ConfigError("There is nothing to check; give a dataset's name, a YAML file, or --config-file.")
    declarations = []
    for name in dict.fromkeys(names):
        declaration = MetadataCatalog.get(name).get("declaration") if name in DatasetCatalog else None
        if declaration is None:
            raise ConfigError(
                f"There is no RGB-SAR dataset '{name}'; declare it with --dataset-file (see datasets/README.md), or "
                "give the config that lists it in DATASETS.FILES."
            )
        declarations.append(declaration)
    return declarations


def _print_report(datasets: Sequence[RGBSARDataset], findings: Sequence[Finding], max_shown: int) -> None:
    places = {}
    for dataset in datasets:
        places.setdefault(str(dataset.folder), []).append(dataset.name)
    for place, names in places.items():
        print(f"{', '.join(names)}: {place}")
    print(*report_lines(findings, max_shown=max_shown, shorten=list(places)), sep="\n")
    if not findings:
        print("Nothing is wrong.")


if __name__ == "__main__":
    main()
