"""The run: from the files of labelled pairs to the layout of the registered datasets, in parallel and resumable."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from tqdm import tqdm

from mm_ovseg.data.declaration import is_raster_file
from mm_ovseg.data.preparation.dropped import BROKEN, Dropped, drop_broken, nothing_left
from mm_ovseg.data.preparation.journal import Journal, written_files
from mm_ovseg.data.preparation.labelled.label_table import LabelTable
from mm_ovseg.data.preparation.labelled.layout import SAR, DatasetLayout
from mm_ovseg.data.preparation.labelled.sample_task import SampleTask, process_sample
from mm_ovseg.data.preparation.labelled.samples import Sample
from mm_ovseg.data.preparation.labelled.summary import LabelledSummary
from mm_ovseg.data.preparation.pool import process_all
from mm_ovseg.data.preparation.settings import PairSettings, check_tile, settle_range, settle_scale
from mm_ovseg.errors import DataError
from mm_ovseg.raster import RasterInfo, check_same_grid, read_raster_info

__all__ = ["LabelledPreparation", "prepare_labelled"]

_Headers = Mapping[str, RasterInfo]  # by kind of file


@dataclass(frozen=True)
class LabelledPreparation:
    """What is to be prepared, and how.

    Attributes:
        layout: The dataset.
        release: Which form of it the files are of, for people.
        output: The folder that holds the dataset's folder.
        tables: What the label maps of each split hold.
        settings: How images that are not 8-bit become so; 8-bit files are copied as they are.
        split_settings: How samples were held out: for the manifest, and to tell whether an earlier run did the same.
        workers: Processes; the result does not hang on it.
        strict: Whether the first file that cannot be read is an error, rather than named and counted.
        dry_run: Look at everything and write nothing.
    """

    layout: DatasetLayout
    release: str
    output: Path
    tables: Mapping[str, LabelTable]
    settings: PairSettings
    split_settings: dict
    workers: int = 1
    strict: bool = False
    dry_run: bool = False

    @property
    def folder(self) -> Path:
        """The dataset's folder, which holds the splits."""
        return self.output / self.layout.folder


def prepare_labelled(
    preparation: LabelledPreparation, samples: Sequence[Sample], dropped: Sequence[Dropped] = ()
) -> LabelledSummary:
    """Check, count and write all samples, and ``manifest_PREFIX.json``.

    Interrupted and called again, it goes on with the samples that are not finished; the files of finished ones are
    checked by their SHA-256 and made again where they differ. Called again when all is done, it changes nothing.

    Args:
        preparation: What and how.
        samples: The samples, each with a split of the layout.
        dropped: Files that were found to belong to no sample, to be counted with the rest.

    Returns:
        What was made. In a dry run: what would be.

    Raises:
        UnknownLabelError: A label map has a value or colour that its table does not have.
        DataError: The output cannot be written, holds files that were made otherwise or by somebody else, not one
            sample can be used, or, if strict, a file cannot be read.
    """
    settings, folder, layout = preparation.settings, preparation.folder, preparation.layout
    _check_apart(folder, samples)
    journal = None if preparation.dry_run else Journal(folder, layout.prefix, _images_there(preparation))
    if journal is not None and journal.settings is not None and not settings.sar_range:
        # What the first run measured holds for the whole dataset, also for what has been added to it since.
        settings = replace(settings, sar_range=tuple(journal.settings.get("sar_range", ())))
    summary = LabelledSummary(
        f"{layout.title}, {preparation.release}",
        settings,
        preparation.split_settings,
        len(samples),
        dropped=list(dropped),
        layout=layout,
        tables=preparation.tables,
    )
    checked = _settle(_read_headers(samples, summary, preparation.strict), summary, preparation.strict)
    output = None if preparation.dry_run else folder
    tasks = {
        sample.full_name: SampleTask(sample, layout, preparation.tables[sample.split], summary.settings, output)
        for sample in checked
    }

    if journal is not None:
        codes = {split: {str(code): index for code, index in t.codes.items()} for split, t in summary.tables.items()}
        journal.start({**asdict(summary.settings), **preparation.split_settings, "labels": codes})
        for target in _target_folders(preparation):  # what a killed run was writing
            for path in target.glob(".*.tmp.*"):
                path.unlink()
    # closing: an error here must end the worker processes, not wait for all that they have still to do.
    with closing(process_all(process_sample, tasks, journal, preparation.workers, title="preparing")) as results:
        for result, done_before in results:
            summary.pairs += result["pairs"]
            summary.done_before += done_before
            for entry in result["dropped"]:
                drop_broken(Dropped(**entry), summary.dropped, preparation.strict)
    if not summary.pairs:
        raise nothing_left(layout.title, summary.tiles, summary.dropped)
    if journal is not None:
        for file in journal.files - {file["file"] for pair in summary.pairs for file in written_files(pair).values()}:
            (folder / file).unlink(missing_ok=True)  # of a sample that has changed since
        summary.write_manifest(folder / f"manifest_{layout.prefix}.json")
    return summary


def _check_apart(folder: Path, samples: Sequence[Sample]) -> None:
    """Check that no file is to be written over itself, or beside itself where readers would find both."""
    resolved = folder.resolve()
    for path in (path for sample in samples for path in sample.files.values()):
        if path.resolve().is_relative_to(resolved):
            raise DataError(
                f"{path} lies in {folder}, where the result goes. If that is the processed release, it can be used as "
                "it is; to have it checked and listed, give another --output."
            )


def _target_folders(preparation: LabelledPreparation) -> list[Path]:
    return [
        preparation.folder / split / place
        for split, split_layout in preparation.layout.splits.items()
        for place in split_layout.folders.values()
    ]


def _images_there(preparation: LabelledPreparation) -> Iterator[Path]:
    """The images that lie where others will be written."""
    for target in _target_folders(preparation):
        yield from (path for path in sorted(target.glob("*")) if is_raster_file(path))


def _read_headers(samples: Sequence[Sample], summary: LabelledSummary, strict: bool) -> list[tuple[Sample, _Headers]]:
    """The samples whose files can be opened and lie on one grid, with their headers."""
    headers = []
    for sample in tqdm(samples, desc="reading headers", unit="tile"):
        try:
            infos = {kind: read_raster_info(path) for kind, path in sample.files.items()}
            for kind, info in infos.items():
                if kind != SAR:
                    check_same_grid(infos[SAR], info)
            headers.append((sample, infos))
        except DataError as error:
            drop_broken(Dropped(sample.full_name, BROKEN, str(error)), summary.dropped, strict)
    return headers


def _settle(headers: Sequence[tuple[Sample, _Headers]], summary: LabelledSummary, strict: bool) -> list[Sample]:
    """Settle what is measured on the dataset; returns the samples whose files hold what the settings say."""
    summary.settings = settle_scale(summary.settings, [infos[SAR] for _, infos in headers])
    checked = []
    for sample, infos in headers:
        try:
            for kind in sample.rgb_kinds:
                check_tile(sample.pair(kind), infos[kind], infos[SAR], summary.settings)
            checked.append(sample)
        except DataError as error:
            drop_broken(Dropped(sample.full_name, BROKEN, str(error)), summary.dropped, strict)
    if not checked:
        raise nothing_left(summary.layout.title, summary.tiles, summary.dropped)
    summary.settings = settle_range(summary.settings, [sample.pair(sample.rgb_kinds[0]) for sample in checked])
    return checked
