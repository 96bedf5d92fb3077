"""A pytest plugin that lets a torchvision be imported whose compiled half does not fit the installed torch.

PyPI's torchvision is built for PyPI's torch, and finds no operators of its own beside another build (CPU only). It
needs them to be known when it is imported, and timm never runs them: `pytest -p torchvision_operators`.
"""

from __future__ import annotations

import torch

LIBRARY = torch.library.Library("torchvision", "DEF")
"""Kept: the operators are gone with it."""

for name in ("nms", "qnms"):
    LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
