"""Timing operators and whole networks on the machine at hand; needs torch, and for ONNX Runtime the extra "onnx"."""

from .campaign import Campaign, Schedule
from .options import Options
from .request import Request, measure, open_table
from .validation import Validation, validate

__all__ = ["Campaign", "Options", "Request", "Schedule", "Validation", "measure", "open_table", "validate"]
