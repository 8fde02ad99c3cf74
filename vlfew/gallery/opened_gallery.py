"""A gallery that is open: its store, its model, and what is in it."""

from __future__ import annotations

import builtins
import hashlib
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from vlfew.core.checks import check_at_least, to_list
from vlfew.core.errors import DataError, ModelError, VlfewError, WriteError, did_you_mean
from vlfew.core.plurals import counted
from vlfew.data.decode import BadImage
from vlfew.evaluation.score_normalization import Cohort
from vlfew.gallery.contract import check_model
from vlfew.gallery.directory import Directory, Page
from vlfew.gallery.images import ReadImage, read
from vlfew.gallery.index import Items, read_embeddings, read_items
from vlfew.gallery.matches import Decisions
from vlfew.gallery.names import checked_name
from vlfew.gallery.store import (
    Enrolled,
    IdentityRow,
    ItemRow,
    NewIdentity,
    NotFound,
    Store,
    StoreUnavailable,
    no_identity,
    nobody,
)
from vlfew.models.dual_stream import DualStream
from vlfew.models.loading import load

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput


class OpenedGallery:
    """What a gallery has in it, and what its verbs need.

    Args:
        store: where it is kept.
        model: encodes images and texts; None loads the one that the gallery names when it is needed.
    """

    def __init__(self, store: Store, model: DualStream | None = None) -> None:
        self.store = store
        self._lock = threading.RLock()
        self._index, self._directory = store.index(), Directory(store)
        self._model: DualStream | None = None
        self.settings: dict[str, Any] = store.settings()
        """Combining rule, text weight, model and thresholds; see `create`."""
        self._decisions = Decisions({})
        self._cohort: tuple[Any, Cohort | None] = (None, None)
        if "fingerprint" not in self.settings:
            raise DataError(
                f"{store.name} is incomplete: its creation was interrupted; delete it and create it again"
            )
        if model is not None:
            check_model(model, self.settings, store.name)
            self._model = model

    def close(self) -> None:
        """Closes the file, or the connection."""
        self.store.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of identities."""
        with self._lock:
            return self.store.count()[0]

    def __contains__(self, name: object) -> bool:
        with self._lock:
            return isinstance(name, str) and self.store.find(checked_name(name)) is not None

    @property
    def model(self) -> DualStream:
        """The model, loaded by its name where it was not given.

        Raises:
            ModelError: it is not there any more, or is another one by now.
        """
        with self._lock:
            if self._model is None:
                name = self.settings["model"]
                if not name:
                    raise ModelError(
                        f"{self.store.name} does not know where its model is (fingerprint "
                        f"{self.settings['fingerprint']}): give the model"
                    )
                try:
                    loaded = load(name)
                except ModelError as error:
                    raise ModelError(f"the model of {self.store.name}: {error}; or give the model") from None
                check_model(loaded, self.settings, self.store.name)
                self._model = loaded
            return self._model

    @property
    def name(self) -> str:
        """The path of its file, or its URL."""
        return self.store.name

    def version(self) -> int:
        """Increases with every write of any process."""
        with self._lock:
            return self.store.version()

    def refresh(self) -> None:
        """Takes over what other processes have written: settings, thresholds, identities. Every answer does so first.

        Raises:
            OtherModel: another process has embedded the gallery again by another model.
        """
        with self._lock:
            self._refresh()

    def list(self) -> builtins.list[IdentityRow]:
        """All identities with their numbers of images and texts, by name."""
        with self._lock:
            return sorted(self.store.identities(), key=lambda row: row.name)

    def find(self, name: str | int) -> IdentityRow:
        """An identity by its name or id.

        Raises:
            NotFound: there is none.
        """
        return self._require(name)

    def page(self, search: str = "", after: str = "", limit: int = 100) -> Page:
        """Identities by name, some at a time, whose names contain a text; see `Directory.page`."""
        check_at_least("limit", limit)
        with self._lock:
            return self._directory.page(search, after, limit)

    def count(self) -> tuple[int, int]:
        """Numbers of identities and of items."""
        with self._lock:
            return self.store.count()

    def names(self, identity_ids: Sequence[int]) -> dict[int, str]:
        """The names of those of these identities that are there."""
        with self._lock:
            return self.store.names(identity_ids)

    def thumbnails(self, identity_ids: Iterable[int]) -> dict[int, int]:
        """For each of these identities that has a thumbnail, the id of an item with one."""
        with self._lock:
            return self.store.thumbnails(builtins.list(identity_ids))

    def thumbnail(self, item_id: int) -> bytes:
        """The thumbnail of an item, a JPEG.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            found = self.store.thumbnail(item_id)
        if found is None:
            raise NotFound(f"{self.store.name}: item {item_id} has no thumbnail")
        return found

    def show(self, name: str | int) -> builtins.list[ItemRow]:
        """The items of an identity, with source, thumbnail and digest where there are.

        Raises:
            DataError: no such identity.
        """
        with self._lock:
            return builtins.list(self.store.items(self._require(name).id))

    def check(self) -> builtins.list[str]:
        """What is wrong, a line each; nothing where all is well.

        The file's integrity, rows that belong to nothing, embeddings that are not finite, of another size or not of
        unit length, images that do not match their hash, and whether anything is left of what was removed.
        """
        with self._lock:
            problems = self.store.check()
            for row in self.store.embeddings():
                if len(row.embedding) != 4 * self.settings["dim"]:
                    problems.append(f"item {row.item_id}: its embedding has another size")
            if not problems:
                embedding, _, _ = read_embeddings(self.store, self.settings["dim"])
                length = embedding.norm(dim=1)
                if broken := int((~((length - 1).abs() < 1e-3)).sum()):
                    problems.append(f"{counted(broken, 'embedding')} not finite or not of unit length")
            for item in self.store.items():
                if (
                    item.content is not None
                    and item.source
                    and hashlib.sha256(item.content).digest() != item.digest
                ):
                    problems.append(f"item {item.id}: the image is not the one that was enrolled")
            return problems

    def stored_settings(self) -> dict[str, Any]:
        """The settings as they are stored now, by whatever process."""
        with self._lock:
            return self.store.settings()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Stores some settings, JSON values, and keeps the others."""
        with self._lock:
            self.store.write_settings(settings)
            self.settings = self.store.settings()

    def _items(self) -> Items:
        """
        Raises:
            EmptyGallery: nobody is enrolled.
        """
        with self._lock:
            self._refresh()
            if not len(self._index):
                raise nobody(self.store.name)
            return read_items(self.store, self.settings["dim"])

    def encoder(self) -> tuple[DualStream, str]:
        """The model and its fingerprint, together: another thread may embed the gallery again meanwhile."""
        with self._lock:
            return self.model, self.settings["fingerprint"]

    def _write(self, identities: Sequence[NewIdentity], fingerprint: str) -> builtins.list[Enrolled]:
        """Writes what the model of a fingerprint has encoded.

        Raises:
            StaleModel: that is not the gallery's model any more.
        """
        with self._following():
            return self.store.enroll(identities, fingerprint)

    @contextmanager
    def _following(self) -> Iterator[None]:
        """The memory is brought up to date after a write, also after a removal whose last step failed."""
        with self._lock:
            try:
                yield
            except (StoreUnavailable, WriteError):
                with suppress(VlfewError):
                    self._follow()
                raise
            self._follow()

    def _read(self, image: Any, number: int, *, keep: bool, model: DualStream | None = None) -> ReadImage:
        """Reads an image, unless it was read before; `keep` is for one that is enrolled."""
        if isinstance(image, ReadImage):
            return image
        return read(
            image,
            number,
            (model or self.model).spec.preprocessor(),
            thumbnail=keep and self.settings["thumbnails"],
            content=keep and self.settings["store_images"],
        )

    def read_images(
        self, images: Iterable[ImageInput]
    ) -> tuple[builtins.list[ReadImage], builtins.list[str]]:
        """Images as this gallery's model takes them, for any verb in place of files, and a line for each bad one."""
        found, errors = [], []
        for number, image in enumerate(to_list(images, "images")):
            try:
                found.append(self._read(image, number, keep=False))
            except BadImage as error:
                errors.append(str(error))
        return found, errors

    def _content(self, item_id: int) -> bytes | None:
        """The image of an item, where the gallery keeps it."""
        with self._lock:
            return self.store.content(item_id)

    def _require(self, name: str | int) -> IdentityRow:
        """The identity of a name or an id.

        Raises:
            NotFound: there is none.
        """
        with self._lock:
            if isinstance(name, int):
                if rows := self.store.identities([name]):
                    return rows[0]
                raise no_identity(name, self.store.name)
            wanted = checked_name(name)
            row = self.store.find(wanted)
            if row is None:
                hint = did_you_mean(wanted, self.store.names().values())
                raise (
                    no_identity(wanted, self.store.name)
                    if "did you" not in hint
                    else NotFound(f"{self.store.name}: there is no identity {wanted!r}{hint}")
                )
            return row

    def _follow(self) -> None:
        """Brings the memory up to date with an own write, where it is in use: nothing stays of what was removed."""
        self._directory.follow()
        if len(self._index) or self._index.settings:
            self._refresh()

    def _refresh(self) -> None:
        """Brings the memory up to date with what any process has written.

        Raises:
            ModelError: another process has embedded the gallery again by another model.
        """
        self._index.refresh()
        if self._index.settings != self.settings:
            if (
                self._model is not None
            ):  # before the new settings are taken over: they are not those of this model
                check_model(self._model, self._index.settings, self.store.name)
            self.settings, self._cohort = self._index.settings, (None, None)
