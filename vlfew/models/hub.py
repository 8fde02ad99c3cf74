"""Models on the Hugging Face hub: download, upload with a model card."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from huggingface_hub import ModelCard, ModelHubMixin, constants

from vlfew.core.errors import ModelError
from vlfew.core.files import write_errors
from vlfew.encoders.library_errors import library_errors
from vlfew.models.model_card import model_card
from vlfew.models.serialization import read_model, save_model

if TYPE_CHECKING:
    from vlfew.models.dual_stream import DualStream


class HubModel(ModelHubMixin):
    """`from_pretrained`, `save_pretrained` and `push_to_hub`, as other models of huggingface_hub have them."""

    def _save_pretrained(self: DualStream, save_directory: Path) -> None:  # type: ignore[misc]
        save_model(self, save_directory, self.metadata)

    @classmethod
    def from_pretrained(  # type: ignore[misc]
        cls: type[DualStream], pretrained_model_name_or_path: str | Path, **download_options: Any
    ) -> DualStream:
        """Loads a model from a folder or a hub repository, on the CPU, in evaluation mode.

        Args:
            pretrained_model_name_or_path: a folder, or `owner/name`.
            download_options: `revision`, `token`, `cache_dir`, `force_download` and `local_files_only` of
                `huggingface_hub.snapshot_download`.

        Raises:
            ModelError: missing or damaged files.
        """
        path = Path(pretrained_model_name_or_path)
        folder = (
            path if path.is_dir() else download_model(str(pretrained_model_name_or_path), **download_options)
        )
        return read_model(cls, folder)

    def generate_model_card(self: DualStream, **card_options: Any) -> ModelCard:  # type: ignore[misc]
        """The model card; see `vlfew.models.model_card`."""
        return ModelCard(model_card(self, **card_options))

    def push_to_hub(  # type: ignore[misc]
        self: DualStream, repo_id: str, *, license: str | None = None, **upload_options: Any
    ) -> str:
        """Uploads the model and its card; prints what, where to and how large.

        Args:
            repo_id: `owner/name`; created if missing.
            license: of the weights, by the hub's identifier (`apache-2.0`), for the card.
            upload_options: `private`, `token`, `commit_message`, `branch` and `create_pr` of
                `ModelHubMixin.push_to_hub`.

        Returns:
            The URL of the commit.

        Raises:
            ModelError: the hub cannot be reached or rejects the upload.
        """
        megabytes = sum(tensor.nbytes for tensor in self.state_dict().values()) / 1e6
        print(
            f"uploading model.safetensors ({megabytes:,.1f} MB), model.json and README.md to "
            f"{constants.ENDPOINT}/{repo_id}",
            file=sys.stderr,
        )
        card = {"repo_id": repo_id, "license": license}
        with library_errors(f"{repo_id} could not be uploaded"):
            return ModelHubMixin.push_to_hub(self, repo_id, model_card_kwargs=card, **upload_options)


def write_pretrained(model: DualStream, folder: Path, repo_id: str, license: str | None) -> list[Path]:
    """Writes the files that `push_to_hub` would upload.

    Returns:
        Their paths.

    Raises:
        ModelError: the folder is not empty.
        WriteError: it cannot be written.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ModelError(f"{folder} is not an empty folder; choose another one")
    with write_errors(folder):
        model.save_pretrained(folder, model_card_kwargs={"repo_id": repo_id, "license": license})
    return sorted(folder.iterdir())


def download_model(name: str, **download_options: Any) -> Path:
    """The local folder of a hub repository's model, from the cache or downloaded.

    Args:
        name: `owner/name`.
        download_options: of `huggingface_hub.snapshot_download`.

    Raises:
        ModelError: it cannot be downloaded.
    """
    from huggingface_hub import snapshot_download

    files = ["model.json", "model.safetensors"]
    print(f"fetching {' and '.join(files)} of {name} from the Hugging Face hub", file=sys.stderr)
    with library_errors(
        f"there is no folder {name!r}, and it cannot be downloaded from the Hugging Face hub"
    ):
        return Path(snapshot_download(name, allow_patterns=files, **download_options))
