"""Cross-modal retrieval: does a SAR token, or image, find its RGB partner among others, and vice versa?"""

import itertools
import json
import logging
import math
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from tabulate import tabulate

from mm_ovseg.data.registration import check_dataset
from mm_ovseg.errors import DataError
from mm_ovseg.files import complete_file

__all__ = ["RetrievalEvaluator", "expected_hits"]

DIRECTIONS = ("sar_to_rgb", "rgb_to_sar")
RANKS = (1, 5)  # the k of recall@k
ROWS_AT_ONCE = 1024  # images whose similarities to all others are held in memory at once

logger = logging.getLogger(__name__)


class RetrievalEvaluator(DatasetEvaluator):
    """Recall@1 and @5 of held-out RGB-SAR pairs, for every compared block and averaged over blocks.

    * *Tokens*: each valid token looks for its partner among the valid tokens of the other image of its own pair. The
      mean is over the tokens of all pairs. Some of it may come from the position, which encoders know.
    * *Images*: each image, as the normalised mean of its valid tokens, looks for its partner among all pairs.

    Recall@k is the percentage of queries whose partner is among the k most similar; ties are in random order, so that
    uninformative features score chance. Chance is exact: the mean over queries of min(k, n) / n, with n candidates. A
    pair without a valid token is counted, but is neither a query nor a candidate.

    Scores do not depend on the number of processes. Only the counts and mean tokens of each pair are kept in memory.
    """

    def __init__(
        self,
        dataset_name: str,
        *,
        blocks: Sequence[int],
        distributed: bool = True,
        output_dir: str | os.PathLike | None = None,
    ) -> None:
        """Set up the evaluation.

        Args:
            dataset_name: a registered dataset; labels are not needed.
            blocks: numbers of the blocks whose tokens the model returns.
            distributed: gather the pairs of all processes; False: score only this process's pairs.
            output_dir: for ``retrieval_evaluation.json``; None: write no file.

        Raises:
            ConfigError: no dataset of that name is registered.
        """
        check_dataset(dataset_name, "DATASETS.TEST", any_form=True)
        self._dataset_name = dataset_name
        self._dataset_size = len(DatasetCatalog.get(dataset_name))
        self._blocks = list(blocks)
        self._distributed = distributed
        self._output_dir = None if output_dir is None else Path(output_dir)
        self.reset()

    def reset(self) -> None:
        """Forget all pairs."""
        self._pairs: list[dict] = []

    def process(self, inputs: Sequence[Mapping], outputs: Sequence[Mapping]) -> None:
        """Compare the tokens of some pairs, and keep their means.

        Args:
            inputs: dataset dicts with ``file_name``.
            outputs: for each, ``sar_tokens`` and ``image_tokens``, a list with the L2-normalised tokens (N, D) of each
                block; and ``valid``, (N,) bool.
        """
        for dataset_dict, output in zip(inputs, outputs, strict=True):
            valid = output["valid"]
            hits, means = [], []
            for sar_tokens, rgb_tokens in zip(output["sar_tokens"], output["image_tokens"], strict=True):
                sar_tokens, rgb_tokens = sar_tokens[valid].float(), rgb_tokens[valid].float()
                similarity = sar_tokens @ rgb_tokens.T  # (n, n)
                partner = torch.arange(len(similarity), device=similarity.device)
                directions = (similarity, similarity.T)
                hits.append([[float(expected_hits(of, partner, rank).sum()) for rank in RANKS] for of in directions])
                means.append([F.normalize(tokens.mean(dim=0), dim=0).cpu() for tokens in (sar_tokens, rgb_tokens)])
            self._pairs.append(
                {"name": dataset_dict["file_name"], "num_tokens": int(valid.sum()), "hits": hits, "means": means}
            )

    def evaluate(self) -> "OrderedDict[str, dict[str, float]] | None":
        """Score the processed pairs, log the table and write the output file.

        Returns:
            ``{"retrieval": scores}``; None in processes other than the main one. Scores are in percent:
            ``token_sar_to_rgb_recall@1`` and so on (``image``, ``rgb_to_sar``, ``@5``) averaged over blocks, the same
            with ``-block4`` and so on for one block, and ``token_chance@1``, ``image_chance@1`` and so on. In addition
            there are ``num_pairs``, ``num_tokens``, ``num_without_data`` (pairs without a valid token) and
            ``num_skipped`` (the rest of the dataset).

        Raises:
            DataError: no pair with a valid token was processed, or the output folder cannot be written to.
        """
        pairs = self._pairs
        if self._distributed:
            pairs = [pair for part in comm.all_gather(pairs) for pair in part]
        usable = sorted((pair for pair in pairs if pair["num_tokens"]), key=lambda pair: pair["name"])
        # Before the other processes return: all of them must stop, not just the main one.
        if not usable:
            raise DataError(
                f"Dataset '{self._dataset_name}' cannot be scored: {len(pairs)} of its {self._dataset_size} pairs were "
                "processed and none has a token with data in RGB and SAR; look for warnings about skipped files."
            )
        if self._distributed and not comm.is_main_process():
            return None
        scores = self._score(usable) | {
            "num_pairs": len(usable),
            "num_tokens": sum(pair["num_tokens"] for pair in usable),
            "num_without_data": len(pairs) - len(usable),
            "num_skipped": self._dataset_size - len(pairs),
        }
        logger.info(
            "Dataset '%s', %d pairs, %d without data, %d skipped, recall in percent:\n%s",
            *(self._dataset_name, len(usable), scores["num_without_data"], scores["num_skipped"]),
            self._format_table(scores),
        )
        if self._output_dir is not None:
            report = {"dataset": self._dataset_name, "blocks": self._blocks, "results": scores}
            with complete_file(self._output_dir / "retrieval_evaluation.json") as temporary:
                temporary.write_text(json.dumps(report, indent=1, allow_nan=False), encoding="utf-8")
        return OrderedDict(retrieval=scores)

    def _score(self, pairs: Sequence[Mapping]) -> dict[str, float]:
        num_tokens = sum(pair["num_tokens"] for pair in pairs)
        blocks = range(len(self._blocks))
        scores: dict[str, float] = {}
        for rank_index, rank in enumerate(RANKS):
            for direction, direction_name in enumerate(DIRECTIONS):
                # fsum: independent of how pairs are distributed over processes
                hits = [math.fsum(pair["hits"][block][direction][rank_index] for pair in pairs) for block in blocks]
                tokens = [hit / num_tokens for hit in hits]
                images = [_image_recall([pair["means"][block] for pair in pairs], direction, rank) for block in blocks]
                for kind, recalls in (("token", tokens), ("image", images)):
                    name = f"{kind}_{direction_name}_recall@{rank}"
                    scores[name] = 100 * math.fsum(recalls) / len(recalls)
                    for block, recall in zip(self._blocks, recalls, strict=True):
                        scores[f"{name}-block{block}"] = 100 * recall
            scores[f"token_chance@{rank}"] = 100 * sum(min(rank, pair["num_tokens"]) for pair in pairs) / num_tokens
            scores[f"image_chance@{rank}"] = 100 * min(rank, len(pairs)) / len(pairs)
        return scores

    def _format_table(self, scores: Mapping[str, float]) -> str:
        rows = []
        for kind, direction, rank in itertools.product(("token", "image"), DIRECTIONS, RANKS):
            name = f"{kind}_{direction}_recall@{rank}"
            values = [scores[f"{name}-block{block}"] for block in self._blocks]
            what = f"{kind}, {direction.replace('_', ' ').replace('sar', 'SAR').replace('rgb', 'RGB')}, @{rank}"
            rows.append([what, *(f"{value:.2f}" for value in (*values, scores[name], scores[f"{kind}_chance@{rank}"]))])
        headers = ["recall", *(f"block {block}" for block in self._blocks), "mean", "chance"]
        alignment = ("left", *("right" for _ in headers[1:]))
        return tabulate(rows, headers=headers, tablefmt="github", disable_numparse=True, colalign=alignment)


def _image_recall(means: Sequence[Sequence[torch.Tensor]], direction: int, rank: int) -> float:
    """Recall 0..1 among the mean tokens (SAR, RGB) of all pairs in one block."""
    queries, candidates = (torch.stack([pair[kind] for pair in means]) for kind in (direction, 1 - direction))
    hits = []
    for partner in torch.arange(len(means)).split(ROWS_AT_ONCE):
        hits += expected_hits(queries[partner] @ candidates.T, partner, rank).tolist()
    return math.fsum(hits) / len(hits)


def expected_hits(similarity: torch.Tensor, partner: torch.Tensor, rank: int) -> torch.Tensor:
    """The probability of each query's partner being among the ``rank`` most similar candidates, ties in random order.

    Args:
        similarity: (Q, M).
        partner: (Q,) int64, the index of each query's partner among the candidates.
        rank: the k of recall@k.

    Returns:
        (Q,) float64 on the CPU: 1 or 0, except for ties at the rank.
    """
    own = similarity.gather(1, partner[:, None])
    better = (similarity > own).sum(dim=1).cpu()  # not all devices (MPS) have float64
    equal = (similarity == own).sum(dim=1).cpu()  # the partner is one of them
    return ((rank - better).double() / equal).clamp(0, 1)
