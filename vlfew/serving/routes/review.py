"""What a gallery looks like from inside: error rates at every threshold, look-alikes, probable duplicates."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import FastAPI, Query
from starlette.responses import Response

from vlfew.evaluation.templates import Support
from vlfew.gallery.look_alikes import LookAlikes
from vlfew.gallery.matches import check_threshold
from vlfew.gallery.score_review import ReviewedTrial, ScoreReview
from vlfew.serving.routes.recognition import json_response
from vlfew.serving.routes.settings import thresholds_json
from vlfew.serving.schemas import DuplicatesBody, ErrorRatesBody, PairsBody, TrialsBody, problems
from vlfew.serving.state import Server

Limit = Annotated[int, Query(ge=1, le=200)]


class People:
    """Names and thumbnails of some identities, for pairs."""

    def __init__(self, server: Server, ids: Iterable[int]) -> None:
        wanted = sorted(set(ids))
        self._names = server.gallery.names(wanted)
        self._thumbnails = server.gallery.thumbnails(wanted)

    def __contains__(self, identity: int) -> bool:
        """Whether it is still there."""
        return identity in self._names

    def shown(self, identity: int) -> dict[str, Any]:
        return {
            "id": identity,
            "name": self._names[identity],
            "thumbnail": self._thumbnails.get(identity),
        }

    def item(self, identity: int, item: int) -> dict[str, Any]:
        return {"id": identity, "name": self._names[identity], "item": item}

    def probe(self, identity: int, item: int) -> dict[str, Any]:
        return {"item": item, "identity": identity, "name": self._names[identity]}


def add_routes(app: FastAPI, server: Server) -> None:
    """Adds the routes to an app."""
    gallery = server.gallery

    async def review(support: Support) -> ScoreReview:
        return await server.cached(f"review {support}", None, lambda: gallery.review_scores(support))

    async def people(ids: Iterable[int]) -> People:
        return await server.call(People, server, ids)

    @app.get("/error-rates", response_model=ErrorRatesBody, responses=problems(409))
    async def error_rates(support: Support = "image") -> Response:
        """FAR and FRR at ascending thresholds, from the gallery's own images."""
        found = await review(support)
        size, _ = await server.call(gallery.count)
        current = thresholds_json(gallery.thresholds, size).get(support)
        return json_response(
            {
                "support": support,
                "threshold": None if current is None else current["current"],
                "identities": found.identities,
                "genuine": len(found.genuine),
                "impostor": found.impostors,
                "points": [point._asdict() for point in found.points],
            }
        )

    @app.get("/pairs", response_model=TrialsBody, responses=problems(409))
    async def pairs(threshold: float, support: Support = "image", limit: Limit = 12) -> Response:
        """The images that a threshold decides about: on either side of it, and on the wrong side."""
        check_threshold(threshold)
        found = await review(support)
        parts: dict[str, list[ReviewedTrial]] = {
            "accepted_impostors": found.accepted_impostors(threshold, limit),
            "rejected_genuine": found.rejected_genuine(threshold, limit),
            "closest_impostors": found.closest_impostors(threshold, limit),
            "hardest_genuine": found.hardest_genuine(threshold, limit),
        }
        trials = [trial for part in parts.values() for trial in part]
        who = await people([i for trial in trials for i in (trial.identity, trial.probe_identity)])

        def shown(trial: ReviewedTrial) -> dict[str, Any]:
            return {
                "score": trial.score,
                "probe": who.probe(trial.probe_identity, trial.item),
                "identity": who.shown(trial.identity),
            }

        return json_response(
            {
                name: [
                    shown(trial) for trial in part if trial.identity in who and trial.probe_identity in who
                ]
                for name, part in parts.items()
            }
        )

    @app.get("/look-alikes", response_model=PairsBody, responses=problems(409))
    async def look_alikes(limit: Limit = 20) -> Response:
        """The closest different identities, by their templates."""
        found = await server.cached("look-alikes", limit, lambda: gallery.look_alikes(limit))
        who = await people([i for pair in found for i in (pair.first, pair.second)])

        def shown(pair: LookAlikes) -> dict[str, Any]:
            return {
                "score": pair.score,
                "support": pair.support,
                "a": who.shown(pair.first),
                "b": who.shown(pair.second),
            }

        return json_response({"pairs": [shown(p) for p in found if p.first in who and p.second in who]})

    @app.get("/duplicates", response_model=DuplicatesBody, responses=problems(409))
    async def duplicates(limit: Limit = 20, score: Annotated[float, Query(ge=-1, le=1)] = 0.95) -> Response:
        """Images that several identities share, and images of different identities that are nearly the same."""
        check_threshold(score)
        found = await server.cached("duplicates", (limit, score), lambda: gallery.duplicates(limit, score))
        ids = [identity for rows in found.same.values() for identity, _ in rows]
        who = await people([*ids, *(i for pair in found.near for i in (pair.first, pair.second))])
        groups = [
            {
                "digest": digest.hex(),
                "identities": [who.item(identity, item) for identity, item in rows if identity in who],
            }
            for digest, rows in found.same.items()
        ]
        return json_response(
            {
                "same_image": [group for group in groups if len(group["identities"]) > 1],
                "near": [
                    {
                        "score": pair.score,
                        "a": who.item(pair.first, pair.first_item),
                        "b": who.item(pair.second, pair.second_item),
                    }
                    for pair in found.near
                    if pair.first in who and pair.second in who
                ],
            }
        )
