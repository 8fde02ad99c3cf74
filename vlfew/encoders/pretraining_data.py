"""What published weights were trained on, by the names of data sets."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache

from vlfew.core.outside_data import NOT_KNOWN

IMAGENET_1K = "ImageNet-1k"
_NAMES = (
    (r"in1k", IMAGENET_1K),
    (r"in12k", "ImageNet-12k"),
    (r"inw?21k", "ImageNet-21k"),
    (r"in22k", "ImageNet-22k"),
    (r"openai", "WebImageText (OpenAI)"),
    (r"laion2b", "LAION-2B"),
    (r"laion5b", "LAION-5B"),
    (r"laion400m", "LAION-400M"),
    (r"laion_aesthetic|laiona(?![a-z])", "LAION-Aesthetics"),
    (r"merged2b", "LAION-2B + COYO-700M"),
    (r"datacompdr", "DataCompDR"),
    (r"datacomp1b|datacomp_?xl|datacomp(?=_s34b)", "DataComp-1B"),
    (r"datacomp_[sml](?=_)", "DataComp, a smaller scale"),
    (r"commonpool", "CommonPool"),
    (r"dfndr2b", "DFNDR-2B"),
    (r"dfn2b", "DFN-2B"),
    (r"dfn5b", "DFN-5B"),
    (r"metaclip2_worldwide", "MetaCLIP 2 (worldwide)"),
    (r"metaclip_400m", "MetaCLIP-400M"),
    (r"metaclip_(?:fullcc|2pt5b)", "MetaCLIP-2.5B"),
    (r"metaclip_altogether", "MetaCLIP (Altogether)"),
    (r"webli", "WebLI"),
    (r"cc12m", "CC12M"),
    (r"yfcc15m", "YFCC-15M"),
    (r"yfcc100m", "YFCC-100M"),
    (r"mscoco", "MS COCO"),
    (r"lvd142m", "LVD-142M"),
    (r"lvd1689m", "LVD-1689M"),
    (r"sat493m", "SAT-493M"),
    (r"sa1b", "SA-1B"),
    (r"ig1b", "Instagram (1 billion images)"),
    (r"swag", "Instagram (3.6 billion images)"),
    (r"jft", "JFT-300M"),
)
"""A piece of a tag of timm, open_clip or torchvision, and the data that it refers to."""


def data_of_tag(tag: str) -> str:
    """`"ImageNet-21k + ImageNet-1k"` for `augreg_in21k_ft_in1k`, in the order of the tag.

    Args:
        tag: of published weights.

    Returns:
        The names joined by ` + `. `not known` is what a tag leaves open, all of it or what was fine-tuned.
    """
    tag = tag.lower()
    found = sorted(
        (match.start(), name)
        for pattern, name in _NAMES
        for match in re.finditer(rf"(?<![a-z0-9])(?:{pattern})(?![0-9])", tag)
    )
    names = [name for _, name in found]
    tuned = re.search(r"(?<![a-z0-9])ft_", tag)
    if tuned is not None and not any(start < tuned.start() for start, _ in found):
        names.insert(0, NOT_KNOWN)
    return joined(names) or NOT_KNOWN


def joined(names: Iterable[str]) -> str:
    """Names of data sets as one, each once; none is the empty string."""
    parts = (part for name in names for part in name.split(" + "))
    return " + ".join(dict.fromkeys(filter(None, parts)))


_SUBSETS = {
    IMAGENET_1K: "imagenet-1k",
    "ImageNet-12k": "imagenet-12k",
    "ImageNet-21k": "imagenet-21k",
    "ImageNet-22k": "imagenet-22k",
}
"""Data sets whose classes timm knows."""
_CONTAINS = {IMAGENET_1K: ("ImageNet-21k", "ImageNet-22k")}
"""Larger data sets that hold all images of one."""


def contains(data: str, images_from: str) -> bool:
    """Whether data hold images of one of other data sets; `joined` names both."""
    larger = {name for own in images_from.split(" + ") for name in (own, *_CONTAINS.get(own, ()))}
    return not larger.isdisjoint(data.split(" + "))


def labeled_data(data: str) -> list[str]:
    """Those of the joined data sets whose class names are known."""
    return [name for name in data.split(" + ") if name in _SUBSETS]


def class_texts(subset: str) -> list[list[str]]:
    """The names of each class of a set that timm knows (`imagenet-1k`), in the order of its classifiers' outputs."""
    from timm.data import ImageNetInfo

    return [text.split(", ") for text in ImageNetInfo(subset).label_descriptions()]


@cache
def class_names(data: str) -> frozenset[str]:
    """The names of all classes of one of `labeled_data`, each class by all its names and its WordNet number.

    They are `normalized`.
    """
    from timm.data import ImageNetInfo

    info = ImageNetInfo(_SUBSETS[data])
    lemmas = (lemma for text in info.label_descriptions() for lemma in text.split(","))
    return frozenset(map(normalized, (*info.label_names(), *lemmas)))


def normalized(name: str) -> str:
    """A class name without case, underscores, hyphens and double spaces, in which spellings of one name differ."""
    return " ".join(re.sub(r"[\W_]+", " ", name.casefold()).split())
