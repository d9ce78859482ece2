"""Computation over several processes."""

from fineclip.parallel.chunked import ChunkPlanner, EncodeJob, slices
from fineclip.parallel.classes import sample_common_classes
from fineclip.parallel.gather import (
    gather_embeddings,
    gather_ragged,
    mean_over_processes,
    share_of_rows,
    sum_over_processes,
    sum_shares,
    world_size,
)

__all__ = [
    "ChunkPlanner",
    "EncodeJob",
    "gather_embeddings",
    "gather_ragged",
    "mean_over_processes",
    "sample_common_classes",
    "share_of_rows",
    "slices",
    "sum_over_processes",
    "sum_shares",
    "world_size",
]
