"""Energy and CO2, measured offline by codecarbon."""

import functools
import logging
from collections.abc import Callable
from typing import Any

from mm_ovseg.errors import ConfigError

__all__ = ["emissions_tracker", "read_emissions"]


def emissions_tracker(country: str) -> Callable[[], Any]:
    """A factory of trackers, context managers that measure this process for at least a few seconds.

    Args:
        country: a three-letter ISO 3166-1 code; its energy mix determines the CO2.

    Raises:
        ConfigError: codecarbon is not installed, or the country is unknown.
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
    return functools.partial(
        OfflineEmissionsTracker,
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


def read_emissions(tracker: Any) -> dict[str, Any]:
    """The results of a tracker: ``kilograms`` of CO2-equivalent, ``kilowatt_hours``, and average watts; for JSON.

    Raises:
        ConfigError: codecarbon recorded nothing.
    """
    data = getattr(tracker, "final_emissions_data", None)
    if data is None:  # codecarbon only logs its own errors
        raise ConfigError("codecarbon could not measure anything on this machine; leave out --country.")
    return {
        "codecarbon_version": data.codecarbon_version,
        "kilograms": data.emissions,
        "kilowatt_hours": data.energy_consumed,
        "cpu_watts": data.cpu_power,
        "gpu_watts": data.gpu_power,
        "memory_watts": data.ram_power,
    }
