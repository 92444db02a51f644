"""A web page on which a pair of images and a list of names become a map. Only ``page`` and ``server`` need Gradio."""
