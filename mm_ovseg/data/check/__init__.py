"""Is a dataset sound? All that is wrong with it in one report, and a declaration drafted for a folder of images."""
