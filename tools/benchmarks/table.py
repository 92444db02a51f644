"""Ratios of measured numbers, and the printed table."""

from collections.abc import Mapping
from typing import Any

from mm_ovseg.efficiency.report import format_table

# Fields in the first lines, or not worth a row.
HEADING_FIELDS = ("batch_size", "classes", "image_size", "ground_sampling_distance", "runs", "warmup", "threads")
HEADING_FIELDS += ("scene_size", "window", "overlap")
GROUND_OF = {"infer": "image_size", "stages": "image_size", "scene": "scene_size"}  # mode -> side of the mapped square
SECONDS_PER_HOUR, METRES_PER_KILOMETRE = 3600, 1000
STAGE_HEADERS = ("stage", "seconds", "share", "GFLOP", "GFLOP/s", "of matrix")


def add_ratios(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Add values derived from the measured numbers.

    ``arithmetic_efficiency`` counts the operations of the released model's forward pass, so that saved operations show,
    and ``executed_efficiency`` those executed, both relative to float32 matrix products at ``gemm_gflops``. The
    ``gemm_share`` of a stage is relative to matrix products in the dtype of the model. ``square_kilometres_per_hour``
    is the ground of a pair, or of a scene, whose windows overlap.
    """
    fields = {"tflop_per_pair": None, "executed_tflop_per_pair": None, **fields}
    seconds, rate = fields["seconds_per_pair"], fields["gemm_gflops"]
    for name, tflop in (("arithmetic", fields["tflop_per_pair"]), ("executed", fields["executed_tflop_per_pair"])):
        fields[f"{name}_efficiency"] = None if tflop is None else tflop * 1000 / seconds / rate
    rate = fields.get("gemm_gflops_dtype") or rate
    for stage in fields.get("stages", {}).values():
        # A stage below the clock's resolution has no rate.
        stage["gflops"] = stage["executed_gflop"] / stage["seconds"] if stage["seconds"] > 0 else None
        stage["gemm_share"] = None if stage["gflops"] is None else stage["gflops"] / rate
    if (side := GROUND_OF.get(fields.get("mode"))) is not None:
        metres = fields[side] * fields["ground_sampling_distance"]
        hours = fields.get("scene_seconds", seconds) / SECONDS_PER_HOUR
        fields["square_kilometres_per_hour"] = (metres / METRES_PER_KILOMETRE) ** 2 / hours
    if "reference_seconds_per_pair" in fields:
        fields["speedup_over_reference"] = fields["reference_seconds_per_pair"] / seconds
    return fields


def format_report(report: Mapping[str, Any]) -> str:
    """Format a report as text. Rows are named like the JSON fields, with spaces."""
    metres = report["ground_sampling_distance"]
    what = f"{report['image_size']} pixels of {metres:g} m"
    if report["mode"] == "scene":
        size, window, overlap = report["scene_size"], report["window"], report["overlap"]
        what = f"{size} x {size} pixels of {metres:g} m in windows of {window}, overlap {overlap:.0%}"
    lines = [
        f"{report['mode']}: {what}, batch size {report['batch_size']}, classes: {report['classes']}, {report['dtype']}",
        f"{report['device_name']} ({report['device']}, {report['cpu_capability']}), threads: {report['threads']}, "
        f"PyTorch {report['torch_version']}",
        f"of the CPU's flags: {' '.join(report['cpu_flags']) or 'none that matter'}",
        "",
    ]
    rows = []
    for name, value in report.items():
        if name not in HEADING_FIELDS and isinstance(value, int | float):
            every = report.get(f"{name}_all", ())
            spread = f"{min(every):.4g} to {max(every):.4g}" if len(every) > 1 else ""
            rows.append([name.replace("_", " "), f"{value:.4g}", spread])
    lines.append(format_table(rows, ["", "", "all runs"], "plain"))
    is_stub = report.get("stub_seconds_per_window") is not None
    if report["mode"] in ("infer", "stages", "scene") and report["tflop_per_pair"] is None and not is_stub:
        lines.append("The operations of the released model are unknown for this config and number of classes,")
        lines.append("so there is no arithmetic efficiency.")
    if report["mode"] == "stages":
        rows = [[name, *_stage_cells(stage)] for name, stage in report["stages"].items()]
        lines += ["", format_table(rows, STAGE_HEADERS, "plain")]
    return "\n".join(lines)


def _stage_cells(stage: Mapping[str, float | None]) -> list[str]:
    fields = zip(
        ("seconds", "share", "executed_gflop", "gflops", "gemm_share"), (".4f", ".1%", ".2f", ".1f", ".0%"), strict=True
    )
    return ["-" if stage[name] is None else f"{stage[name]:{form}}" for name, form in fields]
