"""Terrain-corrected and geocoded radar products: backscatter, by tags, names and metadata."""
