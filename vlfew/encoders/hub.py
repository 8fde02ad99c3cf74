"""Weights from the Hugging Face hub: the local cache first, and no download without a word about it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

from vlfew.core.errors import ModelError, first_line


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
    instead: str = "",
) -> Path:
    """A local folder with one kind of weights of a hub repository, from the cache or downloaded.

    Args:
        repo: `owner/name`.
        weights: patterns of weights files, the best first; one of them is needed.
        others: patterns of the files that go with them.
        who: the component that asks, for messages.
        size: how large the weights are, as far as is known beforehand ("about 90 MB").
        instead: another way to have them, for the message.

    Raises:
        ModelError: neither cached nor reachable; says which file, how large, where to put it.
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
        wanted = [best, *others]
        total = sum(s for name, s in sizes.items() if any(fnmatch(name, p) for p in wanted))
        where = f"from {constants.ENDPOINT} to {constants.HF_HUB_CACHE}"
        print(f"downloading {repo} ({total / 1e6:,.0f} MB) {where}", file=sys.stderr)
        if not sys.stderr.isatty():
            disable_progress_bars()
        return Path(snapshot_download(repo, allow_patterns=wanted))
    except Exception as error:  # the hub's client and its transport raise many unrelated types
        reason = "HF_HUB_OFFLINE is set" if constants.is_offline_mode() else first_line(error)
        file = weights[0].replace("*", "") + (f" ({size})" if size else "")
        raise ModelError(
            f"{who}: {file} of {repo} is not in the cache and cannot be downloaded ({reason}); copy the"
            f" folder models--{repo.replace('/', '--')} into {constants.HF_HUB_CACHE} from a machine"
            f" that has it{f', or {instead}' if instead else ''}"
        ) from error
    finally:
        if not hidden:
            enable_progress_bars()


def nearest(word: str, options: Iterable[str], listing: str) -> str:
    """`"; did you mean 'x'?"`, or where the list is when nothing is near: some are thousands long."""
    close = get_close_matches(word, list(options), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; {listing} lists them"


def weight_size(parameters: int) -> str:
    """About how large float32 weights are: `"about 46 MB"`."""
    return f"about {parameters * 4 / 1e6:,.0f} MB"
