"""Energy and CO2, measured offline by codecarbon."""

import functools
import logging
from collections.abc import Callable
from typing import Any

import torch

from mm_ovseg.errors import ConfigError

__all__ = ["emissions_tracker", "read_emissions"]


def emissions_tracker(country: str, device: torch.device) -> Callable[[], Any]:
    """A factory of trackers, context managers that measure this process for at least a few seconds.

    Args:
        country: a three-letter ISO 3166-1 code; its energy mix determines the CO2.
        device: the device of the model; no other GPU is measured.

    Raises:
        ConfigError: codecarbon is not installed, the country is unknown, or the GPU's energy cannot be measured.
    """
    try:
        from codecarbon import OfflineEmissionsTracker
        from codecarbon.input import DataSource
    except ImportError as error:
        raise ConfigError(
            f"Measuring CO2 needs codecarbon ({error}); "
            "run: pip install 'mm_ovseg[efficiency]', or leave out --country."
        ) from error
    logging.getLogger("codecarbon").setLevel(logging.ERROR)  # importing codecarbon changed the level
    if country not in DataSource().get_global_energy_mix_data():
        raise ConfigError(
            f"--country is '{country}', which codecarbon does not know; "
            "give a three-letter ISO 3166-1 code, such as DEU, FRA, CHN or USA."
        )
    gpus = {"gpu_ids": [_nvml_index(device)]} if device.type == "cuda" and torch.version.hip is None else {}
    return functools.partial(
        OfflineEmissionsTracker,
        **gpus,
        country_iso_code=country,
        tracking_mode="process",
        measure_power_secs=1,
        log_level="error",
        # Override any .codecarbon.config in the home folder, so that nothing is written or sent.
        output_methods=[],
        emissions_endpoint=None,
        electricitymaps_api_token=None,
        cloud_provider=None,
    )


def read_emissions(tracker: Any, device: torch.device) -> dict[str, Any]:
    """The results of a tracker: ``kilograms`` of CO2-equivalent, ``kilowatt_hours``, and average watts; for JSON.

    Args:
        tracker: a finished one of :func:`emissions_tracker`.
        device: the device of the model; on a CPU, no GPU counts.

    Raises:
        ConfigError: codecarbon recorded nothing.
    """
    data = getattr(tracker, "final_emissions_data", None)
    if data is None:  # codecarbon only logs its own errors
        raise ConfigError("codecarbon could not measure anything on this machine; leave out --country.")
    kilograms, kilowatt_hours, gpu_watts = data.emissions, data.energy_consumed, data.gpu_power
    if device.type == "cpu" and data.gpu_energy > 0:  # codecarbon takes an empty list of GPUs for all of them
        kilowatt_hours, gpu_watts = data.cpu_energy + data.ram_energy, 0.0
        kilograms *= kilowatt_hours / data.energy_consumed
    return {
        "codecarbon_version": data.codecarbon_version,
        "kilograms": kilograms,
        "kilowatt_hours": kilowatt_hours,
        "cpu_watts": data.cpu_power,
        "gpu_watts": gpu_watts,
        "memory_watts": data.ram_power,
    }


def _nvml_index(device: torch.device) -> int:
    """The number of a CUDA device among all GPUs of the machine, by which codecarbon knows it.

    CUDA numbers only those in CUDA_VISIBLE_DEVICES, and the fastest first.
    """
    import pynvml  # codecarbon requires it

    try:
        pynvml.nvmlInit()
        uuid = torch.cuda.get_device_properties(device).uuid
        return pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}"))
    except (pynvml.NVMLError, AttributeError) as error:  # a share of a GPU (MIG), for example
        raise ConfigError(
            f"The energy of {device} cannot be measured apart from other GPUs ({error}); leave out --country."
        ) from error
