"""Measuring speed, memory and arithmetic, for ``tools/benchmark.py``."""
