"""The evaluation protocols by name: one file and one line each.

A protocol is `protocol(subject, *, option=default, ...) -> ProtocolResult`. Beside it stands its check,
`check_protocol(data, options) -> None`, which takes all options and raises, before a model is trained,
what the protocol would raise for these data.
"""

from vlfew.core.registry import Registry

PROTOCOLS = Registry(
    "protocol",
    {
        "few-shot": "vlfew.evaluation.protocols.few_shot:few_shot",
        "zero-shot": "vlfew.evaluation.protocols.zero_shot:zero_shot",
        "asif": "vlfew.evaluation.protocols.asif:asif",
        "multimodal": "vlfew.evaluation.protocols.multimodal:multimodal",
        "retrieval": "vlfew.evaluation.protocols.retrieval:retrieval",
        "verification": "vlfew.evaluation.protocols.verification:verification",
        "identification": "vlfew.evaluation.protocols.identification:identification",
        "omniglot-trials": "vlfew.evaluation.protocols.omniglot:omniglot_trials",
        "omniglot-runs": "vlfew.evaluation.protocols.omniglot:omniglot_runs",
    },
)

CHECKS = Registry("protocol", {n: target.replace(":", ":check_") for n, target in PROTOCOLS.entries.items()})

NEEDS_TEXT = frozenset({"zero-shot", "multimodal", "retrieval"})
"""Protocols that need a text stream and classes that are said in words."""

__all__ = ["CHECKS", "NEEDS_TEXT", "PROTOCOLS"]
