"""Data sources, preprocessing, augmentation and batch sampling."""

from typing import TYPE_CHECKING

from vlfew.core.lazy import lazy_imports

if TYPE_CHECKING:
    from vlfew.data.labeled_images import ImageStore as ImageStore
    from vlfew.data.labeled_images import InMemory as InMemory
    from vlfew.data.labeled_images import LabeledImages as LabeledImages
    from vlfew.data.loading import load_data as load_data
    from vlfew.data.preprocess import ImagePreprocessor as ImagePreprocessor

__getattr__, __all__ = lazy_imports(__name__)
