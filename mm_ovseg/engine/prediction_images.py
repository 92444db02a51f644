"""Pictures of the predictions for a few fixed pairs during training."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation.evaluator import inference_context
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from PIL import Image
from torch import nn

from mm_ovseg.data.mappers import build_dataset_mapper
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.visualization.dataset_sheet import choose_evenly, read_panel_row
from mm_ovseg.visualization.panels import PanelRow, draw_panels
from mm_ovseg.vocabulary import unseen_classes

__all__ = ["PredictionImages"]

MAX_WIDTH = 1600  # pixels, in event files, which keep the picture of every evaluation


class PredictionImages:
    """Draws pairs of the first test dataset, their labels and predictions, in one figure; for Detectron2's EvalHook.

    The pairs are taken evenly over the dataset, so that they are the same at every call and in every run. The figure
    is ``inference/DATASET/predictions.png`` under ``OUTPUT_DIR``, replaced by every call; TensorBoard and Weights &
    Biases, which show it as ``DATASET/predictions``, keep the earlier ones.

    Args:
        cfg: ``DATASETS.TEST`` names at least one dataset; ``VISUALIZATION.PAIRS`` says how many of its pairs.
        model: segments; not wrapped for several processes.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self._cfg = cfg
        self._model = model
        self._dataset_name = cfg.DATASETS.TEST[0]
        self._file = Path(cfg.OUTPUT_DIR) / "inference" / self._dataset_name / "predictions.png"
        self._pairs: list[tuple[dict, PanelRow]] | None = None  # what the model gets, and what is drawn

    def __call__(self) -> None:
        """Draw, on the main process, and hand the picture to the event storage.

        Raises:
            DataError: a pair cannot be read, and ``INPUT.SKIP_CORRUPT`` is off; or the picture cannot be written.
        """
        if not comm.is_main_process():
            return
        if self._pairs is None:
            self._pairs = self._read_pairs()
        if not self._pairs:
            return
        metadata = MetadataCatalog.get(self._dataset_name)
        classes = metadata.stuff_classes
        self._model.set_vocabulary(read_prompts(self._cfg)[0])  # several datasets take turns
        draw_panels(
            self._file,
            [replace(row, predictions={"Prediction": self._predict(item)}) for item, row in self._pairs],
            classes=classes,
            colors=metadata.get("stuff_colors"),
            unseen=unseen_classes(classes, metadata.get("unseen_classes", []), self._cfg.DATASETS.UNSEEN),
        )
        get_event_storage().put_image(f"{self._dataset_name}/predictions", _read_picture(self._file))

    def _read_pairs(self) -> list[tuple[dict, PanelRow]]:
        metadata = MetadataCatalog.get(self._dataset_name)
        mapper = build_dataset_mapper(self._cfg, is_train=False)
        pairs = []
        for sample in choose_evenly(DatasetCatalog.get(self._dataset_name), self._cfg.VISUALIZATION.PAIRS):
            item = mapper(sample)
            if "skipped" not in item:  # INPUT.SKIP_CORRUPT, of which the mapper has warned
                pairs.append((item, read_panel_row(self._cfg, sample, metadata)))
        return pairs

    def _predict(self, item: dict) -> np.ndarray:
        """The class map (H, W) of a pair."""
        with inference_context(self._model), torch.no_grad():
            scores = self._model([item])[0]["sem_seg"]  # (T, H, W)
        return scores.argmax(dim=0).cpu().numpy()


def _read_picture(path: Path) -> torch.Tensor:
    """A picture, shrunk to the maximum width: (3, H, W) uint8."""
    with Image.open(path) as picture:
        pixels = np.array(picture.convert("RGB"))
    scale = MAX_WIDTH / pixels.shape[1]
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
