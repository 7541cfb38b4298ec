#!/usr/bin/env python3
"""Create the virtual environment that ``make test`` and ``make demo`` share, or see that it is up to date.

The environment is built with the Python that runs this script. It is complete once its stamp is written, which is the
last thing that happens: an environment whose stamp is missing (its set-up was interrupted) or whose stamp is that of
other requirements, another Python or another choice of Detectron2 is removed and built again.

Where this Python can import a Detectron2 already, the new environment sees this Python's packages and uses that
Detectron2 with the PyTorch that it was built for. Otherwise PyTorch comes from the package index and Detectron2 from
``tools/install_detectron2.py``.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import importlib.util
import json
import os
import shutil
import site
import subprocess
import sys
import venv
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import install_detectron2 as d2

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENT_FILES = ("setup.py", "pyproject.toml", "tools/install_detectron2.py", "tools/make_venv.py")
EXTRAS = "demo,dev,onnx"
STAMP = "set-up-complete"
LINK = "packages_of_the_outer_python.pth"


class SetupError(Exception):
    """The environment cannot be built; shown as one line."""


def say(line: str) -> None:
    print(f"set-up: {line}", flush=True)


# ---------------------------------------------------------------------------------------------------------------------
# Is it up to date?
# ---------------------------------------------------------------------------------------------------------------------


def requirements(root: Path, detectron2: str) -> dict[str, object]:
    """What the checkout asks for: its files, as hashes, where it lies, and the choice of Detectron2."""
    files = {name: hashlib.sha256((root / name).read_bytes()).hexdigest() for name in REQUIREMENT_FILES}
    return {"files": files, "root": str(root), "detectron2": detectron2}


def outer_python() -> dict[str, object]:
    """The Python that runs this script, and whether it has a Detectron2."""
    return {
        "python": [sys.version, os.path.realpath(sys.executable), sys.prefix],
        "has detectron2": importlib.util.find_spec("detectron2") is not None,
    }


def environment_python(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def is_complete(folder: Path, expected: dict[str, object]) -> bool:
    """True if the environment was finished from just what is ``expected`` and its Python still starts."""
    try:
        stamp = json.loads((folder / STAMP).read_text(encoding="utf-8"))
        starts = subprocess.run([str(environment_python(folder)), "-c", ""]).returncode == 0
    except (OSError, ValueError):
        return False
    return starts and all(stamp.get(key) == value for key, value in expected.items())


def remove(folder: Path) -> None:
    """Remove the environment, its stamp first: what an interruption leaves behind is never taken for complete."""
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        (folder / STAMP).unlink()
    if folder.is_symlink() or folder.is_file():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)


@contextlib.contextmanager
def only_one(root: Path) -> Iterator[list[int]]:
    """Hold the lock on the checkout's folder; yields the file descriptors that a child must inherit to hold it too.

    A pip that outlives a killed set-up keeps the lock, so that the next one does not build under its hands.
    """
    try:
        import fcntl
    except ImportError:  # not a POSIX system: no lock
        yield []
        return
    descriptor = os.open(root, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another set-up of this checkout to finish")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:  # a file system without locks
            pass
        yield [descriptor]
    finally:
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------------------
# Building it
# ---------------------------------------------------------------------------------------------------------------------


def outer_detectron2() -> str | None:
    """'VERSION at FOLDER' of the working Detectron2 that this Python imports; None where there is none."""
    try:
        return d2.find_installed()
    except d2.InstallError as error:
        say(f"not using this Python's Detectron2: {error}")
        return None


def link_outer_packages(folder: Path) -> None:
    """Let the environment see this Python's packages, after its own.

    ``system_site_packages`` would not do: where this Python belongs to a virtual environment itself, that shows the
    packages of the Python underneath. ``addsitedir`` heeds .pth files too, as editable installations need.
    """
    folders = site.getsitepackages() + ([site.getusersitepackages()] if site.ENABLE_USER_SITE else [])
    command = [str(environment_python(folder)), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    inner = Path(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip())
    lines = [f"import site; site.addsitedir({path!r})\n" for path in folders]
    (inner / LINK).write_text("".join(lines), encoding="utf-8")


def outer_torch() -> list[str]:
    """pip constraints that keep the PyTorch for which this Python's Detectron2 was built."""
    pins = []
    for name in ("torch", "torchvision"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            pins.append(f"{name}=={metadata.version(name)}\n")
    return pins


def create(folder: Path) -> None:
    """An empty environment with pip."""
    try:
        venv.EnvBuilder(with_pip=True, symlinks=os.name != "nt").create(folder)
    except (OSError, subprocess.CalledProcessError) as error:
        raise SetupError(
            f"{sys.executable} cannot create {folder.name}: {error} (on Debian and Ubuntu: apt install python3-venv)"
        ) from error


def run(command: list[str], held: list[int], failure: str) -> None:
    env = {**os.environ, "PYTHONWARNINGS": "ignore"}  # build back ends warn about themselves
    if subprocess.run(command, pass_fds=held, stdin=subprocess.DEVNULL, env=env).returncode != 0:
        raise SetupError(f"{failure} (see above)")


def build(folder: Path, root: Path, detectron2: str, held: list[int]) -> None:
    """Build the environment in steps, one line each."""
    outer = None if detectron2 == "upstream" else outer_detectron2()
    say(f"creating {folder.name} with Python {sys.version.split()[0]}")
    create(folder)
    python = str(environment_python(folder))
    quiet = [] if sys.stdout.isatty() else ["--quiet"]
    pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input", "install", *quiet]
    if outer is not None:
        say(f"using Detectron2 {outer} and the other packages of {sys.executable}")
        link_outer_packages(folder)
        constraints = folder / "constraints.txt"
        constraints.write_text("".join(outer_torch()), encoding="utf-8")
        pip += ["--constraint", str(constraints)]
    run([*pip, "--upgrade", "pip", d2.SETUPTOOLS, "wheel"], held, "cannot install pip, setuptools and wheel")
    if outer is None:
        say("installing PyTorch (a few GB)")
        run([*pip, "torch", "torchvision"], held, "cannot install PyTorch")
        say("installing Detectron2")
        options = ["--upstream"] if detectron2 == "upstream" else []
        script = str(root / "tools" / "install_detectron2.py")
        run([python, script, *options], held, "cannot install Detectron2")
    say(f"installing fbnet_plugin[{EXTRAS}]")
    run([*pip, "--no-build-isolation", "--editable", f"{root}[{EXTRAS}]"], held, "cannot install fbnet_plugin")


def parse_args(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / ".venv", help="default: .venv in the checkout")
    parser.add_argument(
        "--detectron2",
        choices=("auto", "upstream"),
        default="auto",
        help="auto: what this Python has, else the patched 0.6; upstream: build upstream's repository",
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    folder = args.folder.absolute()
    try:
        with only_one(ROOT) as held:
            inside = Path(sys.prefix).resolve() == folder.resolve()
            expected = requirements(ROOT, args.detectron2)
            if not inside:  # the environment's own Python cannot tell which Python built it
                expected.update(outer_python())
            if is_complete(folder, expected):
                return 0
            if inside:
                raise SetupError(f"{folder.name} has to be built again; leave it first: deactivate")
            if folder.exists():
                say(f"{folder.name} is incomplete or out of date: building it again")
            remove(folder)
            build(folder, ROOT, args.detectron2, held)
            (folder / STAMP).write_text(json.dumps(expected, indent=1) + "\n", encoding="utf-8")
            say("done")
        return 0
    except SetupError as error:
        print(f"set-up: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("set-up: interrupted; the next run starts over", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
