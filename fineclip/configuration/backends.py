"""Where the curves of a run go beside ``scalars.json``."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

from mmengine.config import Config, ConfigDict

from fineclip.checks import nearest

BACKENDS = {
    "tensorboard": ("TensorboardVisBackend", "tensorboard"),
    "wandb": ("WandbVisBackend", "wandb"),
    "mlflow": ("MLflowVisBackend", "mlflow"),
    "clearml": ("ClearMLVisBackend", "clearml"),
    "neptune": ("NeptuneVisBackend", "neptune"),
    "dvclive": ("DVCLiveVisBackend", "dvclive"),
    "aim": ("AimVisBackend", "aim"),
}
"""mmengine's class, and the package that it needs, by the word of the command line."""


def send_curves_to(config: Config, names: Sequence[str]) -> None:
    """Names the backends of a config's visualizer; ``scalars.json`` is written in any case.

    Args:
        config: Changed in place.
        names: Keys of :data:`BACKENDS`; empty: none.

    Raises:
        ValueError: A package is missing.
    """
    require_backends(names)
    chosen = [ConfigDict(type="LocalVisBackend")]
    chosen += [ConfigDict(type=BACKENDS[name][0]) for name in names]
    visualizer = config.get("visualizer") or ConfigDict(type="Visualizer")
    visualizer.vis_backends = chosen
    config.visualizer = visualizer


def require_backends(names: Sequence[str]) -> None:
    """Checks that the packages of backends are installed.

    Raises:
        ValueError: An unknown name, or a package is missing.
    """
    for name in names:
        if name not in BACKENDS:
            raise ValueError(f"there is no backend {name!r}; {nearest(name, BACKENDS)}")
        package = BACKENDS[name][1]
        if find_spec(package) is None:
            raise ValueError(
                f"--log-to {name}: the package {package} is not installed (pip install {package})"
            )
