"""The two towers of an open_clip model: a backbone and a text encoder that share a space."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from torch import Tensor, nn

from vlfew.core.config import Interpolation, Resize
from vlfew.core.errors import ModelError, did_you_mean, first_line
from vlfew.core.features import Features
from vlfew.data.preprocess import ImagePreprocessor
from vlfew.encoders.hub import cached_folder, hub_folder, nearest, weight_size
from vlfew.encoders.image.backbone import Backbone, Published, channel_stats, check_size
from vlfew.encoders.text.base import TextEncoder

CONFIG = "open_clip_config.json"
WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
NO_VISION = {"image_size": 1, "patch_size": 1, "layers": 1, "width": 1, "head_width": 1}
NO_TEXT = {"context_length": 1, "vocab_size": 1, "width": 1, "heads": 1, "layers": 1}
"""Stand-ins for the tower that is not asked for: each builder makes and reads only its own half."""


@dataclass(frozen=True)
class Source:
    """What an open_clip name stands for.

    Attributes:
        name: as given, for messages.
        config: open_clip's model configuration.
        mean, std: pixel statistics that the weights expect.
        weights: the file that holds both towers; None leaves them random.
        folder: the local folder it came from, if one.
        resize, interpolation: how images were brought to their size.
    """

    name: str
    config: dict[str, Any]
    mean: Sequence[float]
    std: Sequence[float]
    weights: Path | None
    folder: Path | None = None
    resize: Resize = "crop"
    interpolation: Interpolation = "bicubic"


def find(name: str) -> Source:
    """Resolves `FOLDER`, `ARCH/TAG` (the published weights) or `ARCH` (random weights).

    Raises:
        ModelError: no such folder, architecture or tag, or weights that cannot be had.
    """
    import open_clip

    folder = Path(name).expanduser()
    if folder.is_dir():
        return _in_folder(name, folder)
    arch, _, tag = name.partition("/")
    if arch in ("", ".", "..", "~"):
        raise ModelError(f"open_clip:{name}: no such folder; give one with {CONFIG} and {WEIGHTS[0]}")
    config = open_clip.get_model_config(arch)
    if config is None:
        hint = nearest(arch, open_clip.list_models(), "open_clip.list_models()")
        raise ModelError(f"open_clip:{name}: no such folder, and no architecture {arch!r}{hint}")
    published = open_clip.get_pretrained_cfg(arch, tag) if tag else {}
    if tag and not published:
        tags = open_clip.list_pretrained_tags_by_model(arch)
        raise ModelError(f"open_clip:{name}: {arch} has no weights {tag!r}{did_you_mean(tag, tags)}")
    if published:
        # The activation belongs to the weights; open_clip only warns when the two differ.
        config["quick_gelu"] = published.get("quick_gelu", False)
    mean = published.get("mean", open_clip.OPENAI_DATASET_MEAN)
    std = published.get("std", open_clip.OPENAI_DATASET_STD)
    weights = _published_weights(name, config, published) if published else None
    return Source(name, config, mean, std, weights, None, *_resizing(published))


def _resizing(pixels: Mapping[str, Any]) -> tuple[Resize, Interpolation]:
    """open_clip's words for it in ours; it cuts to the square and interpolates cubically unless told."""
    return (
        "squash" if pixels.get("resize_mode") == "squash" else "crop",
        "bilinear" if pixels.get("interpolation") == "bilinear" else "bicubic",
    )


def _in_folder(name: str, folder: Path) -> Source:
    import open_clip

    try:
        stored = json.loads((folder / CONFIG).read_text("utf-8"))
        config, pixels = stored["model_cfg"], stored.get("preprocess_cfg", {})
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"open_clip:{name}: cannot read {folder / CONFIG}: {first_line(error)}") from error
    weights = next((folder / w for w in WEIGHTS if (folder / w).is_file()), None)
    if weights is None:
        raise ModelError(f"open_clip:{name}: {folder} holds no weights; put {WEIGHTS[0]} there")
    mean = pixels.get("mean", open_clip.OPENAI_DATASET_MEAN)
    std = pixels.get("std", open_clip.OPENAI_DATASET_STD)
    return Source(name, config, mean, std, weights, folder, *_resizing(pixels))


def _published_weights(name: str, config: Mapping[str, Any], published: Mapping[str, Any]) -> Path:
    repo, _, filename = published.get("hf_hub", "").rpartition("/")
    if repo:
        files = [filename.rpartition(".")[0] + ".safetensors", filename] if filename else WEIGHTS
        instead = f"name a local folder with {CONFIG} and {WEIGHTS[0]}"
        folder = cached_folder(repo, files) or hub_folder(
            repo, files, who=f"open_clip:{name}", size=_size(config), instead=instead
        )
        return next(folder / f for f in files if (folder / f).exists())
    import open_clip

    try:
        return Path(open_clip.download_pretrained(dict(published)))
    except Exception as error:  # urllib, sockets and open_clip's own checks
        url = published.get("url")
        raise ModelError(
            f"open_clip:{name}: {url} cannot be downloaded ({first_line(error)}); put it into ~/.cache/clip"
        ) from error


def _size(config: Mapping[str, Any]) -> str:
    """About how large both towers are; unknown while an inner configuration is on the hub, too."""
    if config["text_cfg"].get("hf_model_name"):
        return ""
    towers = [build_tower(side, config, "open_clip") for side in ("visual", "text")]
    return weight_size(sum(p.numel() for tower in towers for p in tower.parameters()))


def build_tower(side: str, config: Mapping[str, Any], who: str) -> Any:
    """The `visual` or the `text` tower of a configuration, randomly initialized."""
    import open_clip

    vision, text = dict(config["vision_cfg"]), dict(config["text_cfg"])
    # The checkpoint holds both towers whole: never fetch the parts they were once started from.
    vision["timm_model_pretrained"] = text["hf_model_pretrained"] = False
    try:
        model = open_clip.CustomTextCLIP(
            config["embed_dim"],
            vision if side == "visual" else NO_VISION,
            text if side == "text" else NO_TEXT,
            quick_gelu=config.get("quick_gelu", False),
        )
    except (RuntimeError, ValueError, TypeError, KeyError, AssertionError, OSError) as error:
        raise ModelError(f"{who}: the {side} tower cannot be built: {first_line(error)}") from error
    return getattr(model, side)


def fill_tower(tower: nn.Module, side: str, weights: Path, who: str) -> None:
    """Loads one tower's part of a checkpoint; positions are resized to the tower's image size.

    Raises:
        ModelError: the file is damaged, or does not fit.
    """
    from types import SimpleNamespace

    from open_clip.convert import convert_state_dict
    from open_clip.factory import load_state_dict
    from open_clip.model import convert_to_custom_text_state_dict, resize_pos_embed
    from safetensors import SafetensorError

    model: Any = SimpleNamespace(**{side: tower})
    try:
        state = load_state_dict(str(weights), weights_only=True)
        state = convert_to_custom_text_state_dict(convert_state_dict(model, state))
        if side == "visual":
            resize_pos_embed(state, model)
        part = {k.removeprefix(side + "."): v for k, v in state.items() if k.startswith(side + ".")}
        missing = tower.load_state_dict(part, strict=False).missing_keys
    except (SafetensorError, RuntimeError, OSError, ValueError, EOFError, KeyError) as error:
        raise ModelError(f"{who}: {weights} cannot be loaded: {first_line(error)}") from error
    if missing:
        raise ModelError(f"{who}: {weights} lacks {side}.{missing[0]} and {len(missing) - 1} more weights")


def published(name: str) -> Published:
    """How `open_clip:NAME` was trained to see images, and its text tower.

    Raises:
        ModelError: see `find`.
    """
    source = find(name)
    size = source.config["vision_cfg"].get("image_size", 224)
    side = size if isinstance(size, int) else size[0]
    preprocessor = ImagePreprocessor(
        side, channels=3, resize=source.resize, interpolation=source.interpolation
    )
    return Published(preprocessor, text=f"open_clip:{name}")


class OpenClipBackbone(Backbone):
    """`open_clip:ARCH/TAG`, `open_clip:FOLDER` or (random) `open_clip:ARCH`: the image tower.

    Args:
        name: what follows `open_clip:`.
        in_channels: 3, or 1: a gray image is shown as three equal channels.
        image_size: side of the images in pixels; a ViT's positions are resized to it.
        config: of a saved model: `model_cfg`, `mean`, `std`, `pretrained`; nothing else is read then.

    Raises:
        ModelError: see `find`, `fill_tower`.
    """

    tower: Any

    def __init__(
        self, name: str, in_channels: int, image_size: int, *, config: dict[str, Any] | None = None
    ) -> None:
        super().__init__()
        who = f"open_clip:{name}"
        if in_channels not in (1, 3):
            raise ModelError(f"{who} takes images of 1 or 3 channels, got {in_channels}")
        weights = None
        if config is None:
            source = find(name)
            weights = source.weights
            keys = ("embed_dim", "vision_cfg", "quick_gelu")
            config = {
                "model_cfg": {k: source.config.get(k, False) for k in keys},
                "mean": list(source.mean),
                "std": list(source.std),
                "pretrained": weights is not None,
            }
        architecture = config["model_cfg"]
        vision = {**architecture["vision_cfg"], "image_size": image_size}
        if isinstance(vision.get("patch_size"), int) and "timm_model_name" not in vision:
            check_size(who, image_size, vision["patch_size"])
        tower = build_tower("visual", {**architecture, "vision_cfg": vision, "text_cfg": NO_TEXT}, who)
        if weights is not None:
            fill_tower(tower, "visual", weights, who)
        if hasattr(tower, "set_input_size"):
            tower.set_input_size(image_size)
        self.tower, self.in_channels = tower, in_channels
        self.rebuild = (who, {"config": config})
        self.dim, self.pretrained = architecture["embed_dim"], config["pretrained"]
        if self.pretrained:
            self.pixel_mean = channel_stats(config["mean"], in_channels)
            self.pixel_std = channel_stats(config["std"], in_channels)

    def forward(self, images: Tensor) -> Features:
        """`[B, C, H, W]` to `embedding [B, dim]` and `map [B, width, H', W']`, the last block's."""
        if self.in_channels == 1:
            images = images.expand(-1, 3, -1, -1)
        output = self.tower.forward_intermediates(images, indices=1)
        return Features(output["image_features"], map=output["image_intermediates"][-1])


class OpenClipText(TextEncoder):
    """The text tower of an open_clip model.

    Args:
        tower: takes token ids `[T, L]`, gives `(embedding, tokens)`.
        tokenizer: open_clip's, called on texts.
        saved: see `saved_config`.
    """

    tower: Any

    def __init__(self, tower: Any, tokenizer: Any, saved: dict[str, Any]) -> None:
        super().__init__()
        tower.output_tokens = True
        self.tower, self.tokenizer, self._saved = tower.eval(), tokenizer, saved
        self.dim = saved["config"]["embed_dim"]
        self.pretrained = self.seen_images = saved["pretrained"]

    def tokenize(self, texts: Sequence[str]) -> dict[str, Tensor]:
        """T texts to `input_ids [T, L]`, L the tower's context length."""
        return {"input_ids": self.tokenizer(list(texts))}

    def forward(self, tokens: Mapping[str, Tensor]) -> Features:
        """`input_ids [T, L]` to float32 `embedding [T, D]` and `tokens [T, L, W]`."""
        embedding, hidden = self.tower(tokens["input_ids"])
        return Features(embedding.float(), tokens=hidden.float())

    def token_embedding(self) -> nn.Embedding:
        """The layer from token ids to vectors."""
        tower: Any = self.tower
        # Its own towers name the layer; those of Hugging Face have it within.
        own = hasattr(tower, "token_embedding")
        layer: nn.Embedding = tower.token_embedding if own else tower.transformer.get_input_embeddings()
        return layer

    def saved_config(self) -> dict[str, Any]:
        """Architecture and, where they are not open_clip's own, tokenizer and inner configuration."""
        return self._saved


def open_clip_text(name: str) -> OpenClipText:
    """`open_clip:ARCH/TAG`, `open_clip:FOLDER` or (random) `open_clip:ARCH`: the text tower.

    Raises:
        ModelError: see `find`, `fill_tower`.
    """
    source = find(name)
    who = f"open_clip:{name}"
    text = source.config["text_cfg"]
    saved: dict[str, Any] = {
        "kind": "open_clip",
        "config": {k: source.config.get(k, False) for k in ("embed_dim", "text_cfg", "quick_gelu")},
        "tokenizer": None,
        "hf_config": None,
        "pretrained": source.weights is not None,
    }
    if text.get("hf_tokenizer_name"):
        from transformers import AutoTokenizer

        from vlfew.encoders.text.huggingface import tokenizer_files

        files = ("tokenizer.json", "*.model", "vocab.*")
        folder = _inner_folder(source, text["hf_tokenizer_name"], files, who)
        try:
            saved["tokenizer"] = tokenizer_files(AutoTokenizer.from_pretrained(folder, local_files_only=True))
        except (OSError, ValueError, ImportError) as error:
            raise ModelError(f"{who}: cannot read the tokenizer in {folder}: {first_line(error)}") from error
    if text.get("hf_model_name"):
        folder = _inner_folder(source, text["hf_model_name"], ("config.json",), who)
        saved["hf_config"] = json.loads((folder / "config.json").read_text("utf-8"))
    encoder = text_from_saved(saved)
    if source.weights is not None:
        fill_tower(encoder.tower, "text", source.weights, who)
    return encoder


def _inner_folder(source: Source, repo: str, files: Sequence[str], who: str) -> Path:
    """Where a Hugging Face part of the text tower is: beside the weights, else on the hub."""
    if source.folder is not None and any(any(source.folder.glob(f)) for f in files):
        return source.folder
    return hub_folder(repo, files, ("*.json", "*.txt"), who=who, instead=f"put {files[0]} beside {CONFIG}")


def text_from_saved(saved: Mapping[str, Any]) -> OpenClipText:
    """A randomly initialized text tower from `OpenClipText.saved_config`."""
    config = saved["config"]
    text = dict(config["text_cfg"])
    length = text.get("context_length", 77)
    with TemporaryDirectory() as folder:
        if saved["hf_config"] is not None:
            (Path(folder) / "config.json").write_text(json.dumps(saved["hf_config"]), "utf-8")
            text["hf_model_name"] = folder
        tower = build_tower("text", {**config, "text_cfg": text, "vision_cfg": NO_VISION}, "open_clip")
    return OpenClipText(tower, _tokenizer(text, length, saved["tokenizer"]), dict(saved))


def _tokenizer(text: Mapping[str, Any], length: int, files: Mapping[str, Any] | None) -> Any:
    """open_clip's tokenizer for a text configuration: a Hugging Face one from its files, or its own."""
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    options = text.get("tokenizer_kwargs") or {}
    if files is None:
        return SimpleTokenizer(context_length=length, **options)
    with TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_text(json.dumps(content), "utf-8")
        mode = text.get("tokenizer_mode")
        return HFTokenizer(folder, context_length=length, tokenizer_mode=mode, **options)
