from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from fbnet_plugin.atomic_file import atomic_write, remove_leftovers


def test_file_appears_whole_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "a.pth"
    with atomic_write(str(path)) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.pth"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_a_writer_that_raises_leaves_the_older_file(tmp_path, error):
    path = tmp_path / "a.pth"
    path.write_bytes(b"old")
    with pytest.raises(error), atomic_write(str(path)) as file:
        file.write(b"half")
        raise error
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.pth"]


def test_a_rename_that_fails_leaves_the_older_file(tmp_path, monkeypatch):
    path = tmp_path / "a.pth"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(OSError("disk")))
    with pytest.raises(OSError, match="disk"), atomic_write(str(path)) as file:
        file.write(b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.pth"]


def test_the_content_is_on_the_disk_before_the_name_is(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (calls.append("fsync"), fsync(handle)))
    monkeypatch.setattr(os, "replace", lambda *args: (calls.append("replace"), replace(*args)))
    with atomic_write(str(tmp_path / "a.pth")) as file:
        file.write(b"new")
    assert calls[:2] == ["fsync", "replace"]


def test_a_killed_writer_leaves_a_hidden_file_that_the_next_removes(tmp_path):
    (tmp_path / "a.pth").write_bytes(b"old")
    code = (
        "import os, sys; from importlib.util import spec_from_file_location, module_from_spec\n"
        "spec = spec_from_file_location('m', sys.argv[1]); m = module_from_spec(spec); spec.loader.exec_module(m)\n"
        "with m.atomic_write(sys.argv[2]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    source = sys.modules[atomic_write.__module__].__file__
    done = subprocess.run([sys.executable, "-c", code, source, str(tmp_path / "a.pth")])
    assert done.returncode == -signal.SIGKILL
    assert (tmp_path / "a.pth").read_bytes() == b"old"
    assert sorted(os.listdir(tmp_path)) == [".a.pth.tmp", "a.pth"]
    (tmp_path / ".other").write_bytes(b"")
    remove_leftovers(str(tmp_path), ".pth")
    assert sorted(os.listdir(tmp_path)) == [".other", "a.pth"]
