"""The page: well formed, self-contained, true to the results, and there whatever the data lack."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.evaluation.fakes import FakeText
from vlfew.classifiers.base import FewShotMethod
from vlfew.classifiers.prototypes import Prototypes
from vlfew.core.config import Config, LossConfig
from vlfew.core.errors import VlfewError
from vlfew.core.features import Features, FeatureSpec
from vlfew.data.labeled_images import InMemory, LabeledImages
from vlfew.evaluation.context import EvaluationContext
from vlfew.evaluation.results import Result
from vlfew.models.dual_stream import DualStream
from vlfew.models.serialization import save_model
from vlfew.models.spec import ModelSpec
from vlfew.report import write_report
from vlfew.similarities.base import Similarity
from vlfew.similarities.cosine import Cosine
from vlfew.training.run_folder import RunFolder

SECTIONS = ["results", "training", "episodes", "pairs", "zero-shot-examples", "embedding-map", "confusions"]
MOST_BYTES = 5_000_000
LOADS = ("src", "href", "srcset", "poster", "action", "data")
VOID = {"meta", "img"}
SIDE = 8


class Page(HTMLParser):
    """Tags, addresses, charts and text of a page; fails on a tag that is not closed where it should be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.words: list[str] = []
        self.cells: list[list[str]] = []
        self.charts: list[dict[str, Any]] = []
        self.style = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.addresses += [found[name] or "" for name in LOADS if name in found]
        if tag == "tr":
            self.cells.append([])
        if tag in ("td", "th"):
            self.cells[-1].append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1:] == ["script"]:
            self.charts += [json.loads(data)["doc"]["roots"][0]] if data.startswith("{") else []
        elif self.open[-1:] == ["style"]:
            self.style += data
        else:
            self.words.append(data)
        if {"td", "th"} & set(self.open):
            self.cells[-1][-1] += data

    @property
    def series(self) -> list[tuple[str, dict[str, list[Any]]]]:
        """Name and columns of every drawn series of every chart, once for each of its renderers."""
        sources: dict[str, Any] = {}
        found = []
        for chart in self.charts:
            for renderer in chart["attributes"]["renderers"]:
                source = renderer["attributes"]["data_source"]
                sources.setdefault(source["id"], source)
                columns = dict(sources[source["id"]]["attributes"]["data"]["entries"])
                found.append((renderer["attributes"]["name"], columns))
        return found

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


class Toy:
    """Embeds an image as its pixels, and a text as the mean image of the class it names."""

    fingerprint = None

    def __init__(self, data: LabeledImages, has_text: bool = True) -> None:
        self.has_text = has_text
        pixels = data.images.batch(torch.arange(len(data.labels))).flatten(1).float()
        self.mean = pixels.mean(0)
        self.word = {
            text: pixels[data.labels == number].mean(0) - self.mean
            for number, texts in enumerate(data.class_texts)
            for text in texts
        }

    def image_features(self, images: Tensor) -> Features:
        return Features(images.flatten(1).float() - self.mean)

    def encode_text(self, texts: list[str]) -> Tensor:
        return torch.stack([self.word[text] for text in texts])

    def require_text_encoder(self) -> FakeText:
        return FakeText()

    def few_shot_method(self, name: str = "default") -> FewShotMethod:
        return Prototypes(FeatureSpec(len(self.mean)))

    def similarity_by_name(self, name: str = "default") -> Similarity:
        return Cosine(FeatureSpec(len(self.mean)))


def make_data(
    counts: list[int], words: bool = True, channels: int = 1, noise: float = 90.0, side: int = SIDE
) -> LabeledImages:
    """One noisy pattern a class, `counts` images of each; the first two classes are for training."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    patterns = torch.rand(len(counts), channels, side, side, generator=generator) * 255
    images = patterns[labels] + noise * torch.randn(len(labels), channels, side, side, generator=generator)
    names = tuple(f"pattern <script>{n}</script> & co" if words else f"p{n}" for n in range(len(counts)))
    return LabeledImages(
        name="patterns",
        images=InMemory(images.clamp(0, 255).byte()),
        labels=labels,
        class_names=names,
        class_texts=tuple((name,) for name in names) if words else (),
        splits={"train": (labels < 2).nonzero().flatten(), "test": (labels >= 2).nonzero().flatten()},
        fingerprint="f00d",
    )


def make_run(folder: Path, log: bool = True, notes: list[str] | None = None) -> RunFolder:
    run = RunFolder(folder / "a run")
    run.path.mkdir()
    objective = [LossConfig(loss="supervised_contrastive"), LossConfig(loss="alignment_softmax", weight=2.0)]
    run.claim(Config(objective=objective, seed=7))
    metadata = {"trained_on": "patterns/train", "best_step": 40, "seconds": 312.0, "notes": notes or []}
    (run.path / "model.json").write_text(json.dumps({"format": 2, "metadata": metadata}))
    for step in range(10, 60, 10) if log else ():
        terms = {"supervised_contrastive": 1 / step, "alignment_softmax": 2 / step}
        run.append_log({"step": step, "loss": 5 / step, **terms, "lr": 1e-3, "images_per_second": 100.0})
        if step % 20 == 0:
            validation = {"protocol": "zero-shot", "split": "val", "accuracy": step / 100, "best": True}
            run.append_log({"step": step, "validation": validation})
    return run


def check_self_contained(page: Page, html: str) -> None:
    """Nothing is loaded from elsewhere, and the page can be mailed."""
    assert page.addresses
    anchors = {f"#{i}" for i in page.ids}
    assert all(a.startswith("data:image/") or a in anchors for a in page.addresses)
    assert not re.search(r"https?://|@import|url\(", page.style)
    assert not {"link", "iframe", "object", "embed"} & set(page.tags)
    assert len(html.encode()) < MOST_BYTES


def result(**given: object) -> Result:
    fields: dict[str, object] = {
        "protocol": "few-shot",
        "data": "patterns",
        "split": "test",
        "accuracy": 0.87654,
        "ci95": 0.01234,
        "episodes": 1234,
        "seed": 5,
        "input_size": [1, SIDE, SIDE],
        "outside_data": False,
        "command": "vlfew evaluate 'a run' --template '<b> & {}'",
        "ways": 4,
        "shots": 1,
    }
    return Result(**(fields | given))


def report(run: RunFolder, context: EvaluationContext, results: list[Result], seed: int = 0) -> str:
    path = write_report(run, context, results, seed=seed)
    assert path == run.path / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_is_whole_and_needs_nothing_else(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    html = report(make_run(tmp_path), EvaluationContext(Toy(data), data), [result()])
    page = Page(html)
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    check_self_contained(page, html)
    # Validation, saved checkpoint, two losses and their sum, rate, throughput, and eight classes of the map.
    assert len({name for name, _ in page.series}) == 2 + 3 + 2 + 8


def test_names_are_shown_and_cannot_become_markup(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    page = Page(report(make_run(tmp_path), EvaluationContext(Toy(data), data), [result()]))
    assert "pattern <script>4</script> & co" in page.text


def test_the_table_says_what_the_results_say(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    named = result(protocol="zero-shot", accuracy=0.5, ci95=0.2, shots=None, ways=8, images=48, top5=0.91)
    page = Page(report(make_run(tmp_path), EvaluationContext(Toy(data), data), [result(), named]))
    rows = [cells for cells in page.cells if cells[0] in ("few-shot", "zero-shot")]
    size = f"1×{SIDE}×{SIDE}"
    assert rows == [
        [
            "few-shot",
            "patterns / test",
            "4-way 1-shot",
            "87.65 ± 1.23",
            "",
            "25",
            "1,234 episodes",
            "5",
            size,
            "no",
        ],
        [
            "zero-shot",
            "patterns / test",
            "all 8 classes",
            "50.00 ± 20.00",
            "top-5 91.0",
            "12.5",
            "1,234 episodes",
            "5",
            size,
            "no",
        ],
    ]
    assert any("vlfew evaluate 'a run' --template '<b> & {}'" in cells[0] for cells in page.cells if cells)


def test_the_head_says_what_was_trained_on_what(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    note = "alignment_softmax dropped: class names are codes"
    run = make_run(tmp_path, notes=[note])
    text = Page(report(run, EvaluationContext(Toy(data), data), [result(note=f"half the data; {note}")])).text
    for said in (
        "a run",
        "patterns/train",
        "f00d",
        "step 40",
        "5 min 12 s",
        "2 × alignment softmax",
        "half the data",
    ):
        assert said in text
    assert text.count(note) == 1
    assert "12 images of 2 classes" in text


def test_curves_mark_the_saved_checkpoint(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    text = Page(report(make_run(tmp_path), EvaluationContext(Toy(data), data), [])).text
    assert "saved: step 40, 40.0%" in text
    assert "Learning rate" in text and "Throughput" in text


def test_a_verification_has_its_curve(tmp_path: Path) -> None:
    data = make_data([6] * 10)
    curve = {"far": [0, 0.01, 1], "tar": [0.1, 0.7, 1], "low": [0, 0.6, 1], "high": [0.2, 0.8, 1]}
    page = Page(report(make_run(tmp_path), EvaluationContext(Toy(data), data), [result(), result(roc=curve)]))
    assert page.ids.index("verification") == page.ids.index("results") + 1
    assert "70.0%" in page.text and "false accept rate" in page.text


def test_marks_agree_with_the_counts(tmp_path: Path) -> None:
    data = make_data([6] * 10, noise=150)
    html = report(make_run(tmp_path), EvaluationContext(Toy(data), data), [])
    sheets = html[html.index('id="episodes"') : html.index('id="pairs"')]
    right, total = map(int, re.search(r"(\d+) of (\d+) queries\s+are correct", sheets).groups())  # type: ignore[union-attr]
    assert sheets.count('class="tile right"') == right == len(re.findall(r"<b>✓</b>", sheets))
    assert sheets.count('class="tile wrong"') == total - right == len(re.findall(r"<b>✗ [A-E]</b>", sheets))
    assert 0 < right < total == 3 * 5 * 4
    named = html[html.index('id="zero-shot-examples"') : html.index('id="embedding-map"')]
    said, cards = map(int, re.search(r"(\d+) of\s+(\d+) are classified correctly", named).groups())  # type: ignore[union-attr]
    assert named.count('class="tile right"') == said
    assert named.count('class="tile wrong"') == cards - said


def test_same_seed_same_page(tmp_path: Path) -> None:
    data = make_data([6] * 30)
    run = make_run(tmp_path)
    first = report(run, EvaluationContext(Toy(data), data), [result()])
    assert report(run, EvaluationContext(Toy(data), data), [result()]) == first
    assert report(run, EvaluationContext(Toy(data), data), [result()], seed=1) != first


@pytest.mark.parametrize(
    ("counts", "missing"),
    [
        ([4, 4, 3, 1], "No episodes"),
        ([4, 4, 1, 1, 1], "No episodes"),
        ([4, 4, 5], "No map"),
        ([4, 4, 1], "No map"),
        ([4, 4, 2, 2], None),
        ([4, 4, 9, 1, 2, 3], None),
    ],
)
@pytest.mark.parametrize("words", [True, False])
def test_little_data_leave_a_part_out_with_a_sentence(
    tmp_path: Path, counts: list[int], missing: str | None, words: bool
) -> None:
    data = make_data(counts, words)
    page = Page(report(make_run(tmp_path, log=False), EvaluationContext(Toy(data), data), []))
    assert [i for i in page.ids if i in SECTIONS] == SECTIONS
    assert "No curves" in page.text and "No evaluation was run" in page.text
    for part in ("No episodes", "No map"):
        assert (part in page.text) == (part == missing or (len(counts) == 3 and part == "No episodes"))
    assert ("No zero-shot classification: class names of patterns are codes" in page.text) == (not words)


def test_a_real_model_without_words(tmp_path: Path) -> None:
    data = make_data([4] * 7, channels=3, side=16)
    spec = ModelSpec(
        backbone="conv4", backbone_options={"width": 8}, embedding_dim=8, image_size=16, channels=3
    )
    torch.manual_seed(0)
    model = DualStream.from_spec(spec)
    run = make_run(tmp_path)
    save_model(model, run.path, {"trained_on": "patterns/train"})
    page = Page(report(run, EvaluationContext(model, data), [result()]))
    count = sum(p.numel() for p in model.parameters())
    assert f"{count:,} trained, 0 frozen" in page.text
    assert "No zero-shot classification: this model has no text" in page.text


def test_skipped_images_are_named(tmp_path: Path) -> None:
    data = replace(make_data([4] * 5), skipped=tuple(f"bad{n}.jpg" for n in range(8)))
    text = Page(report(make_run(tmp_path), EvaluationContext(Toy(data), data), [])).text
    assert "8 unreadable images skipped: bad0.jpg, bad1.jpg, bad2.jpg, bad3.jpg, bad4.jpg and 3 more" in text


def test_a_folder_without_a_model_is_one_clear_line(tmp_path: Path) -> None:
    data = make_data([4] * 5)
    run = make_run(tmp_path)
    (run.path / "model.json").unlink()
    with pytest.raises(VlfewError, match=r"model\.json"):
        write_report(run, EvaluationContext(Toy(data), data), [])
    assert not run.report.exists()
