"""Detectron2 meta-architectures of the two training stages."""
