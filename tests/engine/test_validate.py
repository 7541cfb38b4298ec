from __future__ import annotations

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from tiny_task import tiny_cfg

from fbnet_plugin.arch import ArchError
from fbnet_plugin.data import DatasetError
from fbnet_plugin.engine import ConfigError, validate


def check(tmp_path, *opts, **kwargs):
    return validate(tiny_cfg(tmp_path / "out", *opts), **kwargs)


def test_a_good_config_passes_and_writes_nothing(tmp_path):
    assert check(tmp_path) == []
    assert check(tmp_path, eval_only=True, resume=True, world_size=3) == []
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "opts, message",
    [
        (["DATASETS.TRAIN", ("tiny_trian",)], "TRAIN is 'tiny_trian'; did you mean tiny_train.*known: .*digits_"),
        (["DATASETS.TEST", ("nothing",)], "DATASETS.TEST is 'nothing'.*known: "),
        (["DATASETS.TRAIN", ()], "DATASETS.TRAIN is empty"),
        (["MODEL.META_ARCHITECTURE", "TinyClasifier"], "is 'TinyClasifier'; did you mean TinyClassifier"),
        (["MODEL.BACKBONE.NAME", "build_fbnet"], "BACKBONE.NAME is 'build_fbnet'.*known: .*build_fbnet_backbone"),
        (["MODEL.META_ARCHITECTURE", "GeneralizedRCNN"], "RCNN, but tiny_test, tiny_train are for image class"),
        (["MODEL.WEIGHTS", "nowhere.pth"], "MODEL.WEIGHTS is 'nowhere.pth': no such file"),
        (["SOLVER.IMS_PER_BATCH", 0], "SOLVER.IMS_PER_BATCH is 0"),
    ],
)
def test_mistakes_are_named_with_what_is_accepted(tmp_path, opts, message):
    with pytest.raises(ConfigError, match=message):
        check(tmp_path, *opts)


def test_unknown_architectures_are_named(tmp_path):
    backbone = ["MODEL.BACKBONE.NAME", "build_fbnet_backbone"]
    with pytest.raises(ArchError, match="unknown architecture 'fbnet_v3_z': did you mean"):
        check(tmp_path, *backbone, "MODEL.FBNET.ARCH", "fbnet_v3_z")
    check(tmp_path, *backbone, "MODEL.FBNET.ARCH", "fbnet_v3_a")
    check(tmp_path, "MODEL.FBNET.ARCH", "unused")  # by another backbone


def test_batch_size_must_suit_the_processes(tmp_path):
    with pytest.raises(ConfigError, match="IMS_PER_BATCH is 4, expected a multiple of the 3 processes"):
        check(tmp_path, world_size=3)


def test_missing_files_of_a_dataset_are_named(tmp_path, monkeypatch):
    with pytest.raises(DatasetError, match="imagenet_train.*no such folder.*DETECTRON2_DATASETS"):
        check(tmp_path, "DATASETS.TRAIN", ("imagenet_train",))
    detection = ["MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "DATASETS.TEST", ()]
    with pytest.raises(ConfigError, match="dataset 'coco_2017_val'.*instances_val2017.json.*DETECTRON2_DATASETS is"):
        check(tmp_path, *detection, "DATASETS.TRAIN", ("coco_2017_val",))
    with pytest.raises(ConfigError, match="dataset 'voc_2007_val'.*VOC2007"):
        check(tmp_path, *detection, "DATASETS.TRAIN", ("voc_2007_val",))


def test_a_dataset_that_makes_its_files_at_first_use_is_let_to(tmp_path):
    name, folder = "tiny_made", tmp_path / "made"
    DatasetCatalog.register(name, lambda: folder.mkdir() or [])
    MetadataCatalog.get(name).set(evaluator_type="image_classification", image_root=str(folder))
    try:
        check(tmp_path, "DATASETS.TRAIN", (name,))
        assert folder.is_dir()
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_fewer_outputs_than_classes_are_an_error_and_more_a_warning(tmp_path):
    model = ["MODEL.META_ARCHITECTURE", "ImageClassifier", "MODEL.CLASSIFIER.NUM_CLASSES"]
    with pytest.raises(ConfigError, match="MODEL.CLASSIFIER.NUM_CLASSES is 2, but dataset 'tiny_test' has 3 classes"):
        check(tmp_path, *model, 2)
    assert check(tmp_path, *model, 3) == []
    notes = check(tmp_path, *model, 1000)
    assert "MODEL.CLASSIFIER.NUM_CLASSES is 1000, dataset 'tiny_train' has 3 classes" in notes


def test_weights_are_not_needed_to_continue_a_run(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "model_0000001.pth").write_bytes(b"")
    check(tmp_path, "MODEL.WEIGHTS", "gone.pth", resume=True)
    with pytest.raises(ConfigError, match="gone.pth"):
        check(tmp_path, "MODEL.WEIGHTS", "gone.pth")


def test_output_must_be_a_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ConfigError, match="OUTPUT_DIR is .*out', which is not a folder"):
        check(tmp_path)
