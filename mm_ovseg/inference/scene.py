"""Whole scenes: from two rasters to a map, window by window, in bounded memory."""

import hashlib
import json
import logging
import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

import mm_ovseg
from mm_ovseg.checkpoint.files import local_weights_path
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.errors import DataError
from mm_ovseg.files import sha256
from mm_ovseg.inference.coregistration import ShiftEstimate, estimate_shift, window_places
from mm_ovseg.inference.polygons import check_polygon_options
from mm_ovseg.inference.predictor import Predictor
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_options import SceneOptions, check_options
from mm_ovseg.inference.scene_outputs import SceneOutputs, polygon_options, sibling
from mm_ovseg.inference.scene_run import SceneRun
from mm_ovseg.inference.scene_work import SceneWork, work_folder

__all__ = ["SceneOptions", "ScenePredictor"]

logger = logging.getLogger(__name__)

LARGE_SHIFT = 2.0  # pixels
Paths = str | os.PathLike | Sequence[str | os.PathLike]


class ScenePredictor:
    """Segments scenes of any size with one model.

    Args:
        cfg: a config of the ``MMOVSeg`` meta-architecture; ``INPUT`` says how the files are read.
        class_names: at most 255 names to look for.
        colors: (red, green, blue) of each, 0..255; None for the usual ones.
        unseen: those of the names that training saw no labels of; they are marked in the report.

    Raises:
        ConfigError, VocabularyError, CheckpointError: as of :class:`~mm_ovseg.inference.predictor.Predictor`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        class_names: Sequence[str],
        *,
        colors: Sequence[Sequence[int]] | None = None,
        unseen: Sequence[str] = (),
    ) -> None:
        self.predictor = Predictor(cfg, class_names)
        self.model = self.predictor.model
        self.cfg = cfg
        self._outputs = SceneOutputs(self.predictor.class_names, colors=colors, unseen=unseen)
        weights = cfg.MODEL.WEIGHTS
        self._weights = {"path": weights, "sha256": sha256(local_weights_path(weights)) if weights else None}

    def set_vocabulary(
        self,
        class_names: Sequence[str],
        *,
        colors: Sequence[Sequence[int]] | None = None,
        unseen: Sequence[str] = (),
    ) -> None:
        """Look for other classes from now on.

        Args:
            class_names, colors, unseen: as of the class.

        Raises:
            VocabularyError: as of the class.
        """
        self.predictor.set_vocabulary(class_names)
        self._outputs = SceneOutputs(self.predictor.class_names, colors=colors, unseen=unseen)

    def segment(
        self,
        rgb: Paths,
        sar: str | os.PathLike | None,
        output: str | os.PathLike,
        options: SceneOptions = SceneOptions(),  # noqa: B008 (frozen)
        *,
        show_progress: bool = False,
    ) -> dict[str, Any]:
        """Segment a scene into files beside ``output``.

        ``output`` is a Cloud-Optimised GeoTIFF of class indices (255: no data). With the same stem come ``.qml``, a
        style for QGIS; ``_coverage.tif``, what each pixel was made from
        (:data:`~mm_ovseg.inference.scene_outputs.COVERAGE`); ``.json``, the report; and by option ``_confidence.tif``
        and ``_probabilities.tif``. Each appears when it is whole. Until then the work lies in ``{output}.work``, which
        outlives a run that is ended, and from which ``resume`` goes on to the same bytes.

        Args:
            rgb: the file, or three files of one band each, red, green and blue.
            sar: the file, on any grid; None to use RGB alone.
            output: the map, ``.tif``.
            options: see :class:`SceneOptions`.
            show_progress: show a progress bar on stderr.

        Returns:
            The report that the JSON file holds.

        Raises:
            ConfigError: an option has the wrong form.
            DataError: a file cannot be read or written, SAR covers too little of the scene, or there is nothing to
                resume from with these options.
        """
        output = Path(output)
        self._outputs.check(output, options.vector)
        window, overlap = check_options(options, self.cfg)
        with ExitStack() as stack:
            source = stack.enter_context(self._open(rgb, sar, options))
            shift = self._check_registration(source, sar, options)
            corrected = options.correct_shift and shift is not None and shift.reliable
            if corrected:
                source.close()
                source = stack.enter_context(self._open(rgb, sar, options, (-shift.rows, -shift.columns)))
            grid = source.grid
            check_polygon_options(grid, **polygon_options(options))
            area = SceneArea(options.area, grid, options.area_layer) if options.area else None
            settings = self._settings(rgb, sar, options, window, shift if corrected else None)
            layers = self._layers(options)
            work = SceneWork(
                output,
                layers=layers,
                width=grid.width,
                height=grid.height,
                settings=settings,
                resume=options.resume,
            )
            finished = False
            try:
                run = SceneRun(self.model, source, area, work, window, overlap, options.batch_size)
                windows = run.segment(len(self.predictor.class_names), show_progress)
                report = {
                    "windows": windows,
                    "covered_by_sar_file": source.covered,
                    "shift": None if shift is None else {**asdict(shift), "corrected": corrected},
                    "weights": self._weights,
                    "settings": settings,
                    "layers": list(layers),
                    "mm_ovseg_version": mm_ovseg.__version__,
                }
                report = self._outputs.write(output, work, grid, report, options)
                finished = True
            finally:
                work.close(finished=finished)
        return report

    def finished_report(
        self, rgb: Paths, sar: str | os.PathLike | None, output: str | os.PathLike, options: SceneOptions
    ) -> dict[str, Any] | None:
        """The report of an earlier run that finished ``output`` from the same files with the same settings and legend.

        Args:
            rgb, sar, output, options: as of :meth:`segment`.

        Returns:
            None where a file is missing, unreadable or was made otherwise, or a later run has begun on the map.

        Raises:
            ConfigError: an option has the wrong form.
        """
        output = Path(output)
        window, _ = check_options(options, self.cfg)
        try:
            report = json.loads(sibling(output, ".json").read_text(encoding="utf-8"))
            then, layers = report["settings"], set(report["layers"])
            # The shift follows from the files; to find it again would take reading them.
            now = json.loads(json.dumps(self._settings(rgb, sar, options, window, None)))
            # Colours and unseen classes matter to the finished files alone: work that is under way need not begin anew.
            legend = [{key: entry[key] for key in ("name", "color", "unseen")} for entry in report["classes"]]
            same = {**then, "shift": None} == now and legend == self._outputs.legend
        except (OSError, ValueError, KeyError, TypeError):
            return None
        files = [sibling(output, f"_{layer}.tif") for layer in self._layers(options) if layer != "class"]
        files += [output, output.with_suffix(".qml")]
        if options.vector is not None:
            files.append(options.vector)
            same = same and report.get("polygon_options") == polygon_options(options)
        whole = same and layers >= self._layers(options).keys() and all(file.is_file() for file in files)
        # The report is written last, so beside a folder of work it tells of the map before.
        return report if whole and not work_folder(output).exists() else None

    def _layers(self, options: SceneOptions) -> dict[str, int]:
        """Name -> bands of the files that are asked for."""
        layers = {"class": 1, "coverage": 1}
        layers |= {"confidence": 1} if options.confidence else {}
        return layers | ({"probabilities": len(self.predictor.class_names)} if options.probabilities else {})

    def _open(
        self, rgb: Paths, sar: str | os.PathLike | None, options: SceneOptions, shift: tuple[float, float] = (0.0, 0.0)
    ) -> SceneSource:
        settings = self.cfg.INPUT
        return SceneSource(
            rgb,
            sar,
            ground_sampling_distance=options.ground_sampling_distance,
            rgb_bands=settings.RGB.BANDS,
            rgb_range=settings.RGB.RANGE,
            sar_scale=settings.SAR.SCALE,
            sar_range=settings.SAR.RANGE,
            sar_bands=settings.SAR.BANDS,
            sar_shift=shift,
        )

    def _check_registration(
        self, source: SceneSource, sar: str | os.PathLike | None, options: SceneOptions
    ) -> ShiftEstimate | None:
        """Stop where SAR lies elsewhere; say how far it is off."""
        if sar is None:
            return None
        if source.covered < options.least_covered:
            raise DataError(
                f"{sar} covers {source.covered:.0%} of the scene, less than the {options.least_covered:.0%} that are "
                "asked for; check that the files belong together, or lower --least-covered."
            )
        windows = (source.read(*place) for place in window_places(source.grid.height, source.grid.width))
        shift = estimate_shift((w.image, w.sar_image, w.image_valid & w.sar_valid) for w in windows)
        if shift is None or not shift.reliable:
            logger.info("The shift between RGB and SAR cannot be told from their content.")
        elif shift.size > LARGE_SHIFT and not options.correct_shift:
            logger.warning(
                "SAR lies %.1f pixels down and %.1f right of RGB: the map will suffer; correct the georeference, or "
                "let --correct-shift move it.",
                *(shift.rows, shift.columns),
            )
        else:
            logger.info("SAR lies %.1f pixels down and %.1f right of RGB.", shift.rows, shift.columns)
        return shift

    def _settings(
        self, rgb: Paths, sar: str | os.PathLike | None, options: SceneOptions, window: int, shift: ShiftEstimate | None
    ) -> dict[str, Any]:
        """Everything that the map depends on; ``shift`` is that by which SAR was corrected."""
        paths = [rgb] if isinstance(rgb, str | os.PathLike) else list(rgb)
        files = [Path(path) for path in (*paths, *([] if sar is None else [sar]))]
        chosen = asdict(options)
        for unimportant in ("resume", "vector", "min_area", "simplify", "confidence", "probabilities"):
            del chosen[unimportant]
        return {
            **chosen,
            "window": window,
            "area": None if options.area is None else _content(options.area),
            "files": [[str(file.absolute()), file.stat().st_size, file.stat().st_mtime_ns] for file in files],
            "classes": list(self.predictor.class_names),
            "weights": self._weights["sha256"],
            "config": hashlib.sha256(self.cfg.dump().encode()).hexdigest(),
            "shift": None if shift is None else [shift.rows, shift.columns],
        }


def _content(path: Path) -> str | list:
    """What tells whether a vector file is still the same: its hash, or, of a folder (.gdb), what its files are."""
    if not path.is_dir():
        return sha256(path)
    return [[file.name, file.stat().st_size, file.stat().st_mtime_ns] for file in sorted(path.iterdir())]
