"""What codecarbon is asked to measure, with and without codecarbon itself, on a server of eight GPUs that is drawn."""

import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch

from mm_ovseg.efficiency.emissions import emissions_tracker, read_emissions
from mm_ovseg.errors import ConfigError

CPU, GPU = torch.device("cpu"), torch.device("cuda:1")
UUIDS = [f"GPU-0000000{index}-1fb8-192a-7ab7-0e0e4476c184" for index in range(8)]
OURS = 5  # the second of CUDA_VISIBLE_DEVICES=2,5
KILOWATT_HOUR = 3.6e9  # millijoules, NVML's unit


@pytest.fixture
def nvml(monkeypatch):
    """A module ``pynvml`` whose GPUs consume 1, 10, 100, ... kWh between two readings."""
    readings = dict.fromkeys(range(len(UUIDS)), 0)

    def energy(handle):
        readings[handle] += 1
        return readings[handle] * 10**handle * KILOWATT_HOUR

    def handle_by_uuid(uuid):
        if uuid not in UUIDS:
            raise module.NVMLError("Not Found")
        return UUIDS.index(uuid)

    module = ModuleType("pynvml")
    module.NVMLError = module.NVMLError_NotSupported = type("NVMLError", (Exception,), {})
    module.NVML_TEMPERATURE_GPU = 0
    module.nvmlInit = lambda: None
    module.nvmlDeviceGetCount = lambda: len(UUIDS)
    module.nvmlDeviceGetHandleByIndex = module.nvmlDeviceGetIndex = lambda index: index
    module.nvmlDeviceGetHandleByUUID = handle_by_uuid
    module.nvmlDeviceGetUUID = UUIDS.__getitem__
    module.nvmlDeviceGetName = "GPU {}".format
    module.nvmlDeviceGetTotalEnergyConsumption = energy
    module.nvmlDeviceGetPowerUsage = module.nvmlDeviceGetEnforcedPowerLimit = lambda handle: 1000 * handle
    module.nvmlDeviceGetMemoryInfo = lambda handle: SimpleNamespace(total=1, free=1, used=0)
    module.nvmlDeviceGetUtilizationRates = lambda handle: SimpleNamespace(gpu=0)
    module.nvmlDeviceGetTemperature = module.nvmlDeviceGetComputeMode = lambda *_: 0
    module.nvmlDeviceGetComputeRunningProcesses = module.nvmlDeviceGetGraphicsRunningProcesses = lambda handle: []
    monkeypatch.setitem(sys.modules, "pynvml", module)
    properties = SimpleNamespace(uuid=UUIDS[OURS].removeprefix("GPU-"))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    return module


@pytest.fixture
def codecarbon_asked(monkeypatch):
    """What a stand-in for codecarbon's tracker was asked for."""
    asked = {}
    package, inputs = ModuleType("codecarbon"), ModuleType("codecarbon.input")
    package.OfflineEmissionsTracker = lambda **settings: asked.update(settings)
    inputs.DataSource = lambda: SimpleNamespace(get_global_energy_mix_data=lambda: {"FRA": {}})
    monkeypatch.setitem(sys.modules, "codecarbon", package)
    monkeypatch.setitem(sys.modules, "codecarbon.input", inputs)
    return asked


def test_codecarbon_is_asked_for_the_one_gpu_of_the_model(nvml, codecarbon_asked):
    emissions_tracker("FRA", GPU)()
    # By its number: codecarbon 3.3 strips the G of "GPU-..." and then finds no GPU of that name.
    assert codecarbon_asked["gpu_ids"] == [OURS]
    assert codecarbon_asked["tracking_mode"] == "process" and codecarbon_asked["output_methods"] == []


def test_a_share_of_a_gpu_cannot_be_measured(nvml, codecarbon_asked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="share"))
    with pytest.raises(ConfigError, match=r"cuda:1 cannot be measured apart.*Not Found.*leave out --country"):
        emissions_tracker("FRA", GPU)


@pytest.mark.parametrize("device,kilograms,kilowatt_hours,gpu_watts", [(CPU, 0.25, 1.0, 0.0), (GPU, 1.0, 4.0, 70.0)])
def test_on_a_cpu_no_gpu_counts(device, kilograms, kilowatt_hours, gpu_watts):
    data = SimpleNamespace(codecarbon_version="3", emissions=1.0, energy_consumed=4.0)
    data.cpu_energy, data.gpu_energy, data.ram_energy = 0.75, 3.0, 0.25
    data.cpu_power, data.gpu_power, data.ram_power = 20.0, 70.0, 10.0
    fields = read_emissions(SimpleNamespace(final_emissions_data=data), device)
    assert fields["kilograms"] == kilograms and fields["kilowatt_hours"] == kilowatt_hours
    assert (fields["cpu_watts"], fields["gpu_watts"], fields["memory_watts"]) == (20.0, gpu_watts, 10.0)


@pytest.fixture
def server(nvml, monkeypatch):
    """The same server, as codecarbon itself sees it."""
    pytest.importorskip("codecarbon")
    from codecarbon.core import gpu, gpu_nvidia, hardware_cache

    monkeypatch.setattr(gpu_nvidia, "pynvml", nvml)
    monkeypatch.setattr(gpu, "PYNVML_AVAILABLE", True)
    monkeypatch.setattr(gpu, "is_nvidia_system", lambda: True)
    hardware_cache.clear_cache()
    yield
    hardware_cache.clear_cache()


@pytest.mark.parametrize("device", [GPU, CPU])
def test_codecarbon_counts_the_gpu_of_the_model_alone(server, monkeypatch, device):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    new_tracker = emissions_tracker("FRA", device)
    for _ in range(2):  # the second comes from codecarbon's cache of the machine
        with new_tracker() as tracker:
            pass
        fields, data = read_emissions(tracker, device), tracker.final_emissions_data
        by_gpus = fields["kilowatt_hours"] - data.cpu_energy - data.ram_energy
        readings = round(by_gpus / 10**OURS)
        assert by_gpus == pytest.approx(readings * 10**OURS)
        assert 0 < readings < 10 if device == GPU else readings == 0
        assert (fields["gpu_watts"] > 0) == (device == GPU)
