"""Normalization of the pixels, RGB, of values 0 to 255, as the classifiers and detectors have it."""

constants = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], fill=[124, 116, 104])
