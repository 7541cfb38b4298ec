"""Every shipped config: its header, its keys, and two iterations of it on a few small images."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.modeling import build_model
from detectron2.structures import BoxMode
from PIL import Image

from fbnet_plugin.arch import SearchSpace, get_arch
from fbnet_plugin.checkpoint.mapping import convert_state_dict
from fbnet_plugin.engine import load_config, trainer_class
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.modeling import inner_name, space_from_config
from fbnet_plugin.modeling.analysis import analyze, default_image_size
from fbnet_plugin.nars.run import SearchRun
from fbnet_plugin.nars.store import Store

ROOT = Path(__file__).resolve().parents[1]
EVERY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
BASES = [name for name in EVERY if Path(name).name.startswith("Base-")]
CONFIGS = [name for name in EVERY if name not in BASES]
CLASSES = ["zero", "one", "two"]
IMAGENET, CIFAR10 = 1_281_167, 50_000

each_config = pytest.mark.parametrize("name", CONFIGS)


def header(name: str) -> str:
    """The comment that a config begins with, without its number signs."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    end = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    return "\n".join(line[1:].strip() for line in lines[:end])


def test_there_are_configs_for_each_task():
    folders = {Path(name).parts[1] for name in CONFIGS}
    assert {"ImageNet-Classification", "COCO-Detection", "COCO-InstanceSegmentation"} <= folders


@each_config
def test_header(name):
    """What it gives, how long it takes, and the command, which names the file itself."""
    text = header(name)
    for word in ("Gives", "Takes", "Run"):
        assert re.search(rf"^{word}: \S", text, re.MULTILINE), f"{name} does not say '{word}: ...'"
    command = re.search(r"^Run: (?:python )?(.*)$", text, re.MULTILINE).group(1).split()
    assert (ROOT / command[0]).is_file()
    at = command.index("--config-file")
    assert command[at + 1] == name and command[1:at] in ([], ["search"])


@each_config
def test_keys_are_known(name):
    load_config(str(ROOT / name))  # raises where one is not


def test_runs_of_two_configs_do_not_meet_in_one_folder():
    folders = [load_config(str(ROOT / name)).OUTPUT_DIR for name in CONFIGS]
    assert len(set(folders)) == len(CONFIGS)


@pytest.mark.parametrize("name", BASES)
def test_bases_say_that_they_are_bases(name):
    assert "Not to be run by itself" in header(name)
    load_config(str(ROOT / name))


@pytest.mark.parametrize("name", [name for name in CONFIGS if "This config has" in header(name)])
def test_counts_in_the_header(name):
    """Parameters and MACs that a header states are those of the model."""
    text = " ".join(header(name).split())
    stated = re.search(r"This config has ([\d,]+) parameters", text)
    cfg = load_config(str(ROOT / name))
    size = re.search(r"at (\d+)x(\d+)", text)
    proposals = re.search(r"with (\d+) proposals", text)
    size = tuple(map(int, size.groups())) if size else default_image_size(cfg)
    total = analyze(cfg, size, int(proposals.group(1)) if proposals else None).total
    assert f"{total.params:,}" == stated.group(1)
    if "ImageClassifier" == cfg.MODEL.META_ARCHITECTURE:
        assert f"{total.macs:,} MACs at {size[0]} px" in text
    else:
        assert f"{total.macs / 1e9:.3f}G MACs" in text


class TestSchedules:
    """Iterations are epochs times images over the batch."""

    @pytest.mark.parametrize("name", [name for name in CONFIGS if "ImageNet" in name or "CIFAR10" in name])
    def test_classification(self, name):
        cfg = load_config(str(ROOT / name))
        epochs = int(re.search(r"_(\d+)e\.yaml$", name).group(1))
        per_epoch = (IMAGENET if "ImageNet" in name else CIFAR10) / cfg.SOLVER.IMS_PER_BATCH
        assert cfg.SOLVER.MAX_ITER == round(epochs * per_epoch)
        assert abs(cfg.TEST.EVAL_PERIOD - 10 * per_epoch) < 1
        if cfg.SOLVER.LR_SCHEDULER_NAME == "WarmupMultiStepLR":
            assert cfg.SOLVER.STEPS == tuple(round(epoch * per_epoch) for epoch in (90, 180, 270))
        else:
            assert abs(cfg.SOLVER.WARMUP_ITERS - 5 * per_epoch) < 1

    @pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("_3x.yaml")])
    def test_three_times(self, name):
        """3x is 270,000 iterations of 16 images."""
        cfg = load_config(str(ROOT / name))
        assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 270_000 * 16


@pytest.mark.parametrize("name", [name for name in CONFIGS if "ImageNet" in name])
def test_imagenet_configs_are_of_the_published_network(name):
    cfg = load_config(str(ROOT / name))
    arch = get_arch(cfg.MODEL.FBNET.ARCH)
    assert Path(name).name.startswith(f"{arch.name}_")
    assert cfg.MODEL.FBNET.PADDING == "published" and cfg.MODEL.CLASSIFIER.NUM_CLASSES == arch.head.num_classes
    assert cfg.INPUT.CLASSIFICATION.TEST_SIZE == 0  # the architecture's own


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_imagenet_" in name])
def test_a_classifier_s_weights_fit_where_the_header_says_so(name):
    """What the classifier's file does not give is what detectors alone have."""
    narrow = ["MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", "0.25"]
    classifier, detector = re.search(r"configs/ImageNet-Classification/\S+\.yaml", header(name)).group(), name
    source, target = (build_model(load_config(str(ROOT / one), narrow)) for one in (classifier, detector))
    renamed, _ = convert_state_dict(target, source.state_dict())
    missing, _ = target.load_state_dict(renamed, strict=False)
    new = ("proposal_generator.", "roi_heads.box_predictor.", "backbone.fpn_", "backbone.top_block.", "head.")
    own_box_head = () if "_C4_" in name else ("roi_heads.box_head.",)  # its input is the pyramid
    assert [key for key in missing if not key.startswith(new + own_box_head)] == []


# ---------------------------------------------------------------------------------------------
# Two iterations
# ---------------------------------------------------------------------------------------------


def photos(folder: Path) -> list[dict]:
    """Four images of 64x96 px with boxes, masks, keypoints and segments."""
    rng = np.random.default_rng(0)
    dicts = []
    for number in range(4):
        image, segments = folder / f"{number}.png", folder / f"{number}_segments.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)).save(image)
        Image.fromarray(rng.integers(0, 54, (64, 96)).astype(np.uint8)).save(segments)
        objects = []
        for label in range(2):
            x, y = (float(value) for value in rng.integers(0, 30, 2))
            corners = [x, y, x + 24, y, x + 24, y + 24, x, y + 24]
            points = [float(value) for _ in range(17) for value in (x + 12, y + 12, 2)]
            box = {"bbox": [x, y, 24.0, 24.0], "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0}
            objects.append({**box, "category_id": label, "segmentation": [corners], "keypoints": points})
        sizes = {"height": 64, "width": 96, "image_id": number}
        dicts.append({"file_name": str(image), "sem_seg_file_name": str(segments), **sizes, "annotations": objects})
    return dicts


def labelled() -> list[dict]:
    """Four classified images of 40x48 px."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 40, 48, 3)).astype(np.uint8)
    return [{"file_name": "", "image_id": i, "label": i % 3, "image": image} for i, image in enumerate(images)]


@pytest.fixture(scope="module")
def datasets(tmp_path_factory):
    """Names of a tiny dataset per kind of model."""
    folder = tmp_path_factory.mktemp("photos")
    kinds = {"tiny_photos": (lambda: photos(folder), "coco"), "tiny_labels": (labelled, "image_classification")}
    for name, (load, kind) in kinds.items():
        DatasetCatalog.register(name, load)
        MetadataCatalog.get(name).set(evaluator_type=kind, thing_classes=CLASSES)
    yield {True: "tiny_labels", False: "tiny_photos"}
    for name in kinds:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


SHRINK = {
    "MODEL.DEVICE": "cpu",
    "MODEL.FBNET.WIDTH_MULT": 0.25,
    "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 100,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 10,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 8,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 96,
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 96,
    "INPUT.CLASSIFICATION.TRAIN_SIZE": 64,
    "INPUT.CLASSIFICATION.TEST_SIZE": 64,
    "DATASETS.TEST": (),
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.BASE_LR": 0.001,
    "SOLVER.STEPS": (),
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.MAX_ITER": 2,
    "SEED": 1,
}


SEARCH = {"DNAS.EPOCHS": 1, "DNAS.THETA_START": 0, "DNAS.CLASSES": 0, "SOLVER.IMS_PER_BATCH": 1}


def shrunk(name: str, datasets: dict, output: Path) -> CfgNode:
    cfg = load_config(str(ROOT / name))
    search = cfg.TRAINER == "DNASTrainer"
    small = {**SHRINK, **(SEARCH if search else {})}
    cfg.merge_from_list([part for pair in small.items() for part in pair])
    cfg.DATASETS.TRAIN = (datasets[inner_name(cfg) == "ImageClassifier"],)
    cfg.OUTPUT_DIR = str(output)
    if search:
        cfg.LATENCY.TABLE = str(output / "table.json")
        save_table(any_table(space_from_config(cfg)), cfg.LATENCY.TABLE)
    cfg.freeze()
    return cfg


def any_table(space: SearchSpace) -> LatencyTable:
    """A latency table with all of a space's operators."""
    entries = {operator: Entry(10.0 + number) for number, operator in enumerate(layerwise(space).operators())}
    return LatencyTable(Setting("cpu", "a processor", "eager"), entries)


SEARCHES = [name for name in CONFIGS if load_config(str(ROOT / name)).TRAINER == "NARSTrainer"]


@pytest.mark.parametrize("name", SEARCHES)
def test_a_nars_config_trains_a_candidate(name, datasets, tmp_path):
    """The search's own checks pass, and the first point of its space trains for an epoch."""
    small = {**SHRINK, "NARS.CLASSES": 0, "NARS.VALIDATION_IMAGES": 1, "NARS.EVALUATION.EXECUTOR": "InProcessExecutor"}
    small["MODEL.CLASSIFIER.NUM_CLASSES"] = len(CLASSES)
    sizes = {"INPUT.CLASSIFICATION.TRAIN_SIZE": 0, "INPUT.CLASSIFICATION.TEST_SIZE": 0}
    cfg = load_config(str(ROOT / name))
    assert cfg.NARS.WINNERS.TRAIN and cfg.DATASETS.TEST
    cfg.merge_from_list([part for pair in {**small, **sizes}.items() for part in pair])
    cfg.DATASETS.TRAIN, cfg.OUTPUT_DIR = (datasets[True],), str(tmp_path)
    assert all("DATASETS.TEST is empty" in note for note in trainer_class(cfg).check(cfg))
    cfg.merge_from_list(["INPUT.CLASSIFICATION.TRAIN_SIZE", 64, "INPUT.CLASSIFICATION.TEST_SIZE", 64])
    with Store(tmp_path / "nars.sqlite") as store, SearchRun(cfg, store, 1) as run:
        points = np.zeros((1, len(run.space.variables)), np.int64)
        ids = run.add(run.pairs(points, ["first"]), "search", 1, epochs=1)
        run.evaluate(ids)
        (one,) = store.candidates()
        assert one.state == "done" and len(one.curve) == 1, one.reason


@pytest.mark.parametrize("name", [name for name in CONFIGS if name not in SEARCHES])
def test_trains_two_iterations_and_predicts(name, datasets, tmp_path):
    cfg = shrunk(name, datasets, tmp_path)
    trainer = trainer_class(cfg)(cfg)
    trainer_class(cfg).check(cfg)
    before = {key: parameter.detach().clone() for key, parameter in trainer.model.named_parameters()}
    trainer.train()  # raises where a loss is not finite
    iterations = 4 if cfg.TRAINER == "DNASTrainer" else 2  # three images for the weights, one for theta
    assert trainer.iter == iterations and (tmp_path / "model_final.pth").is_file()
    moved = {key for key, parameter in trainer.model.named_parameters() if not torch.equal(parameter, before[key])}
    of_backbone = {key for key in moved if key.startswith(("backbone.", "inner.backbone."))}
    assert of_backbone and moved - of_backbone - {"theta"}
    assert ("theta" in moved) == (cfg.TRAINER == "DNASTrainer")
    with torch.no_grad():
        (output,) = trainer.model.eval()([{"image": torch.randint(0, 256, (3, 64, 96)), "height": 64, "width": 96}])
    if inner_name(cfg) == "ImageClassifier":
        assert output["scores"].shape == (cfg.MODEL.CLASSIFIER.NUM_CLASSES,)
    else:
        assert output["instances"].pred_boxes.tensor.isfinite().all()
