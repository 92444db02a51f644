"""The files shipped with the package besides its Python code: ``configs/`` and ``demo/assets/``.

An installed wheel has copies of them, made by ``setup.py``; otherwise those of the checkout are used.
"""

from pathlib import Path

__all__ = ["SHIPPED", "shipped_path"]

PACKAGE = Path(__file__).resolve().parent
COPIES = PACKAGE / "shipped_files"
SHIPPED = COPIES if COPIES.is_dir() else PACKAGE.parent


def shipped_path(name: str) -> Path:
    """The path of a file that is ``name`` in the checkout, such as ``"configs/base.yaml"``."""
    return SHIPPED / name
