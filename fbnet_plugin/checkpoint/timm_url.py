"""``timm://NAME[.TAG]`` as a path of weights: timm's own files, by way of timm's own download and cache.

Detectron2 resolves the paths of ``MODEL.WEIGHTS`` through iopath; this is a handler for its ``PathManager``. timm is
imported and the network is used when such a path is resolved, not before.
"""

from __future__ import annotations

import difflib
import os
from typing import Any, Iterator, List

from detectron2.utils.file_io import PathHandler, PathManager

from .errors import CheckpointError

PREFIX = "timm://"
# Of timm's networks those that are FBNets.
FBNETS = ("fbnetc_100.rmsp_in1k", "fbnetv3_b.ra2_in1k", "fbnetv3_d.ra2_in1k", "fbnetv3_g.ra2_in1k")
# The files of a repository on timm's hub, the safe one first.
_FILES = ("model.safetensors", "pytorch_model.bin")


class TimmHandler(PathHandler):
    """Finds a file of timm's weights in timm's cache, or downloads it there."""

    def _get_supported_prefixes(self) -> List[str]:
        return [PREFIX]

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        """Path of the file in the cache.

        Raises:
            CheckpointError: timm is not installed, has no such weights, or cannot get them.
        """
        return download(path[len(PREFIX) :])

    def _open(self, path: str, mode: str = "r", buffering: int = -1, **kwargs: Any) -> Any:
        return open(self._get_local_path(path), mode, buffering=buffering)


def download(name: str) -> str:
    """Path of the file of weights that timm calls ``name``, downloaded if it is not in timm's cache.

    The hub comes first, as in timm, and then the older address where timm knows one.

    Args:
        name: such as "fbnetv3_b.ra2_in1k", or "fbnetv3_b" for its default weights.

    Raises:
        CheckpointError: see ``TimmHandler``.
    """
    config = pretrained_config(name)
    if config.file:
        return str(config.file)
    problems = []
    for source in (_from_hub, _from_url):
        try:
            for path in source(config):
                return path
        except Exception as error:  # of the network, the hub's client or the disk; there are many kinds
            problems.append((str(error).strip() or type(error).__name__).splitlines()[0])
    where = f"https://huggingface.co/{config.hf_hub_id}" if config.hf_hub_id else "timm's pages"
    raise CheckpointError(
        f"checkpoint {PREFIX}{name}: timm could not download it ({'; '.join(problems) or 'it names no source'}). "
        f"Where there is a network, download {_FILES[0]} from {where}"
        f"{f' or {config.url}' if config.url else ''}, and let MODEL.WEIGHTS name that file"
    )


def pretrained_config(name: str) -> Any:
    """timm's ``PretrainedCfg`` of some weights.

    Raises:
        CheckpointError: timm is not installed, or has no weights of this name; the message has the nearest ones.
    """
    try:
        import timm
    except ImportError as error:
        hint = _did_you_mean(name, FBNETS) or f" FBNets are {', '.join(FBNETS)}."
        raise CheckpointError(
            f"checkpoint {PREFIX}{name}: needs timm, which is not installed: pip install 'fbnet_plugin[timm]'.{hint}"
        ) from error
    known = timm.list_models(pretrained=True)
    try:
        config = timm.models.get_pretrained_cfg(name, allow_unregistered=False)
    except RuntimeError:
        config = None
    if config is None or not config.has_weights:
        near = _did_you_mean(name, known) or f" FBNets are {', '.join(FBNETS)}."
        raise CheckpointError(f"checkpoint {PREFIX}{name}: timm {timm.__version__} has no weights of this name.{near}")
    return config


def _did_you_mean(name: str, known: Any) -> str:
    names = [*known, *{one.partition(".")[0] for one in known}]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.6)
    return f" Did you mean {' or '.join(PREFIX + one for one in near)}?" if near and name not in near else ""


def _from_hub(config: Any) -> Iterator[str]:
    """The file in the hub's cache, else from the hub: the safe one where there is one."""
    from timm.models import _hub

    if not config.hf_hub_id or not _hub.has_hf_hub():
        return
    repository, revision = _hub.hf_split(config.hf_hub_id)
    files = [config.hf_hub_filename] if config.hf_hub_filename else _FILES
    for cached in (True, False):
        for file in files:
            try:
                yield _hub.hf_hub_download(
                    repo_id=repository, filename=file, revision=revision, local_files_only=cached
                )
                return
            except _hub.EntryNotFoundError as error:
                if not cached and (file == files[-1] or _is_offline(error)):
                    raise


def _is_offline(error: Exception) -> bool:
    """Whether the hub could not be asked, so that it need not be asked for the next file."""
    return "LocalEntryNotFoundError" in [kind.__name__ for kind in type(error).__mro__]


def _from_url(config: Any) -> Iterator[str]:
    from timm.models import _hub

    if config.url:
        yield _hub.download_cached_file(config.url, check_hash=True, progress=os.isatty(2))


PathManager.register_handler(TimmHandler(), allow_override=True)
