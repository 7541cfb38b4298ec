#!/usr/bin/env python3
"""Install Detectron2 into the Python that runs this script.

What it does, in order:

1. A Detectron2 that this Python can already import is used as it is: the script says which one and stops
   (``--force`` installs anyway).
2. Otherwise it installs Detectron2 0.6 without its C++ extension. The source is the archive ``pb1-detectron2==0.6``
   of the Python package index, whose Python files are those of upstream's tag v0.6. Its SHA-256 is checked before
   anything in it is run. A few named edits (the table ``EDITS`` below) let it work with today's NumPy, Pillow and
   setuptools; an edit whose text is not found stops the installation. The result is an ordinary pip package named
   ``detectron2``: ``pip list`` shows it and ``pip uninstall detectron2`` removes it. What needs the extension
   (rotated boxes, deformable convolution, the fast COCO evaluation) raises a clear error when it is used.
3. With ``--upstream`` it builds upstream's repository instead, extension included, also where a Detectron2 is
   importable already. That takes git, a C++ compiler and, for a GPU build, the CUDA toolkit of the installed PyTorch.

PyTorch must be installed first. Nothing but the standard library is needed. Exit status: 0 when this Python has a
Detectron2 afterwards, 1 otherwise (with one line that says why, and what pip said where it was pip that failed).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path, PurePosixPath

SDIST = "pb1-detectron2==0.6"
SDIST_SHA256 = "5d2e9e51e523ec72f6a31cca04b0a515492e9514b773a3d134cedc0677170b29"
UPSTREAM = "git+https://github.com/facebookresearch/detectron2.git"
# detectron2.model_zoo imports pkg_resources, which setuptools 81 removed; 70.1 is the first that builds wheels itself.
SETUPTOOLS = "setuptools>=70.1,<81"
# The pip that downloads the archive: pip 26 refuses what names a URL among its dependencies, as the archive's extra
# "all" does. It is used from a temporary folder and leaves the installed pip alone.
DOWNLOADER = "pip>=23.2,<26"


class InstallError(Exception):
    """Something that the user can act on; shown as one line."""


class EditError(InstallError):
    """An edit of ``EDITS`` does not fit the source that it is applied to."""


# ---------------------------------------------------------------------------------------------------------------------
# The edits that Detectron2 0.6 needs
# ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Edit:
    """Replace ``old`` by ``new`` in ``file``, where ``old`` must be found exactly ``count`` times."""

    name: str
    file: str
    old: str
    new: str
    count: int = 1


EDITS = (
    # How it is built: no extension, no import of torch, today's dependencies, the model zoo's files where they lie.
    Edit(
        "build without importing torch",
        "setup.py",
        "import torch\n"
        "from torch.utils.cpp_extension import CUDA_HOME, CppExtension, CUDAExtension\n\n"
        'torch_ver = [int(x) for x in torch.__version__.split(".")[:2]]\n'
        'assert torch_ver >= [1, 8], "Requires PyTorch >= 1.8"\n',
        "",
    ),
    Edit(
        "no C++ extension",
        "setup.py",
        "    ext_modules=get_extensions(),\n"
        '    cmdclass={"build_ext": torch.utils.cpp_extension.BuildExtension},\n',
        "",
    ),
    Edit("upstream's package name", "setup.py", 'name="pb1-detectron2"', 'name="detectron2"'),
    Edit("no top-level package 'tools'", "setup.py", '("configs", "tests*")', '("configs", "tests*", "tools*")'),
    Edit("stale iopath pin", "setup.py", '"iopath>=0.1.7,<0.1.10"', '"iopath>=0.1.7"'),
    Edit("stale black pin", "setup.py", '"black==21.4b2"', '"black"'),
    Edit("setuptools with pkg_resources", "setup.py", '        "pydot",', '        "setuptools<81",\n        "pydot",'),
    Edit(
        "model zoo files inside the package",
        "setup.py",
        '{"detectron2.model_zoo": get_model_zoo_configs()}',
        '{"detectron2.model_zoo": ["configs/**/*.yaml", "configs/**/*.py"]}',
    ),
    # Pillow 10 removed Image.LINEAR, the old name of Image.BILINEAR.
    Edit("Image.LINEAR", "detectron2/data/transforms/transform.py", "Image.LINEAR", "Image.BILINEAR"),
    # NumPy 1.24 removed its aliases of Python's own types.
    Edit("np.int in the class histogram", "detectron2/data/build.py", "dtype=np.int)", "dtype=int)"),
    Edit("np.int in the class list", "detectron2/data/build.py", "dtype=np.int\n", "dtype=int\n"),
    Edit("np.str in Pascal VOC", "detectron2/data/datasets/pascal_voc.py", "dtype=np.str)", "dtype=str)"),
    Edit("np.bool in Pascal VOC", "detectron2/evaluation/pascal_voc_evaluation.py", "(np.bool)", "(bool)", 2),
    Edit("np.int in sem_seg", "detectron2/evaluation/sem_seg_evaluation.py", "dtype=np.int)", "dtype=int)", 2),
    Edit("np.float dtypes in sem_seg", "detectron2/evaluation/sem_seg_evaluation.py", "=np.float)", "=float)", 2),
    Edit("np.float casts in sem_seg", "detectron2/evaluation/sem_seg_evaluation.py", "(np.float)", "(float)", 3),
    Edit("np.bool casts in masks", "detectron2/structures/masks.py", "(np.bool)", "(bool)", 2),
    Edit("np.bool dtype in masks", "detectron2/structures/masks.py", "dtype=np.bool)", "dtype=bool)"),
    Edit("np.bool in the visualizer", "detectron2/utils/visualizer.py", "(np.bool)", "(bool)", 3),
    Edit("np.bool in the video visualizer", "detectron2/utils/video_visualizer.py", "dtype=np.bool)", "dtype=bool)"),
    # PyTorch no longer brings caffe2; without it TracingAdapter and the TorchScript export still work.
    Edit(
        "caffe2 export only where caffe2 is",
        "detectron2/export/__init__.py",
        "from .api import *\n",
        "try:\n    from .api import *\nexcept ModuleNotFoundError:  # no caffe2\n    pass\n",
    ),
    # torch.meshgrid warns for as long as it is not told its indexing; "ij" is what it has always done.
    Edit(
        "torch.meshgrid indexing",
        "detectron2/modeling/anchor_generator.py",
        "torch.meshgrid(shifts_y, shifts_x)",
        'torch.meshgrid(shifts_y, shifts_x, indexing="ij")',
    ),
)

EXTENSION_FILE = "detectron2/_C.py"
EXTENSION_PLACEHOLDER = '''\
"""Stands where Detectron2's compiled extension would be: this copy was installed without it.

Importing this module works, using one of its operations raises ``ExtensionNotBuilt``. That is an AttributeError too,
so that ``hasattr`` and ``from detectron2._C import name`` say truthfully that the operation is not here.
"""


class ExtensionNotBuilt(AttributeError, RuntimeError):
    pass


def get_compiler_version():
    return "none: installed without the C++ extension"


def get_cuda_version():
    return "none: installed without the C++ extension"


def has_cuda():
    return False


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    raise ExtensionNotBuilt(
        f"detectron2._C.{name} needs Detectron2's compiled extension, and this Detectron2 was installed without it. "
        "Rotated boxes, deformable convolution and the fast COCO evaluation use it: for the last, pass "
        "use_fast_impl=False to COCOEvaluator; for the others, install upstream's Detectron2 "
        "(tools/install_detectron2.py --upstream --force)."
    )
'''


def apply_edit(root: Path, edit: Edit) -> None:
    """Apply one edit to the source tree ``root``. Raises EditError if it does not fit."""
    path = root / edit.file
    if not path.is_file():
        raise EditError(f"edit {edit.name!r}: there is no file {edit.file}")
    text = path.read_text(encoding="utf-8")
    found = text.count(edit.old)
    if found != edit.count:
        raise EditError(f"edit {edit.name!r}: {edit.file} has {edit.old!r} {found} times, expected {edit.count}")
    path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")


def prepare_source(root: Path, edits: Iterable[Edit] = EDITS) -> None:
    """Make the unpacked archive in ``root`` one that builds and works without the extension."""
    for edit in edits:
        apply_edit(root, edit)
    placeholder = root / EXTENSION_FILE
    if placeholder.exists():
        raise EditError(f"edit 'extension placeholder': {EXTENSION_FILE} is already there")
    placeholder.write_text(EXTENSION_PLACEHOLDER, encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# The archive
# ---------------------------------------------------------------------------------------------------------------------


def check_hash(archive: Path, expected: str = SDIST_SHA256) -> None:
    """Raise InstallError unless the file's SHA-256 is ``expected``."""
    if not archive.is_file():
        raise InstallError(f"no such file: {archive}")
    actual = hashlib.sha256(archive.read_bytes()).hexdigest()
    if actual != expected:
        raise InstallError(f"{archive} is not the expected archive: its SHA-256 is {actual}, expected {expected}")


def unpack(archive: Path, target: Path) -> Path:
    """Unpack a .tar.gz of plain files under one top folder into ``target``; returns that folder.

    Links, devices and names that would leave ``target`` are refused.
    """
    tops = set()
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            name = PurePosixPath(member.name)
            if name.is_absolute() or ".." in name.parts or "\\" in member.name or ":" in member.name:
                raise InstallError(f"{archive}: unsafe name {member.name!r}")
            tops.add(name.parts[0] if name.parts else "")
            if member.isdir():
                continue
            source = tar.extractfile(member) if member.isreg() else None
            if source is None:
                raise InstallError(f"{archive}: {member.name!r} is not a plain file")
            path = target.joinpath(*name.parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(source.read())
    if len(tops) != 1:
        raise InstallError(f"{archive}: expected one top folder, found {sorted(tops)}")
    return target / tops.pop()


def unpack_checked(archive: Path, target: Path) -> Path:
    """Unpack an archive whose hash is right; one whose hash is wrong is never opened."""
    check_hash(archive)
    return unpack(archive, target)


# ---------------------------------------------------------------------------------------------------------------------
# pip
# ---------------------------------------------------------------------------------------------------------------------


def say(line: str) -> None:
    print(f"install_detectron2: {line}", flush=True)


def pip(*args: str, failure: str, path: Path | None = None) -> None:
    """Run pip, or the pip that lies in ``path``; where it fails, ``failure`` comes first and what pip said follows."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", *args]
    env = None if path is None else {**os.environ, "PYTHONPATH": str(path)}
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise InstallError(f"{failure}. pip said:\n{result.stdout.rstrip()}")


def download(folder: Path) -> Path:
    """Download the archive from the package index that pip is set up for; pip checks its hash."""
    downloader = folder / "pip"
    pip(
        *["install", "--quiet", "--no-deps", "--target", str(downloader), DOWNLOADER],
        failure=f"cannot download {DOWNLOADER}, which downloads {SDIST}",
    )
    requirement = folder / "detectron2.txt"
    requirement.write_text(f"{SDIST} --hash=sha256:{SDIST_SHA256}\n", encoding="utf-8")
    options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes"]
    pip(
        *["download", "--quiet", *options, "--dest", str(folder), "--requirement", str(requirement)],
        failure=f"cannot download {SDIST} from the package index",
        path=downloader,
    )
    archives = sorted(folder.glob("*.tar.gz"))
    if len(archives) != 1:
        raise InstallError(f"pip downloaded {[a.name for a in archives]} for {SDIST}, expected one .tar.gz")
    return archives[0]


def build_wheel(source: Path, folder: Path) -> Path:
    """Build the edited source into a wheel that fits every platform."""
    options = ["--no-deps", "--no-build-isolation", "--use-pep517"]
    pip(
        *["wheel", "--quiet", *options, "--wheel-dir", str(folder), str(source)],
        failure="cannot build Detectron2 0.6",
    )
    wheels = sorted(folder.glob("detectron2-*-py3-none-any.whl"))
    if len(wheels) != 1:
        raise InstallError(f"expected one pure-Python wheel, found {[w.name for w in folder.glob('*.whl')]}")
    return wheels[0]


def ensure_build_tools() -> None:
    """PyTorch has to be there; a setuptools that still has pkg_resources is installed where it is not."""
    for module, remedy in (("pip", "python -m ensurepip"), ("torch", "pip install torch torchvision")):
        if importlib.util.find_spec(module) is None:
            raise InstallError(f"{sys.executable} has no {module}; install it first: {remedy}")
    if not (70, 1) <= setuptools_version() < (81,):
        say(f"installing {SETUPTOOLS}")
        pip("install", "--quiet", SETUPTOOLS, failure=f"cannot install {SETUPTOOLS}")


def setuptools_version() -> tuple[int, ...]:
    """The installed setuptools' version as numbers, () where there is none."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        return tuple(int(part) for part in metadata.version("setuptools").split(".")[:2] if part.isdigit())
    return ()


# ---------------------------------------------------------------------------------------------------------------------
# What is installed
# ---------------------------------------------------------------------------------------------------------------------

PROBE_IMPORT = """
import os, detectron2, detectron2.modeling
print(detectron2.__version__, "at", os.path.dirname(detectron2.__file__))
"""

PROBE_COMPLETE = """
from detectron2 import _C, model_zoo
import detectron2.engine, detectron2.evaluation, detectron2.export
model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml")
"""


def probe(code: str) -> tuple[bool, str]:
    """Run ``code`` in a new Python, away from the current folder: (worked, last line of what it printed)."""
    with tempfile.TemporaryDirectory() as empty:
        command = [sys.executable, "-W", "ignore", "-c", code]
        result = subprocess.run(command, cwd=empty, capture_output=True, text=True)
    lines = (result.stdout if result.returncode == 0 else result.stderr).strip().splitlines() or [""]
    return result.returncode == 0, lines[-1]


def find_installed() -> str | None:
    """'VERSION at FOLDER' of the Detectron2 that this Python imports; None where there is none."""
    works, said = probe(PROBE_IMPORT)
    if works:
        return said
    if "No module named 'detectron2'" in said:
        return None
    raise InstallError(f"a Detectron2 is installed but does not import ({said}); --force replaces it")


def check_installed() -> str:
    """Raise InstallError unless what was just installed is complete; returns 'VERSION at FOLDER'."""
    for code in (PROBE_COMPLETE, PROBE_IMPORT):
        works, said = probe(code)
        if not works:
            raise InstallError(f"Detectron2 was installed but does not work: {said}")
    return said


# ---------------------------------------------------------------------------------------------------------------------
# The two ways to install
# ---------------------------------------------------------------------------------------------------------------------


def install_patched(archive: Path | None) -> None:
    """Install Detectron2 0.6 without its extension, from ``archive`` or else from the package index."""
    with temporary_folder() as folder:
        if archive is None:
            say(f"downloading {SDIST}")
            archive = download(folder)
        source = unpack_checked(archive, folder / "source")
        say(f"applying {len(EDITS)} edits and building a wheel without the C++ extension")
        prepare_source(source)
        wheel = str(build_wheel(source, folder))
        say("installing it and its dependencies")
        # The first replaces whatever goes by that name, the second brings what it depends on.
        pip("install", "--quiet", "--no-deps", "--force-reinstall", wheel, failure="cannot install Detectron2 0.6")
        pip("install", "--quiet", wheel, failure="cannot install what Detectron2 0.6 depends on")


def install_upstream() -> None:
    """Build and install upstream's repository, C++ extension included."""
    say(f"building {UPSTREAM} with its C++ extension (minutes)")
    pip(
        *["install", "--no-build-isolation", "--force-reinstall", "--no-deps", UPSTREAM],
        failure=f"cannot install upstream's Detectron2 from {UPSTREAM}",
    )
    pip(
        *["install", "--no-build-isolation", UPSTREAM],
        failure="cannot install what upstream's Detectron2 depends on",
    )


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="detectron2-") as folder:
        yield Path(folder)


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    source = parser.add_mutually_exclusive_group()
    source.add_argument(
        "--upstream",
        action="store_true",
        help=f"build and install {UPSTREAM} instead of the patched 0.6; implies --force",
    )
    source.add_argument(
        "--sdist",
        type=Path,
        metavar="PATH",
        help=f"use this copy of the {SDIST} archive instead of downloading it (its SHA-256 is checked as well)",
    )
    parser.add_argument("--force", action="store_true", help="install even where a Detectron2 is importable already")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    try:
        installed = None if args.force or args.upstream else find_installed()
        if installed is not None:
            say(f"using the installed Detectron2 {installed}")
            return 0
        ensure_build_tools()
        if args.upstream:
            install_upstream()
        else:
            install_patched(args.sdist)
        say(f"installed Detectron2 {check_installed()}")
        return 0
    except InstallError as error:
        print(f"install_detectron2: error: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
