"""Which of the codings that are about a folder of COCO-Stuff label maps has."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fineclip.datasets.label_maps import read_indices
from fineclip.text import load_vocabulary

_SAMPLE = 200  # label maps looked at
_CLEAR = 10  # times as many maps must speak against the download as against another coding


def check_coding(files: Sequence[Path]) -> None:
    """Checks that label maps are the download's: ids less one, 255 for nothing.

    Copies are about that count from 1 (0 for nothing), or hold class indices already. All look
    alike and convert without an error; but COCO's ids have gaps, and values that fall into those
    of a coding speak against it.

    Args:
        files: All label maps of a folder; an even sample of them is read.

    Raises:
        ValueError: Another coding explains the values, the download's does not; the message names
            the folder, the coding and what to do.
    """
    ids = set(load_vocabulary("coco_stuff171").required_ids)
    download = {255, *(id_ - 1 for id_ in ids)}
    others = {
        "count from 1 (0 is unlabelled): subtract 1 from every value and make 0 255": {
            *(0, 255),
            *ids,
        },
        f"hold class indices (0 to {len(ids) - 1}) already: they belong in the folder that this "
        "task makes": {*range(len(ids)), 255},
    }
    sample = files[:: -(-len(files) // _SAMPLE)]
    found = [set(np.unique(read_indices(file)).tolist()) for file in sample]
    against = [values for values in found if values - download]
    for coding, allowed in others.items():
        if len(against) and _CLEAR * sum(bool(v - allowed) for v in found) <= len(against):
            never = ", ".join(map(str, sorted(set().union(*against) - download)[:5]))
            raise ValueError(
                f"{files[0].parent}: {len(against)} of {len(sample)} label maps hold values that "
                f"COCO-Stuff's download never has ({never}). They seem to {coding}, or take the "
                "maps of stuffthingmaps_trainval2017.zip"
            )
