"""`python scripts/reference_calibrations.py`: measures the thresholds that galleries of published models fall back on.

Faces: all of LFW (`VLFEW_DATA`), aligned; 1,000 people with two to ten images are enrolled, those with one are
strangers.
"""

from __future__ import annotations

import json
from dataclasses import replace

import torch

import vlfew
from vlfew.core.random import generator_at
from vlfew.data.loading import load_data
from vlfew.evaluation.enrolled_items import trials_from_embeddings
from vlfew.evaluation.feature_cache import cached_split_features
from vlfew.evaluation.templates import Combine
from vlfew.gallery.calibration import Calibration
from vlfew.gallery.reference_calibrations import FARS, FILE, FPIRS

MODEL, IMAGES = "dlib_face_resnet", "LFW"
ENROLLED, MOST_IMAGES, GALLERY_SIZE = 1000, 10, 100


def main() -> None:
    model = vlfew.load(MODEL)
    preprocessor = replace(model.spec.preprocessor(), align_faces="when_found", center_crop=0.6)
    data = load_data("lfw", None, preprocessor, fold="all")
    bank = cached_split_features(model, data, "test")
    rng, by_person = generator_at(0, "reference"), dict[int, torch.Tensor]()
    for label in bank.labels.unique().tolist():
        own = (bank.labels == label).nonzero().flatten()
        by_person[label] = own[torch.from_numpy(rng.permutation(len(own))[:MOST_IMAGES])]
    several = [label for label, own in by_person.items() if len(own) > 1]
    chosen = rng.permutation(several)[:ENROLLED].tolist()
    enrolled = torch.cat([by_person[label] for label in chosen])
    strangers = torch.cat([own for own in by_person.values() if len(own) == 1])
    rules: tuple[Combine, ...] = ("mean", "max")
    made: dict[str, list[object]] = {}
    for combine in rules:
        trials = trials_from_embeddings(
            bank.features.embedding[enrolled],
            bank.labels[enrolled],
            bank.features.embedding[strangers],
            bank.labels[strangers],
            combine=combine,
        )
        rates: list[tuple[float | None, float | None]] = [(far, None) for far in FARS]
        rates += [(None, fpir) for fpir in FPIRS]
        fitted = [
            Calibration.fit(
                trials,
                far=far,
                fpir=fpir,
                gallery_size=GALLERY_SIZE,
                source="reference images",
                support="image",
                combine=combine,
                images=IMAGES,
            )
            for far, fpir in rates
        ]
        made[combine] = [one.to_json() for one in fitted]
        for one in fitted:
            print(combine, one.threshold.describe())
    FILE.write_text(json.dumps({model.fingerprint: made}, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
