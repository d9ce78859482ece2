"""Experiments with CAT-Seg: what inference costs, and training on the built-in scenes."""
