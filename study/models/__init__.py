"""Pretrained models: the class, and the checkpoints that the field knows."""

from study.models import catalogue
from study.models.catalogue import *
from study.models.model import Model

__all__ = ["MODELS", "Model", *(k for k, v in vars(catalogue).items() if isinstance(v, Model))]
