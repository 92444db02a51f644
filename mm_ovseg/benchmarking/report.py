"""From measured numbers to ratios, and to a table that people read."""

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["add_ratios", "format_report"]

# Title, field and unit of the table's rows.
ROWS = (
    ("seconds per pair", "seconds_per_pair", ""),
    ("windows", "windows", ""),
    ("whole scene", "scene_seconds", "s"),
    ("  in the model", "model_seconds", "s"),
    ("  before the first window", "before_windows_seconds", "s"),
    ("  between windows", "between_windows_seconds", "s"),
    ("  after the last window", "after_windows_seconds", "s"),
    ("overhead over the model", "overhead_percent", "%"),
    ("model alone", "model_alone_seconds_per_window", "seconds per window"),
    ("overhead over the model alone", "overhead_over_alone_percent", "%"),
    ("text, once a vocabulary", "text_seconds", "s"),
    ("matrix product, float32", "gemm_gflops", "GFLOP/s"),
    ("matrix product, this dtype", "gemm_gflops_dtype", "GFLOP/s"),
    ("released model's arithmetic", "tflop_per_pair", "TFLOP a pair"),
    ("executed arithmetic", "executed_tflop_per_pair", "TFLOP a pair"),
    ("arithmetic efficiency", "arithmetic_efficiency", ""),
    ("executed efficiency", "executed_efficiency", ""),
    ("peak memory", "peak_rss_mb", "MB"),
    ("  above the imports", "peak_rss_above_imports_mb", "MB"),
    ("peak memory of the GPU", "peak_cuda_memory_mb", "MB"),
    ("parameters", "parameters_millions", "million"),
    ("  that learn", "trainable_millions", "million"),
    ("loader", "loader_pairs_per_second", "pairs a second"),
    ("training", "training_pairs_per_second", "pairs a second"),
    ("loader over training", "loader_over_training", "times"),
    ("reference", "reference_seconds_per_pair", "seconds per pair"),
    ("speedup over the reference", "speedup_over_reference", "times"),
    ("relative difference from it", "reference_max_relative_difference", ""),
    ("largest difference from it", "reference_max_absolute_difference", ""),
)
STAGE_ROW = "  {:<12}{:>10}{:>8}{:>10}{:>10}{:>12}"


def add_ratios(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add what follows from the measured numbers.

    ``arithmetic_efficiency`` counts what the released model's forward pass takes, so that arithmetic saved shows, and
    ``executed_efficiency`` what was computed, both as a share of float32 matrix products at ``gemm_gflops``. A stage's
    ``gemm_share`` is of the matrix products in the model's own type.
    """
    fields = {"tflop_per_pair": None, "executed_tflop_per_pair": None, **fields}
    seconds, rate = fields["seconds_per_pair"], fields["gemm_gflops"]
    for name, tflop in (
        ("arithmetic_efficiency", fields["tflop_per_pair"]),
        ("executed_efficiency", fields["executed_tflop_per_pair"]),
    ):
        fields[name] = None if tflop is None else tflop * 1000 / seconds / rate
    if "stages" in fields:
        rate = fields["gemm_gflops_dtype"] or rate
        fields["stages"] = {name: _add_rates(stage, rate) for name, stage in fields["stages"].items()}
    if "reference_seconds_per_pair" in fields:
        fields["speedup_over_reference"] = fields["reference_seconds_per_pair"] / seconds
    return fields


def format_report(report: Mapping[str, Any]) -> str:
    """The table of a report."""
    pairs, classes = (_count(report[key], noun) for key, noun in (("batch_size", "pair"), ("classes", "class")))
    what = f"{pairs} of {report['image_size']} pixels"
    if report["mode"] == "scene":
        size, window, overlap = report["scene_size"], report["window"], report["overlap"]
        what = f"{size} x {size} pixels in windows of {window}, overlap {overlap:.0%}, {pairs} at a time"
    lines = [
        f"{report['mode']}: {what}, {classes}, {report['dtype']}",
        f"{report['device_name']} ({report['device']}), {_count(report['threads'], 'thread')}, "
        f"PyTorch {report['torch_version']}",
        "",
    ]
    for title, field, unit in ROWS:
        if report.get(field) is not None:
            lines.append(f"{title:<30}{report[field]:>10.4g} {unit}{_spread(report, field)}".rstrip())
    if report["mode"] in ("infer", "stages", "scene") and report["tflop_per_pair"] is None:
        lines.append("The released model's arithmetic is not known for this config and number of classes, which leaves")
        lines.append("arithmetic_efficiency open.")
    if report["mode"] == "stages":
        lines += ["", STAGE_ROW.format("stage", "seconds", "share", "GFLOP", "GFLOP/s", "of matrix")]
        lines += [_stage_line(name, stage) for name, stage in report["stages"].items()]
    elif "stages" in report:
        seconds = (f"{name} {stage['seconds']:.3g}" for name, stage in report["stages"].items())
        lines += ["", f"seconds by stage: {', '.join(seconds)}"]
    return "\n".join(lines)


def _add_rates(stage: Mapping[str, float], matrix_rate: float) -> dict[str, float | None]:
    # A stage below the clock's resolution has no rate.
    rate = stage["executed_gflop"] / stage["seconds"] if stage["seconds"] > 0 else None
    return {**stage, "gflops": rate, "gemm_share": None if rate is None else rate / matrix_rate}


def _stage_line(name: str, stage: Mapping[str, float | None]) -> str:
    rate, share = stage["gflops"], stage["gemm_share"]
    return STAGE_ROW.format(
        name,
        f"{stage['seconds']:.4f}",
        f"{stage['share']:.1%}",
        f"{stage['executed_gflop']:.2f}",
        "-" if rate is None else f"{rate:.1f}",
        "-" if share is None else f"{share:.0%}",
    )


def _count(number: int, noun: str) -> str:
    plural = f"{noun}es" if noun.endswith("s") else f"{noun}s"
    return f"{number} {noun if number == 1 else plural}"


def _spread(report: Mapping[str, Any], field: str) -> str:
    values: Sequence[float] = report.get(f"{field}_all") or ()
    return f" ({min(values):.4g} to {max(values):.4g}, {_count(len(values), 'run')})" if len(values) > 1 else ""
