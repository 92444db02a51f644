"""The columns of the paper's efficiency table, measured for any config."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from typing import Any

import torch
from detectron2.utils.events import EventStorage
from torch import nn

from mm_ovseg.efficiency.emissions import emissions_tracker, read_emissions
from mm_ovseg.efficiency.flops import compare_flop_counts, flop_counter, released_tflop
from mm_ovseg.efficiency.machine import describe_machine, matrix_rate, peak_memory, reset_peak_memory, resident_mb
from mm_ovseg.efficiency.timer import time_runs
from mm_ovseg.efficiency.workload import Workload
from mm_ovseg.engine.config_checks import needs_training
from mm_ovseg.modeling.encoders import encoder_names

__all__ = ["MODES", "count_parameters", "measure_efficiency"]

MODES = ("infer", "train")
MODULE_DEPTH = 2  # of names such as dino_sar.encoder and sem_seg_head.aggregator


def measure_efficiency(
    workload: Workload, *, modes: Sequence[str] | None = None, country: str | None = None
) -> dict[str, Any]:
    """Measure parameters, operations, time, memory and, given a country, energy and CO2.

    Args:
        workload: the model and its input.
        modes: those of ``MODES`` to measure; None for all that the model has.
        country: three-letter ISO 3166-1 code of the electricity; None leaves out energy and CO2.

    Returns:
        A report for :func:`~mm_ovseg.efficiency.report.format_efficiency`, serialisable as JSON.

    Raises:
        ConfigError: codecarbon is not installed, the country is unknown, the GPU's energy cannot be measured, or there
            is no training to measure.
    """
    if modes is None:
        modes = MODES if needs_training(workload.cfg) else ("infer",)
    country = country and country.upper()
    new_tracker = nullcontext if country is None else emissions_tracker(country, workload.device)
    device, resident_at_start = workload.device, resident_mb()
    parameters = count_parameters(workload.build_model())
    rate_before = matrix_rate(device, torch.float32)
    report = {
        "model": workload.cfg.MODEL.META_ARCHITECTURE,
        "encoders": encoder_names(workload.cfg),
        "machine": describe_machine(device),
        **workload.describe(),
        "country": country,
        "parameters": parameters,
    }

    def measure(title: str, run: Callable[[], object], pairs: int) -> dict[str, Any]:
        reset_peak_memory(device)
        for _ in range(workload.warmup):
            run()
        with new_tracker() as tracker:
            [timing] = time_runs(run, device=device, runs=workload.runs, title=title)
        emissions = None if country is None else read_emissions(tracker, device)
        return {
            **timing.per_pair(pairs),
            **peak_memory(device, resident_at_start),
            "co2_kilograms_per_pair": emissions and emissions["kilograms"] / (workload.runs * pairs),
            "kilowatt_hours_per_pair": emissions and emissions["kilowatt_hours"] / (workload.runs * pairs),
            "emissions": emissions,
        }

    if "infer" in modes:
        report["inference"] = _measure_inference(workload, measure)
    if "train" in modes:
        report["training"] = _measure_training(workload, measure)
    # The higher rate, since other load on the machine can only lower it.
    report["machine"]["gemm_gflops"] = max(rate_before, matrix_rate(device, torch.float32))
    return report


def count_parameters(model: nn.Module) -> dict[str, dict[str, int]]:
    """Parameters of a model: ``{name: {"all": ..., "trainable": ...}}``, "total" first, then its modules, two deep."""
    counts = {"total": {"all": 0, "trainable": 0}}
    for name, parameter in model.named_parameters():
        module = ".".join(name.split(".")[:-1][:MODULE_DEPTH]) or name
        for key in ("total", module):
            count = counts.setdefault(key, {"all": 0, "trainable": 0})
            count["all"] += parameter.numel()
            count["trainable"] += parameter.numel() * parameter.requires_grad
    return counts


@torch.no_grad()
def _measure_inference(workload: Workload, measure: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    model = workload.build_model().eval()
    pairs = [{key: item[key] for key in ("image", "sar_image")} for item in workload.random_batch()]
    fields = measure("inference", lambda: model(pairs), workload.batch_size)
    released = released_tflop(workload.cfg, workload.classes)
    return {
        "precision": _precision(model.inference_dtype, workload.device),
        **fields,
        "flops_per_pair": compare_flop_counts(model, pairs),
        "released_flops_per_pair": released and released * 1e12,
    }


def _measure_training(workload: Workload, measure: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    solver = workload.cfg.SOLVER
    trainer = workload.build_trainer(workload.build_model(), accumulation_steps=solver.ACCUMULATION_STEPS)
    pairs = workload.batch_size * solver.ACCUMULATION_STEPS
    with EventStorage():
        fields = measure("training", trainer.run_step, pairs)
        with flop_counter() as counter:
            trainer.run_step()
    pairs_per_iteration = solver.IMS_PER_BATCH * solver.ACCUMULATION_STEPS
    scheduled_pairs, kilograms = solver.MAX_ITER * pairs_per_iteration, fields["co2_kilograms_per_pair"]
    return {
        "precision": _precision(trainer.autocast_dtype or torch.float32, workload.device),
        "accumulation_steps": solver.ACCUMULATION_STEPS,
        **fields,
        "flops_per_pair": {"torch": counter.get_total_flops() / pairs},
        "schedule": {
            "iterations": solver.MAX_ITER,
            "pairs_per_iteration": pairs_per_iteration,
            "hours": scheduled_pairs * fields["seconds_per_pair"] / 3600,
            "co2_kilograms": kilograms and scheduled_pairs * kilograms,
        },
    }


def _precision(dtype: torch.dtype, device: torch.device) -> str:
    """The name of a type, and whether its matrix products are faster and coarser than it says."""
    name = str(dtype).removeprefix("torch.")
    rounded = dtype is torch.float32 and device.type == "cuda" and torch.backends.cuda.matmul.allow_tf32
    return f"{name} with TF32" if rounded else name
