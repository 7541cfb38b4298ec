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
from fbnet_plugin.engine.lr_schedule import build_lr_scheduler, epoch_length, in_iterations
from fbnet_plugin.latency import Entry, LatencyTable, Setting, save_table
from fbnet_plugin.latency.layerwise import layerwise
from fbnet_plugin.modeling import inner_name, space_from_config
from fbnet_plugin.modeling.analysis import analyze, default_image_size
from fbnet_plugin.nars.run import SearchRun
from fbnet_plugin.nars.store import Store
from fbnet_plugin.recipe import apply_recipe, recipe_from_config, recipe_marks

ROOT = Path(__file__).resolve().parents[1]
EVERY = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))
RECIPES = [name for name in EVERY if Path(name).parts[1] == "Recipes"]
BASES = [name for name in EVERY if Path(name).name.startswith("Base-") or name in RECIPES]
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


def multipliers(name: str, size: int, epochs: list[float]) -> list[float]:
    """What a config multiplies its learning rate by at some epochs."""
    cfg = in_iterations(load_config(str(ROOT / name)), size)
    scheduler = build_lr_scheduler(cfg, torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0))
    length = epoch_length(cfg, size)
    assert cfg.SOLVER.MAX_ITER == length * cfg.SOLVER.EPOCHS
    return [scheduler._multiplier(round(epoch * length) / cfg.SOLVER.MAX_ITER) for epoch in epochs]


class TestSchedules:
    """Lengths in epochs, and the learning rates that come of them."""

    @pytest.mark.parametrize("name", [name for name in CONFIGS if "ImageNet" in name or "CIFAR10" in name])
    def test_classification(self, name):
        cfg = load_config(str(ROOT / name))
        size = IMAGENET if "ImageNet" in name else CIFAR10
        done, length = in_iterations(cfg, size), size // cfg.SOLVER.IMS_PER_BATCH
        assert cfg.SOLVER.EPOCHS == int(re.search(r"_(\d+)e\.yaml$", name).group(1))
        assert done.SOLVER.MAX_ITER == cfg.SOLVER.EPOCHS * length
        assert done.TEST.EVAL_PERIOD == done.SOLVER.CHECKPOINT_PERIOD == 10 * length
        # Detectron2's own 1000 iterations of warm-up are nobody's here.
        assert done.SOLVER.WARMUP_ITERS == (5 * length if cfg.SOLVER.WARMUP_EPOCHS else 0)

    def test_fbnet(self):
        """Appendix A: 0.1, divided by 10 after 90, 180 and 270 epochs, from the first iteration on."""
        name = "configs/ImageNet-Classification/fbnet_c_360e.yaml"
        found = multipliers(name, IMAGENET, [0, 89.9, 90, 179.9, 180, 269.9, 270, 359.9])
        assert found == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])

    @pytest.mark.parametrize("letter", "abcdefg")
    def test_fbnet_v3(self, letter):
        """Section 4.2: times 0.9875 per epoch after 5 of warm-up; from a sixteenth of it, arXiv:2006.03677."""
        found = multipliers(
            f"configs/ImageNet-Classification/fbnet_v3_{letter}_400e.yaml", IMAGENET, [0, 2.5, 5, 5.9, 6, 205, 399.5]
        )
        expected = [0.0625, (1 + 0.0625) / 2, 1, 1, 0.9875, 0.9875**200, 0.9875**394]
        assert found == pytest.approx(expected, rel=1e-3)

    def test_nars(self):
        """Section 4.1: times 0.963 per epoch."""
        found = multipliers("configs/nars/fbnet_v3_imagenet200.yaml", 250_000, [5, 6, 105, 149])
        assert found == pytest.approx([1, 0.963, 0.963**100, 0.963**144])

    def test_the_plain_recipe(self):
        name = "configs/ImageNet-Classification/resnet50_plain_90e.yaml"
        theirs = torch.optim.lr_scheduler.StepLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 1.0), 30)
        for epoch in range(90):
            assert multipliers(name, IMAGENET, [epoch]) == pytest.approx(theirs.get_last_lr())
            theirs.optimizer.step()
            theirs.step()

    @pytest.mark.parametrize("name", [name for name in CONFIGS if name.endswith("_3x.yaml")])
    def test_three_times(self, name):
        """3x is 270,000 iterations of 16 images."""
        cfg = load_config(str(ROOT / name))
        assert cfg.SOLVER.MAX_ITER * cfg.SOLVER.IMS_PER_BATCH == 270_000 * 16


@pytest.mark.parametrize("name", [name for name in CONFIGS if "ImageNet" in name])
def test_imagenet_configs_are_of_the_published_network(name):
    cfg = load_config(str(ROOT / name))
    assert cfg.MODEL.CLASSIFIER.NUM_CLASSES == 1000
    if cfg.MODEL.BACKBONE.NAME == "build_torchvision_backbone":
        assert Path(name).name.startswith(f"{cfg.MODEL.TORCHVISION.NAME}_")
        return
    arch = get_arch(cfg.MODEL.FBNET.ARCH)
    assert Path(name).name.startswith(f"{arch.name}_")
    assert cfg.MODEL.FBNET.PADDING == "published" and arch.head.num_classes == 1000
    assert cfg.INPUT.CLASSIFICATION.TEST_SIZE == 0  # the architecture's own


@pytest.mark.parametrize("letter", "abcdefg")
def test_cifar10_configs_are_of_the_form_for_small_images(letter):
    """FBNetV3 section 4.3: at the resolution of the form, without distillation, EMA with 0.999."""
    cfg = load_config(str(ROOT / f"configs/CIFAR10-Classification/fbnet_v3_{letter}_32px_200e.yaml"))
    assert cfg.MODEL.FBNET.ARCH == f"fbnet_v3_{letter}_32px" and cfg.MODEL.FBNET.NORM == "BN"
    assert not (cfg.INPUT.CLASSIFICATION.TRAIN_SIZE or cfg.INPUT.CLASSIFICATION.TEST_SIZE)
    assert get_arch(cfg.MODEL.FBNET.ARCH).head.num_classes == cfg.MODEL.CLASSIFIER.NUM_CLASSES == 10
    assert not cfg.MODEL.DISTILLATION.ENABLED and cfg.MODEL_EMA.ENABLED and cfg.MODEL_EMA.DECAY == 0.999


@pytest.mark.parametrize("name", [name for name in CONFIGS if "_distill_" in name])
def test_distillation_is_the_only_difference(name):
    """Section 4.2: the second step has the recipe of the first, 0.8 of the teacher's term and 0.2 of the labels'."""
    plain, distilled = (load_config(str(ROOT / one)) for one in (name.replace("_distill_", "_"), name))
    keys = distilled.MODEL.DISTILLATION
    assert keys.ENABLED and (keys.SOFT_WEIGHT, keys.HARD_WEIGHT) == (0.8, 0.2)
    teacher = load_config(keys.TEACHER_CONFIG)
    assert teacher.MODEL.FBNET.ARCH == "fbnet_v3_g" and not teacher.MODEL.DISTILLATION.ENABLED
    assert Path(keys.TEACHER_WEIGHTS).parent == Path(teacher.OUTPUT_DIR)
    distilled.MODEL.DISTILLATION, distilled.OUTPUT_DIR = plain.MODEL.DISTILLATION, plain.OUTPUT_DIR
    assert distilled.dump() == plain.dump()


@pytest.mark.parametrize("letter, expected", [*((one, 0.1) for one in "abcde"), ("f", 0.2), ("g", 0.2)])
def test_stochastic_depth_of_f_and_g(letter, expected):
    """Section 4.2: 0.2 for FBNetV3-F and G."""
    names = [f"configs/ImageNet-Classification/fbnet_v3_{letter}_{kind}400e.yaml" for kind in ("", "distill_")]
    for name in names:
        assert name not in CONFIGS or load_config(str(ROOT / name)).MODEL.FBNET.DROP_PATH == expected


@pytest.mark.parametrize("name", RECIPES)
def test_every_value_of_a_recipe_is_marked(name):
    """As published or as a default; ``recipe_marks`` raises where one is not."""
    marks = recipe_marks(ROOT / name)
    cfg = load_config(str(ROOT / name))
    assert len(marks) >= 5 and {mark.published for mark in marks.values()} <= {True, False}
    recipe_from_config(cfg)  # raises where a value is none of a recipe


@pytest.mark.parametrize("name", CONFIGS)
def test_every_config_s_recipe_comes_back(name):
    cfg = load_config(str(ROOT / name))
    before = cfg.dump()
    apply_recipe(cfg, recipe_from_config(cfg))
    assert cfg.dump() == before


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


# Of configs that count in epochs: one, which is two iterations of four images.
EPOCH = {
    "SOLVER.EPOCHS": 1,
    "SOLVER.WARMUP_EPOCHS": 0.0,
    "SOLVER.STEP_EPOCHS": (),
    "SOLVER.CHECKPOINT_EPOCHS": 0,
    "TEST.EVAL_EPOCHS": 0,
}


def shrunk(name: str, datasets: dict, output: Path) -> CfgNode:
    cfg = load_config(str(ROOT / name))
    search = cfg.TRAINER == "DNASTrainer"
    small = {**SHRINK, **(SEARCH if search else {}), **(EPOCH if cfg.SOLVER.EPOCHS else {})}
    cfg.merge_from_list([part for pair in small.items() for part in pair])
    cfg.DATASETS.TRAIN = (datasets[inner_name(cfg) == "ImageClassifier"],)
    cfg.OUTPUT_DIR = str(output)
    if cfg.MODEL.WEIGHTS.startswith("timm://"):  # would be downloaded
        cfg.MODEL.WEIGHTS = ""
    if cfg.MODEL.DISTILLATION.ENABLED:
        cfg.MODEL.DISTILLATION.TEACHER_OPTS = ["MODEL.FBNET.WIDTH_MULT", 0.25, "MODEL.FBNET.NORM", "BN"]
        cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS = str(output / "teacher.pth")
        narrow = [*cfg.MODEL.DISTILLATION.TEACHER_OPTS, "MODEL.DEVICE", "cpu"]
        teacher = build_model(load_config(cfg.MODEL.DISTILLATION.TEACHER_CONFIG, narrow))
        torch.save({"model": teacher.state_dict()}, cfg.MODEL.DISTILLATION.TEACHER_WEIGHTS)
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
