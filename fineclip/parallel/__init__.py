"""Computation over several processes."""

from fineclip.parallel.gather import gather_embeddings, gather_ragged, world_size

__all__ = ["gather_embeddings", "gather_ragged", "world_size"]
