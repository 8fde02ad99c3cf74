"""What methods need of a support set, checked with a message that names the class and the way out."""

from __future__ import annotations

from torch import Tensor
from torch.nn.functional import normalize

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.prototypes import normalized_mean
from vlfew.classifiers.support import SupportSet
from vlfew.core.errors import VlfewError


def unit_images(support: SupportSet, method: str) -> tuple[Tensor, Tensor]:
    """Unit vectors of the images, `[..., S, D]`, and their classes, `[S]`.

    Raises:
        VlfewError: a class has no image.
    """
    images = support.images
    if empty := images.first_empty():
        raise VlfewError(
            f"class {empty} has no images in the support, which {method} needs; add at least one image per class, or "
            "use zero_shot, which needs texts alone"
        )
    return normalize(images.features.embedding, dim=-1), images.class_id


def text_prototypes(support: SupportSet, method: str) -> Tensor:
    """The `normalized_mean` of the texts of each class, `[..., N, D]`.

    Raises:
        VlfewError: a class has no text; lists the methods that need none.
    """
    texts = support.texts
    if empty := texts.first_empty():
        raise VlfewError(
            f"class {empty} has no texts in the support, which {method} needs; "
            f"methods without text: {', '.join(image_only_methods())}"
        )
    return normalized_mean(texts)


def image_only_methods() -> list[str]:
    """Methods that need neither text nor feature maps nor trained weights."""
    needs = ("needs_text", "needs_map", "learned")
    return [n for n in CLASSIFIERS.names() if not any(getattr(CLASSIFIERS.get(n), need) for need in needs)]
