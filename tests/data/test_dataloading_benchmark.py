"""``benchmarks/dataloading.py`` measures what it says, at a size that says nothing about speed."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torchvision.datasets import CIFAR10

from fbnet_plugin.data.cifar10 import TRAIN_FILES, load_cifar10

FILE = Path(__file__).resolve().parents[2] / "benchmarks" / "dataloading.py"


@pytest.fixture
def benchmark():
    spec = importlib.util.spec_from_file_location("dataloading_benchmark", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    for label in ("cat", "dog"):
        (tmp_path / "pets" / label).mkdir(parents=True)
        for number in range(2):
            pixels = rng.integers(0, 256, (50, 70, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "pets" / label / f"{number}.jpg")
    return tmp_path / "pets"


def test_all_contestants_run(benchmark, photographs: Path, tmp_path: Path, capsys, monkeypatch) -> None:
    pytest.importorskip("timm")
    monkeypatch.setattr(benchmark, "CIFAR_ROWS", 40)
    file = tmp_path / "figures.json"
    arguments = "--workers 1 --rounds 1 --seconds 0.01 --batch 4 --output"
    benchmark.main(["--data", str(photographs), *arguments.split(), str(file)])
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures == json.loads(file.read_text())
    places = [(cell["images"], cell["size"], cell["augmentation"]) for cell in figures["cells"]]
    assert [size for _, size, _ in places] == [32] * 4
    assert places[0][0].endswith("pets (70x50 px)") and places[2][0] == "CIFAR-10's format (32x32 px)"
    assert [augmentation for *_, augmentation in places] == ["plain", "randaugment"] * 2
    for cell in figures["cells"]:
        speeds, cpu = cell["images_per_s"], cell["cpu_us_per_image"]
        assert list(speeds) == list(cpu) == ["fbnet_plugin", "torchvision", "timm"]
        assert cell["ratio"] == pytest.approx(speeds["fbnet_plugin"] / max(speeds["torchvision"], speeds["timm"]), 0.01)
        assert cell["cpu_ratio"] == pytest.approx(min(cpu["torchvision"], cpu["timm"]) / cpu["fbnet_plugin"], 0.01)


def test_the_cifar_files_are_read_alike_by_all(benchmark, photographs: Path, tmp_path: Path) -> None:
    images = benchmark.cifar_folder(benchmark.Images("pets", str(photographs), 32), tmp_path / "cifar", 7)
    theirs: CIFAR10 = benchmark.AnyCIFAR10(images.root)
    ours = load_cifar10("cuttings", str(tmp_path / "cifar" / benchmark.CIFAR_FOLDER), TRAIN_FILES)
    assert len(ours) == len(theirs) == 35
    for entry, (image, label) in zip(ours, theirs):
        assert entry["label"] == label
        np.testing.assert_array_equal(entry["image"], np.asarray(image))
