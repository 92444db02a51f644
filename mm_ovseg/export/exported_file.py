"""Exported models in files: ONNX for onnxruntime and others, ``.pt2`` for PyTorch."""

import contextlib
import io
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import torch
from torch.export import ExportedProgram

from mm_ovseg.errors import ConfigError, DataError, ExportError, brief_reason
from mm_ovseg.export.agreement import Agreement, check_agreement
from mm_ovseg.export.graph import AXES, OUTPUTS, SegmentationGraph, export_program

__all__ = ["EXPORT_SUFFIXES", "check_export_requirements", "write_export"]

EXPORT_SUFFIXES = (".onnx", ".pt2")
MAX_SINGLE_FILE_BYTES = 1_900_000_000  # of weights; protocol buffers are limited to 2 GiB, including the graph


def check_export_requirements(path: Path) -> None:
    """Check that a file of this format can be written, before any long computation.

    Raises:
        ConfigError: the suffix is unknown, or a package is not installed.
    """
    if path.suffix not in EXPORT_SUFFIXES:
        raise ConfigError(f"{path} has an unknown suffix; use {' or '.join(EXPORT_SUFFIXES)}.")
    if path.suffix == ".onnx":
        _import_onnxruntime()


def write_export(graph: SegmentationGraph, path: Path, metadata: Mapping[str, str]) -> list[Agreement]:
    """Export a model, check the file against PyTorch, and only then move it into place.

    Args:
        graph: the model, on the CPU.
        path: ends in ``.onnx`` or ``.pt2``. For ONNX, weights of more than 1.9 GB go to ``{path}.data``.
        metadata: stored in the file.

    Returns:
        The result of :func:`~mm_ovseg.export.agreement.check_agreement`.

    Raises:
        ConfigError: as in :func:`check_export_requirements`.
        ExportError: the model cannot be exported, or the file gives different results.
        DataError: the file cannot be written.
    """
    check_export_requirements(path)
    program = export_program(graph)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A folder, since an ONNX file refers to its weights by their final file name.
        with TemporaryDirectory(prefix=f".{path.stem}.", suffix=".tmp", dir=path.parent) as folder:
            temporary = Path(folder) / path.name
            if path.suffix == ".onnx":
                agreements = _write_onnx(program, graph, temporary, metadata)
            else:
                agreements = _write_program(program, graph, temporary, metadata)
            for file in sorted(Path(folder).iterdir(), reverse=True):  # the weights first
                os.replace(file, path.parent / file.name)
    except OSError as error:
        raise DataError(f"{path} cannot be written ({brief_reason(error)}); choose another place.") from error
    return agreements


def _write_onnx(
    program: ExportedProgram, graph: SegmentationGraph, path: Path, metadata: Mapping[str, str]
) -> list[Agreement]:
    onnxruntime = _import_onnxruntime()
    try:
        with _quiet():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=graph.input_names,
                output_names=OUTPUTS,
                dynamic_shapes={name: axes if name in graph.input_names else None for name, axes in AXES.items()},
                verbose=False,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        raise ExportError(
            f"PyTorch's exporter cannot write this model as ONNX ({brief_reason(error)}); try a .pt2 file."
        ) from error
    exported.model.metadata_props.update(metadata)
    size = sum(tensor.nbytes for tensor in program.state_dict.values())
    exported.save(path, external_data=size > MAX_SINGLE_FILE_BYTES)
    del exported  # it holds a copy of the weights
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(inputs: Mapping[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        arrays = session.run(OUTPUTS, {name: tensor.numpy() for name, tensor in inputs.items()})
        return tuple(torch.from_numpy(array) for array in arrays)

    return check_agreement(graph, run)


def _write_program(
    program: ExportedProgram, graph: SegmentationGraph, path: Path, metadata: Mapping[str, str]
) -> list[Agreement]:
    with _quiet():
        torch.export.save(program, path, extra_files=dict(metadata))
        loaded = torch.export.load(path).module()
    return check_agreement(graph, lambda inputs: loaded(*(inputs.get(name) for name in AXES)))


def _import_onnxruntime() -> ModuleType:
    try:
        import onnx  # noqa: F401, which PyTorch's exporter imports
        import onnxruntime
        import onnxscript  # noqa: F401, likewise
    except ImportError as error:
        raise ConfigError(
            f"ONNX files need onnx, onnxscript and onnxruntime ({error}); "
            "run: pip install 'mm_ovseg[export]', or write a .pt2 file, which does not need them."
        ) from error
    return onnxruntime


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the progress reports of the exporters, which are of no use to users."""
    logger = logging.getLogger("onnxscript")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
