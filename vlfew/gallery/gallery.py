"""`Gallery`: identities that are enrolled once, by images, texts or both, and recognized ever after."""

from __future__ import annotations

import builtins
import hashlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Self

from torch import Tensor

from vlfew.core.checks import check_one_of, check_range, to_list, to_path
from vlfew.core.errors import DataError, ModelError
from vlfew.core.plurals import counted
from vlfew.core.progress import Progress, progress
from vlfew.evaluation.templates import Combine
from vlfew.gallery import exchange
from vlfew.gallery.cohort import KEY as COHORT
from vlfew.gallery.contract import describe_model, model_name, warn_of_similarity
from vlfew.gallery.encoding import to_rows, unit_length
from vlfew.gallery.enrollment import (
    Enrollment,
    Request,
    encode,
    read_images,
    requests_of,
    warnings_of,
    windows,
)
from vlfew.gallery.images import ReadImage
from vlfew.gallery.names import checked_name
from vlfew.gallery.re_embedding import PART, embed_again, in_parts
from vlfew.gallery.store import (
    Enrolled,
    ItemRow,
    Kind,
    NewIdentity,
    NewItem,
)
from vlfew.gallery.stores import Search, check_search, create_store, is_url, open_store
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import check_texts
from vlfew.models.loading import load

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput


from vlfew.gallery.recognizing_gallery import RecognizingGallery


class Gallery(RecognizingGallery):
    """Identities with their images and texts, and the search for the one in an image.

    A gallery is one SQLite file, given by its path, or a schema of a Postgres database, which several servers may
    share, given by its URL: `postgresql://USER@HOST/DATABASE?gallery=NAME`.

    A score is the cosine of the image's embedding and what an identity is made of: the normalized mean of its images
    (`combine="mean"`), or the most similar of them (`"max"`), mixed with its texts. It holds the fingerprint of the
    model; another one is refused until the gallery is embedded again by it (`re_embed`).

    Several processes and threads may use a gallery at once; each sees what the others have written at its next call.
    Make one with `create` or `open`; `with` closes it.

    Args:
        store: where it is kept.
        model: encodes images and texts; None loads the one that the gallery names when it is needed.
    """

    @classmethod
    def create(
        cls,
        path: str | Path,
        model: DualStream | str | Path,
        *,
        combine: Combine = "mean",
        text_weight: float = 0.5,
        thumbnails: bool = True,
        store_images: bool = False,
        search: Search = "exact",
    ) -> Self:
        """A new, empty gallery; warns of a model that was trained with another similarity than the cosine.

        Args:
            path: of the file, or a URL; the gallery must not exist.
            model: a model, or its name (see `vlfew.load`).
            combine: several images of an identity: `mean`, the normalized mean of their normalized embeddings, or
                `max`, the most similar one.
            text_weight: share of the texts where an identity has images and texts, 0 to 1.
            thumbnails: whether to keep a small JPEG of each image.
            store_images: whether to keep the images themselves, from which another model can embed them again even
                where their files are gone.
            search: `exact`, or, in Postgres, `hnsw`: by an index that is fast in large galleries and finds nearly all.

        Raises:
            ConfigError: an index in a file.
            DataError: the gallery exists.
            ModelError: there is no such model.
            WriteError: it cannot be written.
        """
        check_one_of("combine", combine, Combine)
        check_range("text_weight", text_weight, 0, 1)
        check_search(search, path)
        loaded = model if isinstance(model, DualStream) else load(model)
        warn_of_similarity(loaded)
        settings = describe_model(loaded, model_name(loaded, "" if model is loaded else str(model)))
        settings |= {
            "combine": combine,
            "text_weight": float(text_weight),
            "thumbnails": bool(thumbnails),
            "store_images": bool(store_images),
            "thresholds": {},
            "search": search,
        }
        return cls(create_store(path, settings), loaded)

    @classmethod
    def open(cls, path: str | Path, model: DualStream | str | Path | None = None) -> Self:
        """An existing gallery.

        Args:
            path: of the file, or a URL.
            model: the one that it was made with, or its name; None loads that by the name in the gallery when an image
                or a text is to be encoded.

        Raises:
            DataError: there is none, or it is damaged.
            ModelError: another model than its own; names both fingerprints.
        """
        store = open_store(path)
        try:
            return cls(store, model if model is None or isinstance(model, DualStream) else load(model))
        except BaseException:
            store.close()
            raise

    def enroll(
        self,
        name: str,
        images: Iterable[ImageInput] = (),
        texts: Iterable[str] = (),
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> Enrolled:
        """Enrolls an identity, or adds to one; durable when it returns, and all of it or nothing.

        What the identity has already counts once. Warns of an image that another identity has, too, of one that this
        identity has already, and of a blank one.

        Args:
            name: of the identity.
            images: paths, Pillow images or arrays.
            texts: that describe it.
            replace: removes what the identity has first.
            idempotency_key: any string that is new for each request; the same request again with its key gives the
                first answer and changes nothing.

        Raises:
            DataError: nothing to enroll, a bad name, an image that cannot be read, or a key of another request.
            ModelError: texts for a model without a text encoder, or an embedding that is zero or not finite.
        """
        found = self.enroll_one(name, images, texts, replace=replace, idempotency_key=idempotency_key)
        for line in found.warnings:
            warnings.warn(line, stacklevel=2)
        return found.enrolled[0]

    def enroll_one(
        self,
        name: str,
        images: Iterable[ImageInput | ReadImage] = (),
        texts: Iterable[str] = (),
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> Enrollment:
        """As `enroll`, with its warnings in the answer. Images may have been read before."""
        request = Request(
            checked_name(name), to_list(images, "images"), check_texts(texts), idempotency_key or ""
        )
        if not request.images and not request.texts:
            raise DataError(f"there is nothing to enroll for {request.name!r}: give images, texts or both")
        return self._enroll([request], replace, skip_bad=False, skip_known=False)

    def enroll_many(
        self,
        identities: Mapping[str, Iterable[str | ImageInput]],
        *,
        replace: bool = False,
        on_bad_image: str = "error",
    ) -> Enrollment:
        """Enrolls many identities, some at a time, with progress; an identity is written as a whole.

        What was enrolled before is not read again, so that an interrupted call can simply be repeated.

        Args:
            identities: from names to their items: a `str` is a text, a `Path`, Pillow image or array an image.
            replace: removes what each identity has first.
            on_bad_image: `error` stops at an image that cannot be read; `skip` leaves it out and lists it.

        Raises:
            DataError: as `enroll`; two names that are the same in Unicode's composed form.
        """
        requests = requests_of(identities)
        done = Enrollment()
        with Progress("enrolling", len(requests), "identities") as bar:
            for window in windows(requests):
                part = self._enroll(window, replace, skip_bad=on_bad_image == "skip", skip_known=not replace)
                done.enrolled += part.enrolled
                done.errors += part.errors
                done.warnings += part.warnings
                bar.step(len(window))
        return done

    def enroll_embeddings(
        self, names: Sequence[str], embeddings: Tensor, *, kind: str = "image"
    ) -> builtins.list[Enrolled]:
        """Enrolls embeddings of the gallery's model that are at hand, in one transaction.

        There are no files, thumbnails or texts of them: another model cannot embed them again.

        Args:
            names: the identity of each, S of them.
            embeddings: `[S, D]`, any length but zero.
            kind: what they are of, `image` or `text`.

        Raises:
            DataError: bad names, or embeddings of another size, that are zero or not finite.
        """
        check_one_of("kind", kind, Kind)
        if embeddings.ndim != 2 or embeddings.shape != (len(names), self.settings["dim"]):
            raise DataError(
                f"expected embeddings [{len(names)}, {self.settings['dim']}] for {counted(len(names), 'name')}, got "
                f"{builtins.list(embeddings.shape)}"
            )
        rows = to_rows(unit_length(embeddings, [f"embedding {n}" for n in range(len(names))]))
        items: dict[str, builtins.list[NewItem]] = {}
        for name, row in zip(names, rows, strict=True):
            new = NewItem(kind, hashlib.sha256(row).digest(), row)  # type: ignore[arg-type]
            items.setdefault(checked_name(name), []).append(new)
        return self._write(
            [NewIdentity(name, own) for name, own in items.items()], self.settings["fingerprint"]
        )

    def rename(self, name: str | int, new: str) -> None:
        """Gives an identity another name.

        Args:
            name: of the identity, or its id.
            new: the other name.

        Raises:
            DataError: no such identity, or another one of the new name.
        """
        with self._following():
            self.store.rename(self._require(name).id, checked_name(new))

    def remove(self, *names: str | int) -> int:
        """Removes identities; returns their number of items.

        When it returns, nothing of them is left in the file, in its log, or in the memory of this gallery; other
        processes drop them before their next answer. Copies of the file and the disk's free space are not ours to
        clean. The file is written anew each time: remove many in one call.

        Args:
            names: of the identities, or their ids.

        Raises:
            DataError: one of them is not there; then none is removed.
            WriteError, StoreUnavailable: they are removed, but bytes of them may still be in the file; says so.
        """
        with self._following():
            ids = [self._require(name).id for name in names]
            return self.store.remove(ids) if ids else 0

    def remove_item(self, item_id: int) -> str:
        """Removes an image or a text, as `remove` does, and with the last one its identity; returns its name.

        Raises:
            DataError: no such item.
        """
        with self._following():
            return self.store.remove_item(item_id)

    def export(self, folder: str | Path) -> Path:
        """Writes `gallery.safetensors` and `gallery.json` to a folder: all of the gallery, or nothing.

        Raises:
            WriteError: it cannot be written.
        """
        with self._lock, self.store.snapshot():
            return exchange.write(self.store, to_path(folder, "folder"))

    def import_(self, folder: str | Path, *, replace: bool = False) -> builtins.list[Enrolled]:
        """Enrolls what `export` wrote, in one transaction.

        Args:
            folder: of the two files.
            replace: removes what identities of the same names have first; otherwise they are added to.

        Raises:
            DataError: missing or damaged files.
            ModelError: an export of another model.
        """
        settings, identities = exchange.read(to_path(folder, "folder"), replace)
        if settings["fingerprint"] != self.settings["fingerprint"]:
            raise ModelError(
                f"{folder} was exported with the model of fingerprint {settings['fingerprint']}, {self.store.name} has "
                f"{self.settings['fingerprint']}; import it into a new gallery, and use vlfew gallery re-embed there"
            )
        return self._write(identities, settings["fingerprint"])

    @classmethod
    def restore(cls, path: str | Path, folder: str | Path, *, search: Search | None = None) -> Self:
        """A new gallery from what `export` wrote, with its settings.

        Args:
            path: of the file, or a URL; the gallery must not exist.
            folder: of the two files.
            search: see `create`; None searches in Postgres as before, in a file exactly.

        Raises:
            ConfigError: an index in a file.
            DataError: the gallery exists, or missing or damaged files.
        """
        settings, identities = exchange.read(to_path(folder, "folder"), False)
        search = search or (settings.get("search", "exact") if is_url(path) else "exact")
        check_search(search, path)
        store = create_store(path, settings | {"search": search})
        try:
            gallery = cls(store)
            gallery._write(identities, settings["fingerprint"])
            return gallery
        except BaseException:
            store.destroy()
            raise

    def re_embed(self, model: DualStream | str | Path) -> int:
        """Embeds everything again with another model; returns the number of items.

        Images come from the gallery where it keeps them (`store_images`), otherwise from the files they were enrolled
        from. Everything is replaced in one transaction; until then, the gallery stays as it is. Thresholds and the
        cohort are dropped: they are those of the old model.

        Raises:
            DataError: images that are gone or have changed; names them.
            ModelError: texts for a model without a text encoder.
        """
        loaded = model if isinstance(model, DualStream) else load(model)
        warn_of_similarity(loaded)
        settings = describe_model(loaded, model_name(loaded, "" if model is loaded else str(model)))
        settings |= {"thresholds": {}, COHORT: None}
        embeddings: dict[int, bytes] = {}
        missing: builtins.list[int] | None = None
        while missing is None or missing:
            wanted = None if missing is None else set(missing)
            with self._lock:
                # Thumbnails and images are read one by one below: they may not fit the memory.
                items = [
                    _without_images(item)
                    for item in self.store.items()
                    if wanted is None or item.id in wanted
                ]
            for part in progress(in_parts(items), "embedding again", -(-len(items) // PART), "parts"):
                embeddings |= embed_again(loaded, part, self._content, self.store.name)
            with self._lock:
                missing = self.store.replace_embeddings(embeddings, settings)
                if not missing:
                    self._model, self.settings = loaded, self.store.settings()
                    self._follow()
        return len(embeddings)

    def _enroll(
        self, requests: Sequence[Request], replace: bool, *, skip_bad: bool, skip_known: bool
    ) -> Enrollment:
        """Reads, encodes and writes identities in one transaction."""
        known = self._known_images(requests) if skip_known else {}
        model, fingerprint = self.encoder()
        errors = read_images(requests, partial(self._read, keep=True, model=model), known, skip_bad)
        requests = [request for request in requests if request.read or request.texts]
        if not requests:
            return Enrollment(errors=errors)
        with self._lock:
            holders = self.store.holders(image.digest for request in requests for image in request.read)
        odd = warnings_of(requests, holders, replace)
        return Enrollment(self._write(encode(requests, model, replace), fingerprint), errors, odd)

    def _known_images(self, requests: Sequence[Request]) -> dict[str, set[bytes]]:
        """Digests of the images that identities have."""
        known = {}
        with self._lock:
            for request in requests:
                if (row := self.store.find(request.name)) is not None:
                    known[request.name] = self.store.digests(row.id)
        return known


def _without_images(item: ItemRow) -> ItemRow:
    item.thumbnail = item.content = None
    return item
