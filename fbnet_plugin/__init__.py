"""Searched FBNet and FBNetV3 backbones for Detectron2.

Importing this package registers its backbones, heads, meta-architectures and datasets with Detectron2, and its
trainers with ``fbnet_plugin.engine.TRAINER_REGISTRY``. It also lets Detectron2's config files name the shipped configs,
``fbnet_plugin://NAME``, as their ``_BASE_``.
"""

from __future__ import annotations

try:
    import detectron2 as _detectron2  # noqa: F401
except ImportError as error:
    raise ImportError(
        "fbnet_plugin needs Detectron2, which is not on PyPI under its own name; install it with "
        "pip install --no-build-isolation 'git+https://github.com/facebookresearch/detectron2.git', "
        "or with python tools/install_detectron2.py from a checkout of fbnet_plugin"
    ) from error

from . import data as _data  # noqa: F401 - registration only, as the next three
from . import dnas as _dnas  # noqa: F401
from . import modeling as _modeling  # noqa: F401
from . import nars as _nars  # noqa: F401
from .config import add_fbnet_config
from .engine import config_url as _config_url  # noqa: F401 - registration only
from .models import build_model, list_models
from .version import __version__

__all__ = ["__version__", "add_fbnet_config", "build_model", "list_models"]
