"""Exporting a model to a file that other programs can run: ONNX, or PyTorch's exported program. See docs/EXPORT.md."""

from mm_ovseg.export.agreement import Agreement, check_agreement
from mm_ovseg.export.exported_file import EXPORT_SUFFIXES, write_export
from mm_ovseg.export.graph import SegmentationGraph, export_program
from mm_ovseg.export.text_file import TEXT_SUFFIXES, write_text_file

__all__ = [
    "EXPORT_SUFFIXES",
    "TEXT_SUFFIXES",
    "Agreement",
    "SegmentationGraph",
    "check_agreement",
    "export_program",
    "write_export",
    "write_text_file",
]
