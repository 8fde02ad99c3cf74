"""Data sources, preprocessing, augmentation and batch sampling."""

from typing import TYPE_CHECKING

from vlfew.core.lazy import lazy_attributes

if TYPE_CHECKING:
    from vlfew.data.labeled_images import ImageStore, InMemory, LabeledImages
    from vlfew.data.loading import load_data
    from vlfew.data.preprocess import ImagePreprocessor

__all__ = ["ImagePreprocessor", "ImageStore", "InMemory", "LabeledImages", "load_data"]

__getattr__ = lazy_attributes(
    __name__,
    {
        "ImagePreprocessor": "vlfew.data.preprocess",
        "ImageStore": "vlfew.data.labeled_images",
        "InMemory": "vlfew.data.labeled_images",
        "LabeledImages": "vlfew.data.labeled_images",
        "load_data": "vlfew.data.loading",
    },
)
