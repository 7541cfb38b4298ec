"""A NARS search as something that ``tools/train_net.py`` starts."""

from __future__ import annotations

import logging
import os
from typing import Any, Dict, List

from detectron2.config import CfgNode
from detectron2.utils import comm

from fbnet_plugin.engine import TRAINER_REGISTRY, ConfigError
from fbnet_plugin.engine.identity import changes, config_lines
from fbnet_plugin.engine.stop import StopSignals, TrainingStopped

from .check import check_search
from .errors import NARSError
from .run import STORE_FILE, SearchRun
from .searcher import SEARCHER_REGISTRY
from .settings import space_from_config, table_from_config
from .store import Store

_logger = logging.getLogger(__name__)
# What may differ when a search is resumed: it does not change what candidates are, but where and how they run.
_FREE = ("OUTPUT_DIR", "VERSION", "DATALOADER.NUM_WORKERS", "NARS.SPACE", "LATENCY.TABLE", "VIS_PERIOD", "SEED")
_FREE_SECTIONS = ("NARS.EVALUATION.",)


@TRAINER_REGISTRY.register()
class NARSTrainer:
    """Runs the search that a config describes, from its beginning or from where an interrupted one stands.

    Args:
        cfg: complete and frozen.
    """

    def __init__(self, cfg: CfgNode):
        if comm.get_world_size() > 1:
            raise NARSError("a NARS search is one process that starts others; see NARS.EVALUATION, not --num-gpus")
        self.cfg = cfg
        self._resume = False

    @classmethod
    def check(cls, cfg: CfgNode) -> List[str]:
        """See ``check_search``; and a search that ``OUTPUT_DIR`` holds is this one.

        Raises:
            NARSError: it is another one; the message has the difference.
        """
        notes = check_search(cfg)
        refuse_another(cfg)
        return notes

    @classmethod
    def build_model(cls, cfg: CfgNode) -> Any:
        """
        Raises:
            ConfigError: always; there is no model of a search to evaluate.
        """
        raise ConfigError("--eval-only: a search has no model; evaluate a winner's config, OUTPUT_DIR/winners/*.yaml")

    def resume_or_load(self, resume: bool = True) -> None:
        """
        Raises:
            NARSError: ``OUTPUT_DIR`` holds a search, and ``resume`` is false, or it is another one.
        """
        path = store_path(self.cfg.OUTPUT_DIR)
        if os.path.exists(path):
            if not resume:
                raise NARSError(f"{path} holds a search already: continue it with --resume, or name another OUTPUT_DIR")
            refuse_another(self.cfg)
        elif resume:
            _logger.info(f"{path} is not there yet; the search begins")
        self._resume = resume

    def train(self) -> None:
        """Searches to the end.

        Raises:
            NARSError: too many candidates failed, or too few are left.
            TrainingStopped: on Ctrl-C or SIGTERM; everything that was completed is in the store.
        """
        path = store_path(self.cfg.OUTPUT_DIR)
        try:
            with StopSignals(), Store(path) as store:
                begin(store, self.cfg)
                for number in store.recover():
                    _logger.info(f"Candidate {number} was in training when the search ended; it is trained again")
                with SearchRun(self.cfg, store, int(store.get("seed"))) as run:
                    SEARCHER_REGISTRY.get(self.cfg.NARS.SEARCHER)(run).search()
                store.put("finished", True)
        except TrainingStopped as stop:
            stop.saved = f"with everything that was completed in {path}"
            raise


def store_path(folder: str) -> str:
    """The store of a run."""
    return os.path.join(folder, STORE_FILE)


def begin(store: Store, cfg: CfgNode) -> None:
    """Writes what the search is into a store that is new; its seed is the config's, or a random one."""
    if store.get("identity") is None:
        seed = cfg.SEED if cfg.SEED >= 0 else int.from_bytes(os.urandom(4), "little") >> 1
        store.put_many({"identity": search_identity(cfg), "seed": seed, "config": cfg.dump()})


def search_identity(cfg: CfgNode) -> Dict[str, Any]:
    """What must not change when a search is resumed: config, space, latency table."""
    table = table_from_config(cfg)
    return {
        "config": config_lines(cfg, _FREE, _FREE_SECTIONS),
        "space": lines_of(space_from_config(cfg).to_dict()),
        "latency_table": table.digest() if table else "",
    }


def lines_of(data: Any, where: str = "") -> List[str]:
    """``where: value`` of every leaf of plain data, in order."""
    if isinstance(data, dict) and data:
        dot = "." if where else ""
        return [line for key, value in data.items() for line in lines_of(value, f"{where}{dot}{key}")]
    if isinstance(data, (list, tuple)) and any(isinstance(item, (dict, list, tuple)) for item in data):
        return [line for number, value in enumerate(data) for line in lines_of(value, f"{where}[{number}]")]
    return [f"{where}: {data!r}"]


def refuse_another(cfg: CfgNode) -> None:
    """Compares the config with the search that ``OUTPUT_DIR`` holds, if it does; see ``refuse_changes``."""
    path = store_path(cfg.OUTPUT_DIR)
    if os.path.exists(path):
        with Store(path, read_only=True) as store:
            refuse_changes(store, search_identity(cfg), path)


def refuse_changes(store: Store, now: Dict[str, Any], path: str) -> None:
    """
    Raises:
        NARSError: the store is of another search; the message has the lines that differ.
    """
    before = store.get("identity")
    if before is None:
        return
    lines = changes(before, now, {"config": "the config", "space": "the search space"})
    if lines:
        raise NARSError(
            "\n  ".join([f"{path}: a search is resumed as it began, or begun anew in another OUTPUT_DIR:", *lines])
        )
