"""A batch encoded in chunks has the gradients of a batch encoded at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.compare import assert_same_gradients
from tests.conftest import make_data
from tests.encoders.conftest import TEXT as VOCABULARY
from tests.encoders.conftest import bert_folder  # noqa: F401
from vlfew.core.config import Config
from vlfew.core.errors import ConfigError
from vlfew.training.run_folder import RunFolder
from vlfew.training.trainer import Trainer
from vlfew.workflows.assemble import assemble
from vlfew.workflows.train import make_trainer

TEXT: dict[str, Any] = {"objective": [{"loss": "alignment_softmax"}, {"loss": "supervised_contrastive"}]}
LEARNED: dict[str, Any] = {"similarity": "weighted_l1", "objective": [{"loss": "binary_cross_entropy"}]}
MAPS: dict[str, Any] = {"objective": [{"loss": "map_cross_entropy"}, {"loss": "contrastive"}]}


def trainer(folder: Path, chunk: int | None, changes: dict[str, Any]) -> Trainer:
    config = {
        "data": {"image_size": 16},
        "image": {"backbone": "conv4", "width": 8, "norm": "group"},
        "embedding_dim": 8,
        "sampling": {"classes_per_batch": 4, "images_per_class": 3},
        "augment": {"rotate": 20, "translate": 0.1, "elastic": 0.05, "random_erasing": 0.5},
        "training": {"mixed_precision": "no", "gradient_cache": chunk},
        "optim": {"steps": 4, "warmup_steps": 0, "max_grad_norm": None},
    }
    data = make_data()
    names = tuple(f"{VOCABULARY[c % 6]} {('cat', 'dog')[c // 6]}" for c in range(len(data.class_names)))
    data = replace(data, class_names=names, class_texts=tuple((name,) for name in names))
    checked, run = Config.model_validate(config | changes), RunFolder(folder)
    return make_trainer(checked, assemble(checked, run, data), run)


def gradients(made: Trainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of the first step, and the gradient of every trained parameter."""
    made.module.train()
    made.optimizer_step(made.batches())
    grads = {n: p.grad for n, p in made.training_step.named_parameters() if p.requires_grad}
    assert all(g is not None for g in grads.values())
    return made.loss.item(), grads


def same_gradients(folder: Path, chunk: int, changes: dict[str, Any]) -> None:
    (loss, expected), (cached, found) = (gradients(trainer(folder, c, changes)) for c in (None, chunk))
    assert cached == pytest.approx(loss, rel=1e-5)
    assert_same_gradients(found, expected)


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
@pytest.mark.parametrize("changes", [TEXT, LEARNED, MAPS], ids=["text", "learned", "maps"])
def test_gradients_are_those_of_the_plain_form(chunk: int, changes: dict[str, Any], tmp_path: Path) -> None:
    """Those of the text projection (under its dropout), temperature and similarity, too."""
    same_gradients(tmp_path, chunk, changes)


def test_accumulated_batches(tmp_path: Path) -> None:
    for chunk in (None, 5):
        training = {"mixed_precision": "no", "gradient_cache": chunk, "gradient_accumulation_steps": 2}
        made = trainer(tmp_path, chunk, LEARNED | {"training": training})
        loss, found = gradients(made)
        if chunk is None:
            plain_loss, expected = loss, found
    assert loss == pytest.approx(plain_loss, rel=1e-5)
    assert_same_gradients(found, expected)


def test_a_trained_text_tower(bert_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    from transformers import BertConfig, BertModel

    config = BertConfig.from_pretrained(
        bert_folder, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    )
    BertModel.from_pretrained(bert_folder, config=config).save_pretrained(tmp_path)
    for file in bert_folder.glob("tok*"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    text = {"encoder": f"hf:{tmp_path}", "frozen": False, "projection": "linear", "dropout": 0.0}
    same_gradients(tmp_path, 3, TEXT | {"text": text})


def test_dropout_is_the_same_in_both_passes(tmp_path: Path) -> None:
    """In one chunk all is as in the plain form; in several, the gradient is that of what the loss saw."""
    dropout = {"image": {"backbone": "conv4", "width": 8, "norm": "group", "dropout": 0.5}}
    same_gradients(tmp_path, 12, LEARNED | dropout)
    made = trainer(tmp_path, 5, LEARNED | dropout)
    seen: list[tuple[torch.Tensor, ...]] = []
    encode = made.training_step.encode_images
    made.training_step.encode_images = lambda x: seen.append(encode(x)) or seen[-1]  # type: ignore[method-assign]
    gradients(made)
    assert len(seen) == 6
    for (first,), (second,) in zip(seen[:3], seen[3:], strict=True):
        assert not first.requires_grad and second.requires_grad
        assert torch.equal(first, second)
    assert not torch.equal(seen[0][0], encode(torch.zeros(5, 1, 16, 16))[0])


def test_batch_norm_is_an_error_unless_frozen(tmp_path: Path) -> None:
    batch_norm = {"backbone": "conv4", "width": 8}
    with pytest.raises(ConfigError, match=r"gradient_cache: backbone\..* is a BatchNorm.*norm: group"):
        trainer(tmp_path, 4, LEARNED | {"image": batch_norm})
    same_gradients(tmp_path, 4, LEARNED | {"image": batch_norm | {"frozen": True}})
