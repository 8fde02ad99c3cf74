"""A batch seen in chunks has the gradients of a batch seen at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import make_data
from tests.encoders.conftest import TEXT as VOCABULARY
from tests.encoders.conftest import bert_folder  # noqa: F401
from vlfew.core.config import Config
from vlfew.core.errors import ConfigError
from vlfew.training.run_folder import RunFolder
from vlfew.training.trainer import Trainer

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
    data = replace(data, class_names=names, class_texts=())
    return Trainer(Config.model_validate(config | changes), data, RunFolder(folder))


def gradients(made: Trainer) -> tuple[float, dict[str, torch.Tensor]]:
    """Loss of the first step, and the gradient of every parameter that is trained."""
    module, made.optimizer = made.accelerator.prepare(made.module, made.optimizer)
    module.train()
    with ThreadPoolExecutor(1) as pool:
        loss, _, _ = made._step(module, 0, pool.submit(made._fetch, 0), pool)
    found = {n: p.grad for n, p in made.module.named_parameters() if p.requires_grad}
    assert all(g is not None for g in found.values())
    return loss.item(), found


def same_gradients(folder: Path, chunk: int, changes: dict[str, Any]) -> None:
    (loss, expected), (cached, found) = (gradients(trainer(folder, c, changes)) for c in (None, chunk))
    assert cached == pytest.approx(loss, rel=1e-5)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6, msg=name)
    assert max(value.abs().max() for value in expected.values()) > 1e-3


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
@pytest.mark.parametrize("changes", [TEXT, LEARNED, MAPS], ids=["words", "learned", "maps"])
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
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=1e-6, msg=name)


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
    look = made.module.look
    made.module.look = lambda pixels: seen.append(look(pixels)) or seen[-1]  # type: ignore[method-assign]
    gradients(made)
    assert len(seen) == 6
    for (first,), (second,) in zip(seen[:3], seen[3:], strict=True):
        assert not first.requires_grad and second.requires_grad
        assert torch.equal(first, second)
    assert not torch.equal(seen[0][0], look(torch.zeros(5, 1, 16, 16))[0])


def test_batch_norm_is_refused_unless_it_is_frozen(tmp_path: Path) -> None:
    batch_norm = {"backbone": "conv4", "width": 8}
    with pytest.raises(ConfigError, match=r"gradient_cache: backbone\..* is a BatchNorm.*norm: group"):
        trainer(tmp_path, 4, LEARNED | {"image": batch_norm})
    same_gradients(tmp_path, 4, LEARNED | {"image": batch_norm | {"frozen": True}})
