"""The vectors of ImageNet's 1,000 class names in 80 prompts, one MiniLM tower for both, the same threads.

vlfew's class embeddings and open_clip's `build_zero_shot_classifier` take turns; both start from the names. The
tower, its texts padded to open_clip's 77 tokens, is wrapped as `encode_text`, as open_clip's own text towers
of transformers are. Nothing is cached.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from typing import Any

LENGTH = 77


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--classes", type=int, default=1000, help="how many of the 1,000")
    parser.add_argument("--rounds", type=int, default=3, help="each side runs once a round")
    parser.add_argument("--threads", type=int, default=1)


def run(args: argparse.Namespace) -> None:
    import torch
    from open_clip import build_zero_shot_classifier
    from open_clip.zero_shot_metadata import IMAGENET_CLASSNAMES, OPENAI_IMAGENET_TEMPLATES
    from torch import Tensor
    from torch.nn.functional import normalize

    from vlfew.data.labeled_images import InMemory, LabeledImages
    from vlfew.evaluation.class_prompts import class_embeddings
    from vlfew.evaluation.context import EvaluationContext
    from vlfew.models.dual_stream import DualStream
    from vlfew.models.spec import ModelSpec, TextSpec

    torch.set_num_threads(args.threads)
    names = IMAGENET_CLASSNAMES[: args.classes]
    text = TextSpec(encoder="minilm", projection="none")
    # The image encoder is small and not used.
    spec = ModelSpec(backbone="conv4", text=text, embedding_dim=384, image_size=16)
    tower: Any = DualStream.from_spec(spec).eval().text_encoder
    labels = torch.arange(len(names))
    images = InMemory(torch.zeros(len(names), 1, 16, 16, dtype=torch.uint8))
    # ImageNet has two classes called crane, and more: a number makes names unique, the texts are the names.
    unique = tuple(f"{n} {name}" for n, name in enumerate(names))
    texts = tuple((name,) for name in names)
    data = LabeledImages("imagenet", images, labels, unique, {"test": labels}, "", class_texts=texts)

    class Wrapped:
        @torch.no_grad()
        def encode_text(self, ids: Tensor, normalize: bool = False) -> Tensor:
            vectors = tower({"input_ids": ids, "attention_mask": (ids != 0).long()}).embedding
            return torch.nn.functional.normalize(vectors, dim=-1) if normalize else vectors

    def tokenizer(texts: list[str]) -> Tensor:
        padded = tower.tokenizer(
            texts, padding="max_length", max_length=LENGTH, truncation=True, return_tensors="pt"
        )
        ids: Tensor = padded["input_ids"]
        return ids

    def ours() -> Tensor:
        # A new model, which has no text embeddings cached.
        model = DualStream.from_spec(spec)
        begin[0], begin[1] = time.perf_counter(), time.process_time()
        return class_embeddings(EvaluationContext(model.eval(), data), labels, "eighty", None)

    def theirs() -> Tensor:
        begin[0], begin[1] = time.perf_counter(), time.process_time()
        return build_zero_shot_classifier(Wrapped(), tokenizer, names, OPENAI_IMAGENET_TEMPLATES).T

    begin = [0.0, 0.0]
    took: dict[str, list[tuple[float, float]]] = {"vlfew": [], "open_clip": []}
    vectors = {}
    print(f"{len(names):,} classes, 80 prompts each, {args.threads} thread(s), load {os.getloadavg()[0]:.1f}")
    for number in range(args.rounds):
        for name, side in (("vlfew", ours), ("open_clip", theirs)):
            vectors[name] = side()
            took[name].append((time.perf_counter() - begin[0], time.process_time() - begin[1]))
            wall, cpu = took[name][-1]
            print(f"  round {number + 1}: {name} {wall:.1f} s ({cpu:.1f} s of the processor)", flush=True)
    median = {
        name: [statistics.median(of) for of in zip(*times, strict=True)] for name, times in took.items()
    }
    apart = (normalize(vectors["vlfew"], dim=1) - normalize(vectors["open_clip"], dim=1)).abs().max()
    ratio = [theirs / ours for theirs, ours in zip(median["open_clip"], median["vlfew"], strict=True)]
    print(
        f"vlfew {median['vlfew'][0]:.1f} s, open_clip {median['open_clip'][0]:.1f} s: {ratio[0]:.1f} times "
        f"({ratio[1]:.1f} by the processor's time); largest difference {float(apart):.1e}"
    )
