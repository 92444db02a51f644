"""The tables of the paper and its supplement, from evaluations and measurements."""

from mm_ovseg.tables.checkpoints import evaluate_checkpoints
from mm_ovseg.tables.contents import TABLES, build_tables
from mm_ovseg.tables.runs import find_runs
from mm_ovseg.tables.typesetting import format_latex, format_markdown

__all__ = ["TABLES", "build_tables", "evaluate_checkpoints", "find_runs", "format_latex", "format_markdown"]
