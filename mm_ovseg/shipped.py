"""The files that come with the package, beside its Python code: ``configs/`` and ``demo/assets/``.

An installed wheel has copies of them, which ``setup.py`` makes; else they are those of the checkout.
"""

from pathlib import Path

__all__ = ["SHIPPED", "shipped_path"]

PACKAGE = Path(__file__).resolve().parent
COPIES = PACKAGE / "shipped_files"
SHIPPED = COPIES if COPIES.is_dir() else PACKAGE.parent


def shipped_path(name: str) -> Path:
    """Where a file lies that is called ``name`` in the checkout, such as ``"configs/base.yaml"``."""
    return SHIPPED / name
