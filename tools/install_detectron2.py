#!/usr/bin/env python3
"""Install Detectron2 into the environment of the Python that runs this script.

``detectron2`` is not on PyPI, and GitHub is not reachable from every machine. PyPI does have the
source archive of ``pb1-detectron2`` 0.6, whose Python files are those of Detectron2's tag v0.6. This script
downloads that archive, verifies its hash, makes the few edits that current libraries require, and installs the
result under its proper name. If Detectron2 can already be imported, it does nothing.

    python tools/install_detectron2.py                  # Detectron2 0.6 from PyPI, without its C++ extension
    python tools/install_detectron2.py --from-git       # upstream, at the tested revision
    python tools/install_detectron2.py --from-git main  # upstream, at a revision of your choice

PyTorch, torchvision, setuptools and wheel must be installed first: Detectron2 needs them, but its setup.py
does not list them. Options for pip (an index, a constraints file) are taken from pip's environment
variables, such as PIP_CONSTRAINT. `make setup` does all of this.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.util
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

ARCHIVE_REQUIREMENT = "pb1-detectron2==0.6"
ARCHIVE_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
UPSTREAM_REPOSITORY = "https://github.com/facebookresearch/detectron2.git"
UPSTREAM_REVISION = "02b5c4e295e990042a714712c21dc79b731e8833"

# Prerequisites by module: needed to build or import Detectron2, but missing from its requirements.
PREREQUISITES = {
    "torch": "torch",
    "torchvision": "torchvision",
    "cv2": "opencv-python-headless",
    "pkg_resources": "setuptools<82",  # 82 removed pkg_resources, which the model zoo imports
    "wheel": "wheel",
}

# The modules that mm_ovseg imports from Detectron2; an installation without them is useless.
REQUIRED_MODULES = (
    "detectron2.checkpoint",
    "detectron2.data",
    "detectron2.engine",
    "detectron2.evaluation",
    "detectron2.model_zoo",
    "detectron2.modeling",
)

# Written to detectron2/_C.py, where the compiled extension would be.
EXTENSION_STAND_IN = '''\
"""Stands in for Detectron2's C++ extension, which was not compiled."""


def get_compiler_version() -> str:
    return "not compiled"


def get_cuda_version() -> str:
    return "not compiled"


def has_cuda() -> bool:
    return False


def __getattr__(name: str):
    # Python itself probes modules for names such as __path__ and expects an AttributeError.
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ImportError(
        f"detectron2._C.{name} is part of Detectron2's C++ extension, which this installation does not have: "
        "rotated boxes and deformable convolutions need Detectron2 built from its repository "
        "(pip uninstall detectron2, then tools/install_detectron2.py --from-git); "
        "COCO evaluation works without it when given use_fast_impl=False."
    )
'''


class InstallError(Exception):
    """What went wrong and how to fix it, in one sentence."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit status."""
    parser = argparse.ArgumentParser(
        description="Install Detectron2, unless it can already be imported.",
        epilog=f"Needs in the same environment: {', '.join(PREREQUISITES.values())}.",
    )
    parser.add_argument(
        "--from-git",
        metavar="REV",
        nargs="?",
        const=UPSTREAM_REVISION,
        help="compile and install upstream's repository at this revision instead of the archive on PyPI "
        f"(default: {UPSTREAM_REVISION}, the tested revision)",
    )
    revision = parser.parse_args(arguments).from_git
    try:
        location = find_installed()
        if location is not None:
            print(f"detectron2 is installed at {location}; to replace it, run 'pip uninstall detectron2' first.")
            return 0
        check_prerequisites()
        if revision is None:
            install_from_archive()
        else:
            install_from_git(revision)
        check_installation()
    except InstallError as error:
        print(f"install_detectron2.py: error: {error}", file=sys.stderr)
        return 1
    print(f"detectron2 is installed at {find_installed()}.")
    return 0


def find_installed() -> str | None:
    """Return the folder of the Detectron2 that this Python imports, or None if the import fails."""
    # In a separate process and an empty folder, so that neither a failed import nor a checkout of Detectron2
    # in the current folder can affect the result.
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-c", "import detectron2; print(detectron2.__path__[0])"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    return result.stdout.strip().splitlines()[-1] if result.returncode == 0 else None


def check_prerequisites() -> None:
    """Raise InstallError if a prerequisite is missing."""
    missing = [package for module, package in PREREQUISITES.items() if importlib.util.find_spec(module) is None]
    if missing:
        packages = " ".join(f"'{package}'" for package in missing)
        raise InstallError(
            "Detectron2 needs packages that are not installed; first run: "
            f"{sys.executable} -m pip install -c constraints.txt {packages}"
        )


def install_from_archive() -> None:
    """Build Detectron2 0.6 from PyPI's source archive, without its C++ extension, and install it."""
    with tempfile.TemporaryDirectory(prefix="install_detectron2_") as folder:
        work = Path(folder)
        archive = download_archive(work / "download")
        verify_archive(archive)
        sources = unpack_archive(archive, work / "sources")
        patch_sources(sources)
        install_wheel(build_wheel(sources, work / "wheel"))


def install_from_git(revision: str) -> None:
    """Build upstream's repository at `revision` (a commit, tag or branch) and install it."""
    run_pip(
        "install",
        "--no-build-isolation",  # its setup.py imports torch
        f"detectron2 @ git+{UPSTREAM_REPOSITORY}@{revision}",
        failure=f"Detectron2's revision {revision} could not be built from {UPSTREAM_REPOSITORY}; where "
        "GitHub cannot be reached or there is no C++ compiler, leave --from-git out",
    )


def download_archive(folder: Path) -> Path:
    """Download the source archive with pip into the new folder `folder` and return its path."""
    folder.mkdir(parents=True)
    requirements = folder / "requirements.txt"
    # pip runs the archive's setup.py for its metadata, so pip must check the hash itself.
    requirements.write_text(f"{ARCHIVE_REQUIREMENT} --hash=sha256:{ARCHIVE_SHA256}\n", encoding="utf-8")
    run_pip(
        "download",
        "--no-deps",
        "--no-binary=:all:",
        "--no-build-isolation",  # that setup.py imports torch
        "--require-hashes",
        f"--requirement={requirements}",
        f"--dest={folder}",
        failure=f"pip could not download {ARCHIVE_REQUIREMENT}, with the expected sha256, from the package "
        "index; check the connection, or use --from-git where GitHub can be reached",
    )
    archives = sorted(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise InstallError(f"expected one .tar.gz in {folder} after the download, but found {len(archives)}")
    return archives[0]


def verify_archive(archive: Path, expected_sha256: str = ARCHIVE_SHA256) -> None:
    """Raise InstallError if the SHA-256 of the file is not the expected one."""
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != expected_sha256:
        raise InstallError(
            f"{archive} has the sha256 {actual} instead of {expected_sha256}, so it is not installed; "
            "delete it and download it again"
        )


def unpack_archive(archive: Path, folder: Path) -> Path:
    """Unpack a source archive into the new folder `folder` and return its one top-level folder.

    Only plain files and folders inside `folder` are accepted, whatever the Python version's tarfile allows.
    """
    folder.mkdir(parents=True)
    inside = folder.resolve()
    with tarfile.open(archive) as opened:
        members = opened.getmembers()
        for member in members:
            target = (folder / member.name).resolve()
            if not (member.isfile() or member.isdir()) or not target.is_relative_to(inside):
                raise InstallError(
                    f"{archive} is refused: {member.name!r} is not a plain file inside the archive's folder"
                )
            member.mode = 0o755 if member.isdir() else 0o644
        # Pythons without data_filter have no filter argument; the checks above are sufficient.
        opened.extractall(folder, members, **({"filter": "data"} if hasattr(tarfile, "data_filter") else {}))
    entries = list(folder.iterdir())
    if len(entries) != 1 or not (entries[0] / "setup.py").is_file():
        raise InstallError(f"{archive} does not hold exactly one folder with a setup.py")
    return entries[0]


def patch_sources(root: Path) -> None:
    """Make every edit to the unpacked sources at `root`; an edit that does not find its text is an error."""
    rename_distribution(root)
    drop_extension(root)
    rename_bilinear_filter(root)
    replace_numpy_aliases(root)
    drop_requirements(root)
    package_model_zoo_configs(root)


def rename_distribution(root: Path) -> None:
    """Call the distribution `detectron2`, so that pip and other packages' requirements recognise it."""
    replace_text(root / "setup.py", 'name="pb1-detectron2"', 'name="detectron2"')


def drop_extension(root: Path) -> None:
    """Build without the C++ extension, whose sources the archive lacks, and replace it with a stub.

    Several modules import detectron2._C at import time, so it must exist.
    """
    replace_text(root / "setup.py", "ext_modules=get_extensions()", "ext_modules=[]")
    (root / "detectron2" / "_C.py").write_text(EXTENSION_STAND_IN, encoding="utf-8")


def rename_bilinear_filter(root: Path) -> None:
    """Use the current name of the resampling filter: Pillow 10 removed its alias LINEAR."""
    replace_text(root / "detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR")


def replace_numpy_aliases(root: Path) -> None:
    """Use Python's own types: NumPy 1.24 removed its aliases of them (np.int, np.float and so on)."""
    alias = re.compile(r"\bnp\.(bool|float|int|object|str)\b")
    replaced = 0
    for path in sorted((root / "detectron2").rglob("*.py")):
        text, count = alias.subn(r"\1", path.read_text(encoding="utf-8"))
        if count:
            path.write_text(text, encoding="utf-8")
            replaced += count
    if not replaced:
        raise InstallError(f"no alias such as np.int was found under {root / 'detectron2'} to replace")


def drop_requirements(root: Path) -> None:
    """Drop three requirements that nothing here uses.

    black==21.4b2 is a development tool whose version conflicts with current click; future and pydot
    served the Caffe2 export, which PyTorch no longer has.
    """
    setup_file = root / "setup.py"
    text = setup_file.read_text(encoding="utf-8")
    for requirement in ("black==21.4b2", "future", "pydot"):
        text, count = re.subn(rf'^\s*"{re.escape(requirement)}",.*\n', "", text, flags=re.MULTILINE)
        if count != 1:
            raise InstallError(f"{setup_file} was expected to require {requirement!r} once, but does {count} times")
    setup_file.write_text(text, encoding="utf-8")


def package_model_zoo_configs(root: Path) -> None:
    """Install the model zoo's configs: setup.py looks for them in a folder that the archive does not have."""
    replace_text(
        root / "setup.py",
        '"detectron2.model_zoo": get_model_zoo_configs()',
        '"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]',
    )


def replace_text(path: Path, old: str, new: str) -> None:
    """Replace a text that occurs exactly once in a file."""
    if not path.is_file():
        raise InstallError(f"{path} does not exist, so {old!r} could not be replaced in it")
    text = path.read_text(encoding="utf-8")
    count = text.count(old)
    if count != 1:
        raise InstallError(f"{path} was expected to contain {old!r} once, but contains it {count} times")
    path.write_text(text.replace(old, new), encoding="utf-8")


def build_wheel(sources: Path, folder: Path) -> Path:
    """Build the sources into a wheel in the new folder `folder` and return its path."""
    run_pip(
        "wheel",
        "--no-deps",
        "--no-build-isolation",  # setup.py imports torch
        f"--wheel-dir={folder}",
        str(sources),
        failure="Detectron2's sources could not be built into a wheel; pip's output above says why",
    )
    wheels = sorted(folder.glob("detectron2-*.whl"))
    if len(wheels) != 1:
        raise InstallError(f"building Detectron2 was expected to leave one wheel in {folder}, but left {len(wheels)}")
    return wheels[0]


def install_wheel(wheel: Path) -> None:
    """Install the wheel with its requirements; pip resolves all of them before it installs any."""
    run_pip(
        "install",
        str(wheel),
        failure="Detectron2 was built, but it or one of its requirements could not be installed; "
        "pip's output above says why",
    )


def check_installation() -> None:
    """Import the modules that mm_ovseg uses; if that fails, remove Detectron2 and raise InstallError."""
    with tempfile.TemporaryDirectory() as folder:
        result = subprocess.run(
            [sys.executable, "-c", f"import {', '.join(REQUIRED_MODULES)}"],
            cwd=folder,
            capture_output=True,
            text=True,
        )
    if result.returncode == 0:
        return
    # Otherwise it would count as a working installation next time.
    run_pip(
        "uninstall",
        "--yes",
        "detectron2",
        failure="a broken Detectron2 could not be removed",
    )
    reason = (result.stderr.strip().splitlines() or ["no message"])[-1]
    raise InstallError(f"Detectron2 was installed but could not be imported, so it was removed: {reason}")


def run_pip(*arguments: str, failure: str) -> None:
    """Run pip quietly; if it fails, show the end of its output and raise InstallError(failure)."""
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode:
        print("\n".join(result.stdout.strip().splitlines()[-15:]), file=sys.stderr)
        raise InstallError(failure)


if __name__ == "__main__":
    sys.exit(main())
