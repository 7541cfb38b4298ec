from __future__ import annotations

import logging

import torch
from detectron2.layers import FrozenBatchNorm2d
from torch import nn

from fbnet_plugin.checkpoint import FBNetCheckpointer, convert_state_dict


def block(c_in, c_out, norm=nn.BatchNorm2d):
    return nn.ModuleDict({"conv": nn.Conv2d(c_in, c_out, 1), "norm": norm(c_out)})


def stage(*channels, norm=nn.BatchNorm2d):
    return nn.Sequential(*(block(a, b, norm) for a, b in zip(channels, channels[1:])))


def trunk(stages, norm=nn.BatchNorm2d):
    """The first of four stages of one, one, two and three blocks."""
    every = [stage(3, 4, norm=norm), stage(4, 4, norm=norm), stage(4, 6, 6, norm=norm), stage(6, 8, 8, 8, norm=norm)]
    return nn.ModuleDict({"stages": nn.ModuleList(every[:stages])})


class Classifier(nn.Module):
    def __init__(self, stages=4):
        super().__init__()
        self.backbone = trunk(stages)
        self.head = nn.ModuleDict({"fc": nn.Linear(8, 10)})


class Pyramid(nn.Module):
    def __init__(self, norm=nn.BatchNorm2d):
        super().__init__()
        self.backbone = nn.ModuleDict({"bottom_up": trunk(4, norm), "fpn_output2": nn.Conv2d(8, 8, 1)})


class C4(nn.Module):
    """Stages 0 to ``stages`` - 1 run per image, the blocks in ``channels`` per region."""

    def __init__(self, stages=3, channels=(6, 8, 8, 8)):
        super().__init__()
        self.backbone = trunk(stages)
        self.roi_heads = nn.ModuleDict({"box_head": nn.ModuleDict({"blocks": stage(*channels)})})


def assert_equal(a: nn.Module, b: nn.Module):
    other = b.state_dict()
    for name, value in a.state_dict().items():
        assert torch.equal(value, other[name]), name


def load(model, source, tmp_path):
    for parameter in source.buffers():
        if parameter.is_floating_point():
            nn.init.uniform_(parameter)
    FBNetCheckpointer(source, str(tmp_path)).save("model_final")
    FBNetCheckpointer(model).resume_or_load(str(tmp_path / "model_final.pth"), resume=False)


def test_a_classifier_initializes_a_pyramid(tmp_path, caplog):
    source, model = Classifier(), Pyramid()
    with caplog.at_level(logging.INFO):
        load(model, source, tmp_path)
    assert_equal(model.backbone["bottom_up"], source.backbone)
    assert "49 to backbone.bottom_up.stages; 2 not used (head.fc.weight, head.fc.bias)" in caplog.text


def test_a_classifiers_last_stage_becomes_the_head_of_a_c4_detector(tmp_path, caplog):
    source, model = Classifier(), C4()
    with caplog.at_level(logging.INFO):
        load(model, source, tmp_path)
    assert_equal(model.backbone["stages"], source.backbone["stages"][:3])
    assert_equal(model.roi_heads["box_head"]["blocks"], source.backbone["stages"][3])
    assert "28 tensors by name; 21 to roi_heads.box_head.blocks; 2 not used" in caplog.text


def test_several_last_stages_are_counted_through(tmp_path):
    source, model = Classifier(), C4(2, (4, 6, 6, 8, 8, 8))
    load(model, source, tmp_path)
    blocks = model.roi_heads["box_head"]["blocks"]
    expected = [*source.backbone["stages"][2], *source.backbone["stages"][3]]
    assert len(blocks) == len(expected)
    for mine, theirs in zip(blocks, expected):
        assert_equal(mine, theirs)


def test_a_pyramids_trunk_initializes_a_plain_backbone(tmp_path):
    source, model = Pyramid(), Classifier()
    load(model, source, tmp_path)
    assert_equal(model.backbone, source.backbone["bottom_up"])


def test_frozen_norms_take_the_statistics_and_no_counter(tmp_path):
    source, model = Classifier(), Pyramid(FrozenBatchNorm2d)
    load(model, source, tmp_path)
    for mine, theirs in zip(model.backbone["bottom_up"]["stages"][2], source.backbone["stages"][2]):
        assert torch.equal(mine["norm"].running_var, theirs["norm"].running_var)


def test_a_block_moves_as_a_whole_or_not_at_all():
    source, model = Classifier(), C4(3, (6, 8, 8, 9))
    state, moves = convert_state_dict(model, source.state_dict())
    assert moves.moved == {"roi_heads.box_head.blocks": 14}
    assert "backbone.stages.3.2.conv.bias" in state and "roi_heads.box_head.blocks.2.conv.bias" not in state
    assert len(moves.unused) == 7 + 2


def test_the_model_of_the_same_task_needs_no_mapping():
    source = Classifier()
    state, moves = convert_state_dict(Classifier(), source.state_dict())
    assert list(state) == list(source.state_dict()) and moves.kept == len(state)
    assert not moves.moved and not moves.unused
    assert state._metadata == source.state_dict()._metadata


def test_the_given_state_is_not_changed():
    before = Classifier().state_dict()
    names = list(before)
    convert_state_dict(Pyramid(), before)
    assert list(before) == names
