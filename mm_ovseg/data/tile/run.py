"""Making planned tiles, in parallel and resumable, and the files that describe them."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import yaml

from mm_ovseg.data.input_files import raster_inputs
from mm_ovseg.data.manifest import SceneFiles
from mm_ovseg.data.split import SPLITS
from mm_ovseg.data.tile.settings import TileRun
from mm_ovseg.data.tile.tile_job import TileJob, close_scene
from mm_ovseg.data.tile.tile_report import TileReport
from mm_ovseg.errors import DataError
from mm_ovseg.files import check_outputs, complete_file
from mm_ovseg.jobs import Journal, count_reasons, run_jobs

__all__ = ["OVERLAPPING", "check_tile_outputs", "make_tiles", "nothing_left", "open_journal", "tile_outputs"]

OVERLAPPING = "overlaps a held-out tile"
KINDS = ("rgb", "sar", "labels")
FOLDERS = [Path(split, kind) for split in SPLITS for kind in KINDS]
CLASSES, DECLARATION = "classes.json", "dataset.yaml"


def tile_outputs(output: Path, prefix: str = "") -> dict[str, list[Path]]:
    """The files that a run writes to a folder, for :func:`mm_ovseg.files.check_outputs`."""
    files = [_manifest_name(prefix), *([] if prefix else [CLASSES, DECLARATION])]
    return {"--output": [output / path for path in (*FOLDERS, *files)]}


def check_tile_outputs(output: Path, scenes: Sequence[SceneFiles], prefix: str = "") -> None:
    """Check that no file of any scene would be replaced; see :func:`mm_ovseg.files.check_outputs`."""
    inputs = {
        "one of the RGB images": [path for scene in scenes for path in scene.rgb],
        "one of the SAR images": [path for scene in scenes for path in scene.sar],
        "one of the label maps": [scene.labels for scene in scenes],
    }
    check_outputs(tile_outputs(output, prefix), raster_inputs(inputs))


def open_journal(run: TileRun) -> Journal | None:
    """The journal of a run; None for a dry run. Raises the errors of :class:`~mm_ovseg.jobs.Journal`."""
    return None if run.dry_run else Journal(run.output, run.prefix.rstrip("_") or run.name, FOLDERS, run.prefix)


def make_tiles(report: TileReport, jobs: Sequence[TileJob], journal: Journal | None, *, title: str) -> None:
    """Make tiles, the manifest and, with labels, ``classes.json`` and ``dataset.yaml``; add the results to the report.

    Raises:
        DataError: The output cannot be written or has tiles made with other settings, no tile is left, or, if strict,
            a scene cannot be read.
    """
    run = report.run
    if journal is not None:
        legend = {} if run.legend is None else asdict(run.legend)
        journal.start({**asdict(run.settings), **legend, **report.split})
    try:
        finished = run_jobs(jobs, run.output, journal, workers=run.workers, title=title, strict=run.strict)
    finally:
        close_scene()
    report.made, report.done_before = finished.made, finished.done_before
    report.skipped += finished.skipped
    for result in finished.results:
        report.unknown.update(result.get("unknown", {}))
        report.left_out.update(result.get("left_out", {}))
    if not report.made:
        raise nothing_left(report)
    if journal is not None:
        for file in journal.files.difference(*(result["files"] for result in finished.results)):
            (run.output / file).unlink(missing_ok=True)  # of a scene that has changed since or is held out now
        _write_text(run.output / _manifest_name(run.prefix), json.dumps(report.manifest(), indent=1) + "\n")
        if run.legend is not None:
            _write_declaration(report)


def nothing_left(report: TileReport) -> DataError:
    """The error for a run in which everything was skipped."""
    counts = "; ".join(f"{reason}: {count}" for reason, count in count_reasons(report.skipped).items())
    first = next((f"; the first: {entry.detail}" for entry in report.skipped if entry.detail), "")
    return DataError(f"{report.run.name}: none of {report.tiles} tiles gives a pair ({counts}){first}")


def _manifest_name(prefix: str) -> str:
    return f"manifest_{prefix.rstrip('_')}.json" if prefix else "manifest.json"


def _write_declaration(report: TileReport) -> None:
    run = report.run
    classes = {"classes": list(run.legend.classes), "unseen": list(run.unseen)}
    defaults = {kind: kind for kind in KINDS} | classes
    declared = {
        "defaults": {**defaults, "ground_sampling_distance": report.ground_sampling_distance},
        "datasets": {
            f"{run.name}_{split}": {"root": str((run.output / split).absolute())}
            for split, count in report.pair_counts().items()
            if count
        },
    }
    _write_text(run.output / CLASSES, json.dumps(classes, indent=1, ensure_ascii=False) + "\n")
    _write_text(run.output / DECLARATION, yaml.safe_dump(declared, sort_keys=False, allow_unicode=True))


def _write_text(path: Path, text: str) -> None:
    with complete_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
