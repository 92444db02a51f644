#!/usr/bin/env python
"""Find the clusters of pixels of the real pairs again, and draw them for a person to name.

python projects/sentinel/find_clusters.py --pairs datasets/sentinel/pairs --output output/clusters

It writes clusters.json, without names ("names" is to be filled in by hand, null where a cluster is mixed), and for each
group a picture with a row for each cluster: pixels of it in the middle of their surroundings, in RGB, then in SAR.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mm_ovseg.cli.clean_exit import clean_exit
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_writable_folder, write_json
from sentinel.archive import write_image
from sentinel.labels import GROUPS, find_clusters, nearest_cluster, read_pair, sample_group

SIDE, PER_ROW = 64, 14  # pixels of a chip, chips of a row


def draw_clusters(places: list[tuple[Path, int, int]], nearest: np.ndarray, count: int) -> np.ndarray:
    """A row of chips for each cluster, uint8 (H, W, 3): half of them RGB, then the same in SAR."""
    rows = []
    rng = np.random.default_rng(0)
    for index in range(count):
        members = np.flatnonzero(nearest == index)
        chosen = rng.choice(members, min(PER_ROW // 2, len(members)), replace=False)
        chips = [_chip(*places[member]) for member in chosen]
        chips += [(np.zeros((SIDE, SIDE, 3), np.uint8),) * 2] * (PER_ROW // 2 - len(chips))
        rows.append(np.concatenate([chip[0] for chip in chips] + [chip[1] for chip in chips], axis=1))
    return np.concatenate(rows)


def _chip(path: Path, row: int, column: int) -> tuple[np.ndarray, np.ndarray]:
    """The surroundings of a pixel in RGB and SAR, with a red mark around it, and a black line above and beside."""
    chips = []
    for image in read_pair(path):
        image = np.pad(image.astype(np.uint8), ((SIDE // 2, SIDE // 2), (SIDE // 2, SIDE // 2), (0, 0)))
        chip = image[row : row + SIDE, column : column + SIDE].copy()
        middle = slice(SIDE // 2 - 4, SIDE // 2 + 5)
        mark = np.zeros((SIDE, SIDE), bool)
        mark[middle, middle] = True
        mark[SIDE // 2 - 3 : SIDE // 2 + 4, SIDE // 2 - 3 : SIDE // 2 + 4] = False
        chip[mark] = (255, 0, 0)
        chip[0] = chip[:, 0] = 0
        chips.append(chip)
    return chips[0], chips[1]


@clean_exit
def main(arguments: Sequence[str] | None = None) -> None:
    """Find and draw the clusters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=Path, required=True, help="folder of the pairs, as prepare.py writes them")
    parser.add_argument("--output", type=Path, required=True, help="folder to write")
    args = parser.parse_args(arguments)
    check_writable_folder(args.output)
    output = args.output / "clusters.json"
    if output.exists():
        raise DataError(f"{output} exists, and may hold names; choose another folder.")
    samples = {group: sample_group(args.pairs / "train", group) for group in GROUPS}
    found = {}
    for group, (places, features) in samples.items():
        count = GROUPS[group][0]
        found[group] = find_clusters(features, count)
        found[group]["names"] = [None] * count
        nearest = nearest_cluster(features[None], found[group])[0][0]
        write_image(args.output / f"{group}.tif", draw_clusters(places, nearest, count))
        print(args.output / f"{group}.tif", flush=True)
    write_json(output, found)
    print(output)


if __name__ == "__main__":
    main()
