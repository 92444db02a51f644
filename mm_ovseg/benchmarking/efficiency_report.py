"""Measured efficiency as Markdown, beside the rows that the paper prints."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tabulate import tabulate

__all__ = ["PAPER_ROWS", "format_efficiency"]

# The paper's table, on one A100: milliseconds and kilograms of CO2 in training and inference, millions of parameters.
PAPER_ROWS = (
    ("CMU module", 343.7, 31.6, 1.05, 0.006, 85),
    ("DEF module", 377.2, 46.8, 1.14, 0.008, 92),
    ("full MM-OVSeg", 955.7, 116.9, 3.90, 0.014, 331),
    ("GSNet", 700.6, 83.2, 3.48, 0.011, 244),
)
UNKNOWN = "–"


def format_efficiency(report: Mapping[str, Any]) -> str:
    """The report of ``mm-ovseg efficiency`` as Markdown."""
    sections = [_title(report), _paper_table(report), _parameters(report["parameters"])]
    if "inference" in report:
        sections.append(_flops(report["inference"], report.get("training")))
    sections += [_memory(report), _emissions(report)]
    return "\n\n".join(section for section in sections if section) + "\n"


def _title(report: Mapping[str, Any]) -> str:
    machine = report["machine"]
    return (
        f"# Efficiency of {report['config_file']}\n\n"
        f"Measured on {machine['device_name']} ({machine['device']}, threads: {machine['threads']}, float32 matrix "
        f"product: {machine['gemm_gflops']:.0f} GFLOP/s), PyTorch {machine['torch_version']}: "
        f"{report['model']} with random weights, {report['dtype']}, {report['batch_size']} x {report['image_size']} "
        f"pixels, {report['classes']} classes, median of {report['runs']}."
    )


def _paper_table(report: Mapping[str, Any]) -> str:
    total = report["parameters"]["total"]["all"]
    training, inference = report.get("training"), report.get("inference")
    name = report["machine"]["device_name"]
    rows = [
        [
            f"**this model, {name}**",
            *(_of(mode, "seconds_per_pair", 1e3, ".1f") for mode in (training, inference)),
            *(_of(mode, "co2_kilograms_per_pair", 1e3, ".3g") for mode in (training, inference)),
            f"{total / 1e6:.1f}M",
        ]
    ]
    rows += [
        [f"{module}, paper, A100", f"{train_ms}", f"{infer_ms}", f"{train_co2}", f"{infer_co2}", f"{millions}M"]
        for module, train_ms, infer_ms, train_co2, infer_co2, millions in PAPER_ROWS
    ]
    headers = ["", "training, ms", "inference, ms", "training, kg CO₂", "inference, kg CO₂", "parameters"]
    return (
        f"{_table(rows, headers)}\n\n"
        "Ours: milliseconds a pair, and kg of CO₂ for 1000 pairs. The paper does not say of how many pairs its "
        "milliseconds are, nor what work its CO₂ is of: read its rows beside each other, not beside ours."
    )


def _parameters(parameters: Mapping[str, Mapping[str, int]]) -> str:
    rows = [
        [name, f"{count['all'] / 1e6:.2f}M", f"{count['trainable'] / 1e6:.2f}M"] for name, count in parameters.items()
    ]
    return f"## Parameters\n\n{_table(rows, ['module', 'all', 'trainable'])}"


def _flops(inference: Mapping[str, Any], training: Mapping[str, Any] | None) -> str:
    counts = inference["flops_per_pair"]
    rows = [
        ["fvcore's answer: a multiply-add is one", counts["fvcore"]],
        ["− normalisation and enlarging, element by element", -counts["fvcore_elementwise"]],
        ["+ fused attention, which fvcore does not know", counts["attention"]],
        ["= multiply-adds", counts["fvcore_products"] + counts["attention"]],
        ["x 2: a multiply-add is two operations", counts["reconciled"]],
        ["**PyTorch's answer** (`FlopCounterMode`)", counts["torch"]],
    ]
    if inference["released_flops_per_pair"] is not None:
        rows.append(["the released implementation, by the same count", inference["released_flops_per_pair"]])
    if training is not None:
        rows.append(["a training step, both passes, PyTorch's count", training["flops_per_pair"]["torch"]])
    rows = [[name, f"{count / 1e9:.3f}"] for name, count in rows]
    return (
        f"## Arithmetic of a pair\n\n{_table(rows, ['', 'GFLOP'])}\n\n"
        "Neither counts what is done element by element but for the second row (activations, additions, softmax); the "
        "text encoder, which runs once a vocabulary, is in the training step alone."
    )


def _memory(report: Mapping[str, Any]) -> str:
    rows = [
        [mode, *(_of(report[mode], field, 1e-3, ".2f") for field in ("peak_rss_mb", "peak_rss_above_imports_mb"))]
        + [_of(report[mode], "peak_cuda_memory_mb", 1e-3, ".2f")]
        for mode in ("training", "inference")
        if mode in report
    ]
    return f"## Peak memory, GB\n\n{_table(rows, ['', 'process', 'above the imports', 'GPU'])}" if rows else ""


def _emissions(report: Mapping[str, Any]) -> str:
    heading = "## CO₂\n\n"
    if report["country"] is None:
        return f"{heading}Not measured: `--country` says whose electricity it is."
    rows = [
        [
            mode,
            f"{report[mode]['kilowatt_hours_per_pair'] * 1000:.3g}",
            f"{report[mode]['co2_kilograms_per_pair'] * 1000:.3g}",
            *(f"{report[mode]['emissions'][part]:.1f}" for part in ("cpu_watts", "gpu_watts", "memory_watts")),
        ]
        for mode in ("training", "inference")
        if mode in report
    ]
    headers = ["1000 pairs of", "kWh", "kg", "CPU, W", "GPU, W", "memory, W"]
    text = (
        f"{heading}{_table(rows, headers)}\n\nBy codecarbon {report['codecarbon_version']}, offline, electricity of "
        f"{report['country']}, this process alone. Without counters of energy in the machine, as in most virtual ones, "
        "the watts are estimates from the processor's name and load."
    )
    if "training" in report:
        schedule = report["training"]["schedule"]
        text += (
            f" The config's {schedule['iterations']} iterations of {schedule['pairs_per_iteration']} pairs would take "
            f"{schedule['hours']:.3g} hours and {schedule['co2_kilograms']:.3g} kg at this rate: extrapolated, not run."
        )
    return text


def _of(fields: Mapping[str, Any] | None, name: str, factor: float, form: str) -> str:
    value = None if fields is None else fields[name]
    return UNKNOWN if value is None else f"{value * factor:{form}}"


def _table(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> str:
    alignment = ["left"] + ["right"] * (len(headers) - 1)
    return tabulate(rows, headers, tablefmt="github", disable_numparse=True, colalign=alignment)
