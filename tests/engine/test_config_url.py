"""``fbnet_plugin://``: shipped configs as bases, in our own loading and in Detectron2's."""

from __future__ import annotations

import pytest
from detectron2.config import get_cfg
from detectron2.utils.file_io import PathManager

from fbnet_plugin import add_fbnet_config
from fbnet_plugin.engine import ConfigError, find_config, load_config

NAME = "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x.yaml"
ADDRESS = f"fbnet_plugin://{NAME}"


def plain_detectron2(path):
    cfg = get_cfg()
    add_fbnet_config(cfg)
    cfg.merge_from_file(path)
    return cfg


@pytest.fixture(params=[load_config, plain_detectron2], ids=["load_config", "merge_from_file"])
def load(request):
    return request.param


@pytest.fixture
def write(tmp_path):
    def write(text, name="mine.yaml"):
        (tmp_path / name).write_text(text)
        return str(tmp_path / name)

    return write


def test_a_shipped_config_is_a_base(load, write):
    cfg = load(write(f"_BASE_: {ADDRESS}\nSOLVER: {{BASE_LR: 0.5}}\n"))
    expected = load_config(NAME, ["SOLVER.BASE_LR", "0.5"])
    assert cfg == expected
    assert cfg.MODEL.FBNET.ARCH == "fbnet_v3_a_det"  # of the file itself
    assert cfg.MODEL.RPN.HEAD_NAME == "FBNetRPNHead"  # of its base
    assert cfg.MODEL_EMA.DECAY == 0.9998  # of the base of its base, in another folder


def test_bases_are_mixed_and_listed(load, write, monkeypatch, tmp_path):
    write("SEED: 4\nSOLVER: {MAX_ITER: 7}\n", "other.yaml")
    write(f"_BASE_: [{ADDRESS}, other.yaml]\nSOLVER: {{BASE_LR: 0.5}}\n", "mixed.yaml")
    path = write("_BASE_: mixed.yaml\nVERSION: 2\n")
    cfg = load(path)
    assert (cfg.MODEL.FBNET.ARCH, cfg.SEED, cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == ("fbnet_v3_a_det", 4, 7, 0.5)
    monkeypatch.chdir(tmp_path)
    assert load("mine.yaml") == cfg


def test_the_address_is_a_config_file_itself(load):
    assert load(ADDRESS) == load_config(NAME)


def test_the_address_means_the_shipped_file_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "COCO-Detection").mkdir()
    (tmp_path / NAME).write_text("SEED: 1\n")
    assert find_config(NAME) == NAME
    assert find_config(ADDRESS) != NAME and find_config(ADDRESS).endswith(NAME)


def test_detectron2_reads_it_as_any_file():
    assert PathManager.isfile(ADDRESS) and PathManager.exists(ADDRESS)
    assert PathManager.get_local_path(ADDRESS) == find_config(ADDRESS)
    with PathManager.open(ADDRESS) as file, open(find_config(ADDRESS)) as same:
        assert file.read() == same.read()
    assert not PathManager.isfile("fbnet_plugin://nothing.yaml")
    with pytest.raises(ConfigError, match="can only be read"):
        PathManager.open(ADDRESS, "w")


def test_a_wrong_name_is_explained(load, write):
    path = write(f"_BASE_: {ADDRESS[:-8]}_9x.yaml\n")
    with pytest.raises(ConfigError, match="faster_rcnn_fbnet_v3_a_C4_9x.yaml': no such file; did you mean .*_3x"):
        load(path)


def test_our_own_loading_names_the_file_with_the_mistake(write):
    with pytest.raises(ConfigError, match="mine.yaml: _BASE_: config file .*C4_9x.yaml': no such file"):
        load_config(write(f"_BASE_: {ADDRESS.replace('3x', '9x')}\n"))
    with pytest.raises(ConfigError, match="mine.yaml: unknown key SOLVER.BASE_LRR; did you mean"):
        load_config(write(f"_BASE_: {ADDRESS}\nSOLVER: {{BASE_LRR: 1.0}}\n"))
    with pytest.raises(ConfigError, match="mine.yaml: is based on itself"):
        write(f"_BASE_: [mine.yaml, {ADDRESS}]\n", "a.yaml")
        load_config(write("_BASE_: a.yaml\n"))


def test_other_bases_are_found_as_before(load, write, tmp_path):
    (tmp_path / "sub").mkdir()
    base = write("SEED: 5\n", "base.yaml")
    assert load(write("_BASE_: ../base.yaml\nVERSION: 2\n", "sub/mine.yaml")).SEED == 5
    assert load(write(f"_BASE_: {base}\nVERSION: 2\n")).SEED == 5
