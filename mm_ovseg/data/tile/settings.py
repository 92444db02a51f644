"""Settings of tiles and runs."""

from dataclasses import dataclass
from pathlib import Path

from mm_ovseg.data.tile.label_values import Legend
from mm_ovseg.errors import ConfigError
from mm_ovseg.raster import RGBReader, SARReader

__all__ = ["TileRun", "TileSettings", "Window", "cut_windows"]

Window = tuple[int, int, int, int]  # row, column, height, width, in pixels


@dataclass(frozen=True, kw_only=True)
class TileSettings:
    """The settings that determine the tiles of a scene; messages name them like the command-line options.

    Attributes:
        size, overlap, spread: See :func:`cut_windows`; the size may be 0 if ``spread``.
        ground_sampling_distance: Metres per pixel; None to keep each scene's own.
        rgb, sar: Readers of the images.
        any_format: See :func:`mm_ovseg.raster.open_raster`; for the images.
        attribute: Attribute of label polygons; None if labels are rasters.
        layer: Layer of the vector files; None if they have only one.
        background: Class of pixels outside of all polygons; None for no label.
        min_valid: Share of a tile that must have RGB, and SAR, 0..1; without labels also both together.
        min_labelled: Share of a tile that must have a label, 0..1; with 0, one pixel is enough.

    Raises:
        ConfigError: A number is out of range.
    """

    size: int = 512
    overlap: int = 0
    spread: bool = False
    ground_sampling_distance: float | None = None
    rgb: RGBReader = RGBReader()
    sar: SARReader = SARReader()
    any_format: bool = True
    attribute: str | None = None
    layer: str | None = None
    background: str | None = None
    min_valid: float = 0.5
    min_labelled: float = 0.0

    def __post_init__(self) -> None:
        if self.size < (0 if self.spread else 1):
            raise ConfigError(f"--size is {self.size}; give a number of pixels.")
        if self.overlap < 0 or 0 < self.size <= self.overlap:
            raise ConfigError(f"--overlap is {self.overlap}; give 0 to {self.size - 1}, less than --size.")
        for name in ("min_valid", "min_labelled"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"--{name.replace('_', '-')} is {getattr(self, name)}; give a share from 0 to 1.")


@dataclass(frozen=True, kw_only=True)
class TileRun:
    """What tiles to make, where, and how.

    Attributes:
        name: Name of the result. With labels, the datasets are ``NAME_train`` and ``NAME_val``.
        output: Folder in which ``train`` and ``val`` are written.
        settings: How tiles are cut.
        legend: Meaning of the labels; None for pairs without labels.
        unseen: Classes that training does not see.
        prefix: Prefix of the names of all tiles, with which several runs can share a folder; may be "".
        workers: Number of processes, which does not affect the result.
        strict: Whether a scene that cannot be read is an error; otherwise it is skipped.
        dry_run: Read everything, but write nothing.

    Raises:
        ConfigError: ``workers`` is below 1, or the background is not a class.
    """

    name: str
    output: Path
    settings: TileSettings
    legend: Legend | None = None
    unseen: tuple[str, ...] = ()
    prefix: str = ""
    workers: int = 1
    strict: bool = True
    dry_run: bool = False

    def __post_init__(self) -> None:
        if self.workers < 1:
            raise ConfigError(f"--workers is {self.workers}; give 1 or more.")
        background = self.settings.background
        if background is not None and background not in self.legend.classes:
            raise ConfigError(
                f"--background is '{background}', which is not one of the classes {', '.join(self.legend.classes)}."
            )


def cut_windows(height: int, width: int, size: int, overlap: int, *, spread: bool = False) -> list[Window]:
    """The windows that cover a scene, row by row.

    Args:
        height, width: Size of the scene, in pixels.
        size: Side of a window; 0 for one window as large as the scene.
        overlap: Pixels shared by neighbours.
        spread: Spread as few windows as possible evenly, so that neighbours may share more and none is cut off.
            Otherwise windows form a regular lattice, and those at the right and lower edge are cut off.
    """

    def starts(length: int) -> list[int]:
        if size == 0 or length <= size:
            return [0]
        if not spread:  # a window whose pixels are all in the previous one would add nothing
            return list(range(0, length - overlap, size - overlap))
        gaps = -(-(length - size) // (size - overlap))  # between windows, rounded up
        return [index * (length - size) // gaps for index in range(gaps + 1)]

    return [
        (row, column, min(size or height, height - row), min(size or width, width - column))
        for row in starts(height)
        for column in starts(width)
    ]
