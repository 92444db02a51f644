"""Optical products: reflectance, by their own metadata."""
