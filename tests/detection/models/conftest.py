"""mmdet's scope for every test, and the recorded F-ViT."""

import pytest

pytest.importorskip("mmdet")

from mmengine.registry import DefaultScope


@pytest.fixture(autouse=True)
def _mmdet_scope():
    """Other tests set the scope of fineclip."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield
