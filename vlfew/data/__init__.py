"""Data sources and what is done to images before a model sees them."""

from vlfew.data.labeled_images import ImageStore, InMemory, LabeledImages
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.data.sources import SOURCES, load_data

__all__ = ["SOURCES", "ImagePreprocessor", "ImageStore", "InMemory", "LabeledImages", "load_data"]
