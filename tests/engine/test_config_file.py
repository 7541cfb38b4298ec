from __future__ import annotations

import os

import pytest

from fbnet_plugin.engine import ConfigError, config_file, find_config, load_config


@pytest.fixture
def write(tmp_path):
    def write(text, name="a.yaml"):
        path = tmp_path / name
        path.write_text(text)
        return str(path)

    return write


def test_file_bases_and_pairs_are_merged_in_this_order(write):
    write("SOLVER: {MAX_ITER: 10, BASE_LR: 0.5, GAMMA: 0.3}\n", "base.yaml")
    path = write("_BASE_: base.yaml\nSOLVER: {BASE_LR: 0.25, GAMMA: 0.2}\nMODEL: {FBNET: {ARCH: fbnet_c}}\n")
    cfg = load_config(path, ["SOLVER.GAMMA", "0.1", "DATASETS.TRAIN", "('a', 'b')", "INPUT.CROP.SIZE", "[1.0, 1.0]"])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR, cfg.SOLVER.GAMMA) == (10, 0.25, 0.1)
    assert cfg.MODEL.FBNET.ARCH == "fbnet_c" and cfg.DATASETS.TRAIN == ("a", "b") and not cfg.is_frozen()


def test_without_file_it_is_the_defaults():
    cfg = load_config()
    assert cfg.MODEL.FBNET.ARCH == "fbnet_v3_a" and cfg.SOLVER.MAX_ITER == 40000


def test_configs_are_found_by_path_and_in_the_projects_folder(write, tmp_path, monkeypatch):
    path = write("SOLVER: {MAX_ITER: 10}\n")
    assert find_config(path) == path
    monkeypatch.setattr(config_file, "config_folders", lambda: [tmp_path])
    (tmp_path / "COCO-Detection").mkdir()
    ours = write("SOLVER: {MAX_ITER: 10}\n", "COCO-Detection/faster_rcnn.yaml")
    assert find_config("COCO-Detection/faster_rcnn.yaml") == ours
    assert load_config("COCO-Detection/faster_rcnn.yaml").SOLVER.MAX_ITER == 10
    with pytest.raises(ConfigError, match="'COCO-Detection/faster_rcn.yaml': no such file; .*faster_rcnn.yaml"):
        find_config("COCO-Detection/faster_rcn.yaml")
    with pytest.raises(ConfigError, match="no such file"):
        find_config("COCO-Detection")  # a folder


def test_a_checkout_has_its_configs_beside_the_package():
    folders = config_file.config_folders()
    assert folders and all(os.path.isdir(folder) for folder in folders)


@pytest.mark.parametrize(
    "text, message",
    [
        ("SOLVER: {BASE_LRR: 0.1}", "a.yaml: unknown key SOLVER.BASE_LRR; did you mean .*SOLVER.BASE_LR"),
        ("SOLVR: {BASE_LR: 0.1}", "unknown key SOLVR; did you mean SOLVER"),
        ("MODEL: {FBNET: {ARCHITECTURE: x}}", "unknown key MODEL.FBNET.ARCHITECTURE"),
        ("MODEL: {NUM_CLASSES: 3}", "unknown key MODEL.NUM_CLASSES; did you mean .*CLASSIFIER.NUM_CLASSES"),
        ("SOLVER: {MAX_ITER: soon}", "a.yaml: SOLVER.MAX_ITER is 'soon', expected a value of type int, such as 40000"),
        ("SOLVER: {BASE_LR: 1}", "SOLVER.BASE_LR is 1, expected a value of type float"),
        ("DATASETS: {TRAIN: digits_train}", "DATASETS.TRAIN is 'digits_train', expected a value of type tuple"),
        ("SOLVER: {STEPS: {A: 1}}", "SOLVER.STEPS is {'A': 1}, expected a value of type tuple"),
        ("SOLVER: 3", "a.yaml: SOLVER is 3, expected keys below it, such as"),
        ("SOLVER:", "SOLVER is None, expected keys below it"),
        ("SOLVER: {MAX_ITER: 2020-01-01}", "SOLVER.MAX_ITER is datetime.date"),
        ("1: 2", "unknown key 1"),
        ("", "holds nothing, expected keys such as MODEL: and SOLVER:"),
        ("[1, 2]", "holds a list"),
        ("MODEL: {FBNET: [", "a.yaml: line 1, column 17: not valid YAML"),
        ("SOLVER:\n\tMAX_ITER: 3", "line 2, column 1: not valid YAML"),
        ("\0", "not valid YAML"),
        ("SEED: !!python/object/apply:os.getpid []", "column 7: not valid YAML: could not determine a constructor"),
        ("_BASE_: nowhere.yaml", "a.yaml: _BASE_: .*nowhere.yaml: cannot be read"),
        ("_BASE_: a.yaml", "is based on itself"),
    ],
)
def test_mistakes_in_a_file_are_named_with_the_file(write, text, message):
    with pytest.raises(ConfigError, match=message) as error:
        load_config(write(text))
    assert "a.yaml" in str(error.value) and "\n" not in str(error.value)


def test_a_mistake_in_a_base_is_named_with_the_base(write):
    write("SOLVER: {MAX_ITR: 10}\n", "base.yaml")
    with pytest.raises(ConfigError, match="base.yaml: unknown key SOLVER.MAX_ITR"):
        load_config(write("_BASE_: [base.yaml]\nSEED: 3\n"))


def test_unsafe_yaml_runs_nothing(write, tmp_path):
    with pytest.raises(ConfigError):
        load_config(write(f"SEED: !!python/object/apply:os.mkdir [{tmp_path / 'proof'}]"))
    assert not (tmp_path / "proof").exists()


@pytest.mark.parametrize("version", ["VERSION: 1\n", ""])
def test_configs_of_detectron2s_first_version_are_still_converted(write, version):
    cfg = load_config(write(version + "MODEL: {WEIGHT: x.pkl}\n"))
    assert cfg.MODEL.WEIGHTS == "x.pkl" and cfg.MODEL.FBNET.ARCH == "fbnet_v3_a"


@pytest.mark.parametrize(
    "opts, message",
    [
        (["SOLVER.MAX_ITR", "3"], "command line: unknown key SOLVER.MAX_ITR; did you mean SOLVER.MAX_ITER"),
        (["MAX_ITER", "3"], "unknown key MAX_ITER; did you mean SOLVER.MAX_ITER"),
        (["SOLVER.MAX_ITER.X", "3"], "unknown key SOLVER.MAX_ITER.X"),
        (["SOLVER.MAX_ITER", "3.5"], "command line: SOLVER.MAX_ITER is '3.5', expected a value of type int"),
        (["SOLVER", "3"], "SOLVER is not a value but a group of keys"),
        (["SOLVER.MAX_ITER"], "'SOLVER.MAX_ITER' has no value"),
        (["SOLVER.MAX_ITER=3"], "expected KEY VALUE with a space"),
        (["SEED", "1", "--resume"], "--resume must stand before the first KEY VALUE pair"),
    ],
)
def test_mistakes_on_the_command_line_are_named(opts, message):
    with pytest.raises(ConfigError, match=message):
        load_config("", opts)


def test_whole_numbers_do_for_fractions():
    cfg = load_config(opts=["LATENCY.TARGET_US", "25000", "SOLVER.BASE_LR", 1, "LATENCY.BETA", "-2"])
    assert (cfg.LATENCY.TARGET_US, cfg.SOLVER.BASE_LR, cfg.LATENCY.BETA) == (25000.0, 1.0, -2.0)
    assert isinstance(cfg.LATENCY.TARGET_US, float)
