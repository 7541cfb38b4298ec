"""Joint architecture-recipe search (FBNetV3): space, pool, predictor, iterative optimization, evolution, store.

Importing this package registers the searchers, the executors and ``NARSTrainer``.
"""

from .errors import NARSError
from .executors import EXECUTOR_REGISTRY
from .searcher import SEARCHER_REGISTRY
from .space import JointSpace, list_joint_spaces, load_joint_space
from .trainer import NARSTrainer

__all__ = [
    "EXECUTOR_REGISTRY", "JointSpace", "NARSError", "NARSTrainer", "SEARCHER_REGISTRY", "list_joint_spaces",
    "load_joint_space",
]  # fmt: skip
