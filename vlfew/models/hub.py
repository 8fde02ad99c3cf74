"""A model on the Hugging Face hub: taken from it, put onto it, with a card that says what it can do."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin, constants

from vlfew.core.errors import ModelError, first_line

if TYPE_CHECKING:
    from torch import Tensor

    from vlfew.models.dual_stream import DualStream


class OnHub(ModelHubMixin):
    """`from_pretrained`, `save_pretrained` and `push_to_hub`, as huggingface_hub's other models have them."""

    def _save_pretrained(self: DualStream, save_directory: Path) -> None:  # type: ignore[misc]
        from vlfew.models.serialization import save_model

        save_model(self, save_directory, self.metadata)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **how: Any) -> DualStream:
        """The model of a folder or of a hub repository, on the CPU, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or `owner/name`.
            how: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only`, as
                `huggingface_hub.snapshot_download` takes them.

        Raises:
            ModelError: not there, or damaged.
        """
        from vlfew.models.serialization import from_hub, load_model

        folder = Path(pretrained_model_name_or_path)
        return load_model(folder if folder.is_dir() else from_hub(str(pretrained_model_name_or_path), **how))

    def generate_model_card(self: DualStream, **told: Any) -> ModelCard:  # type: ignore[misc]
        """The card of the model; see `vlfew.models.model_card`."""
        from vlfew.models.model_card import model_card

        return ModelCard(model_card(self, **told))

    def push_to_hub(  # type: ignore[misc]
        self: DualStream, repo_id: str, *, license: str | None = None, **how: Any
    ) -> str:
        """Uploads the model and its card; says what, where to and how large.

        Args:
            repo_id: `owner/name`; made if it is not there.
            license: of the weights, as the hub calls it (`apache-2.0`); stands on the card.
            how: `private`, `token`, `commit_message`, `branch` and `create_pr`, as
                `ModelHubMixin.push_to_hub` takes them.

        Returns:
            The address of the commit.

        Raises:
            ModelError: the hub cannot be reached or says no.
        """
        weights: dict[str, Tensor] = self.state_dict()
        megabytes = sum(tensor.nbytes for tensor in weights.values()) / 1e6
        print(
            f"uploading model.safetensors ({megabytes:,.1f} MB), model.json and README.md to "
            f"{constants.ENDPOINT}/{repo_id}",
            file=sys.stderr,
        )
        card = {"repo_id": repo_id, "license": license}
        try:
            return ModelHubMixin.push_to_hub(self, repo_id, model_card_kwargs=card, **how)
        except Exception as error:  # the hub's client and its transport raise many unrelated types
            raise ModelError(f"{repo_id} could not be uploaded: {first_line(error)}") from error


def write_pretrained(model: DualStream, folder: Path, repo_id: str, license: str | None) -> list[Path]:
    """Writes what `push_to_hub` would upload.

    Returns:
        The files.

    Raises:
        ModelError: there is something in the folder already.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not an empty folder; name another one")
    model.save_pretrained(folder, model_card_kwargs={"repo_id": repo_id, "license": license})
    return sorted(folder.iterdir())
