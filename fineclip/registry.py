"""Registries of this package: children of mmengine's, so that configs can name every class.

A config that sets ``default_scope = "fineclip"`` names classes plainly; one that lives in
another scope (mmdet's, say) writes ``fineclip.ClassName``.
"""

from mmengine import registry as _root

MODEL_WRAPPERS = _root.Registry(
    "model wrapper", parent=_root.MODEL_WRAPPERS, scope="fineclip", locations=["fineclip.engine"]
)
MODELS = _root.Registry(
    "model",
    parent=_root.MODELS,
    scope="fineclip",
    locations=["fineclip.models", "fineclip.pretraining"],
)
OBJECTIVES = _root.Registry("objective", scope="fineclip", locations=["fineclip.objectives"])
DATASETS = _root.Registry(
    "dataset", parent=_root.DATASETS, scope="fineclip", locations=["fineclip.datasets"]
)
DATA_PARTS = _root.Registry("data part", scope="fineclip", locations=["fineclip.datasets"])
DATA_SAMPLERS = _root.Registry(
    "data sampler", parent=_root.DATA_SAMPLERS, scope="fineclip", locations=["fineclip.datasets"]
)
FUNCTIONS = _root.Registry(
    "function", parent=_root.FUNCTIONS, scope="fineclip", locations=["fineclip.datasets"]
)
METRICS = _root.Registry(
    "metric", parent=_root.METRICS, scope="fineclip", locations=["fineclip.evaluation"]
)
LOOPS = _root.Registry(
    "loop",
    parent=_root.LOOPS,
    scope="fineclip",
    locations=["fineclip.evaluation", "fineclip.engine"],
)
HOOKS = _root.Registry("hook", parent=_root.HOOKS, scope="fineclip", locations=["fineclip.engine"])
OPTIM_WRAPPERS = _root.Registry(
    "optim wrapper", parent=_root.OPTIM_WRAPPERS, scope="fineclip", locations=["fineclip.engine"]
)
OPTIM_WRAPPER_CONSTRUCTORS = _root.Registry(
    "optim wrapper constructor",
    parent=_root.OPTIM_WRAPPER_CONSTRUCTORS,
    scope="fineclip",
    locations=["fineclip.engine"],
)
PARAM_SCHEDULERS = _root.Registry(
    "parameter scheduler",
    parent=_root.PARAM_SCHEDULERS,
    scope="fineclip",
    locations=["fineclip.engine"],
)

# Nothing of this package's is in these. mmengine warns of every registry that a scope lacks.
for _name in ("OPTIMIZERS", "VISUALIZERS", "VISBACKENDS", "LOG_PROCESSORS", "RUNNERS"):
    _parent = getattr(_root, _name)
    _root.Registry(_parent.name, parent=_parent, scope="fineclip")
