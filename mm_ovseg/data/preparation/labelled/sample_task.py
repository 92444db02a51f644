"""One labelled pair: read to its end, counted, and written to where the registered datasets look for it."""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from rasterio.windows import Window

from mm_ovseg.data.preparation.dropped import BROKEN, Dropped
from mm_ovseg.data.preparation.labelled.label_table import IGNORED, LabelTable, UnknownLabelError
from mm_ovseg.data.preparation.labelled.layout import LABELS, SAR, DatasetLayout
from mm_ovseg.data.preparation.labelled.samples import Sample
from mm_ovseg.data.preparation.settings import PairSettings
from mm_ovseg.data.preparation.tile import describe_source, is_intact, write_geotiff
from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file, sha256
from mm_ovseg.raster import RasterInfo, check_has_data, read_raster_info, read_rgb, read_sar

__all__ = ["SampleTask", "process_sample"]


@dataclass(frozen=True)
class SampleTask:
    """A labelled pair to be prepared.

    Attributes:
        sample: Its files.
        layout: The dataset that it belongs to.
        table: What its label map holds.
        settings: How images that are not 8-bit become so.
        output: Folder that holds the splits; None to look at everything and write nothing.
    """

    sample: Sample
    layout: DatasetLayout
    table: LabelTable
    settings: PairSettings
    output: Path | None

    def fingerprint(self) -> dict:
        """What tells, without reading them, whether the files are still those that were prepared."""
        statuses = {kind: path.stat() for kind, path in self.sample.files.items()}
        return {kind: [status.st_size, status.st_mtime_ns] for kind, status in sorted(statuses.items())}


@dataclass(frozen=True)
class _Image:
    """An image in 8 bits (H, W, bands), where it has data (H, W), and whether the published file has just that."""

    info: RasterInfo
    pixels: np.ndarray
    valid: np.ndarray
    is_as_published: bool


def process_sample(task: SampleTask, previous: dict | None = None) -> tuple[dict, bool]:
    """Prepare a labelled pair, or find that it has been.

    Args:
        task: The pair.
        previous: The result of an earlier call for it, with these settings.

    Returns:
        The result, and whether it is the earlier one, whose files were found as they were written. The result has
        ``name``, ``fingerprint``, ``pairs`` (one) and ``dropped``, ready for JSON. The pair has ``name``, ``split``,
        ``kinds`` (those of its files), for each kind ``file`` (relative to the output folder) and ``sha256`` (neither
        when nothing is written), ``source`` (the same of the files as published), ``pixels`` (number of each class)
        and ``ignored`` (of no class). A pair that cannot be read has one entry in ``dropped``, with the reason
        ``BROKEN``, and no pairs.

    Raises:
        UnknownLabelError: The label map holds what the table does not have.
        DataError: A file cannot be written.
    """
    sample = task.sample
    result = {"name": sample.full_name, "fingerprint": task.fingerprint(), "pairs": [], "dropped": []}
    if previous is not None and previous["fingerprint"] == result["fingerprint"]:
        written = [pair[kind] for pair in previous["pairs"] for kind in pair["kinds"]]
        if all(is_intact(task.output, file) for file in written):
            return previous, True
    try:
        # All of it before any is written: a truncated file shows only where it ends.
        images = {kind: _read_image(kind, path, task.settings) for kind, path in sample.files.items() if kind != LABELS}
        label = task.table.read(sample.files[LABELS])
    except UnknownLabelError:
        raise
    except DataError as error:
        result["dropped"] = [asdict(Dropped(sample.full_name, BROKEN, str(error)))]
        return result, False
    counts = np.bincount(label.ravel(), minlength=256)
    pair = {
        "name": sample.name,
        "split": sample.split,
        "kinds": sorted(sample.files),
        "pixels": counts[: len(task.layout.classes)].tolist(),
        "ignored": int(counts[IGNORED]),
    }
    if task.output is not None:
        pair["source"] = {kind: describe_source(path) for kind, path in sample.files.items()}
        pair |= _write(task, images, label)
    result["pairs"].append(pair)
    return result, False


def _read_image(kind: str, path: Path, settings: PairSettings) -> _Image:
    info = read_raster_info(path)
    if kind == SAR and settings.sar_scale != "8bit":
        sar, valid = read_sar(path, scale=settings.sar_scale, value_range=settings.sar_range, bands=settings.sar_bands)
        # One polarisation comes as three equal channels and two with their mean: what the reader makes again.
        pixels, is_as_published = np.rint(sar[..., : len(settings.sar_bands)]).astype(np.uint8), False
    elif kind == SAR:
        pixels, valid = read_sar(path)
        is_as_published = True
    else:
        is_as_published = set(info.dtypes) == {"uint8"}
        pixels, valid = read_rgb(path, value_range=() if is_as_published else settings.rgb_range)
    check_has_data(valid, path)
    return _Image(info, pixels, valid, is_as_published)


def _write(task: SampleTask, images: Mapping[str, _Image], label: np.ndarray) -> dict[str, dict]:
    """Write the files; returns the name and hash of each, by kind."""
    sample, written = task.sample, {}
    for kind, source in sample.files.items():
        image = images.get(kind)  # None: labels
        suffix = ".png" if image is None else source.suffix if image.is_as_published else ".tif"
        file = task.layout.file(sample.split, kind, sample.name + suffix)
        target = task.output / file
        if image is None:
            _write_label(target, label, task.layout, sample.split)
        elif image.is_as_published:
            with complete_file(target) as temporary:
                shutil.copyfile(source, temporary)
        else:
            window = Window(0, 0, image.info.width, image.info.height)
            write_geotiff(target, image.pixels, image.valid, image.info, window)
        written[kind] = {"file": file.as_posix(), "sha256": sha256(target)}
    return written


def _write_label(path: Path, label: np.ndarray, layout: DatasetLayout, split: str) -> None:
    """Write a label map in the values that the masks of the split have, with the classes' colours to look at."""
    values = np.full(256, layout.ignore_label, dtype=np.uint8)
    values[: len(layout.classes)] = layout.splits[split].mask_values
    palette = np.zeros((256, 3), dtype=np.uint8)
    for value, color in zip(layout.splits[split].mask_values, layout.colors, strict=True):
        if value != layout.ignore_label:
            palette[value] = color
    picture = Image.fromarray(values[label]).convert("P")
    picture.putpalette(palette.ravel().tolist())
    with complete_file(path) as temporary:
        picture.save(temporary, format="PNG")
