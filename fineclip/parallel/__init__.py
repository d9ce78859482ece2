"""Computation over several processes."""

from fineclip.parallel.chunked import ChunkPlanner, Encoding
from fineclip.parallel.gather import gather_embeddings, gather_ragged, sum_shares, world_size

__all__ = [
    "ChunkPlanner",
    "Encoding",
    "gather_embeddings",
    "gather_ragged",
    "sum_shares",
    "world_size",
]
