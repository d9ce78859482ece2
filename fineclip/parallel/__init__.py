"""Computation over several processes."""

from fineclip.parallel.chunked import ChunkPlanner, EncodeJob, slices
from fineclip.parallel.gather import gather_embeddings, gather_ragged, sum_shares, world_size

__all__ = [
    "ChunkPlanner",
    "EncodeJob",
    "gather_embeddings",
    "gather_ragged",
    "slices",
    "sum_shares",
    "world_size",
]
