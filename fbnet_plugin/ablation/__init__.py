"""Ablations of how networks are trained (FBNetV3 Tables 3 and 8): many trainings, one table with its spread.

``techniques`` and ``recipes`` plan the trainings, ``schedule`` runs them, ``summary`` reads what they left behind.
"""

from .errors import AblationError

__all__ = ["AblationError"]
