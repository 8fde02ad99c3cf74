"""open_clip models by name: their files, and either of their two towers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import nn

from vlfew.core.config import Interpolation, Resize
from vlfew.core.errors import ModelError, did_you_mean
from vlfew.core.outside_data import NOT_KNOWN
from vlfew.core.paths import user_path
from vlfew.encoders.hub import (
    cached_folder,
    check_complete,
    check_whole,
    closest_name,
    hub_folder,
    read_json,
    weight_size,
)
from vlfew.encoders.library_errors import library_errors
from vlfew.encoders.pretraining_data import data_of_tag

Tower = Literal["visual", "text"]
CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
RESIZE: dict[str | None, Resize] = {"squash": "stretch", "longest": "pad", "shortest": "crop"}
"""Our names of open_clip's ways to resize."""
NO_VISION = {"image_size": 1, "patch_size": 1, "layers": 1, "width": 1, "head_width": 1}
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
"""Placeholders for the other tower: each tower is built and read on its own."""


@dataclass(frozen=True)
class OpenClipModel:
    """What an open_clip name refers to.

    Attributes:
        config: open_clip's model configuration.
        mean, std: pixel statistics that the weights expect.
        weights: the file with both towers; None for random weights.
        folder: the local folder it came from, if any.
        resize, interpolation, fill: how images were resized, and the color around them where they are padded.
    """

    config: dict[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    weights: Path | None
    folder: Path | None = None
    resize: Resize = "crop"
    interpolation: Interpolation = "bicubic"
    fill: int | Sequence[int] = 0

    def tower_config(self, section: Literal["vision_cfg", "text_cfg"]) -> dict[str, Any]:
        """The part of the configuration that one tower is built from."""
        return {key: self.config.get(key, False) for key in ("embed_dim", section, "quick_gelu")}


def find_model(name: str) -> OpenClipModel:
    """Resolves `FOLDER`, `ARCH/TAG` (published weights) or `ARCH` (random weights).

    Raises:
        ModelError: no such folder, architecture or tag, or weights that cannot be downloaded.
    """
    import open_clip

    who, folder = f"open_clip:{name}", user_path(name)
    if folder.is_dir():
        check_whole(folder, who)
        return _model_in_folder(who, folder)
    arch, _, tag = name.partition("/")
    if arch in ("", ".", "..", "~"):
        raise ModelError(f"{who}: no such folder; it must hold {CONFIG} and {WEIGHTS[0]}")
    config = open_clip.get_model_config(arch)
    if config is None:
        hint = closest_name(arch, open_clip.list_models(), "open_clip.list_models()")
        raise ModelError(f"{who}: no such folder, and no architecture {arch!r}{hint}")
    pretrained = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    if tag and not pretrained:
        tags = open_clip.list_pretrained_tags_by_model(arch)
        raise ModelError(f"{who}: {arch} has no weights {tag!r}{did_you_mean(tag, tags)}")
    if pretrained:
        # The activation belongs to the weights; open_clip only warns when the two differ.
        config["quick_gelu"] = pretrained.get("quick_gelu", False)
    weights = _download_weights(who, config, pretrained) if pretrained else None
    return _model(config, pretrained, weights)


def pretraining_data(name: str) -> str:
    """What the weights that a name refers to were trained on: of `ARCH/TAG`, what the tag says."""
    tag = name.partition("/")[2]
    return NOT_KNOWN if user_path(name).is_dir() else data_of_tag(tag)


def _model(
    config: dict[str, Any], pixels: Mapping[str, Any], weights: Path | None, folder: Path | None = None
) -> OpenClipModel:
    """With open_clip's defaults: CLIP's pixel statistics, center crop, bicubic interpolation."""
    import open_clip

    return OpenClipModel(
        config,
        mean=pixels.get("mean", open_clip.OPENAI_DATASET_MEAN),
        std=pixels.get("std", open_clip.OPENAI_DATASET_STD),
        weights=weights,
        folder=folder,
        resize=RESIZE.get(pixels.get("resize_mode"), "crop"),
        interpolation="bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic",
        fill=pixels.get("fill_color") or 0,
    )


def _model_in_folder(who: str, folder: Path) -> OpenClipModel:
    stored = read_json(folder / CONFIG, who)
    if "model_cfg" not in stored:
        raise ModelError(f"{who}: cannot read {folder / CONFIG}: it has no 'model_cfg'")
    weights = next((folder / w for w in WEIGHTS if (folder / w).is_file()), None)
    if weights is None:
        raise ModelError(f"{who}: {folder} holds no weights; put {WEIGHTS[0]} there")
    return _model(stored["model_cfg"], stored.get("preprocess_cfg", {}), weights, folder)


def _download_weights(who: str, config: Mapping[str, Any], pretrained: Mapping[str, Any]) -> Path:
    repo, _, filename = pretrained.get("hf_hub", "").rpartition("/")
    if repo:
        files = [filename.rpartition(".")[0] + ".safetensors", filename] if filename else WEIGHTS
        alternative = f"give a local folder with {CONFIG} and {WEIGHTS[0]}"
        folder = cached_folder(repo, files) or hub_folder(
            repo, files, who=who, size=_size(config), alternative=alternative
        )
        return next(folder / f for f in files if (folder / f).exists())
    import open_clip

    with library_errors(f"{who}: {pretrained.get('url')} cannot be downloaded; put it into ~/.cache/clip"):
        return Path(open_clip.download_pretrained(dict(pretrained)))


def _size(config: Mapping[str, Any]) -> str:
    """The approximate size of both towers; unknown while an inner configuration is on the hub, too."""
    if config["text_cfg"].get("hf_model_name"):
        return ""
    towers = [build_tower("visual", config, "open_clip"), build_tower("text", config, "open_clip")]
    return weight_size(sum(p.numel() for tower in towers for p in tower.parameters()))


def build_tower(tower: Tower, config: Mapping[str, Any], who: str) -> Any:
    """One tower of a configuration, randomly initialized.

    Raises:
        ModelError: open_clip cannot build it.
    """
    import open_clip

    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    # The checkpoint holds both towers: never download the weights they were initialized from.
    vision["timm_model_pretrained"] = text["hf_model_pretrained"] = False
    with library_errors(f"{who}: the {tower} tower cannot be built"):
        model = open_clip.CustomTextCLIP(
            config["embed_dim"],
            vision if tower == "visual" else NO_VISION,
            text if tower == "text" else NO_TEXT,
            quick_gelu=config.get("quick_gelu", False),
        )
    return getattr(model, tower)


def load_tower(module: nn.Module, tower: Tower, weights: Path, who: str) -> None:
    """Loads one tower's part of a checkpoint; positions are interpolated to the tower's image size.

    Raises:
        ModelError: the file is damaged, or does not fit.
    """
    from types import SimpleNamespace

    from open_clip.convert import convert_state_dict
    from open_clip.factory import load_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed

    model: Any = SimpleNamespace(**{tower: module})
    prefix = tower + "."
    with library_errors(f"{who}: {weights} cannot be loaded"):
        state = load_state_dict(str(weights), weights_only=True)
        state = convert_to_custom_text_state_dict(convert_state_dict(model, state))
        if tower == "visual":
            resize_pos_embed(state, model)
        part = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        missing = module.load_state_dict(part, strict=False).missing_keys
    check_complete([prefix + key for key in missing], weights, who)
