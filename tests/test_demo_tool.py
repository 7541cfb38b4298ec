"""tools/demo.py: what a model says, drawn on images and videos."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.data import transforms as T
from detectron2.modeling import build_model
from detectron2.structures import Boxes, Instances
from detectron2.utils.events import EventStorage
from PIL import Image
from pycocotools.coco import COCO
from torchvision import transforms

from fbnet_plugin.data import DatasetError
from fbnet_plugin.engine import ConfigError, load_config
from fbnet_plugin.plotting.demo import draw_video, summary
from fbnet_plugin.plotting.demo_drawing import draw_predictions, with_lines
from fbnet_plugin.plotting.demo_files import Picture, plan_pictures
from fbnet_plugin.plotting.demo_predictor import demo_config, demo_metadata
from fbnet_plugin.plotting.demo_results import Results
from fbnet_plugin.plotting.video import VideoReader, VideoWriter

ROOT = Path(__file__).resolve().parents[1]
TOOL = ROOT / "tools" / "demo.py"
DETECTOR = "Digits/faster_rcnn_fbnet_v3_a_dsmask_tiny_C4_digits.yaml"
CLASSIFIER = "Digits/fbnet_v3_a_dsmask_tiny_digits.yaml"
SMALL = ["MODEL.DEVICE", "cpu", "MODEL.FBNET.WIDTH_MULT", "0.25", "INPUT.MIN_SIZE_TEST", "96"]
SMALL += ["MODEL.RPN.POST_NMS_TOPK_TEST", "10"]


def photograph(seed: int, height: int = 150, width: int = 200) -> np.ndarray:
    """A picture with soft structure, (H, W, 3)."""
    coarse = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def drawn_on(drawn: np.ndarray, image: np.ndarray) -> np.ndarray:
    """(H, W) where something was drawn; old versions of matplotlib resample the image by a fraction of a px."""
    return (np.abs(drawn.astype(int) - image) > 16).any(axis=2)


def save(pixels: np.ndarray, path: Path, **more: Any) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **more)
    return str(path)


def pixels_of(path: Any) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("demo_tool", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def weights_of(config: str, layer: str, file: Path) -> list[str]:
    """KEY VALUE pairs of a small random model that knows the statistics of photographs and is sure of what it says."""
    torch.manual_seed(3)
    model = build_model(load_config(config, SMALL))
    boxes = Boxes(torch.tensor([[10.0, 20.0, 90.0, 80.0], [60.0, 50.0, 120.0, 110.0]]))
    target = Instances((128, 128), gt_boxes=boxes, gt_classes=torch.tensor([1, 2]))
    images = [torch.tensor(photograph(number, 128, 128).transpose(2, 0, 1)) for number in range(8)]
    for norm in model.modules():
        if isinstance(norm, torch.nn.BatchNorm2d):
            norm.momentum = None
    said = []
    scores = model.get_submodule(layer)
    handle = scores.register_forward_hook(lambda _, inputs, output: said.append(output))
    with torch.no_grad(), EventStorage():
        model([{"image": image, "instances": target, "label": 1} for image in images])
        model.eval()([{"image": image} for image in images])
        scores.weight.mul_(3 / said[-1].std(0).mean())
        scores.bias.sub_(said[-1].mean(0) * 3 / said[-1].std(0).mean())
    handle.remove()
    torch.save({"model": model.state_dict()}, file)
    return [*SMALL, "MODEL.WEIGHTS", str(file)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory) -> list[str]:
    return weights_of(DETECTOR, "roi_heads.box_predictor.cls_score", tmp_path_factory.mktemp("detector") / "w.pth")


@pytest.fixture(scope="module")
def classifier(tmp_path_factory) -> list[str]:
    return weights_of(CLASSIFIER, "head.fc", tmp_path_factory.mktemp("classifier") / "w.pth")


def status(tool: ModuleType, *args: str) -> int:
    with pytest.raises(SystemExit) as end:
        tool.main(list(args))
    return end.value.code


def demo(tool: ModuleType, config: str, source: Any, target: Any, *rest: str) -> int:
    sources = [str(one) for one in source] if isinstance(source, list) else [str(source)]
    return status(tool, "--config-file", config, "--input", *sources, "--output", str(target), *rest)


def reference_boxes(opts: list[str], image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (x, y, x, y), scores and classes of the model itself on the resized image, boxes multiplied back."""
    cfg = load_config(DETECTOR, opts)
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(cfg.MODEL.WEIGHTS)["model"])
    height, width = image.shape[:2]
    resized = T.ResizeShortestEdge([96, 96], cfg.INPUT.MAX_SIZE_TEST).get_transform(image).apply_image(image)
    entry = {"image": torch.as_tensor(resized.transpose(2, 0, 1).copy())}
    with torch.no_grad():
        found = model.inference([entry], do_postprocess=False)[0]
    x, y = width / resized.shape[1], height / resized.shape[0]
    boxes = found.pred_boxes.tensor.numpy() * [x, y, x, y]
    return boxes.clip(0, [width, height] * 2), found.scores.numpy(), found.pred_classes.numpy()


def test_a_folder_as_a_command(tmp_path, detector):
    images = [photograph(0), photograph(1, 96, 170)]
    names = ["one.png", "deep/two.jpg"]
    for name, image in zip(names, images):
        save(image, tmp_path / "in" / name)
    command = [sys.executable, str(TOOL), "--config-file", DETECTOR, "--input", "in", "--output", "out"]
    command += ["--confidence-threshold", "0.3", "--json", "found.json", *detector]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert [image["file_name"] for image in found["images"]] == ["in/deep/two.jpg", "in/one.png"]
    assert [(image["height"], image["width"]) for image in found["images"]] == [(96, 170), (150, 200)]
    for number, name in enumerate(["deep/two.jpg", "one.png"], start=1):
        image = pixels_of(tmp_path / "in" / name)
        mine = [one for one in found["annotations"] if one["image_id"] == number]
        boxes, scores, classes = reference_boxes(detector, image)
        kept = scores > 0.3
        assert len(mine) == kept.sum() > 0
        np.testing.assert_allclose([one["score"] for one in mine], scores[kept], rtol=1e-4)
        assert [one["category_id"] for one in mine] == classes[kept].tolist()
        x, y, w, h = np.array([one["bbox"] for one in mine]).T
        np.testing.assert_allclose(np.stack([x, y, x + w, y + h], 1), boxes[kept], atol=0.05)
        assert pixels_of(tmp_path / "out" / name).shape == image.shape
        assert f"in/{name}: {len(mine)} detection" in done.stdout
    assert [category["name"] for category in found["categories"]] == list("0123456789")
    assert len(done.stdout.splitlines()) == 2
    coco = COCO(str(tmp_path / "found.json"))
    assert len(coco.loadRes(found["annotations"]).anns) == len(found["annotations"])


def test_what_is_drawn(tool, tmp_path, detector):
    image = photograph(0)
    source, target = save(image, tmp_path / "a.png"), tmp_path / "drawn" / "b.png"
    file = str(tmp_path / "found.json")
    assert demo(tool, DETECTOR, source, target, "--confidence-threshold", "1", "--json", file, *detector) == 0
    assert not drawn_on(pixels_of(target), image).any()  # nothing is that sure
    assert json.loads(Path(file).read_text())["annotations"] == []
    assert demo(tool, DETECTOR, source, target, "--confidence-threshold", "0.3", "--json", file, *detector) == 0
    changed = drawn_on(pixels_of(target), image)
    for one in json.loads(Path(file).read_text())["annotations"]:
        x, y, w, h = (round(value) for value in one["bbox"])
        middle = min(y + h // 2, 149)
        assert changed[middle, max(x - 1, 0) : x + 2].any() and changed[middle, x + w - 2 : x + w + 2].any()
    assert demo(tool, DETECTOR, source, target, "--scale", "2", *detector) == 0
    assert pixels_of(target).shape == (300, 400, 3)


def test_exif_orientation(tool, tmp_path, detector):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: to be seen, the image has to be turned clockwise
    upright = photograph(0)
    source = save(np.rot90(upright), tmp_path / "turned.png", exif=exif)
    file = tmp_path / "found.json"
    args = [tmp_path / "out.png", "--confidence-threshold", "1", "--json", str(file), *detector]
    assert demo(tool, DETECTOR, source, *args) == 0
    assert not drawn_on(pixels_of(tmp_path / "out.png"), upright).any()
    assert json.loads(file.read_text())["images"] == [{"id": 1, "height": 150, "width": 200, "file_name": source}]


def test_a_classifier(tool, tmp_path, classifier, capsys):
    image = photograph(2)
    for name in "abcdefghij":
        save(image, tmp_path / "classes" / f"class {name}" / "x.png")
    source = str(tmp_path / "classes" / "class a" / "x.png")
    sets = ["DATASETS.IMAGE_FOLDERS", f'["pictures={tmp_path / "classes"}"]', "DATASETS.TEST", "('pictures',)"]
    opts = [*classifier, *sets]
    file = tmp_path / "found.json"
    assert demo(tool, CLASSIFIER, source, tmp_path / "out", "--json", str(file), *opts) == 0
    cfg = load_config(CLASSIFIER, classifier)
    model = build_model(cfg).eval()
    model.load_state_dict(torch.load(cfg.MODEL.WEIGHTS)["model"])
    reference = transforms.Compose([transforms.Resize(64), transforms.CenterCrop(64), transforms.PILToTensor()])
    with torch.no_grad():
        scores = model.predict(reference(Image.fromarray(image))[None]).softmax(1)[0]
    best = scores.topk(5)
    found = json.loads(file.read_text())
    assert [one["category_id"] for one in found["annotations"]] == best.indices.tolist()
    np.testing.assert_allclose([one["score"] for one in found["annotations"]], best.values, rtol=1e-4)
    assert found["categories"][3] == {"id": 3, "name": "class d"}
    name = f"class {'abcdefghij'[best.indices[0]]}"
    assert f"{source}: {name} {100 * best.values[0]:.1f}%, " in capsys.readouterr().out
    changed = drawn_on(pixels_of(tmp_path / "out" / "x.png"), image)
    assert changed[:60, :60].mean() > 0.9 and not changed[120:, 160:].any()


def test_imagenet_has_names_without_its_files():
    cfg = demo_config("ImageNet-Classification/fbnet_c_360e.yaml")
    names = demo_metadata(cfg).thing_classes
    assert len(names) == 1000 and names[0] == "tench" and names[281] == "tabby"
    assert MetadataCatalog.get("imagenet_val").get("thing_classes") is None


def write_video(path: Path, frames: int, fps: float = 12.5) -> list[np.ndarray]:
    images = [np.roll(photograph(0, 96, 128), 8 * number, axis=1) for number in range(frames)]
    with VideoWriter(str(path), fps, (128, 96)) as writer:
        for image in images:
            writer.write(image)
    return images


def test_a_video(tool, tmp_path, detector, capsys):
    import cv2

    write_video(tmp_path / "in.mp4", 5)
    file = tmp_path / "found.json"
    args = ["--json", str(file), "--confidence-threshold", "0.3", *detector]
    assert demo(tool, DETECTOR, tmp_path / "in.mp4", tmp_path / "out", *args) == 0
    assert "in.mp4: 5 frames, " in capsys.readouterr().out
    capture = cv2.VideoCapture(str(tmp_path / "out" / "in.mp4"))
    assert capture.get(cv2.CAP_PROP_FPS) == 12.5
    frames = []
    while capture.isOpened():
        there, frame = capture.read()
        if not there:
            break
        frames.append(frame)
    assert [frame.shape for frame in frames] == [(96, 128, 3)] * 5
    found = json.loads(file.read_text())
    assert [image["frame"] for image in found["images"]] == [0, 1, 2, 3, 4]
    assert {one["image_id"] for one in found["annotations"]} == {1, 2, 3, 4, 5}
    assert sorted(os.listdir(tmp_path / "out")) == ["in.mp4"]


def test_ctrl_c_leaves_a_complete_video(tmp_path):
    images = write_video(tmp_path / "in.mp4", 5)
    seen = []

    def predictor(frame: np.ndarray) -> dict[str, Any]:
        seen.append(frame)
        if len(seen) == 4:
            raise KeyboardInterrupt
        return {"scores": torch.tensor([0.2, 0.8])}

    lines = []
    picture = Picture(str(tmp_path / "in.mp4"), str(tmp_path / "out.mp4"))
    results = Results(MetadataCatalog.get("nothing"))
    assert draw_video(predictor, picture, MetadataCatalog.get("nothing"), results=results, say=lines.append) is False
    with VideoReader(picture.target) as video:
        frames = list(video)
    assert len(frames) == 3 and "3 frames" in lines[0] and "stopped" in lines[0]
    assert np.abs(seen[0].astype(float) - images[0]).mean() < 8  # a codec changes px a little
    assert np.abs(frames[1][50:].astype(float) - images[1][50:]).mean() < 10


def test_videos_that_cannot_be(tmp_path):
    (tmp_path / "bad.mp4").write_bytes(b"no video")
    with pytest.raises(DatasetError, match="bad.mp4.*no frame"):
        VideoReader(str(tmp_path / "bad.mp4"))
    with pytest.raises(ConfigError, match="'zzzz'.*mp4v"):
        VideoWriter(str(tmp_path / "out.mp4"), 25, (64, 48), "zzzz")
    with pytest.raises(ZeroDivisionError), VideoWriter(str(tmp_path / "out.mp4"), 25, (64, 48)) as writer:
        writer.write(np.zeros((48, 64, 3), np.uint8))
        print(1 / 0)
    assert os.listdir(tmp_path) == ["bad.mp4"]


def test_an_unreadable_image_among_others(tool, tmp_path, detector, capsys):
    save(photograph(0), tmp_path / "in" / "good.png")
    (tmp_path / "in" / "bad.jpg").write_bytes(b"no image")
    assert demo(tool, DETECTOR, tmp_path / "in", tmp_path / "out", *detector) == 1
    assert "in/bad.jpg" in capsys.readouterr().err
    assert os.listdir(tmp_path / "out") == ["good.png"]
    assert demo(tool, DETECTOR, tmp_path / "in" / "bad.jpg", tmp_path / "out2", *detector) == 2
    assert "cannot read the image" in capsys.readouterr().err and not (tmp_path / "out2").exists()


def test_which_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.jpg", "in/x/a.png", "in/x/y/c.webp"):
        save(photograph(0, 8, 8), tmp_path / name)
    (tmp_path / "in" / "notes.txt").write_text("")
    (tmp_path / "v.mov").write_bytes(b"")
    below = [("in/b.jpg", "out/b.jpg"), ("in/x/a.png", "out/x/a.png"), ("in/x/y/c.webp", "out/x/y/c.webp")]
    assert plan_pictures(["in"], "out") == below == plan_pictures(["in/**/*.[pjw]*"], "out")
    assert plan_pictures(["in", "in/b.jpg"], "out") == below  # once
    assert plan_pictures(["in/b.jpg"], "drawn.png") == [("in/b.jpg", "drawn.png")]
    assert plan_pictures(["v.mov"], "out") == [("v.mov", "out/v.mp4")]
    inside = [(source, target.replace("out", "in/drawn")) for source, target in below]
    assert plan_pictures(["in"], "in/drawn") == inside
    save(photograph(0, 8, 8), tmp_path / "in" / "drawn" / "b.jpg")
    assert plan_pictures(["in"], "in/drawn") == inside  # what an earlier run wrote is no input


@pytest.mark.parametrize(
    "inputs, output, message",
    [
        (["nowhere.jpg"], "out", "--input nowhere.jpg: no such file"),
        (["no*.jpg"], "out", r"no\*.jpg: no file has such a name"),
        (["empty"], "out", "empty: no images in this folder"),
        (["in"], "out.jpg", "out.jpg: expected a folder"),
        (["in/a.png"], "in/a.png", "would overwrite an input"),
        (["in"], "in", "would overwrite an input"),
        (["in/a.png", "in/x/a.png"], "out", "in/a.png and in/x/a.png would both be written to out/a.png"),
        (["in", "v.mp4"], "out", "v.mp4 is a video"),
        (["v.mp4"], "out.png", "ends in .mp4"),
        (["in/a.png"], "out.mp4", "ends in .jpg"),
        (["in/a.png"], "notes.txt", "is a file"),
    ],
)
def test_mistakes_in_files(tmp_path, monkeypatch, inputs, output, message):
    monkeypatch.chdir(tmp_path)
    for name in ("in/a.png", "in/x/a.png"):
        save(photograph(0, 8, 8), tmp_path / name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "v.mp4").write_bytes(b"")
    (tmp_path / "notes.txt").write_text("")
    with pytest.raises(ConfigError, match=message):
        plan_pictures(inputs, output)


@pytest.mark.parametrize(
    "more, message",
    [
        (["--confidence-threshold", "7"], "--confidence-threshold is 7, expected 0 to 1"),
        (["MODEL.WEIGHTS", "gone.pth"], "gone.pth: no such file"),
        (["MODEL.META_ARCHITECTURE", "Oracle"], "MODEL.META_ARCHITECTURE is 'Oracle'"),
        (["MODEL.FBNET.ARCH", "fbnet_z"], "fbnet_z"),
    ],
)
def test_mistakes_in_configs(tool, tmp_path, capsys, more, message):
    source = save(photograph(0, 20, 20), tmp_path / "a.png")
    assert demo(tool, DETECTOR, source, tmp_path / "b.png", *more) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "b.png").exists()


def test_masks_segments_and_nothing_known():
    image, metadata = photograph(0), MetadataCatalog.get("two kinds")
    metadata.set(thing_classes=["cat", "dog"], stuff_classes=["things", "grass"])
    mask = torch.zeros(1, 150, 200, dtype=torch.bool)
    mask[0, 40:110, 30:160] = True
    boxes = Boxes(torch.tensor([[30.0, 40.0, 160.0, 110.0]]))
    scores, classes = torch.tensor([0.9]), torch.tensor([1])
    instances = Instances((150, 200), pred_boxes=boxes, scores=scores, pred_classes=classes, pred_masks=mask)
    changed = drawn_on(draw_predictions(image, {"instances": instances}, metadata), image)
    assert changed[45:105, 35:155].mean() > 0.9 and not changed[120:].any()
    assert summary({"instances": instances}, metadata) == "1 detection (1 dog)"
    info = [{"id": 1, "isthing": True, "category_id": 1, "score": 0.9}, {"id": 2, "isthing": False, "category_id": 1}]
    segments = (mask[0].int() + 2 * (torch.arange(200) > 180).int(), info)
    changed = drawn_on(draw_predictions(image, {"panoptic_seg": segments}, metadata), image)
    assert changed[45:105, 35:155].mean() > 0.9 and changed[:, 185:].mean() > 0.9 and not changed[120:, :30].any()
    with pytest.raises(ConfigError, match="gives proposals; instances"):
        draw_predictions(image, {"proposals": instances}, metadata)
    results = Results(metadata)
    results.add({"instances": instances}, 150, 200, file_name="x")
    assert results._annotations[0]["segmentation"]["size"] == [150, 200]


def test_lines_fit_small_images():
    image = np.full((40, 60, 3), 255, np.uint8)
    drawn = with_lines(image, ["a very long name of a class 99.9%"] * 5)
    assert drawn.shape == image.shape and (drawn != image).any()
