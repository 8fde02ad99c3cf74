"""The registry of few-shot methods, which contains every similarity; importing it does not import torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from vlfew.core.registry import Registry
from vlfew.similarities import SIMILARITIES


class MethodRegistry(Registry):
    """The registered similarities and, after them, the few-shot methods of `entries`."""

    def __init__(self, kind: str, entries: dict[str, str]) -> None:
        super().__init__(kind, SIMILARITIES.entries | entries)

    def get(self, name: str) -> Callable[..., Any]:
        component = super().get(name)
        if name not in SIMILARITIES.entries:
            return component
        from vlfew.classifiers.similarity_classifier import SimilarityMethod

        return SimilarityMethod(name, component)

    def image_only(self) -> list[str]:
        """Names of the methods that need neither text nor feature maps nor trained weights."""
        needs = ("needs_text", "needs_map", "learned")
        return [n for n in self.names() if not any(getattr(self.get(n), need) for need in needs)]
