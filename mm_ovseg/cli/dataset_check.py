"""Check datasets, and list what to fix, worst first.

mm-ovseg dataset check --config-file datasets/flood_config.yaml           # the datasets of a config
mm-ovseg dataset check pie_cloud_train pie_cloud_val
mm-ovseg dataset check my_datasets.yaml --json --opts INPUT.SAR.SCALE db  # all datasets of a file

Reports files that have no partner, share a name, or cannot be read; pairs on different grids; RGB, SAR and labels that
do not fit the settings under INPUT; NaN, blank images, and SAR outside INPUT.SAR.RANGE; duplicate images; places and
images shared by two datasets; classes with duplicate names, or without any labelled pixel.

Exit status: 0, training can run (there may be warnings); 1, training would fail; 2, the command line is wrong.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mm_ovseg.cli.arguments import add_config_arguments, add_dataset_file_argument
from mm_ovseg.errors import ConfigError

if TYPE_CHECKING:
    from detectron2.config import CfgNode

    from mm_ovseg.data.rgb_sar_dataset import RGBSARDataset


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the datasets, the config, and the options of the report."""
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="datasets, or YAML files that declare them (default: DATASETS.TRAIN and DATASETS.TEST of --config-file)",
    )
    add_dataset_file_argument(parser)
    add_config_arguments(parser, required=False, help="config with the INPUT settings (default: configs/base.yaml)")
    parser.add_argument("--show", type=int, default=20, metavar="N", help="files per finding; 0: all (default: 20)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")
    parser.add_argument("--workers", type=int, help="reader threads (default: one per core)")


def run(args: argparse.Namespace) -> None:
    """Check, print, and set the exit status."""
    from mm_ovseg.data.check.dataset_check import check_datasets
    from mm_ovseg.data.check.findings import ERROR, report_lines
    from mm_ovseg.data.pair_reader import PairReader
    from mm_ovseg.data.registration import register_datasets_from_file
    from mm_ovseg.engine import load_config
    from mm_ovseg.shipped import shipped_path

    if args.show < 0 or (args.workers is not None and args.workers < 1):
        raise ConfigError("--show needs 0 or more, and --workers 1 or more.")
    for path in args.dataset_file:
        register_datasets_from_file(path)
    cfg = load_config(args.config_file or shipped_path("configs/base.yaml"), [*args.opts, "MODEL.DEVICE", "cpu"])
    datasets = _find_datasets(args, cfg)
    findings = check_datasets(datasets, PairReader.from_config(cfg), workers=args.workers)
    if args.json:
        names = [dataset.name for dataset in datasets]
        report = {"datasets": names, "findings": [finding.to_dict() for finding in findings]}
        print(json.dumps(report, indent=1, ensure_ascii=False))
    else:
        folders = {}
        for dataset in datasets:
            folders.setdefault(str(dataset.folder), []).append(dataset.name)
        print(*(f"{', '.join(names)}: {folder}" for folder, names in folders.items()), sep="\n")
        print(*report_lines(findings, max_shown=args.show, shorten=list(folders)), sep="\n")
        if not findings:
            print("No problems found.")
    sys.exit(int(any(finding.severity == ERROR for finding in findings)))


def _find_datasets(args: argparse.Namespace, cfg: "CfgNode") -> list["RGBSARDataset"]:
    from detectron2.data import MetadataCatalog

    from mm_ovseg.data.registration import check_dataset, register_datasets_from_file

    names: list[str] = []
    for name in args.names:
        names += register_datasets_from_file(name) if Path(name).suffix in (".yaml", ".yml") else [name]
    if not args.names and args.config_file is not None:
        names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    if not names and args.dataset_file:
        raise ConfigError("--dataset-file only declares datasets; name those to check, or give the file itself.")
    if not names:
        raise ConfigError("There is nothing to check; give a dataset's name, a YAML file, or --config-file.")
    names = list(dict.fromkeys(names))
    for name in names:
        check_dataset(name, "The command line")
    return [MetadataCatalog.get(name).declaration for name in names]
