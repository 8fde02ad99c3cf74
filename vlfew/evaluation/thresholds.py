"""`Threshold`: the score from which a probe is accepted, and what it stands for.

Set by `calibrate_threshold`, for one comparison or for a gallery of N identities, with error rates and
intervals on the trials that it was set on, and how many trials and people those were.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from vlfew.core.checks import check_at_least
from vlfew.core.errors import ConfigError, DataError, first_line
from vlfew.core.files import write_atomic
from vlfew.evaluation.identity_bootstrap import RESAMPLES, IdentityBootstrap, Interval
from vlfew.evaluation.impostor_rates import (
    SLACK,
    far_curve,
    fpir_of_far,
    fpir_thresholds,
    largest_gallery,
    measured_far,
    measured_fpir,
)
from vlfew.evaluation.templates import Combine, Support
from vlfew.evaluation.trials import Trials, numbered

Source = Literal["own images", "other images", "pairs", "validation split of the model", "reference images"]
"""Which scores a threshold was set on: of the gallery's images, of those of a data set, of labeled pairs, of what
the model was validated on, or of a data set that a published model was tested on."""
SIZES = [round(base * 10**power) for power in range(6) for base in (1, 2, 5)] + [10**6]
"""Gallery sizes for which a threshold for an FPIR is prepared; between them it is interpolated."""


class Rate(BaseModel):
    """An error rate with its 95% interval over identities, fractions."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    low: float
    high: float

    @classmethod
    def of(cls, value: float, interval: Interval) -> Self:
        return cls(value=value, low=interval.low, high=interval.high)

    def __str__(self) -> str:
        return f"{100 * self.value:.3g}% (95% {100 * self.low:.2g} to {100 * self.high:.2g})"


class SizedThreshold(BaseModel):
    """The threshold for a number of enrolled identities."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gallery_size: int
    value: float
    extrapolated: bool


class Threshold(BaseModel):
    """A score from which probes are accepted.

    Attributes:
        value: accepted are scores at or above it.
        target: the FAR or FPIR that it was set for.
        gallery_size: number of enrolled identities where it was set for an FPIR; None where for a FAR.
        far: false-accept rate of one comparison.
        frr: share of genuine probes that are rejected; None where there was no genuine trial.
        fpir: share of probes of strangers that the gallery accepts; None where it was set for a FAR, or not
        measured.
        identities: people with a template.
        impostor_identities: people in probes of impostor trials, enrolled or not.
        genuine_trials: number of genuine trials.
        impostor_trials: number of impostor trials.
        impostor_probes: number of images in them.
        source: where the trials came from.
        images: name of the data set of reference images; empty otherwise.
        support: what the templates were made of; a threshold serves this kind only.
        combine: how several images of an identity are combined.
        normalization: `none`, or the cohort that scores are normalized against.
        wide_interval: fewer trials than 30 expected errors: the rates are known only roughly.
        extrapolated: the gallery is larger, or the rate lower, than the trials can measure.
        by_gallery_size: thresholds for the same FPIR with other numbers of enrolled identities.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    value: float
    target: float
    gallery_size: int | None = None
    far: Rate
    frr: Rate | None = None
    fpir: Rate | None = None
    identities: int
    impostor_identities: int
    genuine_trials: int
    impostor_trials: int
    impostor_probes: int
    source: Source
    images: str = ""
    support: Support = "image"
    combine: Combine = "mean"
    normalization: str = "none"
    wide_interval: bool = False
    extrapolated: bool = False
    by_gallery_size: list[SizedThreshold] = []

    def accepts(self, scores: ArrayLike) -> NDArray[np.bool_]:
        """Whether scores are at or above the threshold; in float64, where a tie with a float32 score is exact."""
        return np.asarray(np.asarray(scores, np.float64) >= self.value)

    def implied_fpir(self, gallery_size: int) -> float:
        """`1 - (1 - FAR)^N`, the FPIR of N enrolled if trials were independent; usually above the measured one."""
        return fpir_of_far(self.far.value, gallery_size)

    def for_gallery_size(self, gallery_size: int) -> SizedThreshold:
        """The threshold for the same FPIR with another number of enrolled identities.

        Interpolated over the logarithm of the size. A threshold that was set for a FAR is the same for all
        sizes.

        Raises:
            ConfigError: the size is below 1, or above one million.
        """
        _check_size(gallery_size, SIZES[-1])
        if self.gallery_size is None:
            return SizedThreshold(gallery_size=gallery_size, value=self.value, extrapolated=self.extrapolated)
        prepared = self.by_gallery_size
        sizes = [one.gallery_size for one in prepared]
        if gallery_size > sizes[-1]:
            raise ConfigError(
                f"gallery_size is {gallery_size:,}; thresholds go up to {sizes[-1]:,} identities"
            )
        value = float(np.interp(math.log(gallery_size), np.log(sizes), [one.value for one in prepared]))
        above = prepared[int(np.searchsorted(sizes, gallery_size))]
        return SizedThreshold(gallery_size=gallery_size, value=value, extrapolated=above.extrapolated)

    @property
    def borrowed(self) -> bool:
        """Whether it was set on images that are not the user's own; the last of the notes says so."""
        return self.source in ("validation split of the model", "reference images")

    @property
    def notes(self) -> list[str]:
        """What a user must know, one sentence each."""
        found = []
        if self.wide_interval:
            found.append(
                f"few trials for a rate of {self.target:g}: fewer than 30 errors are expected in them, so the rate is "
                "known only roughly; add images of other people"
            )
        if self.extrapolated:
            found.append("extrapolated: beyond the gallery sizes and rates that the trials can measure")
        if self.source == "validation split of the model":
            found.append(
                "set on the model's validation images, not on yours; calibrate with your own to be sure"
            )
        if self.source == "reference images":
            found.append(
                f"set on {self.images}, not on your images, which are too few for this rate; calibrate with more of "
                "them to be sure"
            )
        return found

    def describe(self) -> str:
        """One line: what the threshold stands for."""
        target = f"FAR {100 * self.target:g}%"
        rates = [f"FAR {self.far}"]
        if self.gallery_size is not None:
            target = f"FPIR {100 * self.target:g}% with {self.gallery_size:,} enrolled"
            rates = [*([f"FPIR {self.fpir}"] if self.fpir else []), *rates]
        rates += [f"FRR {self.frr}"] if self.frr else []
        source = self.images or self.source
        others = self.impostor_identities - self.identities
        people = f"{self.identities:,} enrolled identities" + (
            f" and {others:,} others" if others > 0 else ""
        )
        return (
            f"threshold {self.value:.4f} for {target}: {', '.join(rates)}; from {self.genuine_trials:,} genuine and "
            f"{self.impostor_trials:,} impostor trials of {people} ({source})"
        )

    def save(self, path: Path) -> None:
        """Writes JSON; the file appears complete or not at all."""
        write_atomic(path, self.model_dump_json(indent=2) + "\n")

    @classmethod
    def from_json(cls, text: str | bytes, where: str = "threshold") -> Self:
        """What `model_dump_json` gave.

        Raises:
            DataError: damaged, or not a threshold.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            wrong = error.errors()[0]
            key = ".".join(map(str, wrong["loc"]))
            raise DataError(
                f"{where}: {key + ': ' if key else ''}{first_line(Exception(wrong['msg']))}"
            ) from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """
        Raises:
            DataError: no such file, or not a threshold.
        """
        try:
            return cls.from_json(path.read_bytes(), str(path))
        except OSError as error:
            raise DataError(f"{path}: cannot be read: {error.strerror}; calibrate again") from None


def calibrate_threshold(
    trials: Trials,
    *,
    far: float | None = None,
    fpir: float | None = None,
    gallery_size: int | None = None,
    source: Source = "own images",
    images: str = "",
    support: Support = "image",
    combine: Combine = "mean",
    normalization: str = "none",
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Threshold:
    """The lowest threshold that accepts at most a share of impostors.

    Either at most a share `far` of impostor trials, or, in a gallery of N, at most a share `fpir` of the
    probes of people who are not enrolled. The FPIR is measured over all galleries of N of the templates (see
    `fpir_curve`); for more than there are, it is extrapolated (see `fpir_thresholds`).

    Args:
        trials: genuine trials are needed for the FRR only.
        far: for example 0.001.
        fpir: for example 0.05.
        gallery_size: N, number of enrolled identities, with `fpir`.
        source: where the trials came from, for the record, as are the next four.
        images: name of the data set of reference images.
        support: what the templates are made of.
        combine: how images of an identity are combined.
        normalization: of the scores.
        resamples: of the bootstrap.
        seed: of the bootstrap.

    Raises:
        ConfigError: not one of both rates, a rate not between 0 and 1, or a size below 1 or above one
        million.
        DataError: fewer than `3 / rate` impostor trials, or probes for an FPIR; no two identities.
    """
    rate = far if fpir is None else fpir
    if rate is None or (far is not None and fpir is not None):
        raise ConfigError("a threshold is set for one rate: give far, or fpir with gallery_size")
    if (fpir is None) != (gallery_size is None):
        raise ConfigError("an FPIR depends on how many are enrolled: give both fpir and gallery_size, or far")
    impostors = trials.impostors
    probes = len(impostors.probes[0])
    by_size: list[SizedThreshold] = []
    if gallery_size is None:
        check_support(rate, len(impostors), "false-accept rate", "impostor trials")
        value, extrapolated = far_curve(impostors).threshold(rate), False
    else:
        _check_size(gallery_size, SIZES[-1])
        check_support(rate, probes, "false-positive identification rate", "probes of people not enrolled")
        sizes = sorted({*SIZES, gallery_size})
        by_size = [
            SizedThreshold(gallery_size=size, value=value, extrapolated=extrapolated)
            for size, (value, extrapolated) in zip(
                sizes, fpir_thresholds(impostors, rate, sizes), strict=True
            )
        ]
        own = by_size[sizes.index(gallery_size)]
        value, extrapolated = own.value, own.extrapolated
    bootstrap = IdentityBootstrap(trials, resamples, seed)
    frr = fpir_rate = None
    if trials.genuine.any():
        frr = Rate.of(float((trials.genuine_scores < value).mean()), bootstrap.frr(value))
    if gallery_size is not None and gallery_size <= largest_gallery(impostors):
        measured = measured_fpir(impostors, value, gallery_size)
        fpir_rate = Rate.of(measured, bootstrap.fpir(value, gallery_size))
    return Threshold(
        value=value,
        target=rate,
        gallery_size=gallery_size,
        far=Rate.of(measured_far(impostors, value), bootstrap.far(value)),
        frr=frr,
        fpir=fpir_rate,
        identities=int(bootstrap.with_template.sum()),
        impostor_identities=len(numbered(impostors.probe_identity)[0]),
        genuine_trials=int(trials.genuine.sum()),
        impostor_trials=len(impostors),
        impostor_probes=probes,
        source=source,
        images=images,
        support=support,
        combine=combine,
        normalization=normalization,
        wide_interval=rate * (len(impostors) if gallery_size is None else probes) < 30,
        extrapolated=extrapolated,
        by_gallery_size=by_size,
    )


def _check_size(gallery_size: int, most: int) -> None:
    check_at_least("gallery_size", gallery_size)
    if gallery_size > most:
        raise ConfigError(f"gallery_size is {gallery_size:,}; thresholds go up to {most:,} identities")


def check_support(rate: float, trials: int, name: str, what: str) -> None:
    """The rule of three: with no error in n trials, rates up to 3/n are not ruled out (95%).

    A rate that a threshold is set for is refused below that. (The trials share people, so even more would be
    needed than this says; the interval over identities shows it.)

    Args:
        rate: the target.
        trials: number of trials it would be measured on.
        name: of the rate, for messages.
        what: the trials are, for messages.

    Raises:
        ConfigError: the rate is not between 0 and 1.
        DataError: fewer than `3 / rate` trials.
    """
    if not 0 < rate < 1:  # NaN too
        raise ConfigError(f"a {name} of {rate!r} was asked for; it must be above 0 and below 1, such as 0.01")
    if trials * rate < 3 / SLACK:
        least = 3 / rate / SLACK  # infinite for a subnormal rate
        needed = f"{math.ceil(least):,}" if math.isfinite(least) else "infinitely many"
        lowest = "no rate can be set by them"
        if trials > 3:
            lowest = f"the lowest rate that they support is {ceil_digits(3 / trials):g}"
        raise DataError(
            f"a {name} of {rate:g} needs at least {needed} {what}, and there are {trials:,}; "
            f"{lowest} (rule of three): ask for that, or add people"
        )


def ceil_digits(rate: float) -> float:
    """A rate rounded up to two significant digits."""
    step = 10.0 ** (math.floor(math.log10(rate)) - 1)
    return math.ceil(rate / step / SLACK) * step
