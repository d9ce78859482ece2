"""FineCLIP: pretraining, dense features and evaluation of region-aware CLIP models.

Importing it makes the checkpoint readers of mmengine and detectron2 safe, see
:mod:`fineclip.checkpoints.libraries`.
"""

from fineclip.import_hook import call_when_imported

__version__ = "0.1.0"

call_when_imported(
    (
        "mmengine.runner.checkpoint",
        "mmengine.infer.infer",
        "fvcore.common.checkpoint",
        "detectron2.checkpoint.detection_checkpoint",
    ),
    "fineclip.checkpoints.libraries:make_readers_safe",
)
