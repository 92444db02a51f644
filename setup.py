"""Packaging of mm_ovseg. `make setup` runs this with the exact versions of constraints.txt.

Detectron2 is also required, but cannot be listed in install_requires, since it is not on PyPI:
run tools/install_detectron2.py in the same environment, after installing PyTorch.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ("configs", "demo/assets")  # found by mm_ovseg/shipped.py


class BuildWithShippedFiles(build_py):
    """Copies the files that the commands need into the build, but never into the source tree."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        for name in () if self.editable_mode else SHIPPED:
            copy = Path(self.build_lib, "mm_ovseg", "shipped_files", name)
            shutil.rmtree(copy, ignore_errors=True)  # from an earlier build
            shutil.copytree(ROOT / name, copy)


def read_version() -> str:
    """Read __version__ as text, since importing the package would need all its requirements."""
    text = (ROOT / "mm_ovseg" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('mm_ovseg/__init__.py has no line __version__ = "..."')
    return match.group(1)


setup(
    name="mm_ovseg",
    version=read_version(),
    description="Open-vocabulary semantic segmentation of optical and SAR remote-sensing image pairs",
    author="mm_ovseg developers",
    license="Apache-2.0",
    cmdclass={"build_py": BuildWithShippedFiles},
    packages=find_packages(include=["mm_ovseg*"]),
    entry_points={"console_scripts": ["mm-ovseg = mm_ovseg.cli.main:main"]},
    package_data={"mm_ovseg": ["**/*.json", "app/static/**"]},
    # 3.10 is the oldest Python that PyTorch 2.12 and rasterio 1.4 have wheels for.
    python_requires=">=3.10",
    install_requires=[
        # 2.6 introduced torch.compiler.set_stance; 2.5 torch.OutOfMemoryError and torch.get_device_module. 2.12.1 is
        # tested (constraints.txt).
        "torch>=2.6",
        # The release for torch 2.6; each torchvision requires an exact version of torch.
        "torchvision>=0.21",
        # 1.26 is the first release for Python 3.12; it lacks aliases that Detectron2 0.6 is patched for.
        "numpy>=1.26",
        # 9.1 introduced Image.Resampling and Image.Transpose.
        "pillow>=9.1",
        # Headless, to avoid X11 libraries; 4.10 is the first release that supports NumPy 2.
        "opencv-python-headless>=4.10",
        # The wheels include GDAL; 1.4 is the first release that supports NumPy 2.
        "rasterio>=1.4",
        # 3.0 introduced the operator @ for geotransforms; rasterio requires affine without a lower bound.
        "affine>=3.0",
        # Vector files, on top of pyogrio; 1.0 made pyogrio its own default.
        "geopandas>=1.0",
        # The bounds are those of geopandas.
        "pandas",
        # Reads and writes vector files; the wheels include GDAL. 0.13 is the oldest tested release; bounded, since the
        # allowed drivers are set through a private function.
        "pyogrio>=0.13,<0.14",
        # 2.1 introduced the simplification of coverages and the repair of invalid geometries.
        "shapely>=2.1",
        # Areas on the ellipsoid; 3.3 is the first release with wheels for Python 3.10.
        "pyproj>=3.3",
        # 1.0.20 is the first release with DINOv3, and with its `_qkvb` models.
        "timm>=1.0.20",
        # The CLIP wrapper accesses modules of open_clip's encoders; it is tested with their layout in 3.x.
        "open_clip_torch>=3.0,<4",
        # Detectron2's bound.
        "fvcore>=0.1.5,<0.1.6",
        # Detectron2's model zoo imports pkg_resources, which setuptools 82 removed.
        "setuptools<82",
        # Downloads hf:// names; open_clip and timm also use it, and set its bounds.
        "huggingface_hub",
        # 0.4 is the first release whose file format is declared stable.
        "safetensors>=0.4",
        # 3.6 introduced the registry of colour maps that replaced matplotlib.cm.get_cmap.
        "matplotlib>=3.6",
        # 6.0 is the first release whose wheels cover Python 3.10.
        "pyyaml>=6.0",
        # 1.11 is the first release for NumPy 1.26 and Python 3.12.
        "scipy>=1.11",
        # 0.8.3 introduced the argument colalign, which right-aligns columns of numbers.
        "tabulate>=0.8.3",
        # 2.10 is the first release for Python 3.10; Detectron2 writes its event files.
        "tensorboard>=2.10",
        # Detectron2's bound.
        "tqdm>4.29.0",
    ],
    extras_require={
        "experiment": [
            # The contrastive loss of dense pre-training; older releases are untested.
            "lightly>=1.6",
        ],
        "ray": [
            # Distributes an archive over processes and machines; "client" is for ray:// addresses. Older releases are
            # untested. It takes 250 MB with its requirements.
            "ray[client]>=2.60",
        ],
        "clouds": [
            # Draws clouds. Bounded, since the same seed must give the same clouds and we call its inner functions.
            # It needs kornia and imageio, 35 MB together.
            "satellite-cloud-generator>=0.4,<0.5",
        ],
        "cloud-detection": [
            # mm-ovseg scene --clouds detect; written for the functions of 1.8. It downloads its weights on first use.
            # Not installed by `make setup`.
            "omnicloudmask>=1.8,<2",
        ],
        "wandb": [
            # WANDB.ENABLED; older releases are untested. Not installed by `make setup`, as it takes 100 MB.
            "wandb>=0.31",
        ],
        "export": [
            # Converts PyTorch's graph to ONNX, with PyTorch 2.6 or later; older releases are untested. These three
            # packages take 120 MB.
            "onnxscript>=0.7",
            # The bound of onnxscript.
            "onnx>=1.17",
            # Runs the file for the comparison with PyTorch; 1.19 is the first release that supports NumPy 2.
            "onnxruntime>=1.19",
        ],
        "efficiency": [
            # Energy and CO2, offline; older releases are untested. It takes 170 MB with its requirements.
            "codecarbon>=3.3,<4",
        ],
        "app": [
            # Routes and responses of the web page; 1.0 promises a stable interface, older releases are untested.
            "starlette>=1.0,<2",
            # Serves it; older releases are untested.
            "uvicorn>=0.54",
            # Uploads: Starlette requires it for forms. 0.0.18 fixed a denial of service by long boundaries.
            "python-multipart>=0.0.18",
            # Tiles of rasters; written for the functions `reader.read` and `reader.part` of 9.x. These four packages
            # take 25 MB with their requirements.
            "rio-tiler>=9.4,<10",
        ],
        "browser": [
            # Drives Chromium in the tests of the web page; older releases are untested. 40 MB.
            "selenium>=4.51",
            # Visitors in the tests of the page's gate; older releases are untested.
            "httpx>=0.28",
        ],
        "stac": [
            # Searches STAC APIs. Bounded, since we replace what sends its requests; older releases are untested.
            "pystac-client>=0.9,<0.10",
            # Fetches; the bound of pystac-client.
            "requests>=2.28.2",
            # Writes the STAC item of a map; 1.13 introduced titles of classes.
            "pystac>=1.13,<2",
        ],
        "terrain-correction": [
            # Sentinel-1 GRD on a DEM; written for the functions of 0.9.6, which needs Python 3.11.
            'sarsen>=0.9.6,<0.10; python_version >= "3.11"',
        ],
        "dev": [
            # 7.0 reads its settings from pyproject.toml and has the `pythonpath` option.
            "pytest>=7.0",
            # Runs the tests in parallel; older releases are untested.
            "pytest-xdist>=3.0",
            # 6.0 dropped the same old Python versions as we did.
            "hypothesis>=6.0",
            # 0.9 is the first release with the current formatting style; `make lint` needs the pinned one.
            "ruff>=0.9",
            # A reference for our metrics in the tests; 1.0 has a stable interface.
            "torchmetrics>=1.0",
            # Validates the STAC items that tests write; the bound of pystac.
            "jsonschema>=4.18",
            # Simulates colour blindness in the test of the palette; older releases are untested.
            "colorspacious>=1.1",
        ],
    },
)
