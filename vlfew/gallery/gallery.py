"""`Gallery`: identities that are enrolled once, by images, texts or both, and recognized ever after."""

from __future__ import annotations

import builtins
import hashlib
import math
import threading
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import torch
from torch import Tensor

from vlfew.core.checks import check_at_least, check_one_of, check_range, to_list, to_path
from vlfew.core.errors import DataError, ModelError, did_you_mean
from vlfew.core.plurals import counted
from vlfew.core.progress import Progress, progress
from vlfew.evaluation.enrolled_items import EnrolledItems
from vlfew.evaluation.score_normalization import TOP_K, Cohort
from vlfew.evaluation.templates import Combine, Support
from vlfew.evaluation.thresholds import Source, Threshold
from vlfew.evaluation.trials import Trials
from vlfew.gallery import exchange
from vlfew.gallery.calibration import MOST_IDENTITIES, Calibration, calibrate_kinds
from vlfew.gallery.cohort import KEY as COHORT
from vlfew.gallery.cohort import NORMALIZATION, cohort_of, normalized_score
from vlfew.gallery.cohort import search as normalized_search
from vlfew.gallery.cohort import to_setting as cohort_setting
from vlfew.gallery.contract import check_model, describe_model, model_name, warn_of_similarity
from vlfew.gallery.directory import Directory, Page
from vlfew.gallery.encoding import encode_images, to_rows, unit_length
from vlfew.gallery.enrollment import (
    Enrollment,
    Request,
    encode,
    read_images,
    requests_of,
    warnings_of,
    windows,
)
from vlfew.gallery.images import ReadImage, read
from vlfew.gallery.index import Items, read_embeddings, read_items
from vlfew.gallery.look_alikes import LookAlikes, find_look_alikes, find_near_duplicates
from vlfew.gallery.matches import Decisions, Identification, Match, check_threshold
from vlfew.gallery.names import checked_name
from vlfew.gallery.re_embedding import PART, embed_again, in_parts
from vlfew.gallery.reference_calibrations import reference_calibration
from vlfew.gallery.score_review import ScoreReview
from vlfew.gallery.store import (
    Enrolled,
    IdentityRow,
    ItemRow,
    Kind,
    NewIdentity,
    NewItem,
    NotFound,
    Store,
    no_identity,
    nobody,
)
from vlfew.gallery.stores import Search, check_search, create_store, is_url, open_store
from vlfew.models.dual_stream import DualStream
from vlfew.models.inputs import check_texts
from vlfew.models.loading import load

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput


class Gallery:
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
        return self._write([NewIdentity(name, own) for name, own in items.items()])

    def identify(
        self, images: Iterable[ImageInput], k: int = 5, threshold: float | None = None
    ) -> builtins.list[Identification]:
        """The k best identities of each image.

        Args:
            images: paths, Pillow images or arrays.
            k: how many, best first; fewer where fewer are enrolled.
            threshold: lowest score that is accepted; None takes that of the gallery, where it has one.

        Raises:
            DataError: nobody is enrolled, or an image cannot be read.
            ConfigError: a threshold that is not a number.
        """
        check_at_least("k", k)
        check_threshold(threshold)
        given = to_list(images, "images")
        with self._lock:
            self._refresh()
            if not len(self._index):
                raise nobody(self.store.name)
        probes = [self._read(image, number, keep=False) for number, image in enumerate(given)]
        found = self.identify_embeddings(encode_images(self.model, probes), k, threshold)
        return [Identification(image.name, matches) for image, matches in zip(probes, found, strict=True)]

    def identify_embeddings(
        self, embeddings: Tensor, k: int = 5, threshold: float | None = None
    ) -> builtins.list[builtins.list[Match]]:
        """The k best identities of each embedding of the gallery's model, best first.

        Args:
            embeddings: `[Q, D]`, any length but zero.
            k, threshold: see `identify`.

        Raises:
            DataError: nobody is enrolled, or embeddings of another size.
            ModelError: one that is zero or not finite.
            ConfigError: a threshold that is not a number.
        """
        check_at_least("k", k)
        check_threshold(threshold)
        if embeddings.ndim != 2 or embeddings.shape[1] != self.settings["dim"]:
            raise DataError(
                f"expected embeddings [Q, {self.settings['dim']}], got {builtins.list(embeddings.shape)}"
            )
        queries = unit_length(embeddings, [f"embedding {n}" for n in range(len(embeddings))])
        with self._lock:
            self._refresh()  # what was removed in the meantime is not in the answer
            if not len(self._index):
                raise nobody(self.store.name)
            scores, ids = self._search(queries, k)
            match = partial(self._match, threshold=threshold, prior=1 / (len(self._index) + 1))
            return [
                [match(i, score) for i, score in zip(own, row, strict=True)]
                for own, row in zip(ids.tolist(), scores.tolist(), strict=True)
            ]

    def verify(self, name: str | int, image: ImageInput, threshold: float | None = None) -> Match:
        """Compares an image with one identity.

        Args:
            name: of the identity, or its id.
            image: a path, a Pillow image or an array.
            threshold: see `identify`.

        Raises:
            DataError: no such identity, or an image that cannot be read.
            ConfigError: a threshold that is not a number.
        """
        check_threshold(threshold)
        self._require(name)
        query = encode_images(self.model, [self._read(image, 0, keep=False)])[0]
        with self._lock:
            self._refresh()
            identity = self._require(name).id
            cohort = self.cohort
            score = (
                self._index.score(query, identity)
                if cohort is None
                else normalized_score(self._index, cohort, query, identity)
            )
            return self._match(identity, score, threshold=threshold, prior=0.5)

    def list(self) -> builtins.list[IdentityRow]:
        """All identities with their numbers of images and texts, by name."""
        with self._lock:
            return sorted(self.store.identities(), key=lambda row: row.name)

    def refresh(self) -> None:
        """Takes over what other processes have written: settings, thresholds, identities. Every answer does so first.

        Raises:
            OtherModel: another process has embedded the gallery again by another model.
        """
        with self._lock:
            self._refresh()

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

    @property
    def name(self) -> str:
        """The path of its file, or its URL."""
        return self.store.name

    def version(self) -> int:
        """Increases with every write of any process."""
        with self._lock:
            return self.store.version()

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

    def rename(self, name: str | int, new: str) -> None:
        """Gives an identity another name.

        Args:
            name: of the identity, or its id.
            new: the other name.

        Raises:
            DataError: no such identity, or another one of the new name.
        """
        with self._lock:
            self.store.rename(self._require(name).id, checked_name(new))
            self._follow()

    def remove(self, *names: str | int) -> int:
        """Removes identities; returns their number of items.

        When it returns, nothing of them is left in the file, in its log, or in the memory of this gallery; other
        processes drop them before their next answer. Copies of the file and the disk's free space are not ours to
        clean. The file is written anew each time: remove many in one call.

        Args:
            names: of the identities, or their ids.

        Raises:
            DataError: one of them is not there; then none is removed.
        """
        with self._lock:
            ids = [self._require(name).id for name in names]
            count = self.store.remove(ids) if ids else 0
            self._follow()
            return count

    def remove_item(self, item_id: int) -> str:
        """Removes an image or a text, as `remove` does, and with the last one its identity; returns its name.

        Raises:
            DataError: no such item.
        """
        with self._lock:
            name = self.store.remove_item(item_id)
            self._follow()
            return name

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
        return self._write(identities)

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
            gallery._write(identities)
            return gallery
        except BaseException:
            store.destroy()
            raise

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
        with self._lock:
            self._model, self.settings = loaded, self.store.settings()
            self._follow()
        return len(embeddings)

    def calibrate(
        self,
        *,
        far: float | None = None,
        fpir: float | None = None,
        impostors: Iterable[ImageInput] = (),
        impostor_names: Sequence[str] | None = None,
        trials: Trials | None = None,
        source: Source = "other images",
        validation: Callable[[], tuple[Tensor, Tensor] | None] | None = None,
        on_problem: Callable[[str], None] | None = None,
    ) -> dict[Support, Threshold]:
        """Sets the thresholds, one for each kind of support that is enrolled, and what makes scores probabilities.

        Every enrolled image in turn is left out and compared with everyone; so are images of other people. Where they
        are too few for the rate, the model's validation images serve for identities of images, or what a published
        model was calibrated on, and the threshold says so. Nothing of the images is kept. Or `trials` of other images
        set the threshold of identities of images alone, and those of the other kinds stay.

        Args:
            far: share of comparisons with someone else that may be accepted, such as 0.001; or
            fpir: share of images of people who are not enrolled that may be accepted by a gallery of this size. The
                threshold follows the gallery as it grows.
            impostors: images of people who are not enrolled.
            impostor_names: who is in each; None takes each for someone else.
            trials: scores of other images by the gallery's model and combining rule, in place of all of its own.
            source: what these are of, for the record: `other images` or `pairs`.
            validation: gives embeddings `[V, D]` and labels `[V]` of images that the model did not learn from, or None
                where there are none; called where they are needed.
            on_problem: called with a line for each kind that gets no threshold; None warns.

        Raises:
            ConfigError: not one rate.
            DataError: too few images for the rate, and no validation images; says what the images do support.
        """
        if trials is not None:
            with self._lock:
                self._refresh()
                size = max(1, len(self._index))
            calibration = Calibration.fit(
                trials,
                far=far,
                fpir=fpir,
                gallery_size=size,
                source=source,
                support="image",
                combine=self.settings["combine"],
                normalization="none" if self.cohort is None else NORMALIZATION,
            )
            self.set_thresholds({**self.thresholds, "image": calibration.to_json()})
            return {"image": calibration.threshold}
        given = to_list(impostors, "impostors")
        strangers = encode_images(
            self.model, [self._read(image, number, keep=False) for number, image in enumerate(given)]
        )
        names = [str(n) for n in range(len(given))] if impostor_names is None else [*impostor_names]
        if len(names) != len(given):
            raise DataError(f"there are {len(names)} impostor_names for {counted(len(given), 'image')}")
        numbers = {name: number for number, name in enumerate(dict.fromkeys(names))}
        who = torch.tensor([numbers[name] for name in names], dtype=torch.int64)
        with self._lock:
            self._refresh()
            if not len(self._index):
                raise nobody(self.store.name)
            size, kinds = len(self._index), sorted(self._index.kinds())
            items = read_embeddings(self.store, self.settings["dim"])
        if len(items[1]):  # numbers that no enrolled identity has
            who += 1 + int(items[1].max())
        enrolled = self._enrolled(*items)
        found, problems = calibrate_kinds(
            enrolled,
            kinds,
            strangers,
            who,
            far=far,
            fpir=fpir,
            gallery_size=size,
            validation=validation,
            reference=self._reference(far, fpir),
        )
        if not found:
            raise DataError(f"{self.store.name}: {'; '.join(problems)}")
        for problem in problems:
            line = f"no threshold for {problem}"
            if on_problem is None:
                warnings.warn(line, stacklevel=2)
            else:
                on_problem(line)
        self.set_thresholds({kind: calibration.to_json() for kind, calibration in found.items()})
        return {kind: calibration.threshold for kind, calibration in found.items()}

    def _reference(self, far: float | None, fpir: float | None) -> Calibration | None:
        """The calibration that comes with the model, for plain cosines."""
        if (far is None) == (fpir is None) or self.cohort is not None:
            return None
        return reference_calibration(self.settings["fingerprint"], self.settings["combine"], far, fpir)

    def look_alikes(self, limit: int = 20) -> builtins.list[LookAlikes]:
        """The closest different identities, best first: those that are most easily taken for each other."""
        check_at_least("limit", limit)
        items = self._items()
        return find_look_alikes(items, self.settings["combine"], self.settings["text_weight"], limit)

    def near_duplicates(self, limit: int = 20, least: float = 0.95) -> builtins.list[LookAlikes]:
        """Images of different identities that are nearly the same to the model: who may be enrolled twice.

        Args:
            limit: how many pairs of identities, at most.
            least: lowest cosine of two images.
        """
        check_at_least("limit", limit)
        check_threshold(least)
        return find_near_duplicates(self._items(), least, limit)

    def shared_images(self) -> dict[bytes, builtins.list[tuple[int, int]]]:
        """The images that several identities have, by SHA-256: ids of the identities and of their items."""
        with self._lock:
            return self.store.shared_images()

    def review_scores(self, support: Support = "image") -> ScoreReview:
        """Scores of the gallery's own images: error rates at every threshold, and the pairs on either side.

        Raises:
            TooFewImages: no image can be compared with its own identity, or with another one.
        """
        check_one_of("the kind of support", support, Support)
        items = self._items()
        return ScoreReview.of(items, self._enrolled(items.embedding, items.identity, items.is_text), support)

    @property
    def cohort(self) -> Cohort | None:
        """What scores are normalized against; None where they are cosines."""
        stored = self.settings.get(COHORT)
        if stored is not self._cohort[0]:
            self._cohort = stored, cohort_of(self.settings)
        return self._cohort[1]

    def set_cohort(self, images: Iterable[ImageInput], top_k: int = TOP_K) -> None:
        """Normalizes scores from now on, by how similar both sides are to a cohort of other people (AS-norm).

        A score is then no cosine but a number of standard deviations. Thresholds are dropped: they were for the scores
        before. The embeddings of the cohort are kept; they are removed by another cohort, or by none.

        Args:
            images: one of each of many people, neither enrolled nor to be identified; empty for plain cosines again.
            top_k: number of most similar members that count.

        Raises:
            DataError: an image that cannot be read, or fewer than two.
            ConfigError: `top_k` below 2, or above their number.
        """
        given = to_list(images, "images")
        setting = None
        if given:
            probes = [self._read(image, number, keep=False) for number, image in enumerate(given)]
            embeddings = encode_images(self.model, probes)
            Cohort(embeddings, top_k)  # checks
            setting = cohort_setting(embeddings, top_k)
        with self._lock:
            self.store.write_settings({COHORT: setting, "thresholds": {}}, purge=True)
            self.settings = self.store.settings()

    def _search(self, queries: Tensor, k: int) -> tuple[Tensor, Tensor]:
        """Scores and ids `[Q, k]` of the best identities."""
        cohort = self.cohort
        return (
            self._index.search(queries, k)
            if cohort is None
            else normalized_search(self._index, cohort, queries, k)
        )

    def _enrolled(self, embedding: Tensor, identity: Tensor, is_text: Tensor) -> EnrolledItems:
        """Items by the gallery's rules."""
        return EnrolledItems(
            embedding,
            identity,
            is_text,
            self.settings["combine"],
            self.settings["text_weight"],
            self.cohort,
            MOST_IDENTITIES,
        )

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

    @property
    def thresholds(self) -> dict[Support, dict[str, Any]]:
        """The gallery's thresholds by kind of support: JSON objects with a `value` and what it stands for."""
        found: dict[Support, dict[str, Any]] = self.settings.get("thresholds", {})
        return found

    def set_thresholds(self, thresholds: Mapping[Support, Mapping[str, Any]]) -> None:
        """Stores thresholds; every process uses them from its next answer on.

        Args:
            thresholds: for each kind of support (`image`, `text`, `both`) a JSON object with a `value`, such as a
                calibration writes it. Kinds that are not given have none.

        Raises:
            ConfigError: another kind, or a value that is not a number.
        """
        for support, threshold in thresholds.items():
            check_one_of("the kind of support", support, Support)
            check_threshold(threshold.get("value", math.nan))
        self.write_settings({"thresholds": {k: dict(v) for k, v in thresholds.items()}})

    def stored_settings(self) -> dict[str, Any]:
        """The settings as they are stored now, by whatever process."""
        with self._lock:
            return self.store.settings()

    def write_settings(self, settings: Mapping[str, Any]) -> None:
        """Stores some settings, JSON values, and keeps the others."""
        with self._lock:
            self.store.write_settings(settings)
            self.settings = self.store.settings()

    def _enroll(
        self, requests: Sequence[Request], replace: bool, *, skip_bad: bool, skip_known: bool
    ) -> Enrollment:
        """Reads, encodes and writes identities in one transaction."""
        known = self._known_images(requests) if skip_known else {}
        errors = read_images(requests, partial(self._read, keep=True), known, skip_bad)
        requests = [request for request in requests if request.read or request.texts]
        if not requests:
            return Enrollment(errors=errors)
        with self._lock:
            holders = self.store.holders(image.digest for request in requests for image in request.read)
        odd = warnings_of(requests, holders, replace)
        return Enrollment(self._write(encode(requests, self.model, replace)), errors, odd)

    def _known_images(self, requests: Sequence[Request]) -> dict[str, set[bytes]]:
        """Digests of the images that identities have."""
        known = {}
        with self._lock:
            for request in requests:
                if (row := self.store.find(request.name)) is not None:
                    known[request.name] = self.store.digests(row.id)
        return known

    def _write(self, identities: Sequence[NewIdentity]) -> builtins.list[Enrolled]:
        with self._lock:
            enrolled = self.store.enroll(identities, self.settings["fingerprint"])
            self._follow()
            return enrolled

    def _read(self, image: Any, number: int, *, keep: bool) -> ReadImage:
        """Reads an image, unless it was read before; `keep` is for one that is enrolled."""
        if isinstance(image, ReadImage):
            return image
        return read(
            image,
            number,
            self.model.spec.preprocessor(),
            thumbnail=keep and self.settings["thumbnails"],
            content=keep and self.settings["store_images"],
        )

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
        """Brings the memory up to date with an own write, where it is in use."""
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
            self.settings = self._index.settings

    def _match(self, identity: int, score: float, *, threshold: float | None, prior: float) -> Match:
        stored = self.settings.get("thresholds", {})
        if self._decisions.thresholds is not stored:
            self._decisions = Decisions(stored)
        return self._decisions.match(
            self._index.names[identity],
            score,
            self._index.support[identity],
            threshold=threshold,
            prior=prior,
            gallery_size=len(self._index),
            identity=identity,
        )


def _without_images(item: ItemRow) -> ItemRow:
    item.thumbnail = item.content = None
    return item
