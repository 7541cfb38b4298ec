"""Differentiable architecture search (FBNet): supernet, latency-aware loss, search run, sampling of its result."""

from .candidates import candidate_names
from .distribution import Distribution
from .distribution_file import load_distribution, save_distribution
from .errors import SearchError
from .loss import LATENCY_LOSS_REGISTRY, ProductLatencyLoss
from .sampling import most_probable, sample_architectures
from .schedule import SearchSchedule
from .supernet import Supernet
from .trainer import DNASTrainer

__all__ = [
    "DNASTrainer", "Distribution", "LATENCY_LOSS_REGISTRY", "ProductLatencyLoss", "SearchError", "SearchSchedule",
    "Supernet", "candidate_names", "load_distribution", "most_probable", "sample_architectures", "save_distribution",
]  # fmt: skip
