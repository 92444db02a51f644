"""A web page that turns a pair of images and class names into a map. Only ``page`` and ``server`` need Gradio."""
