"""Large scenes: from RGB, SAR or both to a map, window by window, in bounded memory."""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode

import mm_ovseg
from mm_ovseg.data.cloud_mask import CloudMask
from mm_ovseg.data.pair_reader import image_readers
from mm_ovseg.data.palette import LegendEntry, class_colors, class_legend
from mm_ovseg.data.scene_source import SceneSource
from mm_ovseg.decision import Decision
from mm_ovseg.engine import config_inputs, weights_hashes
from mm_ovseg.engine.calibration import find_calibration
from mm_ovseg.errors import ConfigError, DataError
from mm_ovseg.files import check_outputs, sha256
from mm_ovseg.inference.cloud_detection import DETECT, DETECTED_CLOUDS, detect_clouds, detector_bands
from mm_ovseg.inference.coregistration import ShiftEstimate, estimate_shift, window_places
from mm_ovseg.inference.deliverables import STAC, check_deliverables
from mm_ovseg.inference.kept_features import KeptFeatures
from mm_ovseg.inference.map_item import check_on_earth
from mm_ovseg.inference.polygons import check_polygon_options
from mm_ovseg.inference.predictor import Predictor
from mm_ovseg.inference.scene_area import SceneArea
from mm_ovseg.inference.scene_files import (
    check_scene_outputs,
    polygon_options,
    scene_inputs,
    scene_outputs,
    sibling,
    write_scene_outputs,
)
from mm_ovseg.inference.scene_images import has_products, images_folder, prepare_scene
from mm_ovseg.inference.scene_options import SceneOptions, check_images, check_options
from mm_ovseg.inference.scene_run import SceneRun
from mm_ovseg.inference.scene_settings import WeightsHash, features_key, scene_settings
from mm_ovseg.inference.scene_work import SceneWork, work_folder
from mm_ovseg.modeling.meta_arch.segmenter import needed_weights
from mm_ovseg.raster import Paths, RasterSource, path_list
from mm_ovseg.vocabulary import select_unseen, validate_class_names

__all__ = ["SceneOptions", "ScenePredictor"]

logger = logging.getLogger(__name__)

LARGE_SHIFT = 2.0  # pixels
CLOUD_FILE = "clouds.tif"  # in the folder of work: detected clouds


class ScenePredictor:
    """Segments scenes of any size with one model.

    Threads may share one but processes may not, as with :class:`~mm_ovseg.inference.predictor.Predictor`.

    Args:
        cfg: a config of the ``MMOVSeg`` meta-architecture; ``INPUT`` says how the files are read.
        class_names: at most 254 names.
        background, min_score: as in :class:`~mm_ovseg.inference.predictor.Predictor`.
        colors: (red, green, blue) of each, 0..255; None for the default ones.
        unseen: those without labels in training; they are marked in the report.
        any_format: allow every local format that GDAL reads; False for untrusted files.

    Attributes:
        lock: the predictor's, held by each scene and each change of the vocabulary; reentrant.

    Raises:
        ConfigError, VocabularyError, CheckpointError: as in :class:`~mm_ovseg.inference.predictor.Predictor`.
    """

    def __init__(
        self,
        cfg: CfgNode,
        class_names: Sequence[str],
        *,
        background: Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        colors: Sequence[Sequence[int]] | None = None,
        unseen: Sequence[str] = (),
        any_format: bool = True,
    ) -> None:
        self.predictor = Predictor(cfg, class_names, background=background, min_score=min_score, any_format=any_format)
        self.lock = self.predictor.lock
        self._any_format = any_format
        self.model = self.predictor.model
        self.cfg = cfg
        self._legend = _legend(self.predictor.decision, colors, unseen)
        self._hashes = weights_hashes(cfg)
        self._weights_hash = WeightsHash(self.model)
        key, weights = needed_weights(cfg)
        self._weights = {"path": weights, "sha256": self._hashes.get(key)}
        file = find_calibration(cfg)
        self._calibration = None if file is None else {"path": str(file), "sha256": sha256(file)}

    def set_vocabulary(
        self,
        class_names: Sequence[str],
        *,
        background: Sequence[str] | None = None,
        min_score: float | Mapping[str, float] | None = None,
        colors: Sequence[Sequence[int]] | None = None,
        unseen: Sequence[str] = (),
    ) -> None:
        """Change the vocabulary; arguments and errors as in the class."""
        names = validate_class_names(class_names)
        style = {"colors": class_colors(names, colors, owner="The map"), "unseen": select_unseen(names, unseen)}
        with self.lock:
            self.predictor.set_vocabulary(class_names, background=background, min_score=min_score)
            self._legend = _legend(self.predictor.decision, **style)

    def segment(
        self,
        rgb: Paths | None,
        sar: Paths | None,
        output: str | os.PathLike,
        options: SceneOptions = SceneOptions(),  # noqa: B008 (frozen)
        *,
        show_progress: bool = False,
        should_stop: Callable[[], bool] | None = None,
        on_progress: Callable[[int, int], None] | None = None,
    ) -> dict[str, Any]:
        """Segment a scene into ``output`` and files next to it.

        ``output`` is a Cloud-Optimized GeoTIFF of class indices (254: none of them, 255: no data). With the same stem
        come ``.qml``, a style for QGIS; ``_coverage.tif`` and ``.qml``, the images that each pixel rests on
        (:data:`~mm_ovseg.inference.coverage.COVERAGE`); ``.json``, the report; and optionally ``_confidence.tif``
        and ``_probabilities.tif``. Files appear when they are complete. Until then the work is in ``{output}.work``,
        which survives an interrupted run, and from which ``resume`` continues with identical results.

        Args:
            rgb: a file, or several whose bands are concatenated, such as red, green and blue; None to use SAR alone.
            sar: a file, or several, on any grid; None to use RGB alone, as a model without SAR encoders does anyway.
            output: the map, ``.tif``.
            options: see :class:`SceneOptions`.
            show_progress: show a progress bar on stderr.
            should_stop: called before each batch of windows and each layer to write; returns True to stop.
            on_progress: called after each batch with the numbers of finished windows and of all.

        Returns:
            The report that the JSON file holds.

        Raises:
            ConfigError: an option is invalid, or there is no image that the model can use.
            DataError: a file cannot be read or written, an output would replace an input, SAR covers too little of the
                scene, or unfinished work was made with other options.
            ProcessError: this is a fork of the process that built the predictor.
            StoppedError: ``should_stop`` returned True.
        """
        output = Path(output)
        with ExitStack() as stack:
            stack.enter_context(self.lock)
            check_images(rgb, sar, options)
            check_deliverables(options.deliver, options.vector)
            check_scene_outputs(output, options.vector)
            inputs = {**scene_inputs(rgb, sar, options), **config_inputs(self.cfg)}
            check_outputs(scene_outputs(output, options), inputs)
            options = check_options(options, self.cfg)
            given, given_clouds, sar = sar, options.clouds, self._used(rgb, sar)
            images = prepare_scene(rgb, sar, output, options, trusted=self._any_format)
            for warning in images.warnings:  # now, since they may say what to do about an error below
                logger.warning(warning)
            rgb, sar_is_unused, sar, options = images.rgb, sar != given, images.sar, images.options
            features = self._keep_features(rgb, sar, options)  # first: files may change while they are open
            if features is not None:
                stack.enter_context(features)
            source = stack.enter_context(self._open(rgb, sar, options))
            warnings = _found(features, "concerns", source.concerns)
            warnings = [*warnings, *self._concerns(options, sar_is_unused=sar_is_unused)]
            for warning in warnings:
                logger.warning(warning)
            warnings = [*images.warnings, *warnings]
            shift = None if rgb is None else self._check_registration(source, options, features)
            corrected = options.correct_shift and shift is not None and shift.reliable
            if corrected:
                source.close()
                source = stack.enter_context(self._open(rgb, sar, options, (-shift.rows, -shift.columns)))
            grid = source.grid
            check_polygon_options(grid, **polygon_options(options))
            if STAC in options.deliver:
                check_on_earth(grid)
            area = SceneArea(options.area, grid, options.area_layer) if options.area else None
            clouds = self._open_clouds(rgb, source, options)
            if clouds is not None:
                stack.enter_context(clouds)
                for warning in clouds.concerns(values_are_certain=given_clouds is None):  # of the product itself
                    logger.warning(warning)
                    warnings.append(warning)
            settings = self._settings(rgb, sar, options, shift if corrected else None)
            layers = self._layers(options)
            size = {"width": grid.width, "height": grid.height}
            work = SceneWork(output, layers=layers, settings=settings, resume=options.resume, **size)
            stack.push(lambda error, *_: work.close(finished=error is None))
            if options.clouds == DETECT:
                clouds = stack.enter_context(self._detected_clouds(rgb, source, work, options))
            run = SceneRun(
                model=self.model,
                decision=self.predictor.decision,
                source=source,
                clouds=clouds,
                area=area,
                work=work,
                features=features,
                options=options,
                show_progress=show_progress,
                should_stop=should_stop,
                on_progress=on_progress,
            )
            report = {
                "windows": run(),
                "windows_from_features": 0 if features is None else features.loaded,
                "covered_by_sar_file": source.covered,
                "shift": None if shift is None else {**asdict(shift), "corrected": corrected},
                "images": images.about,
                "warnings": warnings,
                "weights": self._weights,
                "calibration": self._calibration,
                "settings": settings,
                "layers": list(layers),
                "mm_ovseg_version": mm_ovseg.__version__,
            }
            return write_scene_outputs(
                output,
                work,
                grid,
                report,
                options,
                self._legend,
                rasters={kind: path_list(paths) for kind, paths in (("rgb", rgb), ("sar", sar)) if paths is not None},
                trained_without_rgb=self.cfg.INPUT.DROP_RGB > 0,
                should_stop=should_stop,
            )

    def finished_report(
        self, rgb: Paths | None, sar: Paths | None, output: str | os.PathLike, options: SceneOptions
    ) -> dict[str, Any] | None:
        """The report of an earlier run that made ``output`` from the same files, settings and legend.

        Args:
            rgb, sar, output, options: as in :meth:`segment`.

        Returns:
            None if a file is missing, unreadable or made differently, or if a later run has started on the map.

        Raises:
            ConfigError: an option is invalid.
        """
        output, options = Path(output), check_options(options, self.cfg)
        # The report is written last, so next to a folder of work it describes an earlier map.
        if self._any_format and has_products(rgb, sar) and not images_folder(output).exists():
            return None
        images = prepare_scene(rgb, self._used(rgb, sar), output, options, trusted=self._any_format)
        work, outputs = work_folder(output), scene_outputs(output, options)
        files = {*outputs["--output"], *outputs["--vector"]} - {None, work}
        if work.exists() or not all(file.is_file() for file in files):
            return None
        try:
            report = json.loads(sibling(output, ".json").read_text(encoding="utf-8"))
            then, layers = report["settings"], set(report["layers"])
            # Colours and unseen classes only affect the finished files, not unfinished work.
            legend = [
                LegendEntry(entry["name"], tuple(entry["color"]), entry["unseen"], entry["value"])
                for entry in report["classes"]
            ]
            with self.lock:
                # The shift depends only on the files; estimating it again would mean reading them.
                now = json.loads(json.dumps(self._settings(images.rgb, images.sar, images.options, None)))
                same = {**then, "shift": None} == now and legend == list(self._legend)
                same = same and layers >= self._layers(options).keys()
            same = same and {*report.get("deliver", ())} >= {*options.deliver}
            if options.vector is not None:
                same = same and report["polygon_options"] == polygon_options(options)
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return report if same else None

    def _used(self, rgb: Paths | None, sar: Paths | None) -> Paths | None:
        """The SAR files that the model sees: none if it has no SAR encoder.

        Raises:
            ConfigError: they are all that there is.
        """
        if self.model.needs_sar:
            return sar
        if rgb is None:
            raise ConfigError("This model maps RGB alone, but the scene has only SAR; give RGB, or another model.")
        return None

    def _concerns(self, options: SceneOptions, *, sar_is_unused: bool) -> list[str]:
        """Warnings about what the model cannot do, as sentences."""
        found = ["This model maps RGB alone; SAR is not used."] if sar_is_unused else []
        uncalibrated = self.predictor.decision.calibration is None
        if (options.confidence or options.probabilities) and uncalibrated and not self.model.bounded_scores:
            found.append("The scores of this model are not probabilities; those above 1 are written as 100 percent.")
        return found

    def _layers(self, options: SceneOptions) -> dict[str, int]:
        """Name -> bands of the layers to write."""
        bands = {"class": 1, "coverage": 1, "confidence": 1, "probabilities": len(self.predictor.decision.classes)}
        return {name: count for name, count in bands.items() if getattr(options, name, True)}

    def _open(
        self, rgb: Paths | None, sar: Paths | None, options: SceneOptions, shift: tuple[float, float] = (0.0, 0.0)
    ) -> SceneSource:
        rgb_reader, sar_reader = image_readers(self.cfg)
        return SceneSource(
            rgb,
            sar,
            rgb_reader=rgb_reader,
            sar_reader=sar_reader,
            ground_sampling_distance=options.ground_sampling_distance,
            sar_shift=shift,
            part=options.part,
            any_format=self._any_format,
        )

    def _open_clouds(self, rgb: Paths | None, source: SceneSource, options: SceneOptions) -> CloudMask | None:
        """The mask of clouds; None if nothing is known of them, or if they can be, and are still to be, detected."""
        if options.clouds is None:
            return None
        if options.clouds != DETECT:
            return CloudMask(options.clouds, source, options.cloud_values, any_format=self._any_format)
        with RasterSource(rgb, any_format=self._any_format) as images:
            detector_bands(images, image_readers(self.cfg)[0], options.near_infrared)
        return None

    def _detected_clouds(self, rgb: Paths, source: SceneSource, work: SceneWork, options: SceneOptions) -> CloudMask:
        path = work.folder / CLOUD_FILE
        if not path.exists():  # with resume, an earlier run may have made it
            with RasterSource(rgb, any_format=self._any_format) as images:
                bands = detector_bands(images, image_readers(self.cfg)[0], options.near_infrared)
                detect_clouds(images, bands, path, device=self.cfg.MODEL.DEVICE)
        return CloudMask(path, source, DETECTED_CLOUDS)

    def _check_registration(
        self, source: SceneSource, options: SceneOptions, features: KeptFeatures | None
    ) -> ShiftEstimate | None:
        """Estimate the shift of SAR; raise a DataError if it covers too little of the scene."""
        if not source.sar_name:
            return None
        if source.covered < options.min_covered:
            raise DataError(
                f"{source.sar_name} covers {source.covered:.0%} of the scene, less than the "
                f"{options.min_covered:.0%} required; check that the files belong together, or lower "
                "--min-covered."
            )

        def estimate() -> dict[str, Any] | None:
            windows = (source.read(*place) for place in window_places(source.grid.height, source.grid.width))
            shift = estimate_shift((w.image, w.sar_image, w.image_valid & w.sar_valid) for w in windows)
            return None if shift is None else asdict(shift)

        found = _found(features, "shift", estimate)
        shift = None if found is None else ShiftEstimate(**found)
        if shift is None or not shift.reliable:
            logger.info("The shift between RGB and SAR cannot be estimated from their content.")
        elif shift.size > LARGE_SHIFT and not options.correct_shift:
            logger.warning(
                "SAR is shifted by %.1f pixels down and %.1f right of RGB, which degrades the map; correct the "
                "georeference, or use --correct-shift.",
                *(shift.rows, shift.columns),
            )
        else:
            logger.info("SAR is shifted by %.1f pixels down and %.1f right of RGB.", shift.rows, shift.columns)
        return shift

    def _settings(
        self, rgb: Paths | None, sar: Paths | None, options: SceneOptions, shift: ShiftEstimate | None
    ) -> dict[str, Any]:
        """Everything that the map depends on; ``shift`` is the correction of SAR."""
        decision = self.predictor.decision.settings()
        return scene_settings(self.cfg, rgb, sar, options, shift=shift, weights=self._hashes, decision=decision)

    def _keep_features(self, rgb: Paths | None, sar: Paths | None, options: SceneOptions) -> KeptFeatures | None:
        if options.keep_features is None:
            return None
        what_encodes = {"model": self.model, "weights": self._weights_hash()}
        key = features_key(self.cfg, rgb, sar, options, **what_encodes, any_format=self._any_format)
        folder, max_bytes = Path(options.keep_features), 1e9 * options.max_features
        return KeptFeatures(folder, key, max_bytes=max_bytes, device=self.model.device)


def _legend(
    decision: Decision, colors: Sequence[Sequence[int]] | None, unseen: Sequence[str]
) -> tuple[LegendEntry, ...]:
    unseen = select_unseen(decision.classes, unseen)
    return class_legend(decision.classes, colors, unseen, has_none=decision.has_none, owner="The map")


def _found(features: KeptFeatures | None, name: str, find: Callable[[], Any]) -> Any:
    """What a look at the images of a scene finds out, or found out when its features were made."""
    return find() if features is None else features.remember(name, find)
