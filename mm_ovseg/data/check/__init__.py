"""Checks of datasets, with all findings in one report, and datasets drafted from a folder of images."""
