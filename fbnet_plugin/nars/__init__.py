"""Joint architecture-recipe search (FBNetV3): space, pool, predictor, iterative optimization, evolution, store.

Importing this package registers the searchers, the executors and ``NARSTrainer``.
"""

from .errors import NARSError
from .executors import EXECUTOR_REGISTRY
from .recipe import Recipe, load_recipe, save_recipe
from .searcher import SEARCHER_REGISTRY
from .space import JointSpace, list_joint_spaces, load_joint_space
from .trainer import NARSTrainer

__all__ = [
    "EXECUTOR_REGISTRY", "JointSpace", "NARSError", "NARSTrainer", "Recipe", "SEARCHER_REGISTRY", "list_joint_spaces",
    "load_joint_space", "load_recipe", "save_recipe",
]  # fmt: skip
