"""Data sources and what is done to pictures before a model sees them."""

from vlfew.data.images import ImageStore, InMemory, LabelledImages
from vlfew.data.reading import Reading
from vlfew.data.sources import SOURCES, load_data

__all__ = ["SOURCES", "ImageStore", "InMemory", "LabelledImages", "Reading", "load_data"]
