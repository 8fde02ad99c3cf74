"""`GalleryClient`: a gallery that `vlfew gallery serve` serves, by the methods of `Gallery`."""

from __future__ import annotations

import builtins
import io
import warnings
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import httpx2

from vlfew.core.checks import to_list
from vlfew.core.errors import DataError, VlfewError, WriteError, first_line
from vlfew.gallery.matches import Identification, Match
from vlfew.gallery.store import Conflict, Enrolled, IdentityRow, NotFound, StoreUnavailable
from vlfew.models.inputs import check_texts, to_readable
from vlfew.serving.error_codes import KINDS

if TYPE_CHECKING:
    from vlfew.models.inputs import ImageInput

ERRORS: dict[int, type[VlfewError]] = {
    404: NotFound,
    409: Conflict,
    503: StoreUnavailable,
    507: WriteError,
}
"""Of each status of a problem without a code, such as of a proxy; a DataError for the others."""
PAGE = 1000


class GalleryClient:
    """A gallery over HTTP. Errors are those of `Gallery`, with the server's line; `with` closes it.

    Args:
        url: of the server, such as `http://localhost:8000`.
        key: one of `vlfew gallery key add`, where the server asks for it.
        timeout: seconds that an answer may take.
        verify: whether the server's certificate must be one that this machine trusts, or the path of its issuer's.
    """

    def __init__(
        self, url: str, key: str | None = None, *, timeout: float = 60.0, verify: bool | str | Path = True
    ) -> None:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        trusted: Any = str(verify) if isinstance(verify, Path) else verify
        if isinstance(trusted, str):
            import ssl

            trusted = ssl.create_default_context(cafile=trusted)
        self._http = httpx2.Client(
            base_url=url, headers=headers, timeout=timeout, verify=trusted, trust_env=False
        )

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __len__(self) -> int:
        """Number of identities."""
        return int(self._ask("GET", "/identities", params={"limit": 1})["total"])

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self._find(name) is not None

    @property
    def settings(self) -> dict[str, Any]:
        """What the gallery is, and what the server allows."""
        return dict(self._ask("GET", "/settings"))

    @property
    def thresholds(self) -> dict[str, dict[str, Any]]:
        """By kind of support, with what each stands for."""
        return dict(self._ask("GET", "/thresholds"))

    def enroll(
        self,
        name: str,
        images: Iterable[ImageInput] = (),
        texts: Iterable[str] = (),
        *,
        replace: bool = False,
        idempotency_key: str | None = None,
    ) -> Enrolled:
        """Enrolls an identity, or adds to one; see `Gallery.enroll`."""
        answer = self._ask(
            "POST",
            "/identities",
            files=_files("images", images),
            data={"name": name, "texts": check_texts(texts), "replace": str(replace).lower()},
            headers={} if idempotency_key is None else {"Idempotency-Key": idempotency_key},
        )
        for line in answer.pop("warnings"):
            warnings.warn(line, stacklevel=2)
        del answer["id"]
        return Enrolled(**answer)

    def identify(
        self, images: Iterable[ImageInput], k: int = 5, threshold: float | None = None
    ) -> builtins.list[Identification]:
        """The k best identities of each image; see `Gallery.identify`."""
        answers = self._ask(
            "POST", "/identify", params=_given(k=k, threshold=threshold), files=_files("images", images)
        )["answers"]
        for answer in answers:
            if "error" in answer:
                raise DataError(answer["error"]["detail"])
        return [Identification(a["image"], [_match(match) for match in a["matches"]]) for a in answers]

    def verify(self, name: str | int, image: ImageInput, threshold: float | None = None) -> Match:
        """Compares an image with one identity, by its name or id; see `Gallery.verify`."""
        path = f"/identities/{name}/verify" if isinstance(name, int) else "/verify"
        query = _given(threshold=threshold, name=None if isinstance(name, int) else name)
        return _match(self._ask("POST", path, params=query, files=_files("image", [image])))

    def list(self) -> builtins.list[IdentityRow]:
        """All identities with their numbers of images and texts, by name."""
        return [*self._pages("")]

    def show(self, name: str | int) -> builtins.list[dict[str, Any]]:
        """The items of an identity."""
        return builtins.list(self._ask("GET", f"/identities/{self._id(name)}")["items"])

    def rename(self, name: str | int, new: str) -> None:
        """Gives an identity another name."""
        self._ask("PATCH", f"/identities/{self._id(name)}", json={"name": new})

    def remove(self, *names: str | int) -> None:
        """Removes identities, one after another; see `Gallery.remove`."""
        for identity in [self._id(name) for name in names]:
            self._ask("DELETE", f"/identities/{identity}")

    def remove_item(self, item_id: int) -> None:
        """Removes an image or a text, and with the last one its identity."""
        self._ask("DELETE", f"/items/{item_id}")

    def calibrate(
        self, *, far: float | None = None, fpir: float | None = None, impostors: Iterable[ImageInput] = ()
    ) -> dict[str, dict[str, Any]]:
        """Sets the thresholds for an error rate; see `Gallery.calibrate`. Each impostor is taken for someone else."""
        files = _files("impostors", impostors)
        rates = _given(far=far, fpir=fpir)
        sent: dict[str, Any] = {"data": rates, "files": files} if files else {"json": rates}
        answer = self._ask("POST", "/calibrate", **sent)
        for line in answer["warnings"]:
            warnings.warn(line, stacklevel=2)
        return dict(answer["thresholds"])

    def set_thresholds(self, thresholds: Mapping[str, float | None]) -> dict[str, dict[str, Any]]:
        """Sets thresholds by kind of support, or removes those that are None; the other kinds keep theirs."""
        body = {kind: None if value is None else {"value": value} for kind, value in thresholds.items()}
        return dict(self._ask("PUT", "/thresholds", json=body))

    def look_alikes(self, limit: int = 20) -> builtins.list[dict[str, Any]]:
        """The closest different identities, best first."""
        return builtins.list(self._ask("GET", "/look-alikes", params={"limit": limit})["pairs"])

    def check(self) -> builtins.list[str]:
        """What is wrong with the gallery, a line each."""
        return builtins.list(self._ask("POST", "/check")["problems"])

    def _pages(self, search: str) -> Iterator[IdentityRow]:
        after: str | None = ""
        while after is not None:
            page = self._ask("GET", "/identities", params={"search": search, "after": after, "limit": PAGE})
            for row in page["identities"]:
                row.pop("thumbnail")
                yield IdentityRow(**row)
            after = page["next"]

    def _find(self, name: str) -> int | None:
        from vlfew.gallery.names import checked_name

        wanted = checked_name(name)
        found = self._ask("GET", "/identities", params={"name": wanted})["identities"]
        return int(found[0]["id"]) if found else None

    def _id(self, name: str | int) -> int:
        """
        Raises:
            NotFound: no identity has this name.
        """
        found = name if isinstance(name, int) else self._find(name)
        if found is None:
            raise NotFound(f"{self._http.base_url}: there is no identity {name!r}")
        return found

    def _ask(self, method: str, path: str, **parts: Any) -> Any:
        """The answer of a request.

        Raises:
            VlfewError: a problem of the server, by its code or else its status; the server cannot be reached.
        """
        try:
            response = self._http.request(method, path, **parts)
        except httpx2.HTTPError as error:
            raise StoreUnavailable(f"{self._http.base_url}: {first_line(error)}") from None
        if response.is_success:
            return response.json() if response.content else None
        code = ""
        try:
            problem = response.json()
            detail, code = str(problem["detail"]), str(problem.get("code", ""))
        except (ValueError, LookupError, TypeError, AttributeError):
            detail = f"{self._http.base_url} answers {response.status_code}; is it a server of vlfew gallery?"
        raise (KINDS.get(code) or ERRORS.get(response.status_code, DataError))(detail)


def _given(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _match(values: Mapping[str, Any]) -> Match:
    return Match(**{key: values[key] for key in Match._fields})


def _files(field: str, images: Iterable[ImageInput]) -> builtins.list[tuple[str, tuple[str, bytes]]]:
    """Images as files of a form: those of paths as they are, others as PNG."""
    files = []
    for number, image in enumerate(to_list(images, "images")):
        readable = to_readable(image)
        if isinstance(readable, Path):
            try:
                files.append((field, (readable.name, readable.read_bytes())))
            except OSError as error:
                raise DataError(f"{readable}: cannot be read: {error.strerror}") from None
            continue
        buffer = io.BytesIO()
        readable.save(buffer, "PNG")
        files.append((field, (f"image {number}", buffer.getvalue())))
    return files
