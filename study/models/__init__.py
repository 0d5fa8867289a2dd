"""Pretrained models: `Model` and a catalogue of published checkpoints."""

from study.models import catalogue
from study.models.catalogue import *
from study.models.model import Model

__all__ = ["MODELS", "Model", *(k for k, v in vars(catalogue).items() if isinstance(v, Model))]
