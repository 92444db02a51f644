"""STAC: items as products, and finding them."""
