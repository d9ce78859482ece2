"""No reader of weights or of a config beside them runs what a file holds, whoever calls it.

Each file makes a folder where it is read without care, which is tried first; here it must be
refused with the name of the file, and nothing may be made.
"""

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine import runner
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import CheckpointLoader, Runner, load_checkpoint

from fineclip.checkpoints import (
    CheckpointError,
    convert,
    identify,
    load,
    read_checkpoint,
)
from fineclip.configuration.plain import PLAIN_CONFIG, write_plain_config
from fineclip.engine import build_runner, load_config
from fineclip.models import DenseCLIP
from fineclip.models.class_embedding_files import read_class_embeddings
from fineclip.text.vocabulary import as_vocabulary

ROOT = Path(__file__).resolve().parents[1]
OWN_LOADERS = CheckpointLoader._schemes  # of mmengine, as long as no runner was built


@pytest.fixture(autouse=True)
def _loaders_as_imported(monkeypatch):
    """Building a runner registers further loaders for all that comes after it in this process."""
    monkeypatch.setattr(CheckpointLoader, "_schemes", OWN_LOADERS.copy())


class RunsCode:
    """Pickles to a call that leaves a folder behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def content(proof):
    return {"state_dict": {"weight": torch.ones(2, 2)}, "extra": RunsCode(proof)}


# ---- Files: written with a payload that makes `proof`; each gives what would run it.


def torch_zip(folder, proof):
    torch.save(content(proof), folder / "evil.pth")
    return folder / "evil.pth", lambda file: torch.load(file, weights_only=False)


def torch_of_before_1_6(folder, proof):
    file = folder / "evil.pth"
    torch.save(content(proof), file, _use_new_zipfile_serialization=False)
    return file, lambda file: torch.load(file, weights_only=False)


def plain_pickle(folder, proof):
    (folder / "evil.pkl").write_bytes(pickle.dumps({"model": RunsCode(proof)}))
    return folder / "evil.pkl", lambda file: pickle.loads(file.read_bytes())


def pickle_called_safetensors(folder, proof):
    (folder / "evil.safetensors").write_bytes(pickle.dumps(content(proof)))
    return folder / "evil.safetensors", lambda file: pickle.loads(file.read_bytes())


def torchscript(folder, proof):
    file = folder / "evil.pt"
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps(RunsCode(proof)))
        archive.writestr("m/data.pkl", pickle.dumps(RunsCode(proof)))
    return file, lambda file: pickle.loads(zipfile.ZipFile(file).read("m/data.pkl"))


def numpy_archive(folder, proof):
    np.savez(folder / "evil.npz", weight=np.array([RunsCode(proof)], dtype=object))
    return folder / "evil.npz", lambda file: np.load(file, allow_pickle=True)["weight"]


def torch_of_before_0_1_10(folder, proof):
    file = folder / "evil.pth"
    with tarfile.open(file, "w") as archive:
        for name in ("sys_info", "pickle", "storages", "tensors"):
            data = pickle.dumps(RunsCode(proof))
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return file, lambda file: pickle.loads(tarfile.open(file).extractfile("pickle").read())


class AsksGetattr:
    """What a log buffer's pickle may ask for, asked of something else."""

    def __init__(self, proof):
        self.proof = proof

    def __reduce__(self):
        return getattr, (RunsCode(self.proof), "no_attribute")


def through_getattr(folder, proof):
    torch.save({"state_dict": {}, "message_hub": AsksGetattr(proof)}, folder / "evil.pth")

    def careless(file):
        with pytest.raises(AttributeError):  # after the folder was made
            torch.load(file, weights_only=False)

    return folder / "evil.pth", careless


FILES = [
    *(torch_zip, torch_of_before_1_6, torch_of_before_0_1_10, torchscript, through_getattr),
    *(plain_pickle, pickle_called_safetensors, numpy_archive),
]


# ---- Whatever reads weights.


@MODELS.register_module()
class OneLinear(BaseModel):
    def __init__(self, backbone=None, **kwargs):
        super().__init__(**kwargs)
        self.linear = torch.nn.Linear(2, 2)

    def forward(self, inputs, data_samples=None, mode="tensor"):
        return self.linear(inputs)


def _config(folder, **more):
    return Config({"model": {"type": "OneLinear"}, "work_dir": str(folder), **more})


def _from_the_network(file, folder):
    def fetch(url, target, *_):
        Path(target).write_bytes(file.read_bytes())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.hub, "download_url_to_file", fetch)
        patch.setattr(torch.hub, "get_dir", lambda: str(folder))
        CheckpointLoader.load_checkpoint(f"https://nowhere.invalid/{file.name}")


def _init_detector(file, folder):
    pytest.importorskip("mmdet")
    from mmdet.apis import init_detector

    config = _config(folder, default_scope="mmengine")
    config.model.backbone = {}
    init_detector(config, str(file), device="cpu")


def _det_inferencer(file, folder):
    pytest.importorskip("mmdet")
    from mmdet.apis import DetInferencer

    DetInferencer(_config(folder), str(file), device="cpu")


def _detectron2(name):
    def read(file, folder):
        pytest.importorskip("detectron2")
        import detectron2.checkpoint

        import segmentation.engine

        kind = getattr(segmentation.engine, name, None) or getattr(detectron2.checkpoint, name)
        kind(torch.nn.Linear(2, 2)).load(str(file))

    return read


def _open_vocabulary_detector(file, folder):
    pytest.importorskip("mmdet")
    from detection.inference import OpenVocabularyDetector

    config = Config({"model": {"type": "FViT", "backbone": {}}})
    config.model.roi_head = {"bbox_head": {"class_embeddings": {"model": "ViT-Ti-16"}}}
    OpenVocabularyDetector(config, file, as_vocabulary(["a cat"]))


def _into_a_segmenter(file, folder):
    from segmentation.modeling import load_checkpoint as load_segmenter

    load_segmenter(torch.nn.Linear(2, 2), file)


READERS = {
    "read_checkpoint": lambda file, folder: read_checkpoint(file),
    "mapped": lambda file, folder: read_checkpoint(file, mmap=True),
    "identify": lambda file, folder: identify(file),
    "load": lambda file, folder: load(file),
    "convert": lambda file, folder: convert(file, folder / "new.safetensors", to="open_clip"),
    "class embeddings": lambda file, folder: read_class_embeddings(file),
    "DenseCLIP": lambda file, folder: DenseCLIP.create("ViT-Ti-16", str(file)),
    "load_from": lambda file, folder: build_runner(_config(folder, load_from=str(file))),
    "resume": lambda file, folder: build_runner(_config(folder), resume=str(file)),
    "Runner": lambda file, folder: Runner.from_cfg(_config(folder)).load_checkpoint(str(file)),
    "load_checkpoint": lambda file, folder: load_checkpoint(torch.nn.Linear(2, 2), str(file)),
    "init_cfg": lambda file, folder: OneLinear(
        init_cfg={"type": "Pretrained", "checkpoint": str(file)}
    ).init_weights(),
    "network": _from_the_network,
    "init_detector": _init_detector,
    "DetInferencer": _det_inferencer,
    "DetectionCheckpointer": _detectron2("DetectionCheckpointer"),
    "Checkpointer": _detectron2("Checkpointer"),
    "SafeCheckpointer": _detectron2("SafeCheckpointer"),
    "detect": _open_vocabulary_detector,
    "segment": _into_a_segmenter,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("make", FILES)
def test_nothing_runs(tmp_path, make, reader):
    proof = tmp_path / "ran"
    (tmp_path / "work").mkdir()
    file, careless = make(tmp_path, proof)
    with pytest.raises(CheckpointError, match=file.name):
        READERS[reader](file, tmp_path / "work")
    assert not proof.exists()
    careless(file)
    assert proof.exists()


# ---- Configs.


def _data_config(folder, change=lambda config: None):
    """The config of F-ViT on the scenes as a training leaves it, changed."""
    config = load_config(ROOT / "configs/detection/scenes_fvit.py")
    change(config)
    write_plain_config(config, folder)
    return folder / PLAIN_CONFIG


def _calls_mkdir(config):
    config.model.neck = {"type": "os.mkdir", "path": "ran"}


def _evaluates_text(config):  # mmcv does
    config.model.test_cfg.rcnn.nms.type = "__import__('os').mkdir('ran')"


def _names_a_class_that_evaluates_text(config):
    config.model.neck = {"type": "mmdet.CameraMotionCompensation", "warp_mode": "os.mkdir('ran')"}


def _imports_a_module(config):
    config.custom_imports = {"imports": ["makes_a_folder"]}


def _imports_a_registry(config):
    config.default_scope = "makes_a_folder"


def _imports_a_registry_for_a_class(config):
    config.model.neck = {"type": "makes_a_folder.FViT"}


def _runs_as_a_class(config):
    config.model.neck = {"type": RunsCode}


@pytest.mark.parametrize(
    "change",
    [
        *(_calls_mkdir, _evaluates_text, _names_a_class_that_evaluates_text, _imports_a_module),
        *(_imports_a_registry, _imports_a_registry_for_a_class, _runs_as_a_class),
    ],
)
def test_a_config_beside_weights_names_nothing_that_runs(tmp_path, monkeypatch, change):
    pytest.importorskip("mmdet")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "makes_a_folder.py").write_text("import os\nos.mkdir('ran')\n")
    file = _data_config(tmp_path, change)
    with pytest.raises(ValueError, match=rf"{PLAIN_CONFIG}: .*not known to be harmless.*--config"):
        load_config(file)
    assert not (tmp_path / "ran").exists()


def test_a_python_config_beside_weights_is_not_run(tmp_path):
    pytest.importorskip("mmdet")
    from detection.inference import load_detector

    (tmp_path / "detector.py").write_text(f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    torch.save({"state_dict": {}}, tmp_path / "epoch_1.pth")
    (tmp_path / "last_checkpoint").write_text("epoch_1.pth")
    for weights in (tmp_path, tmp_path / "epoch_1.pth"):
        with pytest.raises(FileNotFoundError, match=r"detector\.py is a program.*--config"):
            load_detector(weights, as_vocabulary(["a cat"]))
    assert not (tmp_path / "ran").exists()


def test_the_text_of_a_config_in_a_checkpoint_is_not_run(tmp_path):
    """DetInferencer builds a model from it, and mmengine's Runner reads one on resuming."""
    pytest.importorskip("mmdet")
    from mmdet.apis import DetInferencer

    text = f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\nmodel = dict(type='OneLinear')\n"
    file, state = tmp_path / "weights.pth", OneLinear().state_dict()
    hub = {"log_scalars": {}, "runtime_info": {"cfg": text}, "resumed_keys": {}}
    meta = {"cfg": text, "config": text, "epoch": 1, "iter": 1}
    torch.save({"state_dict": state, "message_hub": hub, "meta": meta}, file)
    with pytest.raises(CheckpointError, match=r"weights\.pth.*a program.*model="):
        DetInferencer(weights=str(file), device="cpu")
    built = build_runner(_config(tmp_path / "work"))
    assert "config" not in built.load_checkpoint(str(file))["meta"]
    assert "config" not in load_checkpoint(OneLinear(), str(file))["meta"]
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("at", ["top", "base"])
def test_yaml_tags_of_python_are_refused(tmp_path, at):
    pytest.importorskip("detectron2")
    from segmentation.engine import load_config as load_yaml

    text = f"VERSION: 2\nOUTPUT_DIR: !!python/object/apply:os.mkdir ['{tmp_path / 'ran'}']\n"
    (tmp_path / "base.yaml").write_text(text)
    (tmp_path / "c.yaml").write_text("_BASE_: base.yaml\n" if at == "base" else text)
    with pytest.raises(ValueError, match=r"c\.yaml is not valid yaml"):
        load_yaml(tmp_path / "c.yaml")
    assert not (tmp_path / "ran").exists()


# ---- What is plain is read, and what is imported first does not matter.


def test_what_mmengine_saves_is_read(tmp_path):
    """Log buffers and NumPy's scalars and arrays, as its checkpoints have them beside weights."""
    from mmengine.logging import HistoryBuffer

    buffer = HistoryBuffer([1.0, 3.0], [1, 1])
    others = {"score": np.float64(0.5), "epochs": np.int64(3), "palette": np.eye(3, dtype=np.uint8)}
    torch.save({"state_dict": OneLinear().state_dict(), "b": buffer, **others}, tmp_path / "c.pth")
    for read in (
        read_checkpoint(tmp_path / "c.pth"),
        load_checkpoint(OneLinear(), str(tmp_path / "c.pth")),
    ):
        assert read["b"].mean() == 2 and read["score"] == 0.5 and read["epochs"] == 3
        assert np.array_equal(read["palette"], np.eye(3))


@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_detectron2s_model_zoo_are_read(tmp_path, protocol):
    checkpoint = pytest.importorskip("detectron2.checkpoint")
    state = {"weight": np.eye(2, dtype=np.float32), "bias": np.ones(2, np.float32)}
    content = pickle.dumps({"model": state, "__author__": "somebody"}, protocol)
    (tmp_path / "zoo.pkl").write_bytes(content)
    model = torch.nn.Linear(2, 2)
    checkpoint.DetectionCheckpointer(model).load(str(tmp_path / "zoo.pkl"))
    assert torch.equal(model.weight, torch.eye(2))


def test_the_order_of_imports_does_not_matter():
    """mmengine was here before fineclip (conftest.py); in another process fvcore comes after it."""
    pytest.importorskip("fvcore")
    code = """
import fineclip, sys
assert "torch" not in sys.modules
import fvcore.common.checkpoint as reader
print(reader.torch.load.__module__)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    home = "fineclip.checkpoints.libraries"
    assert done.stdout.strip() == home, done.stderr
    assert runner.checkpoint.torch.load.__module__ == home


def test_a_library_that_reads_in_another_way_is_refused():
    from fineclip.checkpoints.libraries import make_readers_safe

    module = type(json)("fvcore.common.checkpoint")
    with pytest.raises(ImportError, match=r"fvcore\.common\.checkpoint.*requirements/"):
        make_readers_safe(module)
