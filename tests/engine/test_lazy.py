"""LazyConfigs through the engine: they train as the YAML configs do, resume, evaluate, and say what is wrong."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import BoxMode
from PIL import Image
from tiny_task import CLASSES

from fbnet_plugin.engine import ConfigError, FBNetTrainer, argument_parser, load_config
from fbnet_plugin.engine.lazy import LazyTrainer, evaluate, train
from fbnet_plugin.engine.lazy_config import load_lazy_config, prepare_lazy, run_config

CLASSIFIER = "ImageNet-Classification/fbnet_v3_a_400e"
C4, FPN = "COCO-Detection/faster_rcnn_fbnet_v3_a_C4_3x", "COCO-Detection/faster_rcnn_fbnet_v3_a_FPN_3x"
TOOL = Path(__file__).resolve().parents[2] / "tools" / "lazyconfig_train_net.py"

# The same small run, in both kinds of config.
COMMON = {
    "MODEL.DEVICE": "cpu", "MODEL.FBNET.WIDTH_MULT": 0.25, "SEED": 1, "SOLVER.IMS_PER_BATCH": 4,
    "DATALOADER.NUM_WORKERS": 0,
}  # fmt: skip
LAZY_COMMON = [
    "train.device=cpu", "train.seed=1", "dataloader.train.total_batch_size=4", "dataloader.train.num_workers=0",
    "dataloader.test.num_workers=0",
]  # fmt: skip
SMALL = {
    CLASSIFIER: (
        {
            "DATASETS.TRAIN": ("tiny_train",), "DATASETS.TEST": ("tiny_test",), "SOLVER.EPOCHS": 1,
            "SOLVER.WARMUP_EPOCHS": 0.0, "SOLVER.WARMUP_ITERS": 0, "SOLVER.ACCUMULATION_STEPS": 2,
            "INPUT.CLASSIFICATION.TRAIN_SIZE": 32, "INPUT.CLASSIFICATION.TEST_SIZE": 32,
            "INPUT.CLASSIFICATION.TEST_RESIZE": 32, "MODEL.CLASSIFIER.NUM_CLASSES": 3,
            "MODEL.FBNET.ARCH": "fbnet_v3_a_dsmask_tiny_det",
        },
        [
            "dataloader.train.dataset.names=[tiny_train]", "dataloader.test.dataset.names=tiny_test", "train.epochs=1",
            "lr_multiplier.warmup=0", "dataloader.train.mapper.transform.size=32", "model.head.num_classes=3",
            "dataloader.test.mapper.transform.size=32", "dataloader.test.mapper.transform.resize=32",
            "model.backbone.arch.name=fbnet_v3_a_dsmask_tiny_det", "model.backbone.arch.width_mult=0.25",
            "train.accumulation_steps=2",
        ],
    ),
    C4: (
        {
            "DATASETS.TRAIN": ("tiny_boxes",), "DATASETS.TEST": (), "INPUT.MIN_SIZE_TRAIN": (64,),
            "SOLVER.MAX_ITER": 2, "MODEL.RPN.PRE_NMS_TOPK_TRAIN": 100, "MODEL.RPN.POST_NMS_TOPK_TRAIN": 30,
            "SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16",
        },
        [
            "dataloader.train.dataset.names=[tiny_boxes]", "dataloader.test=null", "train.max_iter=2",
            "dataloader.train.mapper.augmentations.0.short_edge_length=[64]", "train.amp.enabled=true",
            "train.amp.dtype=bfloat16", "model.proposal_generator.pre_nms_topk=[100,1000]",
            "model.proposal_generator.post_nms_topk=[30,75]", "model.backbone.arch.width_mult=0.25",
        ],
    ),
}  # fmt: skip
SMALL[FPN] = (
    {**SMALL[C4][0], "SOLVER.AMP.ENABLED": False},
    [
        *(text for text in SMALL[C4][1] if not text.startswith(("train.amp", "model."))),
        "model.proposal_generator.pre_nms_topk=[100,1000]", "model.proposal_generator.post_nms_topk=[30,1000]",
        "model.backbone.bottom_up.arch.width_mult=0.25",
    ],
)  # fmt: skip


@pytest.fixture(autouse=True)
def tiny_boxes(tmp_path_factory):
    """Four images of 64x96 px with two boxes each; the fixtures of all tests forget it."""
    folder, rng, dicts = tmp_path_factory.getbasetemp(), np.random.default_rng(0), []
    for number in range(4):
        file = folder / f"boxes_{number}.png"
        Image.fromarray(rng.integers(0, 256, (64, 96, 3)).astype(np.uint8)).save(file)
        boxes = [[4.0 + number, 8.0, 24.0, 30.0], [40.0, 20.0 + number, 32.0, 24.0]]
        objects = [
            {"bbox": box, "bbox_mode": BoxMode.XYWH_ABS, "iscrowd": 0, "category_id": label}
            for label, box in enumerate(boxes)
        ]
        size = {"height": 64, "width": 96, "image_id": number}
        dicts.append({"file_name": str(file), **size, "annotations": objects})
    DatasetCatalog.register("tiny_boxes", lambda: dicts)
    MetadataCatalog.get("tiny_boxes").set(evaluator_type="coco", thing_classes=CLASSES)


def small_lazy(name: str, folder: Path, *overrides: str):
    return load_lazy_config(f"{name}.py", [*LAZY_COMMON, *SMALL[name][1], f"train.output_dir={folder}", *overrides])


def state_of(trainer: FBNetTrainer) -> dict[str, torch.Tensor]:
    """Weights and average, by name."""
    average = (
        {f"average of {key}": value for key, value in trainer.average.state_dict().items()} if trainer.average else {}
    )
    return {**trainer.checkpointer.model.state_dict(), **average}


@pytest.mark.parametrize("name", [CLASSIFIER, C4, FPN])
def test_trains_exactly_as_the_yaml_config_does(name, tmp_path):
    """From the same seed, bit for bit: weights, their average, learning rates, results."""
    opts = [
        part for pair in {**COMMON, **SMALL[name][0], "OUTPUT_DIR": str(tmp_path / "yaml")}.items() for part in pair
    ]
    cfg = load_config(f"{name}.yaml", opts)
    cfg.freeze()
    trainers = []
    for make in (lambda: FBNetTrainer(cfg), lambda: LazyTrainer(small_lazy(name, tmp_path / "lazy"))):
        torch.manual_seed(0)
        trainers.append(make())
        begin = {key: value.clone() for key, value in state_of(trainers[-1]).items()}
        trainers[-1].train()
    theirs, ours = trainers
    expected, found = state_of(theirs), state_of(ours)
    assert list(found) == list(expected) and all(torch.equal(found[key], expected[key]) for key in expected)
    assert any(
        not torch.equal(found[key], begin[key])
        for key in found
        if key.startswith("roi_heads." if "COCO" in name else "head.")
    )
    assert ours.iter == theirs.iter == (6 if name == CLASSIFIER else 2)
    assert [group["lr"] for group in ours.optimizer.param_groups] == [
        group["lr"] for group in theirs.optimizer.param_groups
    ]
    assert ours.results == theirs.results
    written = [json.loads((tmp_path / kind / "results.json").read_text()) for kind in ("yaml", "lazy")]
    for key in ("results", "iterations", "images", "seed"):
        assert written[0][key] == written[1][key]


def test_resumes_exactly_and_evaluates(tmp_path):
    """Stopped after half, a run ends as one that was not stopped; its file evaluates to what the run itself found."""
    torch.manual_seed(0)
    whole = train(small_lazy(CLASSIFIER, tmp_path / "whole"))
    halves = small_lazy(CLASSIFIER, tmp_path / "halves", "train.checkpointer.epochs=0", "train.checkpointer.period=3")
    torch.manual_seed(0)
    trainer = LazyTrainer(halves)
    trainer.max_iter = 3
    trainer.train()
    assert train(halves, resume=True) == whole
    weights = f"train.init_checkpoint={tmp_path / 'halves' / 'model_final.pth'}"
    again = evaluate(small_lazy(CLASSIFIER, tmp_path / "again", weights))
    assert again == whole and set(again) == {"classification", "classification_ema"}
    assert json.loads((tmp_path / "again" / "evaluation.json").read_text())["weights"].endswith("model_final.pth")


def test_the_config_itself_is_not_changed(tmp_path):
    cfg = small_lazy(C4, tmp_path)
    before = str(cfg)
    LazyTrainer(cfg)
    assert str(cfg) == before


def test_distils_from_the_teacher_that_train_names(tmp_path):
    name = "ImageNet-Classification/fbnet_v3_a_distill_400e"
    teacher_opts = [
        "MODEL.FBNET.ARCH",
        "fbnet_v3_a_dsmask_tiny_det",
        "MODEL.FBNET.WIDTH_MULT",
        0.25,
        "MODEL.FBNET.NORM",
        "BN",
        "MODEL.CLASSIFIER.NUM_CLASSES",
        3,
    ]
    teacher = FBNetTrainer.build_model(
        load_config("ImageNet-Classification/fbnet_a_360e.yaml", [*teacher_opts, "MODEL.DEVICE", "cpu"])
    )
    torch.save({"model": teacher.state_dict()}, tmp_path / "teacher.pth")
    cfg = load_lazy_config(
        f"{name}.py",
        [
            *LAZY_COMMON,
            *SMALL[CLASSIFIER][1],
            f"train.output_dir={tmp_path}",
            "train.teacher.config=ImageNet-Classification/fbnet_a_360e.yaml",
            f"train.teacher.opts={json.dumps(teacher_opts)}",
            f"train.teacher.weights={tmp_path / 'teacher.pth'}",
            "model.distillation.soft_weight=0.7",
            "dataloader.test=null",
        ],
    )
    trainer = LazyTrainer(cfg)
    assert trainer.checkpointer.model.distillation.soft_weight == 0.7
    trainer.train()
    assert "loss_distill" in trainer.storage.histories()


@pytest.mark.parametrize(
    "override, message",
    [
        ("train.max_iters=5", r"unknown key train.max_iters; did you mean max_iter\?"),
        ("model.backbone.arch.nam=fbnet_a", r"did you mean name\?"),
        ("model.backbne.drop_path=0.1", r"unknown key model.backbne.drop_path.*there is no model.backbne"),
        ("optimizer.lr", "expected key=value"),
        ("optimizer.lr=[0.1", "optimizer.lr="),
        ("optimizer.lr.x=1", "optimizer.lr.x"),
        ("+train.something=1", "train.something is unknown"),
        ("train.max_iter=many", "train.max_iter: .*'many', expected a value of type int"),
        ("train.accumulation_steps=3", "train.accumulation_steps is 3, expected"),
        ("train.ema.decay=1.5", "train.ema.decay is 1.5, expected at least 0 and below 1"),
        ("train.amp.dtype=float8", "train.amp.dtype is 'float8'; did you mean"),
        ("train.init_checkpoint=nowhere.pth", "train.init_checkpoint is 'nowhere.pth': no such file"),
        ("model.roi_heads.num_classes=2", "model.roi_heads.num_classes is 2, but dataset 'tiny_boxes' has 3 classes"),
        ("dataloader.train.dataset.names=[cocoa]", "dataloader.train.dataset.names is 'cocoa'"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(override, message, tmp_path):
    texts = [*LAZY_COMMON, *SMALL[C4][1], f"train.output_dir={tmp_path / 'run'}", override]
    args = argument_parser().parse_args(["--config-file", f"{C4}.py", *texts])
    with pytest.raises(ConfigError, match=message):
        prepare_lazy(args)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "override, message",
    [
        ("optimizer.momentum=-1", "optimizer: .*momentum"),
        ("lr_multiplier.length=0", "the length is 0"),
        ("dataloader.train.total_batch_size=0", "total_batch_size is 0"),
        ("+model.colour=red", "model: .*colour"),
    ],
)
def test_nodes_that_cannot_be_built_are_named(override, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        train(small_lazy(C4, tmp_path, override))


def test_a_loader_says_how_many_images_an_iteration_takes(tmp_path):
    cfg = small_lazy(C4, tmp_path)
    del cfg.dataloader.train["total_batch_size"]
    with pytest.raises(ConfigError, match="dataloader.train.total_batch_size is missing"):
        train(cfg)


def test_synchronized_norms_are_those_of_the_device():
    """PyTorch's for a GPU, Detectron2's naive form for CPUs."""
    for device, norm in (("cuda", "SyncBatchNorm"), ("cpu", "SyncBatchNormOnCPU")):
        cfg = load_lazy_config(f"{C4}.py", [f"train.device={device}", "model.backbone.arch.width_mult=0.25"])
        modules = list(instantiate(cfg.model).modules())
        kinds = {type(one).__name__ for one in modules if isinstance(one, torch.nn.modules.batchnorm._NormBase)}
        assert kinds == {norm}


def test_arguments_that_the_file_does_not_mention_can_be_given(tmp_path):
    assert small_lazy(C4, tmp_path, "model.vis_period=100").model.vis_period == 100


@pytest.mark.parametrize(
    "text, message",
    [
        ("model = (", "SyntaxError"),
        ("from .nowhere import model", "ImportError"),
        ("model = dict(a=1)", "has no dataloader, optimizer, lr_multiplier, train"),
    ],
)
def test_files_that_are_no_lazy_config(text, message, tmp_path):
    (tmp_path / "mine.py").write_text(text)
    with pytest.raises(ConfigError, match=f"mine.py: .*{message}"):
        load_lazy_config(str(tmp_path / "mine.py"))


def test_a_config_of_the_other_tool_is_recognized():
    with pytest.raises(ConfigError, match=r"a config of tools/train_net.py\?"):
        load_lazy_config(f"{C4}.yaml")


def test_a_user_s_own_model_is_trained_without_the_checks_of_known_ones(tmp_path):
    """Another class as ``model``, and a file outside the project that imports a shipped config."""
    cfg = small_lazy(CLASSIFIER, tmp_path)
    cfg.model = {"_target_": "test_lazy.Mine", "classes": 3}
    run = run_config(cfg)
    assert run.MODEL.META_ARCHITECTURE == "Mine"
    assert set(train(cfg)) == {"classification", "classification_ema"}


class Mine(torch.nn.Module):
    def __init__(self, classes: int):
        super().__init__()
        self.fc = torch.nn.Linear(3, classes)

    def forward(self, inputs):
        logits = self.fc(torch.stack([one["image"].float().mean((1, 2)) / 255 for one in inputs]))
        labels = torch.tensor([one["label"] for one in inputs])
        if self.training:
            return {"loss": torch.nn.functional.cross_entropy(logits, labels)}
        return [{"scores": scores} for scores in logits.softmax(1)]


class TestTool:
    @pytest.fixture
    def main(self, monkeypatch):
        monkeypatch.syspath_prepend(str(TOOL.parent))
        import lazyconfig_train_net

        yield lazyconfig_train_net.main
        sys.modules.pop("lazyconfig_train_net")

    def test_trains_then_evaluates_what_it_wrote(self, main, tmp_path, capfd):
        texts = [*LAZY_COMMON, *SMALL[CLASSIFIER][1], f"train.output_dir={tmp_path}"]
        main(["--config-file", f"{CLASSIFIER}.py", *texts])
        assert (tmp_path / "model_final.pth").is_file() and (tmp_path / "model_ema_final.pth").is_file()
        trained = json.loads((tmp_path / "results.json").read_text())["results"]
        # The file that the run wrote describes it, and is a config itself.
        weights = f"train.init_checkpoint={tmp_path / 'model_final.pth'}"
        main(["--config-file", str(tmp_path / "config.yaml"), "--eval-only", weights])
        assert json.loads((tmp_path / "evaluation.json").read_text())["results"] == trained

    def test_bad_input_is_one_message(self, main, capsys):
        with pytest.raises(SystemExit) as left:
            main(["--config-file", f"{C4}.py", "train.seeds=1"])
        assert left.value.code == 2
        assert capsys.readouterr().err.startswith("error: command line: unknown key train.seeds; did you mean seed?")

    def test_help(self, main, capsys):
        with pytest.raises(SystemExit) as left:
            main(["--help"])
        assert left.value.code == 0 and "--config-file" in capsys.readouterr().out
