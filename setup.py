"""Build and installation; the settings of the tools are in pyproject.toml."""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent

# What the package imports unconditionally. Detectron2 is missing on purpose: it is not on the package index under its
# own name; tools/install_detectron2.py installs it. The lower bounds are the oldest versions that passed the tests.
REQUIRES = [
    "torch>=2.0.1",
    "torchvision>=0.15.2",  # the release that goes with torch 2.0.1
    "fvcore>=0.1.5.post20221221",
    "iopath>=0.1.9",
    "pycocotools>=2.0.6",
    "numpy>=1.23.5",
    "Pillow>=9.3",
    "pyyaml>=6.0.1",
    "matplotlib>=3.6",
    "scipy>=1.9.3",
    "tabulate>=0.8.9",
    "tqdm>=4.64",
    "setuptools<81",  # detectron2.model_zoo imports pkg_resources, which setuptools 81 removed
]

# What only a part of it needs.
EXTRAS = {
    # the digits, the photographs, and OpenCV for Detectron2's Visualizer
    "demo": ["scikit-learn>=1.2", "scikit-image>=0.20", "opencv-python-headless>=4.6"],
    # weights from timm:// addresses and .safetensors files
    "timm": ["timm>=1.0", "safetensors>=0.4"],
    # ONNX files, and latency tables of ONNX Runtime
    "onnx": ["onnx>=1.16", "onnxruntime>=1.18", "onnxscript>=0.2"],
    # candidates of a search on many machines
    "ray": ["ray>=2.9"],
    "dev": [
        "hypothesis>=6.75",
        "mypy>=1.8",
        "optuna>=3.0",  # what the evolution is compared with, as pymoo
        "pymoo>=0.6",
        "pytest>=7.4",
        "pytest-xdist>=3.3",
        "ray>=2.9",
        "ruff>=0.4",
        "timm>=1.0",  # what the networks are compared with
        "types-PyYAML",
        "wheel",
    ],
}
EXTRAS["all"] = sorted({requirement for group in EXTRAS.values() for requirement in group})


def version() -> str:
    """``__version__`` of fbnet_plugin/version.py, read without importing the package (which would import torch)."""
    text = (ROOT / "fbnet_plugin" / "version.py").read_text(encoding="utf-8")
    return re.search(r'^__version__ = "([^"]+)"$', text, re.MULTILINE).group(1)


def long_description() -> str:
    readme = ROOT / "README.md"
    return readme.read_text(encoding="utf-8") if readme.is_file() else ""


setup(
    name="fbnet_plugin",
    version=version(),
    description="Searched FBNet and FBNetV3 backbones for Detectron2: classification, detection and search",
    long_description=long_description(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    classifiers=[
        "Programming Language :: Python :: 3",
        "Operating System :: OS Independent",
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
    ],
    python_requires=">=3.9",
    install_requires=REQUIRES,
    extras_require=EXTRAS,
    # The checkout's top-level configs/ is installed as the data package fbnet_plugin/configs/.
    packages=[*find_packages(include=["fbnet_plugin", "fbnet_plugin.*"]), "fbnet_plugin.configs"],
    package_dir={"fbnet_plugin.configs": "configs"},
    package_data={"fbnet_plugin": ["**/*.yaml"], "fbnet_plugin.configs": ["**/*.yaml", "**/*.py"]},
    zip_safe=False,
)
