"""Sentinel-1 GRD: calibrated, and placed on a map."""
