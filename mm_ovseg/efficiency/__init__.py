"""What a config costs: parameters, floating-point operations, time, memory, energy and CO2."""

from mm_ovseg.efficiency.measure import MODES, measure_efficiency
from mm_ovseg.efficiency.report import format_efficiency, write_report
from mm_ovseg.efficiency.timer import Timing, time_runs
from mm_ovseg.efficiency.workload import Workload, load_measured_config

__all__ = [
    "MODES",
    "Timing",
    "Workload",
    "format_efficiency",
    "load_measured_config",
    "measure_efficiency",
    "time_runs",
    "write_report",
]
