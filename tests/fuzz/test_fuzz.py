"""Every file ends in a result or in an error of ours: not in another library's, a crash or a hang.

``make test`` tries a few hundred inputs, ``make fuzz`` a hundred thousand, or as many as MM_OVSEG_FUZZ_INPUTS says, and
writes what became of them to output/fuzz/report.json.
"""

import collections
import json
import os

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, Phase, given, seed, settings
from rasterio.transform import from_origin

from tests.conftest import ROOT
from tests.fuzz.process import FuzzProcess
from tests.fuzz.strategies import input_strategies
from tests.fuzz.targets import TARGETS

INPUTS = int(os.environ.get("MM_OVSEG_FUZZ_INPUTS", "360"))
SEED = int(os.environ.get("MM_OVSEG_FUZZ_SEED", "0"))
AT_ONCE = 1000  # Hypothesis remembers what it tried, and slows down
SHARES = {"raster": 6, "label": 4, "scene": 2, "dataset_file": 3, "weights": 4}  # of the inputs; 1 of the others
OUTPUT = ROOT / "output" / "fuzz"


@pytest.fixture(scope="module")
def process(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fuzz")
    values = np.random.default_rng(1).integers(0, 255, (3, 20, 24)).astype(np.uint8)
    place = {"crs": "EPSG:32652", "transform": from_origin(500000, 4000000, 10, 10)}
    for path in (folder / "good.tif", *(folder / "data" / kind / "a.tif" for kind in ("rgb", "sar", "labels"))):
        path.parent.mkdir(parents=True, exist_ok=True)
        with rasterio.open(path, "w", driver="GTiff", width=24, height=20, count=3, dtype="uint8", **place) as file:
            file.write(values)
    (folder / "base.yaml").write_text("VERSION: 2\n")
    with FuzzProcess(folder) as started:
        yield started


@pytest.fixture(scope="module")
def strategies():
    return input_strategies()


@pytest.fixture(scope="module")
def report():
    """Target -> counts of how its inputs ended."""
    counts = {}
    yield counts
    if INPUTS >= 10_000:
        OUTPUT.mkdir(parents=True, exist_ok=True)
        total = sum(ends["different inputs"] for ends in counts.values())
        whole = {"different inputs": total, "seed": SEED, "targets": counts}
        (OUTPUT / "report.json").write_text(json.dumps(whole, indent=1) + "\n")
        print(f"\n{total} different inputs; see {OUTPUT / 'report.json'}.")


@pytest.mark.parametrize("target", TARGETS)
def test_every_input_ends_well(process, strategies, report, target):
    share = SHARES.get(target, 1) / sum(SHARES.get(name, 1) for name in TARGETS)
    wanted = max(1, round(INPUTS * share))
    ends = report[target] = collections.Counter()
    faults: dict[str, bytes] = {}
    tried: set[int] = set()

    def attempt(content):
        tried.add(hash(content))
        end, detail = process.run(target, content)
        ends[detail if end == "refused" else end] += 1
        if end == "fault" and len(content) < len(faults.get(detail, content + b"+")):
            faults[detail] = content

    for start in range(0, wanted, AT_ONCE):
        run = given(strategies[target])(lambda content: attempt(content))
        run = settings(
            max_examples=min(AT_ONCE, wanted - start),
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )(run)
        seed(SEED * 1_000_003 + start)(run)()
    ends["different inputs"] = len(tried)
    for number, content in enumerate(faults.values()):
        OUTPUT.mkdir(parents=True, exist_ok=True)
        (OUTPUT / f"{target}_{number}.bin").write_bytes(content)
    assert not faults, "\n".join([f"Inputs are in {OUTPUT}:", *faults])


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "fuzz" / "found").glob("*.bin")), ids=lambda path: path.stem)
def test_what_was_found_stays_mended(process, path):
    target = max((name for name in TARGETS if path.name.startswith(name)), key=len)
    assert process.run(target, path.read_bytes())[0] != "fault"
