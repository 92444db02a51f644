"""Energy and CO2 of what is run, by codecarbon, offline."""

import logging
from collections.abc import Callable
from dataclasses import dataclass

from mm_ovseg.errors import ConfigError

__all__ = ["Emissions", "EmissionsMeter"]

SECONDS_BETWEEN_READINGS = 1


@dataclass(frozen=True)
class Emissions:
    """What something took.

    Attributes:
        kilograms: of CO2-equivalent, for the electricity of the country.
        kilowatt_hours: of CPU, GPU and memory.
        cpu_watts, gpu_watts, memory_watts: on average. Where the machine has no counters of energy (RAPL, NVML), they
            are estimates from the processor's name, its load and the size of the memory.
    """

    kilograms: float
    kilowatt_hours: float
    cpu_watts: float
    gpu_watts: float
    memory_watts: float


class EmissionsMeter:
    """Measures this process, whatever else the machine does; nothing is sent or written anywhere.

    Args:
        country: three letters of ISO 3166-1, such as "DEU"; the mix of its power stations gives the CO2.

    Raises:
        ConfigError: codecarbon is not installed, or knows no such country.
    """

    def __init__(self, country: str) -> None:
        try:
            import codecarbon
            from codecarbon.input import DataSource
        except ImportError as error:
            raise ConfigError(
                f"CO2 is measured with codecarbon ({error}); "
                "run: pip install 'mm_ovseg[efficiency]', or leave out --country."
            ) from error
        logging.getLogger("codecarbon").setLevel(logging.ERROR)  # which importing it has set
        country = country.upper()
        if country not in DataSource().get_global_energy_mix_data():
            raise ConfigError(
                f"--country is '{country}', which codecarbon does not know; "
                "give the three letters of ISO 3166-1, such as DEU, FRA, CHN or USA."
            )
        self.country = country
        self.version = codecarbon.__version__
        self._tracker = codecarbon.OfflineEmissionsTracker

    def measure(self, run: Callable[[], object]) -> Emissions:
        """Run something, a few seconds at least, for readings are a second apart.

        Raises:
            ConfigError: codecarbon gave no result.
        """
        tracker = self._tracker(
            country_iso_code=self.country,
            tracking_mode="process",
            measure_power_secs=SECONDS_BETWEEN_READINGS,
            log_level="error",
            # Whatever a .codecarbon.config in the home folder says:
            output_methods=[],
            emissions_endpoint=None,
            electricitymaps_api_token=None,
            cloud_provider=None,
        )
        tracker.start()
        try:
            run()
        finally:
            kilograms = tracker.stop()
        if kilograms is None:  # it swallows its own errors
            raise ConfigError("codecarbon measured nothing on this machine; leave out --country.")
        data = tracker.final_emissions_data
        return Emissions(
            kilograms=kilograms,
            kilowatt_hours=data.energy_consumed,
            cpu_watts=data.cpu_power,
            gpu_watts=data.gpu_power,
            memory_watts=data.ram_power,
        )
