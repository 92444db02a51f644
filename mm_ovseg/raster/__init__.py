"""Pixels and polygons in and out of files."""
