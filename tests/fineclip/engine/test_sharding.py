"""What of sharding shows in one process; two are in tests/fineclip/parallel."""

import pytest
from mmengine.config import Config
from torch import nn

from fineclip.engine import build_runner
from fineclip.engine.sharding import FullyShardedModel, repeated_blocks
from fineclip.models import DenseCLIP


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_all_blocks_but_the_last_are_sharded(name):
    """The last block of the image tower is used in parts, so it must stay whole."""
    model = DenseCLIP.create(name)
    found = list(repeated_blocks(model))
    images, texts = model.trunk.blocks, model.text_tower.blocks
    assert found == [*images[:-1], *texts[:-1]]


def test_layers_and_different_neighbours_are_no_blocks():
    def block():
        return nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))

    assert not list(repeated_blocks(nn.ModuleList([block(), nn.ModuleList([nn.Linear(2, 2)])])))
    row = nn.ModuleList([block(), block(), block()])
    assert list(repeated_blocks(nn.ModuleDict({"blocks": row}))) == [row[0], row[1]]


def test_one_process_is_refused():
    with pytest.raises(ValueError, match="start with torchrun"):
        FullyShardedModel(nn.Linear(2, 2))


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        ({}, {}, "start with torchrun and --launcher pytorch"),
        ({}, {"launcher": "pytorch", "amp": "fp16"}, "use --amp bf16"),
        ({"chunk_sizes": {"crops": 8}}, {"launcher": "pytorch"}, "does not go with chunk_sizes"),
    ],
)
def test_settings_that_do_not_go_together(model, options, message, tmp_path):
    config = Config({"fully_sharded": True, "model": model})
    with pytest.raises(ValueError, match=message):
        build_runner(config, work_dir=tmp_path / "run", **options)
    assert not (tmp_path / "run").exists()
