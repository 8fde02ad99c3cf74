"""fc100: CIFAR-100 in the few-shot split of Oreshkin et al. (2018), "TADAM: Task dependent adaptive metric for
improved few-shot learning": 60 classes of 12 superclasses for training, 20 of 4 for validation, 20 of 4 for
test. No superclass is in two splits, which makes it harder than CIFAR-FS.
"""

from __future__ import annotations

from pathlib import Path

from vlfew.data.cifar100 import read_cifar100
from vlfew.data.class_split import split_by_list
from vlfew.data.images import LabelledImages
from vlfew.data.reading import Reading
from vlfew.data.root import find_data

NAME = "fc100"


def load(root: Path | None, reading: Reading, *, memory_limit_mb: int = 2048) -> LabelledImages:
    """All 600 pictures a class; groups are the superclasses.

    Args:
        root: folder of CIFAR-100 in a form that `vlfew.data.cifar100` reads; None looks for `cifar100`
            where data lie.
        reading: how to read the pictures.
        memory_limit_mb: larger sets (decoded, in MiB) are decoded as they are asked for.

    Raises:
        DataError: no CIFAR-100 there, a class that is none of its, or a picture that cannot be read.
    """
    return split_by_list(read_cifar100(find_data(NAME, root), reading, memory_limit_mb), NAME)
