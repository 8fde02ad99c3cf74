"""Protocols against brute force over the same bank, with a model whose features are known."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.compare import assert_close
from tests.conftest import make_data
from tests.evaluation.fakes import FakeModel, run
from vlfew.core.errors import ConfigError, DataError, ModelError
from vlfew.core.features import Features
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.accuracy import episode_accuracies
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.episodes import enumerate_supports, sample_episodes, sample_omniglot_trials
from vlfew.evaluation.feature_bank import FeatureBank, encode_split
from vlfew.evaluation.run_protocol import check_protocol, run_protocol, save_per_episode
from vlfew.evaluation.statistics import cluster_ci95, mean_ci95


def unit(x: Tensor) -> Tensor:
    return x / x.norm()


def prototype(rows: list[Tensor]) -> Tensor:
    return unit(torch.stack([unit(r) for r in rows]).mean(0))


def brute(embedding: Tensor, query: list[list[int]], of_class: list[Tensor], top: int = 1) -> float:
    """Share of the queries whose class is among the `top` best by cosine."""
    right = total = 0
    for c, positions in enumerate(query):
        for p in positions:
            if p >= 0:
                scores = [float(unit(embedding[p]) @ proto) for proto in of_class]
                right += sum(s > scores[c] for s in scores) < top
                total += 1
    return right / total


@pytest.mark.parametrize(("ways", "shots", "queries"), [(3, 1, 4), ("all", 2, 3), (4, 3, "all")])
def test_few_shot_matches_a_loop(context: EvaluationContext, ways: Any, shots: int, queries: Any) -> None:
    options = {"ways": ways, "shots": shots, "queries": queries, "episodes": 12, "seed": 3}
    result, outcome = run(context, "few-shot", method="prototypes", **options)
    bank = context.bank("test")
    drawn = sample_episodes(bank.labels, **options)
    expected = [
        brute(
            bank.features.embedding,
            query.tolist(),
            [prototype(list(bank.features.embedding[s])) for s in support],
        )
        for support, query in zip(drawn.support, drawn.query, strict=True)
    ]
    assert outcome.per_episode is not None
    np.testing.assert_allclose(outcome.per_episode, expected)
    assert (result.accuracy, result.ci95) == pytest.approx(mean_ci95(expected))
    assert result.get("ways") == drawn.classes.shape[1] and result.get("shots") == shots
    assert 1 / drawn.classes.shape[1] < result.accuracy < 1


@pytest.mark.parametrize("queries", ["all", 3])
def test_each_image_in_turn_is_the_support(context: EvaluationContext, queries: Any, tmp_path: Path) -> None:
    options = {"ways": "all", "queries": queries, "episodes": "each"}
    result, outcome = run(context, "few-shot", method="prototypes", **options)
    bank = context.bank("test")
    embedding, drawn = bank.features.embedding, enumerate_supports(bank.labels, "all", 1, queries, 0)
    of_class = [
        (bank.labels == c).nonzero().flatten().tolist() for c in context.data.classes("test").tolist()
    ]
    expected = []
    for e in range(8):
        queries_of = (
            [own[:e] + own[e + 1 :] for own in of_class] if queries == "all" else drawn.query[e].tolist()
        )
        expected.append(brute(embedding, queries_of, [unit(embedding[own[e]]) for own in of_class]))
    np.testing.assert_allclose(outcome.per_episode, expected)
    assert result.episodes == 8 and result.accuracy == pytest.approx(np.mean(expected))
    assert result.get("interval") == "over episodes, each image in turn the support"

    file = tmp_path / "e.safetensors"
    first, again = (run(context, "few-shot", episodes_file=file, **options)[0] for _ in range(2))
    assert first == again
    file.unlink()
    run(context, "few-shot", episodes_file=file, **options | {"episodes": 8})
    with pytest.raises(ConfigError, match="each image as support in turn; name another file"):
        run(context, "few-shot", episodes_file=file, **options)
    with pytest.raises(ConfigError, match="each image as support in turn; name another file"):
        check_protocol("few-shot", {**options, "episodes_file": file}, context.data)


def test_the_note_of_data_split_by_image(data: LabeledImages) -> None:
    by_image = EvaluationContext(FakeModel(), replace(data, split_by="image", note="a part"))
    options = {"options": {"queries": 3, "episodes": 5}, "command": "", "outside_data": ""}
    own, _ = run_protocol(by_image, "few-shot", trained_on="tiny/train", **options)
    other, _ = run_protocol(by_image, "few-shot", trained_on="omniglot/train", **options)
    assert own.note == "a part; tiny is split by image: the classes of this split were trained on"
    assert other.note == "a part"


def test_ragged_queries_count_once_each() -> None:
    data = make_data(classes=9, images=6)
    keep = torch.ones(54, dtype=torch.bool)
    keep[[12, 13, 14, 30]] = False
    ragged = LabeledImages(
        "ragged",
        InMemory(data.images.batch(keep.nonzero().flatten())),
        data.labels[keep],
        data.class_names,
        {"test": torch.arange(50)},
        "ragged",
    )
    context = EvaluationContext(FakeModel(), ragged)
    _, outcome = run(context, "few-shot", ways="all", shots=2, queries="all", episodes=5)
    assert outcome.per_episode is not None
    answers = outcome.per_episode * (50 - 9 * 2)
    np.testing.assert_allclose(answers, answers.round(), atol=1e-9)


def test_places_without_an_image_are_not_scored() -> None:
    """Of classes of 40, 3 and 2 images, with one in the support, 42 are queries, not 3 x 39."""
    labels = torch.tensor([0] * 40 + [1] * 3 + [2] * 2)
    embedding = torch.randn(45, 5, generator=torch.Generator().manual_seed(0))
    drawn, scored = sample_episodes(labels, "all", 1, "all", 6, 0), [0]

    def logits_of(support: Features, queries: Features, classes: Tensor) -> Tensor:
        scored[0] += queries.embedding.shape[:2].numel()
        return queries.embedding @ support.embedding.mT

    accuracies = episode_accuracies(Features(embedding), drawn, logits_of)
    assert scored == [6 * 42]
    expected = []
    for support, query in zip(drawn.support, drawn.query, strict=True):
        own = query[query >= 0]
        best = (embedding[own] @ embedding[support.flatten()].T).argmax(1)
        expected.append(float((best == labels[own]).double().mean()))
    assert accuracies.tolist() == pytest.approx(expected)


def test_a_split_is_encoded_once(context: EvaluationContext) -> None:
    for protocol in ("few-shot", "zero-shot", "multimodal"):
        run(context, protocol, **({} if protocol == "zero-shot" else {"queries": 3, "episodes": 5}))
    assert context.model.encoded == len(context.data.indices("test"))


def test_zero_shot_against_all_classes(context: EvaluationContext) -> None:
    templates = ["{}", "an image of {}"]
    result, outcome = run(context, "zero-shot", templates=templates)
    bank, data = context.bank("test"), context.data
    classes = data.classes("test").tolist()
    text_embeddings = [
        prototype([FakeModel.text(t.replace("{}", data.class_names[c])) for t in templates]) for c in classes
    ]
    query = [(bank.labels == c).nonzero().flatten().tolist() for c in classes]
    embedding = bank.features.embedding
    assert result.accuracy == pytest.approx(brute(embedding, query, text_embeddings))
    assert result.get("top5") == pytest.approx(brute(embedding, query, text_embeddings, top=5))
    assert result.accuracy < result.get("top5") < 1
    right = [
        brute(embedding, [q if k == c else [] for k in range(7)], text_embeddings) * 8
        for c, q in enumerate(query)
    ]
    assert result.ci95 == pytest.approx(cluster_ci95(right, [8] * 7))
    assert outcome.episodes == 7 and result.get("ways") == 7


@pytest.mark.parametrize("options", [{}, {"ways": 4, "episodes": 3}])
def test_among_five_classes_or_fewer_there_is_no_top_5(options: dict[str, int]) -> None:
    result, _ = run(EvaluationContext(FakeModel(), make_data(classes=12, images=8)), "zero-shot", **options)
    assert result.get("ways") == 4 and result.get("top5") is None and result.get("top5_ci95") is None


def test_zero_shot_episodes(context: EvaluationContext) -> None:
    result, outcome = run(context, "zero-shot", ways=6, episodes=9, seed=5)
    bank, data = context.bank("test"), context.data
    drawn = sample_episodes(bank.labels, 6, 0, "all", 9, 5)
    for top, found in ((1, result.accuracy), (5, result.get("top5"))):
        expected = [
            brute(
                bank.features.embedding,
                query.tolist(),
                [unit(FakeModel.text(data.class_names[c])) for c in classes.tolist()],
                top,
            )
            for query, classes in zip(drawn.query, drawn.classes, strict=True)
        ]
        assert found == pytest.approx(np.mean(expected))
    assert outcome.per_episode is not None and len(outcome.per_episode) == 9


def test_every_true_text_of_a_class_is_used(context: EvaluationContext) -> None:
    data = context.data
    texts = tuple((n, n + " also") for n in data.class_names)
    both = EvaluationContext(context.model, LabeledImages(**{**vars(data), "class_texts": texts}))
    result, _ = run(both, "zero-shot")
    bank, classes = context.bank("test"), data.classes("test").tolist()
    text_embeddings = [prototype([FakeModel.text(t) for t in texts[c]]) for c in classes]
    query = [(bank.labels == c).nonzero().flatten().tolist() for c in classes]
    assert result.accuracy == pytest.approx(brute(bank.features.embedding, query, text_embeddings))


def test_descriptions_replace_names_and_codes(context: EvaluationContext, tmp_path: Path) -> None:
    coded = EvaluationContext(FakeModel(), make_data(classes=21, images=8, has_text=False))
    names = [coded.data.class_names[c] for c in coded.data.classes("test").tolist()]
    file = tmp_path / "descriptions.json"
    descriptions = {
        n: context.data.class_names[c] for n, c in zip(names, coded.data.classes("test"), strict=True)
    }
    file.write_text(json.dumps(descriptions))
    described, _ = run(coded, "zero-shot", descriptions=file)
    named, _ = run(context, "zero-shot")
    assert described.accuracy == named.accuracy
    del descriptions[names[0]]
    file.write_text(json.dumps(descriptions))
    with pytest.raises(
        DataError, match=f"1 of 7 classes without text.*: {names[0]}; add that class alone to .*d.*json"
    ):
        run(coded, "zero-shot", descriptions=file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"word2 thin": "a"}', "no class 'word2 thin'; did you mean 'word2 thing'"),
        ('{"word2 thing": []}', "needs a text"),
        ('["word2 thing"]', "JSON object"),
        ("{", "not JSON"),
    ],
)
def test_unusable_descriptions(
    context: EvaluationContext, tmp_path: Path, content: str, message: str
) -> None:
    (tmp_path / "d.json").write_text(content)
    with pytest.raises(DataError, match=message):
        run(context, "zero-shot", descriptions=tmp_path / "d.json")


@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_images_and_text_on_the_same_episodes(context: EvaluationContext, weight: float) -> None:
    options = {"ways": 5, "shots": 2, "queries": 3, "episodes": 10, "seed": 1}
    result, _ = run(context, "multimodal", text_weight=weight, **options)
    bank, names = context.bank("test"), context.data.class_names
    drawn, embedding = sample_episodes(bank.labels, **options), bank.features.embedding
    expected: dict[str, list[float]] = {"both": [], "images": [], "text": []}
    for support, query, classes in zip(drawn.support, drawn.query, drawn.classes, strict=True):
        images = [prototype(list(embedding[s])) for s in support]
        text_embeddings = [unit(FakeModel.text(names[c])) for c in classes.tolist()]
        both = [unit((1 - weight) * p + weight * w) for p, w in zip(images, text_embeddings, strict=True)]
        for name, of_class in (("both", both), ("images", images), ("text", text_embeddings)):
            expected[name].append(brute(embedding, query.tolist(), of_class))
    assert result.accuracy == pytest.approx(np.mean(expected["both"]))
    assert result.get("image_accuracy") == pytest.approx(np.mean(expected["images"]))
    assert result.get("text_accuracy") == pytest.approx(np.mean(expected["text"]))
    assert (result.accuracy == result.get("image_accuracy")) is (weight == 0)


def test_the_text_weight_is_validated_on_another_split(context: EvaluationContext) -> None:
    options = {"ways": 5, "shots": 1, "queries": 2, "episodes": 40}
    result, _ = run(context, "multimodal", text_weight="validated", **options)
    by_weight = {
        w / 10: run(context, "multimodal", text_weight=w / 10, split="val", **options)[0].accuracy
        for w in range(11)
    }
    best = max(by_weight, key=by_weight.get)
    assert result.get("text_weight") == best and result.get("text_weight_chosen_on") == "val"
    fixed, _ = run(context, "multimodal", text_weight=best, **options)
    assert result.accuracy == fixed.accuracy


def test_adaptive_text_weights(context: EvaluationContext) -> None:
    options = {"ways": 5, "shots": 2, "queries": 3, "episodes": 10, "seed": 1}
    result, _ = run(context, "multimodal", text_weight=0.8, adaptive_text_weight=True, **options)
    bank, names = context.bank("test"), context.data.class_names
    drawn, embedding = sample_episodes(bank.labels, **options), bank.features.embedding
    expected = []
    for support, query, classes in zip(drawn.support, drawn.query, drawn.classes, strict=True):
        images = [prototype(list(embedding[s])) for s in support]
        texts = [unit(FakeModel.text(names[c])) for c in classes.tolist()]
        cosines = np.array([[float(image @ text) for text in texts] for image in images])
        exponentials = np.exp((cosines - cosines.mean()) / cosines.std(ddof=1))
        both = []
        for n, (image, text) in enumerate(zip(images, texts, strict=True)):
            weight = 0.8 * (1 + exponentials[n, n] / exponentials[n].sum()) / 2
            both.append(unit((1 - weight) * image + weight * text))
        expected.append(brute(embedding, query.tolist(), both))
    assert result.accuracy == pytest.approx(np.mean(expected))
    assert result.get("adaptive_text_weight") is True
    assert run(context, "multimodal", text_weight=0.8, **options)[0].get("adaptive_text_weight") is None


def test_omniglot_trials(context: EvaluationContext) -> None:
    result, outcome = run(context, "omniglot-trials", ways=5, trials=52, method="prototypes")
    bank, data = context.bank("test"), context.data
    assert data.class_group is not None and data.source_id is not None
    drawn = sample_omniglot_trials(bank.labels, data.class_group, data.source_id[bank.index], 5, 11, 0)
    embedding = bank.features.embedding
    expected = [
        brute(embedding, query.tolist(), [unit(embedding[s[0]]) for s in support])
        for support, query in zip(drawn.support, drawn.query, strict=True)
    ]
    assert outcome.episodes == 11 and result.get("trials") == 55
    assert (result.accuracy, result.ci95) == pytest.approx(mean_ci95(expected))


def test_omniglot_runs(context: EvaluationContext, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    sources = pytest.importorskip("vlfew.data.sources.omniglot")
    images = context.data.images.tensor.view(21, 8, 1, 16, 16)
    runs = []
    for name in ("run01", "run02", "run03"):
        answer = torch.randperm(20, generator=torch.Generator().manual_seed(len(runs)))
        train, test = images[:20, len(runs)], images[answer, 5]
        runs.append(SimpleNamespace(name=name, train=train, test=test, answer=answer))
    seen = {}

    def load_runs(folder: Path, preprocessor: Any) -> list[Any]:
        seen.update(folder=folder, size=preprocessor.image_size, channels=preprocessor.channels)
        return runs

    monkeypatch.setattr(sources, "load_runs", load_runs)
    result, outcome = run(context, "omniglot-runs", runs=tmp_path)
    assert seen == {"folder": tmp_path, "size": 16, "channels": 1}
    expected = []
    for r in runs:
        train, test = (context.model.image_features(x).embedding for x in (r.train, r.test))
        query: list[list[int]] = [[] for _ in range(20)]
        for position, c in enumerate(r.answer.tolist()):
            query[c].append(position)
        expected.append(brute(test, query, [unit(t) for t in train]))
    assert (result.accuracy, result.ci95) == pytest.approx(mean_ci95(expected))
    assert list(result.get("per_run").values()) == pytest.approx(expected)
    assert result.split == "official runs" and outcome.episodes == 3 and 0.05 < result.accuracy < 1


def test_a_result_records_its_protocol(context: EvaluationContext, tmp_path: Path) -> None:
    result, outcome = run(context, "few-shot", queries=3, episodes=10, seed=4)
    assert result.model_dump() == {
        "protocol": "few-shot", "data": "tiny", "split": "test", "accuracy": outcome.accuracy,
        "ci95": outcome.ci95, "episodes": 10, "seed": 4, "input_size": [1, 16, 16], "outside_data": "",
        "outside_data_overlap": "",
        "command": "evaluate", "data_fingerprint": "tiny", "trained_on": "tiny/train",
        "skipped_images": 0, "note": "", "ways": 5, "shots": 1, "queries": 3, "method": "default",
        "interval": "over episodes", "protocol_class": "",
        "per_episode": "",
        "options": {"split": "test", "ways": 5, "shots": 1, "queries": 3, "episodes": 10, "seed": 4,
                  "method": "default", "on_small_class": "error"},
    }  # fmt: skip
    save_per_episode(tmp_path / "episodes.npy", [outcome.per_episode])
    np.testing.assert_array_equal(np.load(tmp_path / "episodes.npy"), outcome.per_episode)
    assert [p.name for p in tmp_path.iterdir()] == ["episodes.npy"]


def test_a_result_records_all_options(context: EvaluationContext, tmp_path: Path) -> None:
    file = tmp_path / "e.safetensors"
    for protocol, given in (("few-shot", {"episodes_file": file}), ("zero-shot", {"ways": 3})):
        options = {"queries": 2, "episodes": 10, "seed": 4, **given}
        result, _ = run(context, protocol, **options)
        recorded = json.loads(result.model_dump_json())
        assert {n: recorded["options"][n] for n in options} == json.loads(json.dumps(options, default=str))


def test_saved_episodes_are_used_again(context: EvaluationContext, tmp_path: Path) -> None:
    file, options = tmp_path / "e.safetensors", {"queries": 3, "episodes": 10}
    _, first = run(context, "few-shot", episodes_file=file, seed=1, **options)
    _, again = run(context, "few-shot", episodes_file=file, seed=2, **options)
    _, other = run(context, "few-shot", seed=2, **options)
    assert np.array_equal(first.per_episode, again.per_episode)
    assert not np.array_equal(first.per_episode, other.per_episode)
    with pytest.raises(ConfigError, match="name another file"):
        run(context, "few-shot", episodes_file=file, ways=3, **options)


def test_a_collapsed_model_is_at_chance(context: EvaluationContext) -> None:
    context.model.projection.zero_()
    for protocol, options in (("few-shot", {"queries": 3, "episodes": 50}), ("zero-shot", {"ways": 5})):
        assert run(context, protocol, **options)[0].accuracy == pytest.approx(0.2)
    assert run(context, "zero-shot")[0].accuracy == pytest.approx(1 / 7)


def test_a_broken_model_is_an_error(context: EvaluationContext) -> None:
    context.model.projection[3] = math.nan
    with pytest.raises(ModelError, match="NaN or infinity for 56 of 56"):
        context.bank("test")


def test_a_bank_is_saved_and_loaded(context: EvaluationContext, data: LabeledImages, tmp_path: Path) -> None:
    bank, path = encode_split(context.model, data, "val", batch_size=5), tmp_path / "bank.safetensors"
    assert_close(bank.features.embedding, context.bank("val").features.embedding)
    bank.save(path)
    back = FeatureBank.load(path, data)
    assert torch.equal(back.features.embedding, bank.features.embedding) and back.split == "val"
    assert torch.equal(back.labels, data.labels[back.index])
    with pytest.raises(DataError, match="not of other changed"):
        FeatureBank.load(path, LabeledImages(**{**vars(data), "name": "other", "fingerprint": "changed"}))
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="damaged"):
        FeatureBank.load(path, data)


def test_cluster_intervals_at_both_extremes() -> None:
    rng = np.random.default_rng(0)
    alike = [8.0 * (x < 0.6) for x in rng.random(400)]
    apart = rng.binomial(8, 0.6, 400).tolist()
    # Clusters that answer as one are worth one answer each; independent answers, all of them.
    assert cluster_ci95(alike, [8] * 400) == pytest.approx(1.96 * math.sqrt(0.24 / 400), rel=0.05)
    assert cluster_ci95(apart, [8] * 400) == pytest.approx(1.96 * math.sqrt(0.24 / 3200), rel=0.1)


def test_few_clusters_have_wide_intervals() -> None:
    # Student's t: 12.706 for one degree of freedom.
    assert cluster_ci95([8, 7], [10, 10]) == pytest.approx(12.706 * 0.05, rel=1e-4)
    assert cluster_ci95([8], [10]) is None


@pytest.mark.parametrize(
    ("protocol", "options"),
    [
        ("few-shot", {"ways": 3, "queries": 2, "episodes": 1}),
        ("zero-shot", {"ways": 3, "queries": 2, "episodes": 1}),
        ("multimodal", {"ways": 3, "queries": 2, "episodes": 1}),
        ("identification", {"gallery_size": 3, "repeats": 1}),
        ("threshold", {"far": 0.2, "repeats": 1, "resamples": 20}),
    ],
)
def test_one_episode_gives_no_interval(
    context: EvaluationContext, protocol: str, options: dict[str, Any]
) -> None:
    result, _ = run(context, protocol, **options)
    assert result.episodes == 1 and result.ci95 is None and result.interval_unit.startswith("one ")
    assert "NaN" not in result.model_dump_json() and '"ci95":null' in result.model_dump_json()
