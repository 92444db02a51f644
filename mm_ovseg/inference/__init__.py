"""From a trained model to maps in files."""

from mm_ovseg.inference.map_writer import write_class_map_geotiff, write_class_map_png
