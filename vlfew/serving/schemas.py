"""What the server answers, as its OpenAPI description has it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query
from pydantic import BaseModel, ConfigDict, Field

Id = Annotated[int, Path(ge=1, lt=2**63, description="of the identity or item")]
ThresholdQuery = Annotated[
    float | None, Query(description="lowest score that is accepted; by default the gallery's own")
]


class ProblemBody(BaseModel):
    """`application/problem+json`; `detail` is one line that says what is wrong, and the way out. `code` is the kind of
    error where the gallery refused, such as `not_found`, `conflict` or `empty_gallery`."""

    model_config = ConfigDict(extra="allow")

    type: str
    title: str
    status: int
    detail: str
    code: str | None = None


class MatchBody(BaseModel):
    """An identity that an image was compared with."""

    id: int
    name: str
    score: float
    support: str
    accepted: bool | None
    threshold: float | None
    probability: float | None
    thumbnail: int | None = Field(description="item whose thumbnail shows it")


class AnswerBody(BaseModel):
    """Who is in an image, or why it cannot be read."""

    image: str
    name: str | None = None
    matches: list[MatchBody] = []
    error: ProblemBody | None = None


class AnswersBody(BaseModel):
    answers: list[AnswerBody]


class IdentityBody(BaseModel):
    id: int
    name: str
    created: str
    images: int
    texts: int
    thumbnail: int | None


class PageBody(BaseModel):
    identities: list[IdentityBody]
    total: int
    next: str | None = Field(description="`after` of the next page")


class ItemBody(BaseModel):
    id: int
    kind: str
    text: str
    source: str
    created: str
    thumbnail: bool


class IdentityWithItemsBody(IdentityBody):
    items: list[ItemBody]


class EnrolledBody(BaseModel):
    id: int
    name: str
    item_ids: list[int]
    added: int
    created: bool
    replayed: bool
    images: int
    texts: int
    warnings: list[str]


class NewName(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(max_length=20_000)


class SearchBody(BaseModel):
    """Embeddings of the gallery's model, `[Q, D]`, at most 1,000 at once."""

    model_config = ConfigDict(extra="forbid")

    embeddings: list[list[float]] = Field(min_length=1, max_length=1000)
    k: int = Field(5, ge=1, le=100)
    threshold: float | None = None


class FoundBody(BaseModel):
    answers: list[list[MatchBody]]


class KeyBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    key: str = Field(max_length=1000)


class SettingsBody(BaseModel):
    """More of it with a key."""

    model_config = ConfigDict(extra="allow")

    key_required: bool
    signed_in: bool
    version: str


class StatusBody(BaseModel):
    status: str


ThresholdMap = dict[str, dict[str, Any]]
"""Thresholds by kind of support."""


class ValueBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    value: float


class RatesBody(BaseModel):
    """One of them."""

    model_config = ConfigDict(extra="forbid")

    far: float | None = None
    fpir: float | None = None


class ThresholdsBody(BaseModel):
    thresholds: ThresholdMap
    warnings: list[str] = []


class ProblemsBody(BaseModel):
    problems: list[str]


class PointBody(BaseModel):
    threshold: float
    far: float
    frr: float


class ErrorRatesBody(BaseModel):
    support: str
    threshold: float | None
    identities: int
    genuine: int
    impostor: int
    points: list[PointBody]


class PersonBody(BaseModel):
    """Of a pair: an identity, or an item of one."""

    model_config = ConfigDict(extra="allow")

    name: str


class TrialBody(BaseModel):
    score: float
    probe: PersonBody
    identity: PersonBody


class TrialsBody(BaseModel):
    accepted_impostors: list[TrialBody]
    rejected_genuine: list[TrialBody]
    closest_impostors: list[TrialBody]
    hardest_genuine: list[TrialBody]


class PairBody(BaseModel):
    score: float
    support: str = "image"
    a: PersonBody
    b: PersonBody


class PairsBody(BaseModel):
    pairs: list[PairBody]


class SharedBody(BaseModel):
    digest: str
    identities: list[PersonBody]


class DuplicatesBody(BaseModel):
    same_image: list[SharedBody]
    near: list[PairBody]


class ModelBody(BaseModel):
    model_config = ConfigDict(extra="forbid")

    model: str = Field(min_length=1, max_length=1000)


class CountBody(BaseModel):
    model_config = ConfigDict(extra="allow")

    items: int


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Answers of a route other than the one that was asked for."""
    found = {400, 401, 403, 408, 413, 421, 422, 500, 503, *statuses}
    schema = {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
    return {
        status: {"description": "a problem", "content": {"application/problem+json": schema}}
        for status in sorted(found)
    }


def form(fields: dict[str, Any], required: list[str]) -> dict[str, Any]:
    """The description of a `multipart/form-data` body, for `openapi_extra`."""
    schema = {"type": "object", "properties": fields, "required": required}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


FILE = {"type": "string", "format": "binary"}
FILES = {"type": "array", "items": FILE}
TEXTS = {"type": "array", "items": {"type": "string"}}
