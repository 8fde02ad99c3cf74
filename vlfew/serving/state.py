"""What the parts of a running server share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from vlfew.core.errors import VlfewError
from vlfew.gallery.gallery import Gallery
from vlfew.serving.batching import Batcher
from vlfew.serving.decoding import Decoders, DecodeSettings
from vlfew.serving.keys import Key, keys_of
from vlfew.serving.logs import log_event
from vlfew.serving.metrics import Metrics
from vlfew.serving.options import ServeOptions
from vlfew.serving.sessions import Sessions

FOLLOW_SECONDS = 1.0
"""How often a server looks what other processes have written, such as a key that was revoked."""
Result = TypeVar("Result")


class Server:
    """A gallery, and what serves it.

    Args:
        gallery: open, and closed by who opened it.
        options: what is allowed.
        decoders: made for this server unless given, and then closed by who made them.
    """

    def __init__(self, gallery: Gallery, options: ServeOptions, decoders: Decoders | None) -> None:
        self.gallery, self.options = gallery, options
        self.metrics, self.sessions = Metrics(), Sessions()
        self._given = decoders
        self._cache: dict[str, tuple[object, Any]] = {}
        self._computing = asyncio.Lock()
        self.keys: list[Key] = keys_of(gallery.stored_settings())
        self.preprocessor = gallery.model.spec.preprocessor()
        """Of the gallery's model; kept here, since asking the gallery may have to wait for another thread."""
        self.has_text = gallery.model.has_text
        self.problem: str | None = None
        """Why the gallery cannot answer; None where all is well."""
        self.decoders: Decoders
        self.batcher: Batcher
        self._follower: asyncio.Task[None]

    async def start(self) -> None:
        """Starts processes and threads; must be awaited before the first request."""
        options = self.options
        self.decoders = self._given or Decoders(
            options.decoders,
            options.decode_seconds,
            options.decode_memory,
            options.queued_images,
            options.queued_bytes,
        )
        self.batcher = Batcher(self.gallery, self.metrics, options.queued_images)
        await self._look()
        self._follower = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Ends them, after what is in flight."""
        self._follower.cancel()
        with suppress(asyncio.CancelledError):
            await self._follower
        if self._given is None:
            await asyncio.to_thread(self.decoders.close)
        await asyncio.to_thread(self.batcher.close)

    async def call(self, function: Callable[..., Result], *arguments: Any, **options: Any) -> Result:
        """Calls a method of the gallery in a thread: it may wait for the disk, and for other threads."""
        return await asyncio.to_thread(function, *arguments, **options)

    async def cached(self, name: str, key: object, function: Callable[[], Result]) -> Result:
        """What a function of the gallery gives, computed again when the gallery has changed or the key is another."""
        async with self._computing:
            version = await self.call(self.gallery.version)
            known = self._cache.get(name)
            if known is None or known[0] != (version, key):
                self._cache.pop(name, None)
                known = (version, key), await self.call(function)
                self._cache[name] = known
            found: Result = known[1]
            return found

    def decode_settings(self, enrolled: bool) -> DecodeSettings:
        """How images are decoded.

        Args:
            enrolled: whether they are to be enrolled.
        """
        settings = self.gallery.settings
        return DecodeSettings(
            self.preprocessor,
            enrolled and settings["thumbnails"],
            enrolled and settings["store_images"],
            self.options.image_pixels,
            self.options.image_bytes,
        )

    async def re_embed(self, model: str) -> int:
        """Embeds everything again with another model; returns the number of items."""
        count = await self.call(self.gallery.re_embed, model)
        await self.call(self._take_model)
        return count

    def _take_model(self) -> None:
        model = self.gallery.model
        self.preprocessor, self.has_text = model.spec.preprocessor(), model.has_text

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(FOLLOW_SECONDS)
            await self._look()

    async def _look(self) -> None:
        """Looks what other processes have written."""
        before = self.problem
        try:
            self.keys = keys_of(await self.call(self.gallery.stored_settings))
            await self.call(self.gallery.refresh)
            self.problem = None
        except VlfewError as error:
            self.problem = str(error)
        except Exception as error:
            self.problem = f"the gallery cannot be read: {type(error).__name__}"
        if self.problem != before:
            log_event("gallery ready" if self.problem is None else "gallery not ready")
