"""cifar_fs: CIFAR-100 in the few-shot split of Bertinetto et al. (2019), "Meta-learning with differentiable
closed-form solvers": 64 classes for training, 16 for validation, 20 for test, drawn at random.
"""

from __future__ import annotations

from pathlib import Path

from vlfew.data.cifar100 import read_cifar100
from vlfew.data.class_split import split_by_list
from vlfew.data.data_root import find_data
from vlfew.data.labeled_images import LabeledImages
from vlfew.data.preprocess import ImagePreprocessor

NAME = "cifar_fs"


def load(root: Path | None, preprocessor: ImagePreprocessor, *, memory_limit_mb: int = 2048) -> LabeledImages:
    """CIFAR-FS: 600 images per class; groups are the superclasses, which the splits share.

    Args:
        root: folder of CIFAR-100 in a form that `vlfew.data.cifar100` reads; None searches for `cifar100` in the usual
            places.
        preprocessor: size, channels and how to resize.
        memory_limit_mb: larger data sets (decoded, in MiB) are decoded on demand.

    Raises:
        DataError: CIFAR-100 is missing, a class does not belong to it, or an image cannot be read.
    """
    return split_by_list(read_cifar100(find_data(NAME, root), preprocessor, memory_limit_mb), NAME)
