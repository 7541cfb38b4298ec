"""tools/make_venv.py: one environment, built once, built again when interrupted or out of date."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

import pytest

TOOLS = Path(__file__).resolve().parent.parent / "tools"
sys.path.insert(0, str(TOOLS))  # as when a script of tools/ runs
import make_venv  # noqa: E402


@pytest.fixture
def builds():
    """The choice of Detectron2 of each build, in order."""
    return []


@pytest.fixture
def checkout(tmp_path, monkeypatch, builds):
    """A checkout whose set-up makes an environment of nothing but a Python."""
    for name in make_venv.REQUIREMENT_FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)

    def build(folder, root, detectron2, held):
        builds.append(detectron2)
        (folder / "bin").mkdir(parents=True)
        make_venv.environment_python(folder).symlink_to(sys.executable)

    monkeypatch.setattr(make_venv, "ROOT", tmp_path)
    monkeypatch.setattr(make_venv, "build", build)
    return tmp_path


def set_up(root, *options):
    return make_venv.main([str(root / ".venv"), *options])


def test_builds_once(checkout, builds):
    assert set_up(checkout) == set_up(checkout) == 0
    assert builds == ["auto"]


@pytest.mark.parametrize("name", make_venv.REQUIREMENT_FILES)
def test_builds_again_when_a_requirement_changes(name, checkout, builds):
    set_up(checkout)
    (checkout / name).write_text("changed")
    set_up(checkout)
    assert len(builds) == 2


def test_builds_again_for_another_detectron2(checkout, builds):
    for choice in ("auto", "upstream", "upstream", "auto"):
        assert set_up(checkout, "--detectron2", choice) == 0
    assert builds == ["auto", "upstream", "auto"]


def test_builds_again_after_an_interruption(checkout, builds, monkeypatch, capsys):
    whole_build = make_venv.build

    def interrupted(folder, *args):
        whole_build(folder, *args)
        raise KeyboardInterrupt

    monkeypatch.setattr(make_venv, "build", interrupted)
    assert set_up(checkout) == 130
    assert (checkout / ".venv").is_dir()  # half built
    monkeypatch.setattr(make_venv, "build", whole_build)
    assert set_up(checkout) == 0
    assert len(builds) == 2
    assert ".venv is incomplete or out of date: building it again" in capsys.readouterr().out


def test_builds_again_when_its_python_is_gone(checkout, builds):
    set_up(checkout)
    make_venv.environment_python(checkout / ".venv").unlink()
    set_up(checkout)
    assert len(builds) == 2


def test_its_own_python_does_not_remove_it(checkout, builds, monkeypatch, capsys):
    """As when somebody activates .venv and runs make."""
    set_up(checkout)
    monkeypatch.setattr(make_venv.sys, "prefix", str(checkout / ".venv"))
    assert set_up(checkout) == 0
    (checkout / "setup.py").write_text("changed")
    assert set_up(checkout) == 1
    assert builds == ["auto"]
    assert "leave it first: deactivate" in capsys.readouterr().err


def test_a_stamp_that_cannot_be_read_is_none(checkout, builds):
    set_up(checkout)
    (checkout / ".venv" / make_venv.STAMP).write_text("{")
    set_up(checkout)
    assert len(builds) == 2


@pytest.mark.parametrize("kind", ["file", "link", "empty folder"])
def test_replaces_whatever_is_in_the_way(kind, checkout, builds):
    folder, target = checkout / ".venv", checkout / "elsewhere"
    target.mkdir()
    (target / "kept").touch()
    if kind == "file":
        folder.touch()
    elif kind == "link":
        folder.symlink_to(target)
    else:
        folder.mkdir()
    assert set_up(checkout) == 0
    assert len(builds) == 1
    assert (target / "kept").is_file()


def test_a_failure_is_one_line(checkout, monkeypatch, capsys):
    def fails(*args):
        make_venv.run([sys.executable, "-c", "raise SystemExit(3)"], [], "cannot install PyTorch")

    monkeypatch.setattr(make_venv, "build", fails)
    assert set_up(checkout) == 1
    assert capsys.readouterr().err == "set-up: error: cannot install PyTorch (see above)\n"


def test_a_second_set_up_waits_for_the_first(checkout):
    fcntl = pytest.importorskip("fcntl", reason="locks are POSIX's")
    code = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r}); from pathlib import Path; import make_venv\n"
        f"with make_venv.only_one(Path({str(checkout)!r})): print('in', flush=True)"
    )
    with make_venv.only_one(checkout) as held:
        second = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert "waiting for another set-up" in second.stdout.readline()
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(timeout=0.3)
        assert fcntl.fcntl(held[0], fcntl.F_GETFD) >= 0  # the lock is still ours
    assert second.communicate(timeout=30)[0] == "in\n"


def test_sees_the_packages_of_a_python_that_is_itself_in_an_environment(tmp_path):
    """Also those that the outer environment finds through a .pth file, as an editable installation does."""
    outer, inner, source = tmp_path / "outer", tmp_path / "inner", tmp_path / "source"
    source.mkdir()
    for folder in (outer, inner):
        venv.EnvBuilder(with_pip=False, symlinks=True).create(folder)
    site_packages = next(outer.glob("lib/python*/site-packages"))
    (site_packages / "outer_module.py").write_text("where = 'outer'")
    (site_packages / "shadowed.py").write_text("where = 'outer'")
    (source / "editable_module.py").write_text("where = 'editable'")
    (site_packages / "editable.pth").write_text(f"{source}\n")
    (next(inner.glob("lib/python*/site-packages")) / "shadowed.py").write_text("where = 'inner'")
    link = (
        f"import sys; sys.path.insert(0, {str(TOOLS)!r}); from pathlib import Path; import make_venv\n"
        f"make_venv.link_outer_packages(Path({str(inner)!r}))"
    )
    subprocess.run([str(make_venv.environment_python(outer)), "-c", link], check=True)
    ask = "import editable_module as e, outer_module as o, shadowed as s; print(o.where, e.where, s.where)"
    command = [str(make_venv.environment_python(inner)), "-c", ask]
    assert subprocess.run(command, check=True, capture_output=True, text=True).stdout == "outer editable inner\n"
