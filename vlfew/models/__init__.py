"""The dual-stream model: built, saved, loaded and used."""

from vlfew.models.build import build_model
from vlfew.models.classifier import Classifier, Prediction
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import load, load_model, save_model
from vlfew.models.spec import ModelSpec

__all__ = [
    "Classifier",
    "DualStream",
    "ModelSpec",
    "Prediction",
    "build_model",
    "load",
    "load_model",
    "save_model",
]
