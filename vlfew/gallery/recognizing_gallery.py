"""A gallery that answers: who is in an image, and how sure that is."""

from __future__ import annotations

import builtins
import math
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from vlfew.core.checks import check_at_least, check_one_of, to_list
from vlfew.core.errors import DataError
from vlfew.core.plurals import counted
from vlfew.evaluation.enrolled_items import EnrolledItems
from vlfew.evaluation.score_normalization import TOP_K, Cohort
from vlfew.evaluation.templates import Support
from vlfew.evaluation.thresholds import Source, Threshold
from vlfew.evaluation.trials import Trials
from vlfew.gallery.calibration import MOST_IDENTITIES, Calibration, calibrate_kinds
from vlfew.gallery.cohort import KEY as COHORT
from vlfew.gallery.cohort import NORMALIZATION, cohort_of, normalized_score
from vlfew.gallery.cohort import search as normalized_search
from vlfew.gallery.cohort import to_setting as cohort_setting
from vlfew.gallery.encoding import encode_images, unit_length
from vlfew.gallery.images import ReadImage
from vlfew.gallery.index import read_embeddings
from vlfew.gallery.look_alikes import (
    Duplicates,
    LookAlikes,
    find_duplicates,
    find_look_alikes,
    find_near_duplicates,
)
from vlfew.gallery.matches import Decisions, Identification, Match, check_threshold
from vlfew.gallery.reference_calibrations import reference_calibration
from vlfew.gallery.score_review import ScoreReview
from vlfew.gallery.store import (
    nobody,
    stale_model,
)

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput


from vlfew.gallery.opened_gallery import OpenedGallery

SAME = 0.9999
"""Cosine from which two images are taken for one."""


class RecognizingGallery(OpenedGallery):
    """Scores, thresholds and what they say."""

    def identify(
        self, images: Iterable[ImageInput], k: int = 5, threshold: float | None = None
    ) -> builtins.list[Identification]:
        """The k best identities of each image.

        Args:
            images: paths, Pillow images or arrays.
            k: how many, best first; fewer where fewer are enrolled.
            threshold: lowest score that is accepted; None takes that of the gallery, where it has one.

        Raises:
            DataError: nobody is enrolled, or an image cannot be read.
            ConfigError: a threshold that is not a number.
        """
        check_at_least("k", k)
        check_threshold(threshold)
        given = to_list(images, "images")
        with self._lock:
            self._refresh()
            if not len(self._index):
                raise nobody(self.store.name)
        model, fingerprint = self.encoder()
        probes = [self._read(image, n, keep=False, model=model) for n, image in enumerate(given)]
        found = self.identify_embeddings(encode_images(model, probes), k, threshold, fingerprint)
        return [Identification(image.name, matches) for image, matches in zip(probes, found, strict=True)]

    def identify_embeddings(
        self, embeddings: Tensor, k: int = 5, threshold: float | None = None, fingerprint: str | None = None
    ) -> builtins.list[builtins.list[Match]]:
        """The k best identities of each embedding of the gallery's model, best first.

        Args:
            embeddings: `[Q, D]`, any length but zero.
            k, threshold: see `identify`.
            fingerprint: of the model; None is the gallery's present one.

        Raises:
            DataError: nobody is enrolled, or embeddings of another size.
            StaleModel: of another model than the gallery's.
            ModelError: one that is zero or not finite.
            ConfigError: a threshold that is not a number.
        """
        check_at_least("k", k)
        check_threshold(threshold)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.settings["dim"]:
            raise DataError(
                f"expected embeddings [Q, {self.settings['dim']}], got {builtins.list(embeddings.shape)}"
            )
        queries = unit_length(embeddings, [f"embedding {n}" for n in range(len(embeddings))])
        with self._lock:
            self._refresh()  # what was removed in the meantime is not in the answer
            self._check_current(fingerprint)
            if not len(self._index):
                raise nobody(self.store.name)
            scores, ids = self._search(queries, k)
            match = partial(self._match, threshold=threshold, prior=1 / (len(self._index) + 1))
            return [
                [match(i, score) for i, score in zip(own, row, strict=True)]
                for own, row in zip(ids.tolist(), scores.tolist(), strict=True)
            ]

    def verify(self, name: str | int, image: ImageInput, threshold: float | None = None) -> Match:
        """Compares an image with one identity.

        Args:
            name: of the identity, or its id.
            image: a path, a Pillow image or an array.
            threshold: see `identify`.

        Raises:
            DataError: no such identity, or an image that cannot be read.
            ConfigError: a threshold that is not a number.
        """
        check_threshold(threshold)
        self._require(name)
        model, fingerprint = self.encoder()
        query = encode_images(model, [self._read(image, 0, keep=False, model=model)])[0]
        with self._lock:
            self._refresh()
            self._check_current(fingerprint)
            identity = self._require(name).id
            cohort = self.cohort
            score = (
                self._index.score(query, identity)
                if cohort is None
                else normalized_score(self._index, cohort, query, identity)
            )
            return self._match(identity, score, threshold=threshold, prior=0.5)

    @property
    def thresholds(self) -> dict[Support, dict[str, Any]]:
        """The gallery's thresholds by kind of support: JSON objects with a `value` and what it stands for."""
        found: dict[Support, dict[str, Any]] = self.settings.get("thresholds", {})
        return found

    def set_thresholds(self, thresholds: Mapping[Support, Mapping[str, Any]]) -> None:
        """Stores thresholds; every process uses them from its next answer on.

        Args:
            thresholds: for each kind of support (`image`, `text`, `both`) a JSON object with a `value`, such as a
                calibration writes it. Kinds that are not given have none.

        Raises:
            ConfigError: another kind, or a value that is not a number.
        """
        for support, threshold in thresholds.items():
            check_one_of("the kind of support", support, Support)
            check_threshold(threshold.get("value", math.nan))
        self._set_thresholds(thresholds, None)

    def _set_thresholds(
        self, thresholds: Mapping[Support, Mapping[str, Any]], expected: Mapping[str, Any] | None
    ) -> None:
        """
        Raises:
            StaleSettings: an expected setting was changed since.
        """
        with self._lock:
            self.store.write_settings(
                {"thresholds": {k: dict(v) for k, v in thresholds.items()}}, expected=expected
            )
            self.settings = self.store.settings()

    def _refuse_enrolled(self, probes: Sequence[ReadImage], where: str) -> None:
        """
        Raises:
            DataError: one of the images is enrolled.
        """
        with self._lock:
            holders = self.store.holders(probe.digest for probe in probes)
        for probe in probes:
            if probe.digest in holders:
                who = holders[probe.digest][0]
                raise DataError(f"{probe.name} is enrolled as {who!r}; leave that identity out of {where}")

    def _check_cohort(self, embeddings: Tensor, names: Sequence[str], what: str) -> None:
        """
        Raises:
            DataError: one of the embeddings `[S, D]` is in the cohort, which makes its scores too low.
        """
        if self.cohort is None or not len(embeddings):
            return
        same = (embeddings.double() @ self.cohort.embeddings.T).amax(1) > SAME
        if same.any():
            raise DataError(
                f"{self.store.name}: {names[int(same.nonzero()[0])]} is {what} and in the cohort that scores are "
                "normalized against; leave it out of one of them"
            )

    def calibrate(
        self,
        *,
        far: float | None = None,
        fpir: float | None = None,
        impostors: Iterable[ImageInput | ReadImage] = (),
        impostor_names: Sequence[str] | None = None,
        trials: Trials | None = None,
        source: Source = "other images",
        validation: Callable[[], tuple[Tensor, Tensor] | None] | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> dict[Support, Threshold]:
        """Sets the thresholds, one for each kind of support that is enrolled, and what makes scores probabilities.

        Every enrolled image in turn is left out and compared with everyone; so are images of other people. Where they
        are too few for the rate, the model's validation images serve for identities of images, or what a published
        model was calibrated on, and the threshold says so. Nothing of the images is kept. Or `trials` of other images
        set the threshold of identities of images alone, and those of the other kinds stay.

        Args:
            far: share of comparisons with someone else that may be accepted, such as 0.001; or
            fpir: share of images of people who are not enrolled that may be accepted by a gallery of this size. The
                threshold follows the gallery as it grows.
            impostors: images of people who are not enrolled.
            impostor_names: who is in each; None takes each for someone else.
            trials: scores of other images by the gallery's model and combining rule, in place of all of its own.
            source: what these are of, for the record: `other images` or `pairs`.
            validation: gives embeddings `[V, D]` and labels `[V]` of images that the model did not learn from, or None
                where there are none; called where they are needed.
            on_problem: called with a line for each kind that gets no threshold; None warns.

        Raises:
            ConfigError: not one rate.
            DataError: too few images for the rate, and no validation images; says what the images do support. An
                impostor who is enrolled.
        """
        if trials is not None:
            with self._lock:
                self._refresh()
                size, expected = max(1, len(self._index)), {COHORT: self.settings.get(COHORT)}
            calibration = Calibration.fit(
                trials,
                far=far,
                fpir=fpir,
                gallery_size=size,
                source=source,
                support="image",
                combine=self.settings["combine"],
                normalization=self._normalization,
            )
            self._set_thresholds({**self.thresholds, "image": calibration.to_json()}, expected)
            return {"image": calibration.threshold}
        with self._lock:
            self._refresh()
            expected = {key: self.settings.get(key) for key in ("fingerprint", COHORT)}
        given = to_list(impostors, "impostors")
        probes = [self._read(image, number, keep=False) for number, image in enumerate(given)]
        self._refuse_enrolled(probes, "the impostors")
        strangers = encode_images(self.model, probes)
        self._check_cohort(strangers, [probe.name for probe in probes], "an impostor")
        names = [str(n) for n in range(len(given))] if impostor_names is None else [*impostor_names]
        if len(names) != len(given):
            raise DataError(f"there are {len(names)} impostor_names for {counted(len(given), 'image')}")
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        who = torch.tensor([numbers[name] for name in names], dtype=torch.int64)
        with self._lock:
            self._refresh()
            if not len(self._index):
                raise nobody(self.store.name)
            size, kinds = len(self._index), sorted(self._index.kinds())
            items = read_embeddings(self.store, self.settings["dim"])
        if len(items[1]):  # numbers that no enrolled identity has
            who += 1 + int(items[1].max())
        enrolled = self._enrolled(*items)
        found, problems = calibrate_kinds(
            enrolled,
            kinds,
            strangers,
            who,
            far=far,
            fpir=fpir,
            gallery_size=size,
            validation=validation,
            reference=self._reference(far, fpir),
        )
        if not found:
            more = "" if given else "; images of others (--impostors) help most"
            raise DataError(f"{self.store.name}: {'; '.join(problems)}{more}")
        for problem in problems:
            line = f"no threshold for {problem}"
            if on_problem is None:
                warnings.warn(line, stacklevel=2)
            else:
                on_problem(line)
        self._set_thresholds({kind: one.to_json() for kind, one in found.items()}, expected)
        return {kind: calibration.threshold for kind, calibration in found.items()}

    @property
    def cohort(self) -> Cohort | None:
        """What scores are normalized against; None where they are cosines."""
        stored = self.settings.get(COHORT)
        if stored is not self._cohort[0]:
            self._cohort = stored, cohort_of(self.settings)
        return self._cohort[1]

    @property
    def _normalization(self) -> str:
        """Of the scores, as thresholds record it."""
        return "none" if self.settings.get(COHORT) is None else NORMALIZATION

    def set_cohort(self, images: Iterable[ImageInput | ReadImage], top_k: int = TOP_K) -> None:
        """Normalizes scores from now on, by how similar both sides are to a cohort of other people (AS-norm).

        A score is then no cosine but a number of standard deviations. Thresholds are dropped: they were for the scores
        before. The embeddings of the cohort are kept; they are removed by another cohort, or by none.

        Args:
            images: one of each of many people, neither enrolled nor to be identified; empty for plain cosines again.
            top_k: number of most similar members that count.

        Raises:
            DataError: an image that cannot be read, or fewer than two.
            ConfigError: `top_k` below 2, or above their number.
        """
        given = to_list(images, "images")
        setting = None
        if given:
            probes = [self._read(image, number, keep=False) for number, image in enumerate(given)]
            self._refuse_enrolled(probes, "the cohort")
            embeddings = encode_images(self.model, probes)
            Cohort(embeddings, top_k)  # checks
            setting = cohort_setting(embeddings, top_k)
        with self._lock:
            self.store.write_settings({COHORT: setting, "thresholds": {}}, purge=True)
            self.settings, self._cohort = self.store.settings(), (None, None)

    def review_scores(self, support: Support = "image") -> ScoreReview:
        """Scores of the gallery's own images: error rates at every threshold, and the pairs on either side.

        Raises:
            TooFewImages: no image can be compared with its own identity, or with another one.
        """
        check_one_of("the kind of support", support, Support)
        items = self._items()
        return ScoreReview.of(items, self._enrolled(items.embedding, items.identity, items.is_text), support)

    def look_alikes(self, limit: int = 20) -> builtins.list[LookAlikes]:
        """The closest different identities, best first: those that are most easily taken for each other."""
        check_at_least("limit", limit)
        items = self._items()
        return find_look_alikes(items, self.settings["combine"], self.settings["text_weight"], limit)

    def near_duplicates(self, limit: int = 20, least: float = 0.95) -> builtins.list[LookAlikes]:
        """Images of different identities that are nearly the same to the model: who may be enrolled twice.

        Args:
            limit: how many pairs of identities, at most.
            least: lowest cosine of two images.
        """
        check_at_least("limit", limit)
        check_threshold(least)
        return find_near_duplicates(self._items(), least, limit)

    def duplicates(self, limit: int = 20, least: float = 0.95) -> Duplicates:
        """Images that several identities have, and others that are nearly the same; up to `limit` of each."""
        check_at_least("limit", limit)
        check_threshold(least)
        return find_duplicates(self._items(), self.shared_images(), least, limit)

    def shared_images(self) -> dict[bytes, builtins.list[tuple[int, int]]]:
        """The images that several identities have, by SHA-256: ids of the identities and of their items."""
        with self._lock:
            return self.store.shared_images()

    def _check_current(self, fingerprint: str | None) -> None:
        """
        Raises:
            StaleModel: the gallery has another model by now.
        """
        if fingerprint not in (None, self.settings["fingerprint"]):
            raise stale_model(self.store.name)

    def _reference(self, far: float | None, fpir: float | None) -> Calibration | None:
        """The calibration that comes with the model, for plain cosines."""
        if (far is None) == (fpir is None) or self.cohort is not None:
            return None
        return reference_calibration(self.settings["fingerprint"], self.settings["combine"], far, fpir)

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores and ids `[Q, k]` of the best identities."""
        cohort = self.cohort
        return (
            self._index.search(queries, k)
            if cohort is None
            else normalized_search(self._index, cohort, queries, k)
        )

    def _enrolled(self, embedding: Tensor, identity: Tensor, is_text: Tensor) -> EnrolledItems:
        """Items by the gallery's rules."""
        return EnrolledItems(
            embedding,
            identity,
            is_text,
            self.settings["combine"],
            self.settings["text_weight"],
            self.cohort,
            MOST_IDENTITIES,
        )

    def _match(self, identity: int, score: float, *, threshold: float | None, prior: float) -> Match:
        stored = self.settings.get("thresholds", {})
        if self._decisions.stored is not stored or self._decisions.normalization != self._normalization:
            self._decisions = Decisions(stored, self._normalization)
        return self._decisions.match(
            self._index.names[identity],
            score,
            self._index.support[identity],
            threshold=threshold,
            prior=prior,
            gallery_size=len(self._index),
            identity=identity,
        )
