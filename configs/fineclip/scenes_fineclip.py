"""FineCLIP on scenes; start from a checkpoint of scenes_clip.py with load_from=CHECKPOINT."""

_base_ = "_base_/scenes.py"
