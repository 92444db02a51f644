"""Scores of predictions against ground truth, and of SAR features against RGB features."""

from mm_ovseg.evaluation.build import EVALUATOR_TYPES, build_evaluator, check_evaluator_types
from mm_ovseg.evaluation.metrics import count_pixels, format_results_table, segmentation_metrics
from mm_ovseg.evaluation.retrieval import RetrievalEvaluator
from mm_ovseg.evaluation.seen_unseen import SeenUnseenSemSegEvaluator
