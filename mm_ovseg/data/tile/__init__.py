"""Tiling large scenes or published pairs to a dataset.

:func:`~mm_ovseg.data.tile.scenes.tile_scenes` (scenes with labels) and
:func:`~mm_ovseg.data.tile.published_pairs.tile_pairs`
(pairs for stage 1, ``datasets/prepare_*.py``) plan tiles and split them; :mod:`~mm_ovseg.data.tile.run` makes them.
"""
