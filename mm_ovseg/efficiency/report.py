"""Measured efficiency as Markdown, next to the rows of the paper, and reports in files."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tabulate import tabulate

from mm_ovseg.files import complete_file

__all__ = ["format_efficiency", "format_table", "paper_rows", "write_report"]

PAPER_ROWS = Path(__file__).with_name("paper_rows.json")
PAPER_COLUMNS = {  # field of the paper: title of the column
    "training_ms": "training, ms",
    "inference_ms": "inference, ms",
    "training_co2_kg": "training, kg CO₂",
    "inference_co2_kg": "inference, kg CO₂",
    "parameters_millions": "parameters, million",
}
UNKNOWN = "–"


def write_report(report: Mapping[str, Any], text: str, *, json_file: Path | None, text_file: Path | None) -> None:
    """Write a report as JSON, as text or both.

    Raises:
        DataError: a file cannot be written.
    """
    for file, content in ((json_file, json.dumps(report, indent=2) + "\n"), (text_file, text)):
        if file is not None:
            with complete_file(file) as temporary:
                temporary.write_text(content, encoding="utf-8")


def format_table(rows: Iterable[Sequence[str]], headers: Sequence[str], style: str = "github", labels: int = 1) -> str:
    """A table in one of tabulate's styles, with the first ``labels`` columns left-aligned, and numbers to the right."""
    alignment = ["left"] * labels + ["right"] * (len(headers) - labels)
    return tabulate(rows, headers, tablefmt=style, disable_numparse=True, colalign=alignment)


def paper_rows() -> list[dict[str, Any]]:
    """The rows of the paper's efficiency table."""
    return json.loads(PAPER_ROWS.read_text(encoding="utf-8"))["rows"]


def format_efficiency(report: Mapping[str, Any]) -> str:
    """Markdown of a report.

    Args:
        report: from :func:`~mm_ovseg.efficiency.measure.measure_efficiency`, with its ``config_file``.
    """
    machine, parameters = report["machine"], report["parameters"]
    measured = {mode: report[mode] for mode in ("training", "inference") if mode in report}
    ours = [
        _scaled(measured.get(mode, {}).get(field), 1000, digits)
        for field, digits in (("seconds_per_pair", ".1f"), ("co2_kilograms_per_pair", ".3g"))
        for mode in ("training", "inference")
    ]
    rows = [[f"**this model, {machine['device_name']}**", *ours, _scaled(parameters["total"]["all"], 1e-6, ".1f")]]
    rows += [[f"{row['module']}, paper, A100", *(str(row[name]) for name in PAPER_COLUMNS)] for row in paper_rows()]
    modules = [
        [name, *(_scaled(count, 1e-6, ".2f") for count in counts.values())] for name, counts in parameters.items()
    ]
    memory = [
        [
            mode,
            *(_scaled(fields[f"peak_{name}_mb"], 1e-3, ".2f") for name in ("rss", "rss_above_imports", "cuda_memory")),
        ]
        for mode, fields in measured.items()
    ]
    sections = [
        f"# Efficiency of {report['config_file']}",
        f"Measured on {machine['device_name']} ({machine['device']}, {machine['cpu_capability']}, threads: "
        f"{machine['threads']}, float32 matrix product: {machine['gemm_gflops']:.0f} GFLOP/s), PyTorch "
        f"{machine['torch_version']}: {report['model']} with random weights, {_precisions(measured)}, "
        f"{report['batch_size']} x {report['image_size']} pixels, {report['classes']} classes, "
        f"median of {report['runs']}.",
        format_table(rows, ["", *PAPER_COLUMNS.values()]),
        "Ours are milliseconds per pair, and kg of CO₂ per 1000 pairs. The paper does not say how many pairs its "
        "milliseconds are for, nor what work its CO₂ covers: compare its rows with each other, not with ours.",
        "## Parameters, million",
        format_table(modules, ["module", "all", "trainable"]),
        *(_arithmetic(report) if "inference" in report else ()),
        "## Peak memory, GB",
        format_table(memory, ["", "process", "above the imports", "GPU"]),
        "## CO₂",
        *_emissions(report["country"], measured),
    ]
    return "\n\n".join(sections) + "\n"


def _precisions(measured: Mapping[str, Mapping[str, Any]]) -> str:
    steps = measured.get("training", {}).get("accumulation_steps", 1)
    named = {mode: f"{mode} in {fields['precision']}" for mode, fields in measured.items()}
    if steps > 1:
        named["training"] += f" by steps of {steps} batches"
    return ", ".join(named.values())


def _arithmetic(report: Mapping[str, Any]) -> Iterable[str]:
    inference = report["inference"]
    counts = inference["flops_per_pair"]
    rows = [
        ("fvcore's result: a multiply-add is one operation", counts["fvcore"]),
        ("− normalisation and interpolation, element-wise", -counts["fvcore_elementwise"]),
        ("+ fused attention, which fvcore does not support", counts["attention"]),
        ("= multiply-adds", counts["fvcore_products"] + counts["attention"]),
        ("x 2: a multiply-add is two operations", counts["reconciled"]),
        ("**PyTorch's result** (`FlopCounterMode`)", counts["torch"]),
    ]
    if inference["released_flops_per_pair"] is not None:
        rows.append(("the released implementation, counted the same way", inference["released_flops_per_pair"]))
    if "training" in report:
        rows.append(("a training step, both passes, PyTorch's count", report["training"]["flops_per_pair"]["torch"]))
    yield "## Arithmetic of a pair"
    yield format_table([[name, _scaled(count, 1e-9, ".3f")] for name, count in rows], ["", "GFLOP"])
    yield (
        "Except in the second row, element-wise operations (activations, additions, softmax) are not counted. Only the "
        "training step includes the text encoder, which otherwise runs once per vocabulary."
    )


def _emissions(country: str | None, measured: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    if country is None:
        yield "Not measured; `--country` selects the electricity mix."
        return
    rows = [
        [
            mode,
            *(_scaled(fields[f"{name}_per_pair"], 1000, ".3g") for name in ("kilowatt_hours", "co2_kilograms")),
            *(f"{fields['emissions'][part]:.1f}" for part in ("cpu_watts", "gpu_watts", "memory_watts")),
        ]
        for mode, fields in measured.items()
    ]
    yield format_table(rows, ["1000 pairs of", "kWh", "kg", "CPU, W", "GPU, W", "memory, W"])
    yield (
        f"By codecarbon, offline, with the electricity of {country}: of this process on the processor, and of its GPU. "
        "Energy counters, where a processor has them, count its other work too. Without them, as on most virtual "
        "machines, the watts are estimated from its name and load."
    )
    if "training" in measured:
        schedule = measured["training"]["schedule"]
        yield (
            f"At this rate the config's {schedule['iterations']} iterations of {schedule['pairs_per_iteration']} pairs "
            f"would take {schedule['hours']:.3g} hours and {schedule['co2_kilograms']:.3g} kg: extrapolated, not run."
        )


def _scaled(value: float | None, factor: float, form: str) -> str:
    return UNKNOWN if value is None else f"{value * factor:{form}}"
