"""The layout of the page and its events. Needs Gradio."""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gradio as gr

from mm_ovseg.app.drawing import (
    color_classes,
    color_confidence,
    draw_legend,
    draw_map,
    draw_message,
    draw_summary,
    draw_warnings,
    escape_text,
)
from mm_ovseg.app.map_maker import MapMaker, PageMap, PageScene
from mm_ovseg.app.messages import page_message
from mm_ovseg.app.runs import Runs
from mm_ovseg.app.visitor_files import VisitorFiles
from mm_ovseg.errors import MMOVSegError

__all__ = ["build_page"]

logger = logging.getLogger(__name__)

WITH_SAR, RGB_ALONE, SAR_ALONE = "RGB and SAR", "RGB alone", "SAR alone"
CLASSES, CONFIDENCE = "Classes", "Confidence"
RGB, SAR = "RGB", "SAR"
FILE_TYPES = [".tif", ".tiff", ".png", ".jpg", ".jpeg"]
MAX_CLASSES_LENGTH = 4000  # characters
KEPT_SECONDS = 3600  # until unused files are deleted
NO_MAP = "There is no map yet; choose images and make one."
UNEXPECTED = "An unexpected error occurred; try again, or ask whoever runs this page to check its log."
# Screen readers announce changes only in elements that already have these attributes.
READ_ALOUD = """() => {
    const message = document.getElementById('ovseg-message');
    message.setAttribute('role', 'status');
    message.setAttribute('aria-live', 'polite');
}"""
# In the browser, without a request.
SET_OPACITY = "(percent) => { document.querySelectorAll('.ovseg-layer').forEach(e => e.style.opacity = percent / 100) }"


def build_page(
    maker: MapMaker,
    files: VisitorFiles,
    runs: Runs,
    pairs: Mapping[str, tuple[Path, Path]],
    opening: PageScene | None = None,
) -> gr.Blocks:
    """Lay out the page.

    Args:
        maker: makes the maps.
        files: the visitors' files, including the maps.
        runs: keeps track of the visitors that the model works for.
        pairs: example pairs by title, as (RGB, SAR).
        opening: the scene shown first, of the first pair; it is never removed.
    """
    scenes = _Scenes(maker, files, runs, opening)
    with gr.Blocks(title="mm_ovseg", analytics_enabled=False, delete_cache=(600, KEPT_SECONDS)) as page:
        state = gr.State(None, time_to_live=KEPT_SECONDS, delete_callback=scenes.remove)
        gr.HTML(
            "<h1>From names to a map</h1><p>Choose an optical (RGB) and a radar (SAR) image of one place, or one of "
            "them, type what to look for, and get a land-cover map, even where clouds hide the ground.</p>",
            elem_id="ovseg-head",
        )
        with gr.Row():
            with gr.Column(scale=2, min_width=300, elem_id="ovseg-left"):
                with gr.Row():
                    rgb = _file_input("RGB image", "ovseg-rgb")
                    sar = _file_input("SAR image", "ovseg-sar")
                classes = gr.Textbox(
                    value=", ".join(maker.classes),
                    label="Classes to look for",
                    info='Separated by commas; with synonyms: "water, river, lake; road, street"',
                    max_length=MAX_CLASSES_LENGTH,
                    elem_id="ovseg-classes",
                )
                with gr.Accordion("More options", open=False, elem_id="ovseg-more"):
                    background = gr.Textbox(
                        label="Other things there",
                        info='They compete with the classes, and are mapped to "none"',
                        placeholder="bare ground, something else",
                        max_length=MAX_CLASSES_LENGTH,
                        elem_id="ovseg-background",
                    )
                start = gr.Button("Make the map", variant="primary", elem_id="ovseg-start")
                message = gr.HTML(elem_id="ovseg-message")
                examples = []
                if pairs:
                    gr.HTML("Or try the example pair with the small model:")
                    with gr.Row():
                        examples = [gr.Button(title, size="sm", min_width=120) for title in pairs]
                with gr.Column(elem_id="ovseg-results"):
                    legend = gr.HTML(elem_id="ovseg-legend")
                    with gr.Row():
                        download, download_confidence = (
                            gr.DownloadButton(title, interactive=False, size="sm", min_width=120, elem_id=name)
                            for title, name in (
                                ("Map (GeoTIFF)", "ovseg-download"),
                                ("Confidence (GeoTIFF)", "ovseg-download-confidence"),
                            )
                        )
            with gr.Column(scale=3, min_width=300, elem_id="ovseg-right"):
                picture = gr.HTML(elem_id="ovseg-picture")
                opacity = gr.Slider(0, 100, value=60, step=1, label="Opacity of the map, %", elem_id="ovseg-opacity")
                with gr.Row():
                    sensors = _choice([WITH_SAR, RGB_ALONE], "Made from", "ovseg-sensors")
                    layer = _choice([CLASSES, CONFIDENCE], "Map", "ovseg-map-layer")
                    beneath = _choice([RGB, SAR], "Beneath it", "ovseg-beneath")

        view = [sensors, layer, beneath, opacity]
        shown = [message, picture, legend, sensors, beneath, download, download_confidence]
        common = {"api_visibility": "private"}
        model = {"concurrency_limit": 1, "concurrency_id": "model"}  # one queue for everything that needs the model
        downloads = [download, download_confidence]
        direct = {"queue": False, "show_progress": "hidden", **common}

        def run(begun, function, inputs, outputs):
            """Run the model, after disabling the downloads of the previous map."""
            step = begun(_no_downloads, None, downloads, **direct).then(function, inputs, outputs, **model, **common)
            step.failure(scenes.downloads, [state, sensors], downloads, **direct)

        pair_inputs, made = [state, rgb, sar, classes, background, layer, opacity], [state, *shown]
        run(start.click, scenes.make, pair_inputs, made)
        for names in (classes, background):
            run(names.submit, scenes.make, pair_inputs, made)
        for button, pair in zip(examples, pairs.values(), strict=True):
            chosen = button.click(
                lambda pair=pair: [str(path) for path in pair], None, [rgb, sar], queue=False, **common
            )
            run(chosen.then, scenes.make, pair_inputs, made)
        run(sensors.input, scenes.show, [state, *view], shown)
        for control in (layer, beneath):
            control.input(scenes.show_made, [state, *view], shown, queue=False, **common)
        opacity.input(None, opacity, None, js=SET_OPACITY)
        page.load(None, None, None, js=READ_ALOUD)
        if opening is not None:
            page.load(scenes.open, [layer, opacity], [state, rgb, sar, classes, *shown], queue=False, **common)
    page.queue(default_concurrency_limit=1, max_size=20, api_open=False)  # otherwise requests could bypass the queue
    return page


class _Scenes:
    """The handlers of the page's events."""

    def __init__(self, maker: MapMaker, files: VisitorFiles, runs: Runs, opening: PageScene | None) -> None:
        self._maker, self._files, self._runs, self._opening = maker, files, runs, opening

    def make(
        self,
        scene: PageScene | None,
        rgb: str | None,
        sar: str | None,
        classes: str,
        background: str,
        layer: str,
        opacity: float,
        request: gr.Request,
    ) -> list[Any]:
        """Map a new pair in place of the last one, or say why it cannot be mapped."""
        files = [None if path is None else Path(path) for path in (rgb, sar)]
        folder = self._files.new_folder(request.request.state.visitor)
        previous = scene if scene is not None and files == [scene.rgb, scene.sar] else None
        if previous is None:
            self.remove(scene)
        names = {"typed_background": background or "", "previous": previous}
        with self._runs.of(request.session_hash) as left:
            made, message = _attempt(
                lambda: self._maker.make_scene(*files, classes or "", folder, left, **names), *files
            )
        if made is None:
            return [previous, *_nothing(message)]  # its features serve the next attempt
        self.remove(previous)
        return [made, *_shown(made, made.sar is not None, layer, RGB, opacity)]

    def open(self, layer: str, opacity: float) -> list[Any]:
        """Show the opening scene."""
        scene = self._opening
        files = [str(scene.rgb), None if scene.sar is None else str(scene.sar)]
        return [scene, *files, ", ".join(scene.class_names), *_shown(scene, True, layer, RGB, opacity)]

    def show(
        self,
        scene: PageScene | None,
        sensors: str,
        layer: str,
        beneath: str,
        opacity: float,
        request: gr.Request,
    ) -> list[Any]:
        """Change the view of a scene; a map without SAR is computed on first request."""
        if scene is None:
            return _nothing(NO_MAP)
        with_sar = _uses_sar(scene, sensors)
        with self._runs.of(request.session_hash) as left:
            made, message = _attempt(
                lambda: self._maker.make_map(scene, with_sar=with_sar, should_stop=left), scene.rgb, scene.sar
            )
        return _nothing(message) if made is None else _shown(scene, with_sar, layer, beneath, opacity)

    def show_made(self, scene: PageScene | None, sensors: str, layer: str, beneath: str, opacity: float) -> list[Any]:
        """Change the view of an existing map, without waiting for the model."""
        if scene is None:
            return _nothing(NO_MAP)
        with_sar = _uses_sar(scene, sensors)
        if with_sar in scene.maps:
            return _shown(scene, with_sar, layer, beneath, opacity)
        return [gr.skip()] * 7  # being computed, and shown in this view when finished

    def downloads(self, scene: PageScene | None, sensors: str) -> list[Any]:
        """Enable the downloads of the map that is still shown, after another one failed."""
        page_map = None if scene is None else scene.maps.get(_uses_sar(scene, sensors))
        return _no_downloads() if page_map is None else _downloads(page_map)

    def remove(self, scene: PageScene | None) -> None:
        """Delete the files of a scene that is no longer shown."""
        if scene is not None and scene is not self._opening:
            scene.remove()


def _attempt(make: Callable[[], Any], *files: Path | None) -> tuple[Any, str]:
    """The result and "", or None and a sentence for the visitor."""
    try:
        return make(), ""
    except MMOVSegError as error:
        return None, page_message(error, *files)
    except Exception:
        logger.exception("The page could not make a map of %s.", files)
        return None, UNEXPECTED


def _uses_sar(scene: PageScene, sensors: str) -> bool:
    return scene.sar is not None and (scene.rgb is None or sensors == WITH_SAR)


def _shown(scene: PageScene, with_sar: bool, layer: str, beneath: str, opacity: float) -> list[Any]:
    """The page updates that show a map of a scene."""
    page_map = scene.maps[with_sar]
    is_pair = scene.image is not None and scene.sar_image is not None
    if not is_pair:
        beneath = SAR if scene.image is None else RGB
    if layer == CONFIDENCE:
        colored = color_confidence(page_map.confidence)
    else:
        colored = color_classes(page_map.class_map, {entry["value"]: entry["color"] for entry in page_map.classes})
    image = scene.sar_image if beneath == SAR else scene.image
    names = ", ".join(entry["name"] for entry in page_map.classes)
    choices = [WITH_SAR, RGB_ALONE] if scene.image is not None else [SAR_ALONE]
    made_from = choices[0] if with_sar else RGB_ALONE
    place = scene.crs or "not georeferenced"
    note = f"{scene.width:,} × {scene.height:,} pixels, {place}; made from {made_from}"
    if with_sar and page_map.sar_share < 0.9995:
        note += f", of which SAR covers {page_map.sar_share:.1%}"
    return [
        draw_summary(page_map.classes, scene.warnings),
        draw_map(image, colored, opacity=opacity / 100, description=f"{layer} map of {names}"),
        draw_warnings(scene.warnings)
        + draw_legend(page_map.classes, confidence_scale=layer == CONFIDENCE)
        + f'<p class="ovseg-note">{escape_text(note)}.</p>',
        gr.update(choices=choices, value=made_from, interactive=is_pair),
        gr.update(value=beneath, interactive=is_pair),
        *_downloads(page_map),
    ]


def _nothing(message: str) -> list[Any]:
    """The page updates for no map."""
    return [draw_message(message), "", "", gr.update(), gr.update(), *_no_downloads()]


def _downloads(page_map: PageMap) -> list[Any]:
    return [gr.update(value=str(path), interactive=True) for path in (page_map.geotiff, page_map.confidence_geotiff)]


def _no_downloads() -> list[Any]:
    return [gr.update(value=None, interactive=False)] * 2


def _file_input(label: str, name: str) -> gr.File:
    return gr.File(label=label, file_types=FILE_TYPES, type="filepath", height=120, min_width=220, elem_id=name)


def _choice(choices: list[str], label: str, name: str) -> gr.Radio:
    return gr.Radio(choices, value=choices[0], label=label, min_width=160, elem_id=name)
