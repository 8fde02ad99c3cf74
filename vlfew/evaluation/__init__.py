"""The evaluation protocols by name: one file and one line each.

A protocol is `protocol(subject, *, option=default, ...) -> Outcome`. Beside it stands its check,
`check_protocol(data, options) -> None`, which takes all options and raises, before a model is trained,
what the protocol would raise for these data.
"""

from vlfew.registry import Registry

PROTOCOLS = Registry(
    "protocol",
    {
        "few-shot": "vlfew.evaluation.few_shot:few_shot",
        "zero-shot": "vlfew.evaluation.zero_shot:zero_shot",
        "asif": "vlfew.evaluation.asif:asif",
        "pictures-and-words": "vlfew.evaluation.pictures_and_words:pictures_and_words",
        "retrieval": "vlfew.evaluation.retrieval:retrieval",
        "verification": "vlfew.evaluation.verification:verification",
        "identification": "vlfew.evaluation.identification:identification",
        "omniglot-trials": "vlfew.evaluation.omniglot:omniglot_trials",
        "omniglot-runs": "vlfew.evaluation.omniglot:omniglot_runs",
    },
)

CHECKS = Registry("protocol", {n: target.replace(":", ":check_") for n, target in PROTOCOLS.entries.items()})

NEEDS_WORDS = frozenset({"zero-shot", "pictures-and-words", "retrieval"})
"""Protocols that need a text stream and classes that are said in words."""

__all__ = ["CHECKS", "NEEDS_WORDS", "PROTOCOLS"]
