"""tools/install_detectron2.py: its edits fail loudly, its archive is checked, what it installs works."""

from __future__ import annotations

import importlib
import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
SCRIPT = TOOLS / "install_detectron2.py"
sys.path.insert(0, str(TOOLS))  # as when a script of tools/ runs
import install_detectron2 as d2  # noqa: E402


def fake_source(root, skip=None):
    """A source tree that holds just what the edits look for; without the text of the edit ``skip``."""
    (root / "detectron2").mkdir(parents=True)
    for edit in d2.EDITS:
        path = root / edit.file
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write("" if edit is skip else f"<{edit.old}>\n" * edit.count)
    return root


def archive_of(path, *members, kind=tarfile.REGTYPE):
    """A .tar.gz of (name, content) pairs, all of one kind."""
    with tarfile.open(path, "w:gz") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd"
            tar.addfile(info, io.BytesIO(content))
    return path


class TestEdits:
    def test_all_apply_to_what_they_expect(self, tmp_path):
        root = fake_source(tmp_path / "source")
        d2.prepare_source(root)
        for edit in d2.EDITS:
            text = (root / edit.file).read_text()
            assert edit.new in text
            assert edit.old not in text.replace(edit.new, "") if edit.new else edit.old not in text
        assert (root / d2.EXTENSION_FILE).read_text() == d2.EXTENSION_PLACEHOLDER

    @pytest.mark.parametrize("edit", d2.EDITS, ids=lambda edit: edit.name)
    def test_each_fails_where_its_text_is_missing(self, edit, tmp_path):
        root = fake_source(tmp_path / "source", skip=edit)
        with pytest.raises(d2.EditError) as error:
            d2.prepare_source(root)
        assert edit.name in str(error.value) and edit.file in str(error.value)

    def test_a_count_that_differs_is_refused(self, tmp_path):
        (tmp_path / "a.py").write_text("np.int np.int")
        with pytest.raises(d2.EditError, match="'ints': a.py has 'np.int' 2 times, expected 1"):
            d2.apply_edit(tmp_path, d2.Edit("ints", "a.py", "np.int", "int"))
        assert (tmp_path / "a.py").read_text() == "np.int np.int"

    def test_a_missing_file_is_refused(self, tmp_path):
        with pytest.raises(d2.EditError, match="'gone': there is no file a.py"):
            d2.apply_edit(tmp_path, d2.Edit("gone", "a.py", "x", "y"))

    def test_an_extension_that_is_there_is_not_overwritten(self, tmp_path):
        (tmp_path / "detectron2").mkdir()
        (tmp_path / d2.EXTENSION_FILE).write_text("real")
        with pytest.raises(d2.EditError, match="already there"):
            d2.prepare_source(tmp_path, edits=())

    def test_names_are_unique(self):
        names = [edit.name for edit in d2.EDITS]
        assert len(set(names)) == len(names)


class TestPlaceholder:
    @pytest.fixture
    def extension(self, tmp_path, monkeypatch):
        (tmp_path / "placeholder_C.py").write_text(d2.EXTENSION_PLACEHOLDER)
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.delitem(sys.modules, "placeholder_C", raising=False)
        return importlib.import_module("placeholder_C")

    def test_using_an_operation_says_what_to_do(self, extension):
        with pytest.raises(RuntimeError, match="InstanceAnnotation needs .* use_fast_impl=False .*--upstream"):
            extension.InstanceAnnotation(1, 0.5, 10.0, False, False)

    def test_asking_for_an_operation_says_that_it_is_missing(self, extension):
        assert not hasattr(extension, "box_iou_rotated")
        assert not hasattr(extension, "__wrapped__")
        with pytest.raises(ImportError):
            from placeholder_C import box_iou_rotated  # noqa: F401

    def test_what_the_environment_report_asks_for_is_there(self, extension):
        assert "without the C++ extension" in extension.get_compiler_version()
        assert "without the C++ extension" in extension.get_cuda_version()
        assert extension.has_cuda() is False


class TestArchive:
    def test_unpacks_plain_files(self, tmp_path):
        archive = archive_of(tmp_path / "a.tar.gz", ("top/setup.py", b"x"), ("top/pkg/m.py", b"y"))
        root = d2.unpack(archive, tmp_path / "out")
        assert root == tmp_path / "out" / "top"
        assert (root / "pkg" / "m.py").read_bytes() == b"y"

    @pytest.mark.parametrize("name", ["../evil.py", "top/../../evil.py", "/evil.py", "top\\..\\evil.py", "C:evil.py"])
    def test_names_that_leave_the_folder_are_refused(self, name, tmp_path):
        archive = archive_of(tmp_path / "a.tar.gz", (name, b"x"))
        with pytest.raises(d2.InstallError, match="unsafe name"):
            d2.unpack(archive, tmp_path / "out")
        assert not list(tmp_path.rglob("*evil*"))

    @pytest.mark.parametrize(
        "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE], ids=["symlink", "link", "fifo"]
    )
    def test_what_is_not_a_plain_file_is_refused(self, kind, tmp_path):
        archive = archive_of(tmp_path / "a.tar.gz", ("top/link", b""), kind=kind)
        with pytest.raises(d2.InstallError, match="not a plain file"):
            d2.unpack(archive, tmp_path / "out")

    def test_two_top_folders_are_refused(self, tmp_path):
        archive = archive_of(tmp_path / "a.tar.gz", ("one/x", b""), ("two/x", b""))
        with pytest.raises(d2.InstallError, match="one top folder"):
            d2.unpack(archive, tmp_path / "out")

    def test_a_wrong_hash_is_refused_before_anything_is_opened(self, tmp_path, monkeypatch):
        archive = archive_of(tmp_path / "a.tar.gz", ("top/setup.py", b"x"))
        monkeypatch.setattr(d2.tarfile, "open", lambda *args: pytest.fail("opened an unchecked archive"))
        with pytest.raises(d2.InstallError, match=f"expected {d2.SDIST_SHA256}"):
            d2.unpack_checked(archive, tmp_path / "out")
        assert not (tmp_path / "out").exists()

    def test_a_right_hash_is_accepted(self, tmp_path, monkeypatch):
        archive = archive_of(tmp_path / "a.tar.gz", ("top/setup.py", b"x"))
        monkeypatch.setattr(d2, "check_hash", lambda path: d2.hashlib.sha256(path.read_bytes()))
        assert d2.unpack_checked(archive, tmp_path / "out").name == "top"


class TestMain:
    def test_uses_the_detectron2_that_is_there(self, monkeypatch, capsys):
        monkeypatch.setattr(d2, "probe", lambda code: (True, "0.6 at /somewhere/detectron2"))
        monkeypatch.setattr(d2, "pip", lambda *args, **kwargs: pytest.fail("ran pip"))
        assert d2.main([]) == 0
        assert "using the installed Detectron2 0.6 at /somewhere/detectron2" in capsys.readouterr().out

    def test_a_broken_one_is_named(self, tmp_path, monkeypatch, capsys):
        (tmp_path / "detectron2").mkdir()
        (tmp_path / "detectron2" / "__init__.py").write_text("raise ImportError('undefined symbol')")
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        assert d2.main([]) == 1
        message = capsys.readouterr().err
        assert "does not import" in message and "undefined symbol" in message and "--force" in message

    def test_a_wrong_archive_is_refused_without_running_pip(self, tmp_path, monkeypatch, capsys):
        archive = archive_of(tmp_path / "a.tar.gz", ("top/setup.py", b"raise SystemExit('ran')"))
        monkeypatch.setattr(d2, "pip", lambda *args, **kwargs: pytest.fail("ran pip"))
        monkeypatch.setattr(d2, "ensure_build_tools", lambda: None)
        assert d2.main(["--force", "--sdist", str(archive)]) == 1
        assert "is not the expected archive" in capsys.readouterr().err

    def test_a_missing_archive_is_named(self, monkeypatch, capsys):
        monkeypatch.setattr(d2, "ensure_build_tools", lambda: None)
        assert d2.main(["--force", "--sdist", "nowhere.tar.gz"]) == 1
        assert capsys.readouterr().err == "install_detectron2: error: no such file: nowhere.tar.gz\n"

    def test_an_upstream_out_of_reach_is_one_line_and_then_pip(self, tmp_path, monkeypatch, capsys):
        monkeypatch.setattr(d2, "UPSTREAM", f"git+file://{tmp_path}/nothing.git")
        monkeypatch.setattr(d2, "ensure_build_tools", lambda: None)
        assert d2.main(["--upstream"]) == 1
        first, *rest = capsys.readouterr().err.splitlines()
        assert first.startswith("install_detectron2: error: cannot install upstream's Detectron2 from git+file")
        assert any("git clone" in line for line in rest)

    def test_pytorch_comes_first(self, monkeypatch, capsys):
        monkeypatch.setattr(d2.importlib.util, "find_spec", lambda name: None if name == "torch" else object())
        assert d2.main(["--force"]) == 1
        assert "has no torch; install it first: pip install torch torchvision" in capsys.readouterr().err

    def test_help_names_every_option(self):
        result = subprocess.run([sys.executable, str(SCRIPT), "--help"], capture_output=True, text=True, check=True)
        for word in ("--upstream", "--force", "--sdist", "SHA-256", "pip uninstall detectron2", "Exit status"):
            assert word in result.stdout


class TestInstalled:
    """The Detectron2 that these tests run with, whichever way it was installed."""

    def test_the_script_finds_it(self):
        env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        result = subprocess.run([sys.executable, str(SCRIPT)], capture_output=True, text=True, env=env)
        assert result.returncode == 0, result.stderr
        assert "using the installed Detectron2" in result.stdout

    def test_the_model_zoo_has_its_files(self):
        from detectron2 import model_zoo

        assert Path(model_zoo.get_config_file("COCO-Detection/faster_rcnn_R_50_C4_1x.yaml")).is_file()

    def test_the_edited_calls_work_with_these_libraries(self):
        import numpy as np
        import torch
        from detectron2.data.build import print_instances_class_histogram
        from detectron2.data.transforms import ExtentTransform
        from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
        from detectron2.structures import PolygonMasks

        image = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
        assert ExtentTransform((0, 0, 4, 4), (2, 2)).apply_image(image).shape == (2, 2, 3)
        triangle = [np.array([0.0, 0.0, 3.0, 0.0, 0.0, 3.0])]
        assert PolygonMasks([triangle]).crop_and_resize(torch.tensor([[0.0, 0.0, 4.0, 4.0]]), 4).dtype == torch.bool
        print_instances_class_histogram([{"annotations": [{"category_id": 0}]}], ["thing"])
        anchors = DefaultAnchorGenerator(sizes=[[32]], aspect_ratios=[[1.0]], strides=[16])
        assert len(anchors([torch.zeros(1, 1, 2, 3)])[0]) == 6

    def test_the_extension_or_its_placeholder_imports(self):
        import detectron2.evaluation  # imports the fast COCO evaluation, which imports the extension
        from detectron2 import _C

        assert detectron2.evaluation.COCOEvaluator
        assert isinstance(_C.get_compiler_version(), str)
