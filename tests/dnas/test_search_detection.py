"""A backbone searched on detection itself: GeneralizedRCNN inside the supernet."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from detectron2.utils.env import seed_all_rng
from PIL import Image
from tiny_search import table_of

from fbnet_plugin.arch import load_arch, load_space, save_arch
from fbnet_plugin.dnas import DNASTrainer
from fbnet_plugin.engine import FBNetTrainer, load_config
from fbnet_plugin.layers import MixedBlock

CONFIG = Path(__file__).resolve().parents[2] / "configs" / "Digits" / "dnas_faster_rcnn_C4_digits.yaml"


def squares(folder: Path) -> list[dict]:
    """16 images of 64 px with a bright square each."""
    rng, dicts = np.random.default_rng(0), []
    for number in range(16):
        pixels = rng.integers(0, 80, (64, 64, 3)).astype(np.uint8)
        x, y = (int(value) for value in rng.integers(0, 40, 2))
        pixels[y : y + 24, x : x + 24] = 220
        path = folder / f"{number}.png"
        Image.fromarray(pixels).save(path)
        box = {"bbox": [x, y, x + 24, y + 24], "bbox_mode": BoxMode.XYXY_ABS, "category_id": number % 2}
        dicts.append({"file_name": str(path), "height": 64, "width": 64, "image_id": number, "annotations": [box]})
    return dicts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("detection")
    DatasetCatalog.register("squares", lambda: squares(path))
    MetadataCatalog.get("squares").set(evaluator_type="coco", thing_classes=["a", "b"])
    table_of(load_space("fbnet_digits_det"), path / "table.json")
    yield path
    DatasetCatalog.remove("squares")
    MetadataCatalog.remove("squares")


def config(folder: Path, output: str, *opts):
    shrink = ["MODEL.DEVICE", "cpu", "DATASETS.TRAIN", ("squares",), "DATASETS.TEST", (), "SOLVER.IMS_PER_BATCH", 2]
    shrink += ["INPUT.MIN_SIZE_TRAIN", (64,), "INPUT.MIN_SIZE_TEST", 64, "MODEL.ROI_HEADS.NUM_CLASSES", 2]
    shrink += ["LATENCY.TABLE", str(folder / "table.json"), "OUTPUT_DIR", str(folder / output), "SOLVER.BASE_LR", 0.01]
    cfg = load_config(str(CONFIG), [*shrink, *opts])
    cfg.freeze()
    return cfg


def derived_config(folder: Path, output: str, arch: str, *opts):
    alone = ["TRAINER", "FBNetTrainer", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.FBNET.ARCH", arch]
    return config(folder, output, *alone, *opts)


def test_a_search_completes_and_its_result_trains(folder):
    cfg = config(folder, "search", "DNAS.EPOCHS", 2, "DNAS.THETA_START", 1)
    seed_all_rng(1)
    trainer = DNASTrainer(cfg)
    box_head = trainer.model.inner.roi_heads.box_head
    assert {m.variable for m in box_head.modules() if isinstance(m, MixedBlock)} == {"layer7", "layer8"}
    trainer.train()
    theta, valid = trainer.model.theta.detach(), trainer.model.valid
    assert (theta[valid] != 0).all()  # every layer's theta was trained, the box head's too
    arch = folder / "search" / "search" / "arch.yaml"
    cfg = derived_config(folder, "derived", str(arch), "SOLVER.MAX_ITER", 3)
    FBNetTrainer(cfg).train()
    assert load_arch(str(arch)).strides()[-2:] == [16, 32]


def test_derived_detector_equals_the_supernet(folder):
    """Backbone, RPN head and box head: the same boxes and scores, to the last bit."""
    point = [3, 7, 1, 6, 2, 4, 5, 8]
    torch.manual_seed(0)
    net = build_model(config(folder, "equal"))
    path = folder / "point.yaml"
    save_arch(net.space.arch(point), path)
    model = build_model(derived_config(folder, "equal", str(path)))
    model.load_state_dict(net.derived_state_dict(point), strict=True)
    model.to(memory_format=torch.channels_last)
    with torch.no_grad():
        net.theta[range(8), point] = 1e4
        image = {"image": torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8), "height": 64, "width": 64}
        (found,), (expected,) = net.eval()([image]), model.eval()([image])
    found, expected = found["instances"], expected["instances"]
    assert len(found) == len(expected) > 0
    assert torch.equal(found.pred_boxes.tensor, expected.pred_boxes.tensor)
    assert torch.equal(found.scores, expected.scores)
