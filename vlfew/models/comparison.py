"""How a model's embeddings are compared: similarities and few-shot methods by name."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.unshared import UnsharedMethod
from vlfew.core.errors import ModelError
from vlfew.similarities import SIMILARITIES
from vlfew.similarities.base import Similarity
from vlfew.similarities.unshared import UnsharedSimilarity

if TYPE_CHECKING:
    from vlfew.core.features import FeatureSpec
    from vlfew.models.spec import ModelSpec


class Comparison:
    """The part of a `DualStream` that compares embeddings.

    Attributes:
        similarity: of two images; the one that the model is trained for.
    """

    spec: ModelSpec
    feature_spec: FeatureSpec
    similarity: Similarity

    def similarity_by_name(self, name: str = "default") -> Similarity:
        """A similarity of two images by registry name, on the CPU and without gradients.

        Args:
            name: `default` is the one that the model was trained for.

        Raises:
            ModelError: a learned similarity that the model was not trained with.
        """
        if name in ("default", self.spec.similarity):
            return deepcopy(self.similarity).cpu().eval().requires_grad_(False)
        component: Any = SIMILARITIES.get(name)
        if component.learned:
            raise ModelError(f"this model has no trained {name}; train it with similarity: {name}")
        return self._both_backbones(component(self.feature_spec))

    def few_shot_method(self, name: str = "default", **options: Any) -> FewShotMethod:
        """A few-shot method by registry name, on the CPU; a trained similarity in it has no gradients.

        Args:
            name: `default` is the similarity that the model was trained for where that is learned or was given
                options, else prototypes under its metric.
            options: of the method.

        Raises:
            ModelError: the method needs a similarity that the model was not trained with.
        """
        trained = self.spec.similarity
        if name == "default" and not (self.similarity.learned or self.spec.similarity_options):
            name, options = "prototypes", {"metric": trained} | options
        elif name == "default":
            name = trained
        component: Any = CLASSIFIERS.get(name)
        required = component.required_similarity or (trained if name == trained and not options else None)
        if required is not None and required != trained:
            raise ModelError(f"this model has no trained {required}; train it with similarity: {required}")
        if required is not None:
            similarity = self.similarity_by_name()
            inner = similarity.inner if isinstance(similarity, UnsharedSimilarity) else similarity
            options = options | {"similarity": inner}
        method: FewShotMethod = component(self.feature_spec, **options)
        return method if self.spec.share_weights else UnsharedMethod(method)

    def _both_backbones(self, similarity: Similarity) -> Similarity:
        """The similarity, for the embeddings of one backbone or of two with separate weights."""
        return similarity if self.spec.share_weights else UnsharedSimilarity(similarity)

    def __sklearn_clone__(self) -> Any:
        """The model itself: clones of an estimator share it, since fitting a classifier never changes it."""
        return self
