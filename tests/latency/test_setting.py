"""Settings: which tables can be compared, and what measures under one."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from fbnet_plugin.latency import LatencyError, Setting

EAGER = Setting("cpu", "Ryzen 5", "eager", 2, 1, "float32", False, {"torch": "2.1.0"})


def test_round_trip() -> None:
    imported = Setting("raspi4", "ARM Cortex-A72", "TFLite", method="import")
    for setting in (EAGER, imported):
        assert Setting.from_dict(setting.to_dict()) == setting


BAD: list[tuple[Any, str]] = [
    (3, "setting: got 3, expected a mapping"),
    ({"threads": 0}, "setting.threads: got 0, expected null or an integer of at least 1"),
    ({"threads": True}, "setting.threads: got True, expected null or an integer of at least 1"),
    ({"batch_size": "1"}, "setting.batch_size: got '1', expected null or an integer of at least 1"),
    ({"device": None}, "setting.device: got None, expected a text"),
    ({"processor": 7}, "setting.processor: got 7, expected a text"),
    ({"dtype": 32}, "setting.dtype: got 32, expected null or a text"),
    ({"channels_last": 1}, "setting.channels_last: got 1, expected null, true or false"),
    ({"versions": ["2.1"]}, "setting.versions: got ['2.1'], expected a mapping from names to versions, both texts"),
    ({"versions": {"torch": 2.1}}, "setting.versions: got {'torch': 2.1}, expected a mapping"),
    ({"thread": 1}, "setting.thread: unknown key, expected one of device, processor, runtime, threads"),
]


@pytest.mark.parametrize("change, message", BAD)
def test_bad_values(change: Any, message: str) -> None:
    with pytest.raises(LatencyError) as caught:
        Setting.from_dict({**EAGER.to_dict(), **change} if isinstance(change, dict) else change)
    assert str(caught.value).startswith(message)


def test_missing_values() -> None:
    with pytest.raises(LatencyError, match="setting.device: got None, expected a text"):
        Setting.from_dict({"processor": "x", "runtime": "eager", "versions": {}})


def test_equal_settings_are_comparable() -> None:
    EAGER.require(dataclasses.replace(EAGER), "a.json", "b.json")


def test_a_mismatch_names_both_with_all_values() -> None:
    other = dataclasses.replace(EAGER, threads=1, dtype=None, versions={"torch": "2.2.0", "cuda": "12.1"})
    with pytest.raises(LatencyError) as caught:
        EAGER.require(other, "a.json", "this machine")
    assert str(caught.value) == (
        "a.json and this machine are not comparable: a.json has threads 2, dtype float32, torch 2.1.0, cuda None; "
        "this machine has threads 1, dtype None, torch 2.2.0, cuda 12.1"
    )


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Setting)])
def test_every_field_matters(field: str) -> None:
    value = {"threads": 4, "batch_size": 4, "channels_last": True, "versions": {"torch": "2.0"}}.get(field, "other")
    other = dataclasses.replace(EAGER, **{field: value})
    key, before = ("torch", "2.1.0") if field == "versions" else (field, getattr(EAGER, field))
    assert EAGER.differences(other) == [(key, before, "2.0" if field == "versions" else value)]


def test_flags() -> None:
    assert EAGER.flags() == "--device cpu --runtime eager --threads 2 --batch-size 1 --dtype float32"
    gpu = Setting("cuda", "H200", "compile", 1, 8, "bfloat16", True, method="isolated")
    assert gpu.flags() == (
        "--device cuda --runtime compile --threads 1 --batch-size 8 --dtype bfloat16 --channels-last --method isolated"
    )
    # What the tool would not take is left out.
    assert Setting("raspi4", "Cortex-A72", "TFLite", 4, dtype="int8", method="fit").flags() == "--threads 4"


def test_text() -> None:
    assert str(EAGER) == "Ryzen 5, eager, torch 2.1.0, 2 threads, batch 1, float32"
    text = str(dataclasses.replace(EAGER, threads=1, batch_size=None, channels_last=True))
    assert text == "Ryzen 5, eager, torch 2.1.0, 1 thread, float32, channels-last"
