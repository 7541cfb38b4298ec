"""A saved predictor is the same predictor; anything else is one clear error."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fbnet_plugin.nars.errors import NARSError
from fbnet_plugin.nars.predictor import Predictor
from fbnet_plugin.nars.predictor_file import load_predictor, save_predictor
from fbnet_plugin.nars.predictor_settings import PredictorSettings

SETTINGS = PredictorSettings(members=2, min_steps=20, pretrain_epochs=1, pretrain_min_steps=20)
CODES = np.random.default_rng(0).uniform(0, 1, (60, 7)).astype(np.float32)
ACCURACY = 60 + 10 * CODES[:, 0].astype(np.float64)


def predictor(arch_width: int = 5, settings: PredictorSettings = SETTINGS, fitted: bool = True) -> Predictor:
    one = Predictor(arch_width, 7, ("macs",), settings, seed=3)
    if arch_width:
        one.pretrain(CODES[:, :arch_width], 1 + CODES[:, :1].astype(np.float64))
    if fitted:
        one.fit(CODES, ACCURACY)
    return one


@pytest.mark.parametrize("settings", [SETTINGS, PredictorSettings.plain(pretrain_epochs=1)])
@pytest.mark.parametrize("arch_width", [0, 5, 7])
def test_a_loaded_predictor_predicts_the_same_bits(
    tmp_path: Path, arch_width: int, settings: PredictorSettings
) -> None:
    one, file = predictor(arch_width, settings), tmp_path / "predictor.pt"
    save_predictor(one, file)
    two = load_predictor(file)
    assert (two.settings, two.seed, two.statistics) == (settings, 3, ("macs",))
    assert two.pretrained == bool(arch_width)
    np.testing.assert_array_equal(one.predict(CODES), two.predict(CODES))
    for each in (one, two):
        each.fit(CODES[:20], ACCURACY[:20])
    np.testing.assert_array_equal(one.predict(CODES), two.predict(CODES))
    assert [path.name for path in tmp_path.iterdir()] == ["predictor.pt"]


def test_before_a_fit(tmp_path: Path) -> None:
    one, file = predictor(fitted=False), tmp_path / "predictor.pt"
    save_predictor(one, file)
    two = load_predictor(file)
    assert two.pretrained and two.fitted is None
    assert torch.equal(one.encoder.weight, two.encoder.weight)


def test_truncated_files(tmp_path: Path) -> None:
    file = tmp_path / "predictor.pt"
    save_predictor(predictor(), file)
    whole = file.read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 30):
        file.write_bytes(whole[:size])
        with pytest.raises(NARSError, match=r"predictor\.pt: no accuracy predictor, or a truncated one"):
            load_predictor(file)


def test_foreign_files(tmp_path: Path) -> None:
    file = tmp_path / "model.pth"
    with pytest.raises(NARSError, match=r"cannot read the accuracy predictor .*model\.pth"):
        load_predictor(file)
    with pytest.raises(NARSError, match=r"cannot read the accuracy predictor"):
        load_predictor(tmp_path)
    for content in ({"model": {"weight": torch.zeros(2)}}, [1, 2], torch.zeros(3)):
        torch.save(content, file)
        with pytest.raises(NARSError, match=r"model\.pth: no accuracy predictor"):
            load_predictor(file)
    torch.save(predictor, file)  # code, which is not run
    with pytest.raises(NARSError, match=r"model\.pth: no accuracy predictor"):
        load_predictor(file)


def changed(data: dict[str, Any], key: str, value: Any) -> dict[str, Any]:
    return {**data, key: value}


def test_wrong_version_and_bad_content(tmp_path: Path) -> None:
    file = tmp_path / "predictor.pt"
    save_predictor(predictor(), file)
    data = torch.load(file, weights_only=True)
    encoder = data["encoder"]
    cases = [
        (changed(data, "version", 99), "of version 99, expected version 1"),
        (changed(data, "arch_width", 9), "bad content: code widths 9"),
        (changed(data, "arch_width", 4), "bad content: encoder: expected a tensor of shape"),
        (changed(data, "encoder", [encoder[0] * float("nan"), encoder[1]]), "encoder: expected finite numbers"),
        (changed(data, "settings", {"members": -1}), "bad content: members: -1"),
        (changed(data, "settings", {"colour": 1}), "bad content: .*colour"),
        (changed(data, "fitted", changed(data["fitted"], "head", [])), "0 layers of the accuracy head"),
        ({key: value for key, value in data.items() if key != "seed"}, "bad content: 'seed'"),
    ]
    for content, message in cases:
        torch.save(content, file)
        with pytest.raises(NARSError, match=rf"predictor\.pt: an accuracy predictor .*{message}"):
            load_predictor(file)


def test_an_older_file_stays_where_saving_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, file = predictor(), tmp_path / "predictor.pt"
    save_predictor(one, file)
    before = file.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        save_predictor(one, file)
    assert file.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
