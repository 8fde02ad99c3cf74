"""combined: several data sets as one, such as captioned images and described classes, to train on all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vlfew.core.errors import ConfigError, DataError, error_context
from vlfew.core.plurals import first_names
from vlfew.data.class_names import same_key, unique_names
from vlfew.data.image_files import digest
from vlfew.data.labeled_images import ImageStore, LabeledImages
from vlfew.data.loading import load_data
from vlfew.data.preprocess import ImagePreprocessor


def load(
    root: Path | None,
    preprocessor: ImagePreprocessor,
    *,
    sources: list[dict[str, Any]],
    memory_limit_mb: int = 2048,
) -> LabeledImages:
    """The images, classes and texts of all parts; a split of the whole is that split of every part.

    A batch is drawn from the classes of all parts alike, so a part counts by its number of classes. Groups, sources of
    images and annotated pairs of the parts are not used. A class of one part that is in another one's training split by
    the same name is named in a note, for it is not new where it is evaluated.

    Args:
        root: folder with a folder for each part, of the part's name (`ROOT/flickr8k`); None searches the usual places
            of each.
        preprocessor: size, channels and how to resize.
        sources: name, `root` if it is not as above, and further options of each part, such as `[{name: flickr8k},
            {name: mini_imagenet, texts: both}]`.
        memory_limit_mb: larger parts (decoded, in MiB) are decoded on demand.

    Raises:
        ConfigError: fewer than two parts, or one without a name; anything that a part raises, with its name.
        DataError: a part without training images.
    """
    if len(sources) < 2:
        raise ConfigError(
            "combined: sources lists two data sets or more, such as [{name: folder, root: PATH}, ...]"
        )
    parts = []
    for number, given in enumerate(sources, 1):
        options = dict(given)
        name = options.pop("name", None)
        if not isinstance(name, str) or name == "combined":
            raise ConfigError(
                f"combined: part {number} of sources needs the name of a data source, got {name!r}"
            )
        place = options.pop("root", None) or (None if root is None else root / name)
        with error_context(f"combined, part {number} ({name})"):
            parts.append(
                load_data(name, place, preprocessor, **{"memory_limit_mb": memory_limit_mb} | options)
            )
    return combine(parts)


@dataclass(frozen=True)
class CombinedImages:
    """The images of several stores of one size, one store after the other."""

    parts: tuple[ImageStore, ...]

    @cached_property
    def _ends(self) -> Tensor:
        return torch.tensor([len(part) for part in self.parts]).cumsum(0)

    @property
    def shape(self) -> tuple[int, int, int]:
        return self.parts[0].shape

    @property
    def nbytes(self) -> int:
        return sum(part.nbytes for part in self.parts)

    @cached_property
    def hashes(self) -> Tensor | None:
        known = [part.hashes for part in self.parts]
        return (
            None
            if any(own is None for own in known)
            else torch.cat([own for own in known if own is not None])
        )

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def batch(self, index: Tensor) -> Tensor:
        """Images `index [B]` as uint8 `[B, C, H, W]`."""
        part = torch.bucketize(index, self._ends, right=True)
        images = torch.empty((len(index), *self.shape), dtype=torch.uint8)
        for number in part.unique().tolist():
            rows = part == number
            images[rows] = self.parts[number].batch(
                index[rows] - (self._ends[number] - len(self.parts[number]))
            )
        return images


def combine(parts: Sequence[LabeledImages]) -> LabeledImages:
    """Several data sets of one image size as one.

    Raises:
        DataError: a part without training images, or with boxes.
    """
    for part in parts:
        part.require_labels("combined")
        if "train" not in part.splits:
            raise DataError(f"combined: {part.name} has no training split")
    first_image = _starts([len(part.images) for part in parts])
    first_class = _starts([len(part.class_names) for part in parts])
    splits: dict[str, list[Tensor]] = {}
    for part, start in zip(parts, first_image, strict=True):
        for split, index in part.splits.items():
            splits.setdefault(split, []).append(index + start)
    names = [name for part in parts for name in part.class_names]
    owners = [f"{part.name} {number}" for number, part in enumerate(parts, 1) for _ in part.class_names]
    from_larger = dict.fromkeys(part.images_from for part in parts if part.images_from)
    named = all(part.image_names for part in parts)
    return LabeledImages(
        name="combined",
        images=CombinedImages(tuple(part.images for part in parts)),
        labels=torch.cat([part.labels + start for part, start in zip(parts, first_class, strict=True)]),
        class_names=unique_names(names, owners),
        splits={split: torch.cat(indices) for split, indices in splits.items()},
        fingerprint=digest([(part.name, part.fingerprint) for part in parts]),
        split_by="class" if all(part.split_by == "class" for part in parts) else "image",
        class_texts=tuple(chain.from_iterable(part.class_texts for part in parts)),
        image_names=tuple(f"{part.name}/{name}" for part in parts for name in part.image_names)
        if named
        else (),
        images_from=" + ".join(from_larger),
        skipped=tuple(f"{part.name}/{name}" for part in parts for name in part.skipped),
        set_aside=tuple(f"{part.name}/{name}" for part in parts for name in part.set_aside),
        note="; ".join(
            filter(None, [*(f"{p.name}: {p.note}" for p in parts if p.note), _known_elsewhere(parts)])
        ),
    )


def _starts(sizes: list[int]) -> list[int]:
    """Where each part begins."""
    return [sum(sizes[:number]) for number in range(len(sizes))]


def _known_elsewhere(parts: Sequence[LabeledImages]) -> str:
    """Which held-out classes of a part are training classes of another one by name; empty for none."""

    def keys(part: LabeledImages, split: str) -> dict[str, str]:
        names = [part.class_names[c] for c in part.classes(split).tolist()]
        return {same_key(name): name for name in names}

    known = []
    for part in parts:
        trained = {key for other in parts if other is not part for key in keys(other, "train")}
        held_out = [keys(part, split) for split in part.splits if split != "train"]
        known += [name for own in held_out for key, name in own.items() if key in trained]
    if not known:
        return ""
    return (
        f"evaluated classes that another part trains on by the same name: {first_names(sorted(set(known)))}"
    )
