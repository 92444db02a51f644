"""The command line ``mm-ovseg``: one module per command, listed in :data:`mm_ovseg.cli.main.COMMANDS`.

A command's module has a docstring, which is the description in its help, ``add_arguments(parser)`` and ``run(args)``.
Nothing outside ``run`` imports PyTorch, Detectron2, rasterio, OpenCV or matplotlib, so that help appears at once.
"""
