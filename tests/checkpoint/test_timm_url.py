"""timm:// addresses: where the file comes from, and what is said where there is none."""

from __future__ import annotations

import ast
import builtins
from pathlib import Path

import pytest
import torch
from detectron2.utils.file_io import PathManager

import fbnet_plugin.checkpoint
from fbnet_plugin.checkpoint import CheckpointError, read_checkpoint

timm = pytest.importorskip("timm")
from timm.models import _hub  # noqa: E402

URL = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/fbnetc_100-c345b898.pth"


class Offline(_hub.EntryNotFoundError):
    """As huggingface_hub's, which tells a missing connection from a missing file by its class alone."""


Offline.__name__ = "LocalEntryNotFoundError"


@pytest.fixture
def sources(monkeypatch, tmp_path):
    """A cache, a hub and an address to download from; each is a dict or a set of the files that it has."""

    class Sources:
        cache, hub, urls, asked = set(), set(), set(), []

        def path(self, name):
            path = tmp_path / name
            torch.save({"weight": torch.ones(2)}, path)
            return str(path)

    sources = Sources()

    def hub_download(repo_id, filename, revision=None, local_files_only=False):
        sources.asked.append((repo_id, filename, local_files_only))
        files = sources.cache if local_files_only else sources.hub
        if files == "offline" or (local_files_only and filename not in files):
            raise Offline("no connection")
        if filename not in files:
            raise _hub.EntryNotFoundError("404")
        return sources.path(filename)

    def url_download(url, check_hash=True, progress=False):
        sources.asked.append(url)
        if url not in sources.urls:
            raise OSError("<urlopen error: no route>")
        return sources.path(url.rpartition("/")[2])

    sources.cache, sources.hub, sources.urls, sources.asked = set(), set(), set(), []
    monkeypatch.setattr(_hub, "hf_hub_download", hub_download)
    monkeypatch.setattr(_hub, "has_hf_hub", lambda necessary=False: True)
    monkeypatch.setattr(_hub, "download_cached_file", url_download)
    return sources


def local(name: str) -> str:
    return PathManager.get_local_path(f"timm://{name}")


def test_the_safe_file_of_the_hub_comes_first(sources):
    sources.hub = {"model.safetensors", "pytorch_model.bin"}
    assert local("fbnetc_100").endswith("model.safetensors")
    assert sources.asked[-1] == ("timm/fbnetc_100.rmsp_in1k", "model.safetensors", False)


def test_an_older_file_of_the_hub(sources):
    sources.hub = {"pytorch_model.bin"}
    path = local("fbnetc_100.rmsp_in1k")
    assert path.endswith("pytorch_model.bin") and torch.equal(read_checkpoint(path)["weight"], torch.ones(2))


def test_the_cache_needs_no_network(sources):
    sources.cache, sources.hub = {"pytorch_model.bin"}, "offline"
    assert local("fbnetv3_g").endswith("pytorch_model.bin")
    assert all(cached for _, _, cached in sources.asked)


def test_the_older_address_where_the_hub_cannot_be_reached(sources):
    sources.hub, sources.urls = "offline", {URL}
    assert local("fbnetc_100").endswith("fbnetc_100-c345b898.pth")
    assert [ask for ask in sources.asked if ask[-1] is False] == [
        ("timm/fbnetc_100.rmsp_in1k", "model.safetensors", False)
    ]


def test_the_older_address_without_a_client_of_the_hub(sources, monkeypatch):
    monkeypatch.setattr(_hub, "has_hf_hub", lambda necessary=False: False)
    sources.urls = {URL}
    assert local("fbnetc_100").endswith("fbnetc_100-c345b898.pth") and sources.asked == [URL]


def test_no_network_is_one_error_that_says_what_to_do(sources):
    sources.hub = "offline"
    with pytest.raises(CheckpointError) as error:
        local("fbnetc_100")
    message = str(error.value)
    assert (
        "checkpoint timm://fbnetc_100: timm could not download it (no connection; <urlopen error: no route>)" in message
    )
    assert "download model.safetensors from https://huggingface.co/timm/fbnetc_100.rmsp_in1k" in message
    assert URL in message and "MODEL.WEIGHTS name that file" in message and "\n" not in message


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("fbnet_v3_b", "timm://fbnetv3_b"),
        ("fbnetv3_b.ra3_in1k", "timm://fbnetv3_b.ra2_in1k"),
        ("FBNetC_100", "timm://fbnetc_100"),
        ("zzz", "FBNets are fbnetc_100.rmsp_in1k, fbnetv3_b.ra2_in1k"),
        ("", "FBNets are fbnetc_100.rmsp_in1k, fbnetv3_b.ra2_in1k"),
    ],
)
def test_unknown_names(sources, name, nearest):
    with pytest.raises(CheckpointError, match="has no weights of this name") as error:
        local(name)
    assert nearest in str(error.value) and not sources.asked


def test_without_timm_the_extra_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "timm":
            raise ImportError("No module named 'timm'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(CheckpointError, match=r"needs timm.*pip install 'fbnet_plugin\[timm\]'.*timm://fbnetv3_b"):
        local("fbnetv3b")


def test_importing_the_package_registers_the_scheme_and_imports_no_timm():
    """The optional packages are imported inside functions alone."""
    assert "timm://" in PathManager._path_handlers
    folder = Path(fbnet_plugin.checkpoint.__file__).parent
    for path in folder.glob("*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
            assert not {name.split(".")[0] for name in names} & {"timm", "huggingface_hub", "safetensors"}, path
