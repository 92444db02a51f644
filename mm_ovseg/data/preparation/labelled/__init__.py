"""From the datasets of the paper's settings, as published or as processed for it, to the layouts that are registered.

Shared by ``datasets/prepare_pie_rgb_sar.py``, ``prepare_ddhr.py`` and ``prepare_openearthmap_sar.py``.
"""
