"""Packaging of mm_ovseg. `make setup` runs this with the exact versions of constraints.txt.

Detectron2 is required too, but cannot stand in install_requires, since PyPI does not have it:
run tools/install_detectron2.py, in the same environment and after PyTorch.
"""

import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
SHIPPED = ("configs", "demo/assets")  # mm_ovseg/shipped.py finds them


class BuildWithShippedFiles(build_py):
    """Copies what the commands need beside the package's code into what is built, never into the source."""

    def run(self) -> None:
        """Build the package."""
        super().run()
        for name in () if self.editable_mode else SHIPPED:
            copy = Path(self.build_lib, "mm_ovseg", "shipped_files", name)
            shutil.rmtree(copy, ignore_errors=True)  # an earlier build's
            shutil.copytree(ROOT / name, copy)


def read_version() -> str:
    """Read __version__ as text: importing the package would need everything that it requires."""
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
    package_data={"mm_ovseg": ["**/*.json", "app/*.css"]},
    # 3.10 is the oldest Python that PyTorch 2.12 and rasterio 1.4 have wheels for.
    python_requires=">=3.10",
    install_requires=[
        # 2.3 is the first release that runs beside NumPy 2; 2.12.1 is what is tested (constraints.txt).
        "torch>=2.3",
        # The release that belongs to torch 2.3; torchvision itself requires its own, exact torch.
        "torchvision>=0.18",
        # 1.26 is the first release for Python 3.12, and lacks the aliases that Detectron2 0.6 is rid of.
        "numpy>=1.26",
        # 9.1 brought Image.Resampling and Image.Transpose, the names that later releases kept.
        "pillow>=9.1",
        # Headless, so that no X11 library is needed; 4.10 is the first release that runs beside NumPy 2.
        "opencv-python-headless>=4.10",
        # Wheels with GDAL, so that none has to be installed; 1.4 is the first release for NumPy 2.
        "rasterio>=1.4",
        # 3.0 brought the operator @ for geotransforms; rasterio requires it without a bound.
        "affine>=3.0",
        # Vector files, on top of pyogrio; 1.0 made pyogrio its own default.
        "geopandas>=1.0",
        # What geopandas' tables are made of; it sets the bounds.
        "pandas",
        # Reads and writes vector files, with wheels that bring GDAL; 0.13 is the first release that was tried, and the
        # drivers that may open a file are set through a function that is not part of its interface.
        "pyogrio>=0.13,<0.14",
        # 2.1 brought the simplification of areas with common borders, and the repair of damaged geometries.
        "shapely>=2.1",
        # True areas on the ellipsoid; 3.3 is the first release with wheels for Python 3.10.
        "pyproj>=3.3",
        # 1.0.20 is the first release with DINOv3, and with its `_qkvb` models.
        "timm>=1.0.20",
        # The CLIP wrapper reads the modules of open_clip's encoders; it is tested on their layout in 3.x.
        "open_clip_torch>=3.0,<4",
        # Detectron2's own bound on it.
        "fvcore>=0.1.5,<0.1.6",
        # Detectron2's model zoo imports pkg_resources, which setuptools 82 removed.
        "setuptools<82",
        # Fetches hf:// names; open_clip and timm fetch theirs with it too, and set its bounds.
        "huggingface_hub",
        # 0.4 is the first release whose file format is declared stable.
        "safetensors>=0.4",
        # 3.6 brought the registry of colour maps that replaced matplotlib.cm.get_cmap.
        "matplotlib>=3.6",
        # 6.0 is the first release whose wheels cover Python 3.10.
        "pyyaml>=6.0",
        # 1.11 is the first release that runs beside NumPy 1.26 and Python 3.12.
        "scipy>=1.11",
        # 0.8.3 brought the argument colalign, with which columns of numbers stand right.
        "tabulate>=0.8.3",
        # 2.10 is the first release for Python 3.10; Detectron2 writes its event files.
        "tensorboard>=2.10",
        # Detectron2's own bound on it.
        "tqdm>4.29.0",
    ],
    extras_require={
        "experiment": [
            # The contrastive loss of dense pre-training; older releases were not tried.
            "lightly>=1.6",
        ],
        "ray": [
            # Spreads an archive over worker processes and machines; "client" is for ray:// addresses. Older releases
            # were not tried. `make setup` leaves it out, for it takes 240 MB.
            "ray[client]>=2.60",
        ],
        "clouds": [
            # Draws clouds. The same seed must give the same ones, and we call its functions one by one: tested on 0.4.
            # It needs kornia and imageio, 35 MB together.
            "satellite-cloud-generator>=0.4,<0.5",
        ],
        "wandb": [
            # WANDB.ENABLED; the first release that was tried. `make setup` leaves it out, for it takes 100 MB.
            "wandb>=0.31",
        ],
        "export": [
            # Turns PyTorch's graph into ONNX's, with PyTorch 2.6 at least; the first release that was tried. The three
            # take 120 MB.
            "onnxscript>=0.7",
            # Its own bound on it.
            "onnx>=1.17",
            # Runs the file, which is compared with PyTorch; 1.19 is the first release that runs beside NumPy 2.
            "onnxruntime>=1.19",
        ],
        "efficiency": [
            # Energy and CO2, offline; 3.3 is the first release that was tried. `make setup` leaves it out, for it takes
            # 170 MB with what it needs.
            "codecarbon>=3.3,<4",
        ],
        "app": [
            # The web page, written for 6.x, which moved and renamed settings of 5.x. It takes 100 MB with all that it
            # needs, and requires Pillow below 13.
            "gradio>=6.31,<7",
        ],
        "browser": [
            # The tests of the web page drive Chromium with it; older releases were not tried. 40 MB.
            "selenium>=4.51",
        ],
        "dev": [
            # 7.0 reads its settings from pyproject.toml and has the `pythonpath` option.
            "pytest>=7.0",
            # Spreads the tests over the cores; older releases were not tried.
            "pytest-xdist>=3.0",
            # 6.0 dropped the Pythons that we do not support either.
            "hypothesis>=6.0",
            # 0.9 is the first release with today's style of formatting; lint needs the pinned one.
            "ruff>=0.9",
            # The tests compare our metrics with its; 1.0 settled their interface.
            "torchmetrics>=1.0",
            # Simulates colour-blind eyes, for the test of the palette; older releases were not tried.
            "colorspacious>=1.1",
        ],
    },
)
