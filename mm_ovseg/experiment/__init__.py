"""The laptop experiment: the whole protocol in miniature, over several seeds (docs/EXPERIMENT.md)."""
