"""A process group leaves no thread behind."""

from __future__ import annotations

import socket
import sys

import pytest
import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from tests.training.train_and_list_threads import gloo_threads
from vlfew.training.hardware import closing_process_group

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="lists threads in /proc")


def step() -> None:
    """One training step; the model refers to the process group and to itself."""
    model = DistributedDataParallel(nn.Linear(2, 1))
    model.itself = [model]
    model(torch.ones(3, 2)).sum().backward()
    assert gloo_threads()
    raise ValueError("after the step")


def train(catch: bool) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with closing_process_group():
        distributed.init_process_group("gloo", f"tcp://127.0.0.1:{port}", rank=0, world_size=1)
        try:
            step()
        except ValueError:
            if not catch:
                raise


def test_the_threads_of_a_process_group_end_with_it() -> None:
    train(catch=True)
    assert not distributed.is_initialized() and gloo_threads() == []


def test_they_end_before_the_error_that_ended_the_training_is_handled() -> None:
    with pytest.raises(ValueError, match="after the step") as raised:
        train(catch=False)
    assert raised.value.__traceback__ is not None and gloo_threads() == []
