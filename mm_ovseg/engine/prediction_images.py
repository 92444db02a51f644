"""Images of the predictions for a few fixed pairs during training."""

import logging
from dataclasses import replace
from functools import cached_property
from pathlib import Path

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
from mm_ovseg.decision import Decision
from mm_ovseg.engine.prompts import read_prompts
from mm_ovseg.errors import DataError
from mm_ovseg.visualization.dataset_sheet import choose_evenly, read_panel_row
from mm_ovseg.visualization.panels import PanelRow, draw_panels
from mm_ovseg.vocabulary import unseen_classes

__all__ = ["PredictionImages"]

logger = logging.getLogger(__name__)

MAX_WIDTH = 1600  # pixels; event files keep the image of every evaluation


class PredictionImages:
    """Draws pairs of the first test dataset, their labels and predictions in one figure; for Detectron2's EvalHook.

    The pairs are evenly spaced over the dataset, and the same in every call and every run. Each call
    replaces ``inference/DATASET/predictions.png`` under ``OUTPUT_DIR``; TensorBoard and Weights & Biases keep all
    figures, as ``DATASET/predictions``.

    Args:
        cfg: ``DATASETS.TEST`` names at least one dataset; ``VISUALIZATION.PAIRS`` is the number of pairs.
        model: a segmentation model, not wrapped in DistributedDataParallel.
    """

    def __init__(self, cfg: CfgNode, model: nn.Module) -> None:
        self._cfg = cfg
        self._model = model
        self._dataset_name = cfg.DATASETS.TEST[0]
        self._file = Path(cfg.OUTPUT_DIR) / "inference" / self._dataset_name / "predictions.png"

    def __call__(self) -> None:
        """Draw on the main process, and put the image into the event storage.

        Raises:
            DataError: a pair cannot be read, and ``INPUT.SKIP_CORRUPT`` is off; or the image cannot be written.
        """
        if not comm.is_main_process() or not self._pairs:
            return
        metadata = MetadataCatalog.get(self._dataset_name)
        classes = metadata.stuff_classes
        decision = Decision(classes, min_score=0.0)  # the plain argmax, as it is scored
        self._model.set_vocabulary(read_prompts(self._cfg)[0])  # other datasets may have changed it
        rows = []
        for item, row in self._pairs:
            with inference_context(self._model), torch.no_grad():
                scores = self._model([item])[0]["sem_seg"]  # (T, H, W)
            rows.append(replace(row, predictions={"Prediction": decision(scores)[0].cpu().numpy()}))
        draw_panels(
            self._file,
            rows,
            classes=classes,
            colors=metadata.get("stuff_colors"),
            unseen=unseen_classes(classes, metadata.get("unseen_classes", []), self._cfg.DATASETS.UNSEEN),
        )
        with Image.open(self._file) as file:
            image = file.convert("RGB")
        image.thumbnail((MAX_WIDTH, image.height))
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()
        get_event_storage().put_image(f"{self._dataset_name}/predictions", pixels)

    @cached_property
    def _pairs(self) -> list[tuple[dict, PanelRow]]:
        """The input of the model, and the images to draw."""
        metadata = MetadataCatalog.get(self._dataset_name)
        mapper = build_dataset_mapper(self._cfg, is_train=False)
        pairs = []
        for sample in choose_evenly(DatasetCatalog.get(self._dataset_name), self._cfg.VISUALIZATION.PAIRS):
            item = mapper(sample)
            if "skipped" in item:  # the mapper has warned
                continue
            try:
                pairs.append((item, read_panel_row(self._cfg, sample, metadata)))
            except DataError as error:  # of the label
                if not self._cfg.INPUT.SKIP_CORRUPT:
                    raise
                logger.warning("A sample is left out (INPUT.SKIP_CORRUPT): %s", error)
        return pairs
