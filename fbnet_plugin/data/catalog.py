"""How a dataset enters Detectron2's ``DatasetCatalog`` and ``MetadataCatalog``, and where its files are."""

from __future__ import annotations

import os
from typing import Any, Callable, Dict, List

from detectron2.data import DatasetCatalog, MetadataCatalog

from .errors import DatasetError

ROOT_VARIABLE = "DETECTRON2_DATASETS"


def datasets_root() -> str:
    """The folder of all datasets: environment variable DETECTRON2_DATASETS, else ``datasets``."""
    return os.path.expanduser(os.environ.get(ROOT_VARIABLE, "datasets"))


def below_root(path: str) -> str:
    """``path`` itself where it is absolute, else below the folder of all datasets."""
    return os.path.join(datasets_root(), os.path.expanduser(path))


def missing(name: str, kind: str, path: str) -> DatasetError:
    """The error for a dataset whose files are not there.

    Args:
        name: of the dataset.
        kind: of thing that is missing, such as "folder".
        path: where it was looked for.
    """
    return DatasetError(
        f"dataset {name!r}: no such {kind}: {os.path.abspath(path)} (datasets lie below the folder that the "
        f"environment variable {ROOT_VARIABLE} names, now {os.environ.get(ROOT_VARIABLE, 'unset: ./datasets')!r})"
    )


def register(name: str, load: Callable[[], List[Dict[str, Any]]], **metadata: Any) -> None:
    """Registers a dataset; the same name with the same metadata again changes nothing.

    Args:
        name: as in ``cfg.DATASETS.TRAIN`` and ``cfg.DATASETS.TEST``.
        load: gives the dataset dicts; called when the dataset is first used.
        metadata: what distinguishes this dataset: where its files are, its ``evaluator_type``.

    Raises:
        DatasetError: the name is taken by another dataset.
    """
    if name in DatasetCatalog:
        known = MetadataCatalog.get(name).as_dict()
        differing = [key for key, value in metadata.items() if known.get(key) != value]
        if differing:
            key = differing[0]
            raise DatasetError(
                f"dataset {name!r} is already registered, with {key} {known.get(key)!r} instead of "
                f"{metadata[key]!r}: choose another name"
            )
        return
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(**metadata)


def spread(entries: List[Any], count: int) -> List[Any]:
    """``count`` of the entries at even distances, since folders and datasets are often sorted by class."""
    if len(entries) <= count:
        return list(entries)
    return [entries[index * len(entries) // count] for index in range(count)]
