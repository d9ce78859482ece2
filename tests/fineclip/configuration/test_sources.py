"""What is read off source files is what the imported libraries say."""

import inspect

import pytest
import torch

from fineclip.command_line.options import check_key_values
from fineclip.configuration.sources import class_signature, package_folder, signatures
from fineclip.engine.arguments import own_callables

pytest.importorskip("mmdet")
pytest.importorskip("detectron2")
import detection  # noqa: F401


def test_signatures():
    read = signatures("fineclip") | signatures("detection")
    registered = own_callables()
    assert registered.keys() <= read.keys()
    known = {name: found for name, found in read.items() if not found.is_open}
    compared = 0
    for name, item in registered.items():
        parameters = inspect.signature(item).parameters
        takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
        if name in known:
            assert not takes_any, name
            assert list(known[name].parameters) == list(parameters), name
            compared += 1
    assert compared > 0.7 * len(registered)


def test_signature_of_an_optimizer():
    file = package_folder("torch") / "optim" / "adamw.py"
    parameters = inspect.signature(torch.optim.AdamW).parameters
    assert list(class_signature(file, "AdamW").parameters) == list(parameters)
    assert class_signature(file, "AdamX") is None
    assert class_signature(file.with_name("none.py"), "AdamW") is None


def test_every_key_of_a_segmenter_s_configuration_is_known():
    from detectron2.config import CfgNode, get_cfg

    from segmentation.detectron2.config import add_cat_seg_config

    cfg = get_cfg()
    add_cat_seg_config(cfg)

    def leaves(node, path=()):
        for key, value in node.items():
            if isinstance(value, CfgNode) and value:
                yield from leaves(value, (*path, key))
            elif not isinstance(value, CfgNode):
                yield ".".join((*path, key)), value

    found = dict(leaves(cfg))
    assert len(found) > 250
    for key, value in found.items():
        check_key_values([key, value])  # of its own type
    with pytest.raises(ValueError, match="there is no LR in SOLVER"):
        check_key_values(["SOLVER.MAX_ITER", "9", "SOLVER.LR", "1"])
    with pytest.raises(ValueError, match=r"expected float such as 0\.001, got 'low'"):
        check_key_values(["SOLVER.BASE_LR", "low"])
    with pytest.raises(ValueError, match="SOLVER is a section"):
        check_key_values(["SOLVER", "1"])
    with pytest.raises(ValueError, match=r"SOLVER\.BASE_LR is a value"):
        check_key_values(["SOLVER.BASE_LR.X", "1"])
