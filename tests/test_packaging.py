"""setup.py, the wheel that it makes, and the Makefile's front door."""

from __future__ import annotations

import ast
import email
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input"]


def data_files():
    """Every config and other YAML of the checkout that the wheel must carry, as (file, its name in the wheel)."""
    configs = [path for kind in ("*.yaml", "*.py") for path in (ROOT / "configs").rglob(kind)]
    files = [(path, "fbnet_plugin/" + path.relative_to(ROOT).as_posix()) for path in configs]
    files += [(path, path.relative_to(ROOT).as_posix()) for path in (ROOT / "fbnet_plugin").rglob("*.yaml")]
    return files


@pytest.fixture(scope="module")
def metadata(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        return email.message_from_string(archive.read(name).decode())


class TestWheel:
    def test_fits_every_platform(self, wheel):
        assert wheel.name == "fbnet_plugin-0.1.0-py3-none-any.whl"

    @pytest.mark.parametrize("folder", ["fbnet_plugin/configs/", "fbnet_plugin/arch/zoo/", "fbnet_plugin/arch/spaces/"])
    def test_carries_each_kind_of_data(self, folder, wheel):
        expected = {name for _, name in data_files() if name.startswith(folder)}
        assert expected, f"the checkout has no YAML for {folder}"
        assert expected <= set(zipfile.ZipFile(wheel).namelist())

    def test_carries_every_yaml_unchanged(self, wheel):
        with zipfile.ZipFile(wheel) as archive:
            for path, name in data_files():
                assert archive.read(name) == path.read_bytes(), name

    def test_carries_every_module_and_nothing_else(self, wheel):
        modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "fbnet_plugin").rglob("*.py")}
        expected = modules | {name for _, name in data_files()}
        assert {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name} == expected

    def test_carries_the_licence(self, wheel, metadata):
        assert any(re.search(r"dist-info/.*LICENSE$", name) for name in zipfile.ZipFile(wheel).namelist())
        assert "Apache-2.0" in (metadata["License"], metadata["License-Expression"])
        assert "Apache License" in (ROOT / "LICENSE").read_text()

    def test_installs_with_its_configs_beside_the_package(self, wheel, tmp_path):
        options = ["--no-deps", "--no-index", "--target", str(tmp_path)]
        subprocess.run([*PIP, "install", "--quiet", *options, str(wheel)], check=True)
        code = (
            "import importlib.util as u, pathlib as p\n"
            "folder = p.Path(u.find_spec('fbnet_plugin').origin).parent\n"
            "print(folder); print(len(list((folder / 'configs').rglob('*.yaml'))))"
        )
        env = {**os.environ, "PYTHONPATH": str(tmp_path)}
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, capture_output=True, text=True
        ).stdout.splitlines()
        assert said == [str(tmp_path / "fbnet_plugin"), str(len(list((ROOT / "configs").rglob("*.yaml"))))]


class TestMetadata:
    def test_version_and_python(self, metadata):
        code = "import runpy, sys; print(runpy.run_path(sys.argv[1])['__version__'])"
        command = [sys.executable, "-c", code, str(ROOT / "fbnet_plugin" / "version.py")]
        version = subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
        assert metadata["Version"] == version
        assert metadata["Requires-Python"] == ">=3.9"

    def test_extras(self, metadata):
        assert {"demo", "dev", "all"} <= set(metadata.get_all("Provides-Extra"))

    def test_requirements_have_lower_bounds_and_no_unexplained_upper_ones(self, metadata):
        needed = required(metadata)
        assert {"torch", "torchvision", "fvcore", "iopath", "pycocotools"} <= set(needed)
        assert not any(line.lower().startswith("detectron2") for line in metadata.get_all("Requires-Dist"))
        for name, line in needed.items():
            if name != "setuptools":  # its upper bound is explained in setup.py
                assert ">=" in line and not re.search(r"<|==|!=|~=", line), line

    def test_what_is_imported_unconditionally_is_required(self, metadata):
        standard = getattr(sys, "stdlib_module_names", None)
        if standard is None:
            pytest.skip("Python 3.9 cannot list its standard library")
        called = {"PIL": "Pillow", "yaml": "pyyaml"}
        for path in (ROOT / "fbnet_plugin").rglob("*.py"):
            for name in imported_unconditionally(path) - set(standard) - {"fbnet_plugin", "detectron2"}:
                assert called.get(name, name) in required(metadata), f"{path.relative_to(ROOT)} imports {name}"

    def test_setup_does_not_import_torch(self):
        code = (
            "import runpy, sys\n"
            "sys.modules.update(torch=None, detectron2=None, fbnet_plugin=None)\n"
            "sys.argv = ['setup.py', '--version']\n"
            "runpy.run_path('setup.py', run_name='__main__')"
        )
        result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert result.stdout.split()[-1] == "0.1.0"


def required(metadata):
    """What the package requires without any extra: name -> the whole line."""
    lines = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    return {re.split(r"[^\w-]", line)[0]: line for line in lines}


def imported_unconditionally(path):
    """The top-level packages that a module imports whenever it is imported itself."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add(node.module.split(".")[0])
    return names


@pytest.mark.skipif(shutil.which("make") is None, reason="there is no make")
class TestMakefile:
    def make(self, *args):
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(["make", *args], cwd=ROOT, env=env, capture_output=True, text=True)

    def test_help_is_the_default_and_lists_every_target(self):
        text = self.make().stdout
        targets = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE).group(1).split()
        assert {"help", "venv", "test", "lint", "demo", "clean"} <= set(targets)
        for target in targets:
            assert re.search(rf"^  {target} +\S", text, re.MULTILINE), target

    @pytest.mark.parametrize("target", ["test", "lint", "demo", "wheel"])
    def test_every_target_sets_up_first(self, target):
        steps = self.make("--dry-run", target).stdout
        assert "make_venv.py" in steps.split(".venv/bin/python")[0]

    def test_a_missing_python_is_one_clear_line(self):
        result = self.make("PYTHON=no-such-python", "venv")
        assert result.returncode != 0
        assert result.stderr.startswith("error: there is no 'no-such-python'; name a Python 3.9 or newer")

    def test_an_old_python_is_one_clear_line(self, tmp_path):
        old = tmp_path / "python"
        old.write_text("#!/bin/sh\nexit 1\n")
        old.chmod(0o755)
        result = self.make(f"PYTHON={old}", "venv")
        assert result.returncode != 0
        assert result.stderr.startswith(f"error: '{old}' is older than Python 3.9")

    def test_ci_runs_the_tests(self):
        script = ROOT / ".ci" / "run"
        assert os.access(script, os.X_OK)
        assert script.read_text().rstrip().endswith("make test")
