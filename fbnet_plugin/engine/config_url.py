"""``fbnet_plugin://NAME``: the configs of the installed package, for Detectron2's files and for ``_BASE_``.

Importing this makes Detectron2 understand such an address wherever it opens a file, and as the base of a config:

    _BASE_: fbnet_plugin://COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml
"""

from __future__ import annotations

from typing import IO, Any, List

from detectron2.config import CfgNode
from detectron2.utils.file_io import PathHandler, PathManager

from .config_file import SCHEME, find_config
from .errors import ConfigError


class ShippedConfigHandler(PathHandler):
    """Reads the project's configs for Detectron2's ``PathManager``."""

    def _get_supported_prefixes(self) -> List[str]:
        return [SCHEME]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        return find_config(path)

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> IO[Any]:
        if mode not in ("r", "rt", "rb"):
            raise ConfigError(f"{path}: the configs of the package can only be read, mode is {mode!r}")
        return PathManager.open(find_config(path), mode, buffering=buffering, **kwargs)

    def _isfile(self, path: str, **kwargs: Any) -> bool:
        try:
            return bool(find_config(path))
        except ConfigError:
            return False

    _exists = _isfile


def open_config(cls: type, filename: str) -> IO[str]:
    """Detectron2's ``CfgNode._open_cfg``, the place where fvcore lets file schemes in, with ours among them.

    fvcore has put the folder of the file that names the base before the address: ``/my/folder/fbnet_plugin://NAME``.
    A base of that base is relative to it, as any other: ``/my/folder/fbnet_plugin://FOLDER/../NAME``.
    """
    _, scheme, name = filename.rpartition(SCHEME)
    return PathManager.open(scheme + name, "r")


PathManager.register_handler(ShippedConfigHandler())
CfgNode._open_cfg = classmethod(open_config)
