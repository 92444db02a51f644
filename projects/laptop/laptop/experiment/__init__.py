"""The laptop experiment: the whole protocol in miniature, over several seeds (projects/laptop/README.md)."""
