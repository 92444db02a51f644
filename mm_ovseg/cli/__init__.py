"""The command line ``mm-ovseg``: a module for each command, listed in :data:`mm_ovseg.cli.main.COMMANDS`.

A command's module has a docstring, which is the description that its help shows; ``add_arguments(parser)``; and
``run(args)``. Nothing above ``run`` imports PyTorch, Detectron2, rasterio, OpenCV or matplotlib, so that help comes at
once.
"""
