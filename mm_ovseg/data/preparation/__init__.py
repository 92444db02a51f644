"""From the archives in which pairs are published to the layouts that the registered datasets read.

Shared by the scripts ``datasets/prepare_*.py``: unpacking, pairing, splitting by place or scene, cutting into 8-bit
pairs, resuming, and the manifest.
"""
