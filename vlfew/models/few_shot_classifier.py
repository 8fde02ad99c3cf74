"""`FewShotClassifier`: every few-shot method as a scikit-learn estimator."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import check_is_fitted, validate_data
from torch import Tensor

from vlfew.classifiers import CLASSIFIERS
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.multimodal_prototypes import MultimodalPrototypes, multimodal_method
from vlfew.classifiers.prototypes import Prototypes
from vlfew.classifiers.support import IMAGE, TEXT, SupportSet, append_texts
from vlfew.classifiers.temperature import fit_temperature
from vlfew.classifiers.zero_shot import ZeroShot
from vlfew.core.checks import check_range, to_path
from vlfew.core.errors import ConfigError, DataError, ModelError, describe_value
from vlfew.core.features import Features, FeatureSpec
from vlfew.core.plurals import counted
from vlfew.data.duplicates import identical_images
from vlfew.data.file_hashes import hash_images
from vlfew.models import FINE_TUNERS
from vlfew.models.class_items import (
    Item,
    encode_labels,
    encode_texts,
    label_array,
    pixel_batches,
    split_items,
    text_list,
)
from vlfew.models.classifier_file import read_classifier, write_classifier
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import check_images, check_pixels
from vlfew.models.loading import load
from vlfew.models.serialization import fingerprint_of

FOLDS = 5
"""Most folds of the support that the temperature is fitted on."""


class Prediction(NamedTuple):
    """The predicted class of an image.

    Attributes:
        label: the class.
        score: its logit by the method, such as a cosine; comparable between images, not between methods.
        margin: how far the logit is above that of the second best class; 0 with one class.
        probability: of the class, among the classes that were fitted; see `FewShotClassifier.predict_proba`.
        accepted: whether the probability reaches the threshold of `classify`. `predict` always names a class; this
            says whether to believe it, or to call the image unknown.
    """

    label: Any
    score: float
    margin: float
    probability: float
    accepted: bool


class FewShotClassifier(ClassifierMixin, BaseEstimator):
    """A classifier of images over classes that are given by a few images, by texts, or by both.

    Images are paths (`str` or `Path`), Pillow images or arrays. Without a model it takes features `[n_samples,
    n_features]`, and texts are given as embeddings.

    Args:
        model: encodes images and texts; a name (see `vlfew.load`) is loaded at every fit. None: X are features.
        method: a registered few-shot method, `coop` or `lora` (which train through the model), or `default`: the
            similarity that the model was trained for, or prototypes under its metric where that has no weights;
            where every class has images and texts, mixed with the cosine to the texts (`text_weight`); where some
            classes lack one of them, cosines to prototypes of what there is (`multimodal_prototypes`).
        method_params: options of the method.
        texts: from classes to their text or list of texts, for `cross_val_score` and the like; `fit(texts=...)`
            overrides it. Classes may have texts alone. Methods that use images only ignore texts.
        text_weight: share of the texts, 0 to 1, in a class with images and texts, for the methods `default` and
            `multimodal_prototypes`.

    Attributes:
        classes_: the class labels, sorted.
        model_: the loaded model.
        method_: the fitted few-shot method.
        support_: the support set that it was fitted on.
        temperature_: what logits are divided by to become probabilities.
        calibrated_: whether the temperature was fitted on held-out images; see `predict_proba`.
        n_features_in_: number of features, without a model.
    """

    def __init__(
        self,
        model: DualStream | str | Path | None = None,
        method: str = "default",
        method_params: Mapping[str, Any] | None = None,
        texts: Mapping[Any, Any] | None = None,
        text_weight: float = 0.5,
    ) -> None:
        self.model = model
        self.method = method
        self.method_params = method_params
        self.texts = texts
        self.text_weight = text_weight

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = self.model is None
        return tags

    @classmethod
    def from_classes(
        cls, model: DualStream | str | Path, classes: Mapping[Any, Item | Sequence[Item]], **params: Any
    ) -> Self:
        """A fitted classifier from classes and their items: a `str` is a text, a `Path` or Pillow image an image.

        Args:
            model: encodes both.
            classes: from each class to an item or a list of items, such as
                `{"cat": "a photo of a cat", "my mug": Path("mug.jpg"), "dog": ["a dog", Path("dog.jpg")]}`.
            params: further arguments of the constructor.

        Raises:
            DataError: no classes, a class without items, an image that cannot be read, the name of an image file
                given as a text, or the reverse.
            ModelError: texts for a model without a text encoder.
        """
        images, labels, texts = split_items(classes)
        if len(classes) == 1:
            warnings.warn(
                "there is one class alone, so that every image is of it, with probability 1; add another",
                stacklevel=2,
            )
        return cls(model, **params).fit(images or None, labels or None, texts=texts)

    def fit(self, X: Any = None, y: Any = None, texts: Mapping[Any, Any] | None = None) -> Self:
        """Fits the support set.

        Args:
            X: images, or features where there is no model; None where all classes have texts alone.
            y: the class of each.
            texts: from classes to their text or list of texts; without a model, to embeddings `[D]` or `[T, D]`.

        Raises:
            DataError: nothing to fit, an image that cannot be read, or texts that do not fit the classes.
            ConfigError: an unknown option of the method, or text_weight outside 0 to 1.
            ModelError: texts for a model without a text encoder.
            VlfewError: an unknown method, or a class that lacks what the method needs.
        """
        check_range("text_weight", self.text_weight, 0, 1)
        if not isinstance(self.method, str):
            raise ConfigError(f"method must be a name, got {describe_value(self.method)}")
        if not isinstance(self.method_params, Mapping | None):
            raise ConfigError(f"method_params must be a dict, got {describe_value(self.method_params)}")
        texts = self.texts if texts is None else texts
        if not isinstance(texts, Mapping | None):
            raise DataError(f"texts must be a dict from classes to texts, got {describe_value(texts)}")
        texts = texts or {}
        self.model_ = _loaded(self.model)
        self._model_changed = False
        if self.method in FINE_TUNERS.entries:
            return self._fine_tune(X, y, texts)
        features: Features | None = None
        if X is not None or y is not None or not texts:
            features, y = self._encode_labeled(X, y)
        with_images = set() if y is None else set(y.tolist())
        _warn_of_misspelled(set(texts), with_images)
        embedding, text_labels = encode_texts(self.model_, texts, with_images)
        if features is None:
            features = Features(embedding)
        elif len(embedding):
            if embedding.shape[1] != features.embedding.shape[1]:
                raise DataError("embeddings of texts and features must have the same width")
            features = append_texts(features, embedding)
        self.classes_, class_id = encode_labels(y, text_labels)
        modality = torch.full_like(class_id, IMAGE)
        modality[len(class_id) - len(text_labels) :] = TEXT
        self._fit_support(features, class_id, modality)
        self.temperature_, self.calibrated_ = self._fit_temperature()
        return self

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits `[n_samples, n_classes]`; with two classes, that of the second minus that of the first."""
        logits = self._logits(X).numpy()
        return logits[:, 1] - logits[:, 0] if logits.shape[1] == 2 else logits

    def predict(self, X: Any) -> np.ndarray:
        """The most likely class of each image."""
        best = self._logits(X).argmax(1).numpy()
        labels: np.ndarray = self.classes_[best]
        return labels

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities `[n_samples, n_classes]`: the softmax of the logits over `temperature_`.

        Where there are two or more classes, each with two images, the temperature is fitted on held-out images of the
        support: up to five folds, each scored by a classifier that was fitted on the others (`calibrated_` is True).
        Otherwise probabilities are not calibrated: the temperature is 1, CLIP's 0.01 for cosines, and the one of the
        training for `coop` and `lora`.
        """
        return self._probabilities(self._logits(X)).numpy()

    def classify(self, X: Any, threshold: float = 0.0) -> list[Prediction]:
        """Predictions with their scores, margins and probabilities.

        Args:
            X: images, or features where there is no model.
            threshold: lowest probability at which a prediction is accepted, 0 to 1; it means what it says where the
                probabilities are calibrated (`calibrated_`).
        """
        check_range("threshold", threshold, 0, 1)
        logits = self._logits(X)
        probability = self._probabilities(logits)
        best, index = logits.topk(min(2, logits.shape[1]), dim=1)
        margin = best[:, 0] - best[:, -1]
        return [
            Prediction(self.classes_[i], float(s), float(m), float(p[i]), bool(p[i] >= threshold))
            for i, s, m, p in zip(index[:, 0], best[:, 0], margin, probability, strict=True)
        ]

    def save(self, path: str | Path) -> None:
        """Writes the embedded support set and the settings as safetensors, without the model; see `load`.

        Args:
            path: the file, such as `mugs.safetensors`. Texts are saved as embeddings.

        Raises:
            ModelError: a classifier fitted by `lora`, whose model has changed, or a model without a fingerprint, as it
                could not be saved; says why.
        """
        check_is_fitted(self)
        if self._model_changed:
            raise ModelError(
                f"method {self.method!r} changed the model; save `classifier.model_` with vlfew.models.save_model and "
                "use that model with method='zero_shot'"
            )
        settings = {
            "fingerprint": _fingerprint(self.model_),
            "params": {name: getattr(self, name) for name in ("method", "method_params", "text_weight")},
            "temperature": self.temperature_,
            "calibrated": self.calibrated_,
        }
        write_classifier(to_path(path, "path"), self.support_, self.classes_, settings)

    @classmethod
    def load(cls, path: str | Path, model: DualStream | str | Path | None = None) -> Self:
        """A saved classifier; the method is fitted again to its support set.

        Args:
            path: the file.
            model: the one it was fitted with, or its name; the file holds its fingerprint. None for one over features.

        Raises:
            ModelError: the file cannot be read, or belongs to another model.
        """
        features, class_id, modality, classes, settings = read_classifier(to_path(path, "path"))
        self = cls(model, **settings["params"])
        self._model_changed = False
        self.model_ = _loaded(model)
        if (found := _fingerprint(self.model_)) != (needed := settings["fingerprint"]):
            raise ModelError(
                f"{path} was fitted with {_named(needed)} and cannot be used with {_named(found)}; load it with its own"
            )
        self.classes_ = classes
        self._fit_support(features, class_id, modality)
        self.temperature_, self.calibrated_ = settings["temperature"], settings["calibrated"]
        return self

    def _encode_labeled(self, X: Any, y: Any) -> tuple[Features, np.ndarray]:
        """Features of X, and y, after checking both."""
        if self.model_ is None:
            _check_no_paths(X)
            X, y = validate_data(self, X, y, dtype=np.float64)
            features = Features(torch.tensor(X))
        elif X is None or y is None:
            raise DataError("nothing to fit: give images and their labels, texts, or both")
        else:
            if isinstance(X, Tensor):
                check_pixels(X, self.model_.spec)
            else:
                X = check_images(X)
            labels, hashes = label_array(y, len(X)), list[Tensor]()
            features = self._encode(X, hashes)
            _warn_of_repeated(torch.cat(hashes), labels)
            return features, labels
        check_classification_targets(y)
        return features, y

    def _encode(self, X: Any, hashes: list[Tensor] | None = None) -> Features:
        """Features of X; `hashes` receives those of its images, in parts."""
        if self.model_ is None:
            _check_no_paths(X)
            return Features(torch.tensor(validate_data(self, X, reset=False, dtype=np.float64)))
        parts = []
        for batch in pixel_batches(self.model_, X):
            parts.append(self.model_.image_features(batch))
            if hashes is not None:
                hashes.append(hash_images(batch.cpu()))
        features = Features.cat(parts)
        features.check_finite("images")
        return features

    def _fit_support(self, features: Features, class_id: Tensor, modality: Tensor) -> None:
        names = tuple(map(str, self.classes_))
        self.support_ = SupportSet(features, class_id, len(names), modality, names)
        if self.model_ is None:
            self.n_features_in_ = features.embedding.shape[1]
        self.method_ = self._fit_method(self.support_)

    @torch.no_grad()
    def _fit_method(self, support: SupportSet) -> FewShotMethod:
        method = self._new_method(support)
        image_only = method.needs_images and not method.needs_text
        return method.fit(support.images if image_only else support)

    def _new_method(self, support: SupportSet) -> FewShotMethod:
        name, model, params = self.method, self.model_, dict(self.method_params or {})
        spec = FeatureSpec(support.features.embedding.shape[-1]) if model is None else model.feature_spec
        if name in FINE_TUNERS.entries:  # its support set are the classes' embeddings
            return ZeroShot(spec)
        if name == "default":
            if params:
                raise ConfigError("method 'default' has no options; name a method to set some")
            method = Prototypes(spec) if model is None else model.few_shot_method()
            has_image, has_text = support.images.counts() > 0, support.texts.counts() > 0
            if not has_text.any():
                return method
            if bool((has_image == has_text).all()):
                return multimodal_method(method, spec, self.text_weight)
            return MultimodalPrototypes(spec, text_weight=self.text_weight)
        if name == "multimodal_prototypes":
            params = {"text_weight": self.text_weight} | params
        checked = CLASSIFIERS.checked(name, params)
        params = {key: checked[key] for key in params}
        if model is not None:
            return model.few_shot_method(name, **params)
        component: Any = CLASSIFIERS.get(name)
        if component.learned:
            raise ConfigError(f"method {name!r} needs a model that was trained for it; pass model=")
        method = component(spec, **params)
        return method

    def _fit_temperature(self) -> tuple[float, bool]:
        """The temperature, and whether it was fitted on held-out images; see `predict_proba`."""
        support = self.support_
        index = (support.modality == IMAGE).nonzero().flatten()
        smallest = int(support.images.counts().min())
        if smallest < 2 or support.n_classes < 2:
            return self.method_.softmax_temperature, False
        folds = StratifiedKFold(min(FOLDS, smallest)).split(index, support.class_id[index])
        logits, labels = [], []
        for _, held_out in folds:
            mask = torch.zeros(len(support.class_id), dtype=torch.bool)
            mask[index[held_out]] = True
            queries = support.select(mask)
            logits.append(self._fit_method(support.select(~mask)).logits(queries.features))
            labels.append(queries.class_id)
        return fit_temperature(torch.cat(logits), torch.cat(labels)), True

    def _fine_tune(self, X: Any, y: Any, texts: Mapping[Any, Any]) -> Self:
        """Fits a method that trains through the model; then the classes are the embeddings of their texts."""
        if self.model_ is None:
            raise ConfigError(f"method {self.method!r} trains through a model; pass model=")
        if X is None or y is None:
            raise DataError(f"method {self.method!r} needs images and texts of every class")
        params = FINE_TUNERS.checked(self.method, dict(self.method_params or {}))
        pixels = torch.cat([*pixel_batches(self.model_, X)])
        y = label_array(y, len(pixels))
        self.classes_, class_id = encode_labels(y, list(texts))
        class_texts = [text_list(label, texts.get(label, [])) for label in self.classes_]
        tuned = FINE_TUNERS.get(self.method)(self.model_, pixels, class_id[: len(y)], class_texts, **params)
        self._model_changed, self.model_ = tuned.model is not self.model_, tuned.model
        every = torch.arange(len(self.classes_))
        self._fit_support(Features(tuned.embed_classes(class_texts)), every, torch.full_like(every, TEXT))
        self.temperature_, self.calibrated_ = 1 / tuned.scale, False
        return self

    @torch.no_grad()
    def _logits(self, X: Any) -> Tensor:
        check_is_fitted(self)
        return self.method_.logits(self._encode(X))

    def _probabilities(self, logits: Tensor) -> Tensor:
        return torch.softmax(logits / self.temperature_, 1)


def _warn_of_repeated(hashes: Tensor, labels: np.ndarray) -> None:
    """Warns of images that are the same, pixel by pixel, at the model's input size."""
    groups = identical_images(hashes)
    crossing = [group for group in groups if len(set(labels[group])) > 1]
    if crossing:
        first, second = sorted(set(map(str, labels[crossing[0]])))[:2]
        warnings.warn(
            f"identical images: {counted(len(crossing), 'image')} in two classes, such as {first!r} and {second!r}",
            stacklevel=4,
        )
    if len(groups) > len(crossing):
        name = str(labels[next(group for group in groups if group not in crossing)[0]])
        warnings.warn(
            f"identical images: {counted(len(groups) - len(crossing), 'image')} twice in a class, such as {name!r}; "
            "each counts as an image of its own",
            stacklevel=4,
        )


def _warn_of_misspelled(with_text: set[Any], with_images: set[Any]) -> None:
    """Warns where a class with texts alone is called almost like one with images alone."""
    images = {str(name).casefold(): name for name in with_images - with_text}
    for name in sorted(with_text - with_images, key=str):
        if close := get_close_matches(str(name).casefold(), images, n=1, cutoff=0.8):
            warnings.warn(
                f"texts are given for {name!r}, which has no images; did you mean {images[close[0]]!r}?",
                stacklevel=3,
            )


def _check_no_paths(X: Any) -> None:
    """Raises DataError for images where features are needed."""
    if isinstance(X, list | tuple) and X and (isinstance(X[0], Path) or hasattr(X[0], "convert")):
        raise DataError("X holds images, and there is no model to encode them; give model=..., or features")


def _loaded(model: Any) -> Any:
    """The model, loaded where it is a name; None without one."""
    return model if model is None or hasattr(model, "image_features") else load(model)


def _fingerprint(model: DualStream | None) -> str:
    return "" if model is None else fingerprint_of(model)


def _named(fingerprint: str) -> str:
    return f"the model of fingerprint {fingerprint}" if fingerprint else "features (no model)"
