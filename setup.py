"""Package metadata. Exact pins of the tested closure live in requirements/."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
PACKAGES = ("fineclip", "detection", "segmentation")


def read_version() -> str:
    # Read, not imported: metadata must be available before torch is installed.
    text = (ROOT / "fineclip" / "__init__.py").read_text(encoding="utf-8")
    match = re.search(r'^__version__ = "([^"]+)"$', text, flags=re.MULTILINE)
    if match is None:
        raise RuntimeError('fineclip/__init__.py must hold a line like: __version__ = "1.2.3"')
    return match.group(1)


def read_readme() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


# torch and torchvision are released in pairs and open_clip's trunks are adapted by their internals,
# hence the upper bounds: a newer series is a change to test, not one to receive by accident.
CORE = [
    "torch>=2.13,<2.14",
    "torchvision>=0.28,<0.29",
    "open_clip_torch>=3.3,<3.4",
    "timm>=1.0.31",
    "onedl-mmengine==0.10.12",
    "defusedxml",
    "imagehash",
    "matplotlib",
    "numpy>=2.0",
    "opencv-python-headless>=4.11,<4.13",  # mmengine's visualizer imports cv2 without declaring it
    "pillow>=12,<13",  # below 13 for Gradio
    "pycocotools",
    "pyyaml",
    "safetensors",
    "supervision>=0.31.2,<0.32",  # below 1.0 every series may change calls
    "tensorboard",
    "webdataset",
]

EXTRAS = {
    "detection": [
        "onedl-mmcv==2.3.6",  # must have compiled operators: tools/setup_env.sh builds them
        "onedl-mmdetection==3.5.1",
        "faster-coco-eval",
        "lvis",
        # mmcv's source build runs without isolation and needs these beside torch.
        "ninja",
        "psutil",
        "setuptools>=80,<82",
        "wheel",
    ],
    # What detectron2 imports; it has no release to name here itself, see tools/setup_env.sh.
    "segmentation": [
        "cloudpickle",
        "fvcore",
        "hydra-core>=1.1",
        "iopath",
        "omegaconf>=2.1",
        "packaging",
        "scipy",
        "tabulate",
        "termcolor",
        "tqdm",
        "yacs>=0.1.8",
    ],
    # httpx asks endpoints, lemminflect knows words by their other forms.
    "annotation": ["httpx", "lemminflect", "transformers"],
    "annotation-ray": ["ray[data]>=2.60"],
    # Every series of Gradio changes calls; fineclip/demo/gate.py lists the addresses of its page.
    "demo": ["gradio>=6.31,<7"],
    # ipykernel and nbclient run docs/tour.ipynb.
    "dev": [
        *("accelerate", "openai"),  # what `transformers serve` asks for
        *("ipykernel", "mypy", "nbclient", "nbformat", "pytest", "pytest-xdist", "ruff"),
        *("selenium", "setuptools>=80,<82"),
    ],
}
EXTRAS["all"] = sorted({requirement for extra in EXTRAS.values() for requirement in extra})
# Not among all: its licence, AGPL-3.0, is a decision of whoever installs it.
EXTRAS["annotation-ultralytics"] = ["ultralytics"]

setup(
    name="fineclip-toolkit",
    version=read_version(),
    description="Region-aware CLIP pretraining, open-vocabulary detection and segmentation",
    long_description=read_readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    license_files=["LICENSE"],
    keywords=["clip", "vision-language", "open-vocabulary", "detection", "segmentation"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Environment :: Console",
        "Intended Audience :: Science/Research",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.10",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
    ],
    python_requires=">=3.10",
    packages=find_packages(include=[f"{name}{tail}" for name in PACKAGES for tail in ("", ".*")]),
    package_data={
        "fineclip": ["tiny_models/*.json", "text/vocabularies/*.json", "reporting/*.json"]
    },
    install_requires=CORE,
    extras_require=EXTRAS,
)
