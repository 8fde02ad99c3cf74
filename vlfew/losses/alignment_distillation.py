"""Image-text alignment with the text encoder as teacher: texts that mean nearly the same are nearly right."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from vlfew.core.errors import DataError
from vlfew.losses.base import Loss
from vlfew.losses.batch import EncodedBatch
from vlfew.losses.logit_scale import LogitScale


class AlignmentDistillationLoss(Loss):
    """Similarities of images to texts learn from the text encoder's own similarities of texts to texts.

    A contrastive loss takes the caption of every other image for wrong, also one that would fit. A pretrained text
    encoder knows which fit, as the frozen tower does in cross-modal transfer (CWCL, Srinivasa et al. 2023). Here it
    is a teacher in the sense of Hinton et al. (2015): with its vectors t, of which `a(i)` is one of image i's texts,

        p(j | i) = softmax_j(cos(t_a(i), t_j) / teacher_temperature),   averaged over the texts a(i) of the image
        q(j | i) = softmax_j(s_ij),   s being the scaled cosines of images and texts in the joint space

    and the loss is the mean of KL(p || q) over the images, and likewise over the texts, where p compares a text with
    those of each image; then over both. Usually a part of the objective next to a contrastive loss.

    Args:
        temperature: at the start.
        teacher_temperature: of the text encoder's similarities; the lower, the fewer other texts are right.
        learned: whether the temperature is trained.
    """

    needs_text = True

    def __init__(
        self, *, temperature: float = 0.07, teacher_temperature: float = 0.1, learned: bool = True
    ) -> None:
        super().__init__()
        self.scale = LogitScale(temperature, learned)
        self.teacher_scale = LogitScale(teacher_temperature, learned=False)

    def forward(self, batch: EncodedBatch) -> Tensor:
        cosine, positive = batch.text_cosines()
        if batch.text_vectors is None:
            raise DataError(
                "alignment_distillation needs the text encoder's vectors, and this batch has none"
            )
        logits = cosine * self.scale()
        texts = F.normalize(batch.text_vectors.detach().float(), dim=1)
        similar = texts @ texts.T * self.teacher_scale()
        # Rows are the texts of an image: those of its class, in equal parts.
        own = positive / positive.sum(1, keepdim=True).clamp(min=1)
        taught, with_text = own @ similar.softmax(1), positive.any(1)
        to_texts = _divergence(taught[with_text], logits[with_text])
        to_images = (similar @ own.T).masked_fill(~with_text, -1e9).softmax(1)
        used = positive.any(0)
        return (to_texts + _divergence(to_images[used], logits.T[used])) / 2


def _divergence(taught: Tensor, logits: Tensor) -> Tensor:
    """Mean over rows `[R, N]` of the Kullback-Leibler divergence of softmax(logits) from the taught distribution."""
    if not len(taught):
        return logits.sum()
    return F.kl_div(logits.log_softmax(1), taught, reduction="batchmean")
