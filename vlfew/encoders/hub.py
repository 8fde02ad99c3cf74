"""Files of pretrained models: a local folder, the Hugging Face cache, or a download that is announced."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from vlfew.core.errors import ModelError, first_line
from vlfew.core.paths import user_path
from vlfew.encoders.library_errors import library_errors

LFS_START, LFS_SIZE = b"version https://git-lfs", 1024
"""How a Git LFS pointer starts, and the most bytes it has."""


_OFFLINE_REASON: ContextVar[str] = ContextVar("offline_reason", default="HF_HUB_OFFLINE is set")


@contextmanager
def offline(reason: str) -> Iterator[None]:
    """Nothing is downloaded in the block: models are those at hand; `reason` is for the message on others."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    token = _OFFLINE_REASON.set(reason)
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
        _OFFLINE_REASON.reset(token)


def local_or_hub_folder(name: str, weights: Sequence[str], others: Sequence[str], who: str) -> Path:
    """The local folder of that name, or that of a hub repository, downloaded if it is not in the cache.

    Args:
        name: a folder, or `owner/name`.
        weights: patterns of weight files, the best first.
        others: patterns of the files that go with them.
        who: the component that needs it (`hf:NAME`), for messages.

    Raises:
        ModelError: no such folder, or a failed download.
    """
    folder = user_path(name)
    if folder.is_dir():
        check_whole(folder, who)
        return folder
    if name.startswith(("/", ".", "~")):
        raise ModelError(f"{who}: no such folder; it must hold config.json and weights, or give a hub name")
    alternative = f"give a local folder, {who.partition(':')[0]}:PATH"
    return hub_folder(name, weights, others, who=who, alternative=alternative)


def check_whole(folder: Path, who: str) -> None:
    """Checks that the files of a model's folder are whole, and not Git LFS pointers to the files.

    Raises:
        ModelError: a file is a pointer, or weights are cut short; says how to get them.
    """
    from safetensors import SafetensorError, safe_open

    for path in sorted(folder.iterdir()):
        if not path.is_file():
            continue
        if path.stat().st_size < LFS_SIZE and path.read_bytes().startswith(LFS_START):
            raise ModelError(
                f"{who}: {path} is a Git LFS pointer, not the file itself; run: git -C {folder} lfs pull"
            )
        if path.suffix == ".safetensors":
            try:
                with safe_open(path, "pt"):
                    pass
            except SafetensorError as error:
                raise ModelError(
                    f"{who}: {path} is damaged or cut short ({path.stat().st_size:,} bytes: {first_line(error)}); "
                    "download or copy it again"
                ) from None


def cached_folder(repo: str, weights: Sequence[str]) -> Path | None:
    """The cached snapshot of a repository, if it holds a file that matches one of `weights`."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None
    return folder if any(any(folder.glob(pattern)) for pattern in weights) else None


def hub_folder(
    repo: str,
    weights: Sequence[str],
    others: Sequence[str] = (),
    *,
    who: str,
    size: str = "",
    alternative: str = "",
) -> Path:
    """A local folder with one kind of weights of a hub repository, from the cache or downloaded.

    Args:
        repo: `owner/name`.
        weights: patterns of weight files, the best first; one of them is needed.
        others: patterns of the files that go with them.
        who: the component that needs it, for messages.
        size: of the weights, as far as it is known beforehand ("about 90 MB").
        alternative: another way to get them, for the message.

    Raises:
        ModelError: neither cached nor reachable; says which file, how large, and where to put it.
    """
    cached = cached_folder(repo, weights)
    if cached is not None:
        return cached
    from huggingface_hub import constants, model_info, snapshot_download
    from huggingface_hub.utils import (  # type: ignore[attr-defined]
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    hidden = are_progress_bars_disabled()
    try:
        siblings = model_info(repo, files_metadata=True).siblings or []
        sizes = {file.rfilename: file.size or 0 for file in siblings}
        best = next((p for p in weights if any(fnmatch(name, p) for name in sizes)), None)
        if best is None:
            raise FileNotFoundError(f"the repository holds none of {', '.join(weights)}")
        patterns = [best, *others]
        total = sum(s for name, s in sizes.items() if any(fnmatch(name, p) for p in patterns))
        where = f"from {constants.ENDPOINT} to {constants.HF_HUB_CACHE}"
        print(f"downloading {repo} ({total / 1e6:,.0f} MB) {where}", file=sys.stderr)
        if not sys.stderr.isatty():
            disable_progress_bars()
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except Exception as error:  # the hub's client and its transport raise many unrelated types
        reason = _OFFLINE_REASON.get() if constants.is_offline_mode() else first_line(error)
        file = weights[0].replace("*", "") + (f" ({size})" if size else "")
        raise ModelError(
            f"{who}: {file} of {repo} is not in the cache and cannot be downloaded ({reason}); copy the"
            f" folder models--{repo.replace('/', '--')} into {constants.HF_HUB_CACHE} from a machine"
            f" that has it{f', or {alternative}' if alternative else ''}"
        ) from error
    finally:
        if not hidden:
            enable_progress_bars()


def read_json(path: Path, who: str) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        ModelError: missing or damaged.
    """
    with library_errors(f"{who}: cannot read {path}"):
        return dict(json.loads(path.read_text("utf-8")))


def check_complete(missing: Sequence[str], source: Path, who: str) -> None:
    """Checks that no weight was missing.

    Raises:
        ModelError: names the first one.
    """
    if missing:
        raise ModelError(f"{who}: {source} lacks the weight {missing[0]!r} and {len(missing) - 1} more")


def closest_name(name: str, options: Iterable[str], listing: str) -> str:
    """`"; did you mean 'x'?"`, or how to list the names if none is close: some lists have thousands."""
    close = get_close_matches(name, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {listing} lists them"


def weight_size(parameters: int) -> str:
    """The approximate size of float32 weights: `"about 46 MB"`."""
    return f"about {parameters * 4 / 1e6:,.0f} MB"
