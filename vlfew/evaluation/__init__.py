"""Evaluation protocols by name: one file and one line each.

A protocol is `protocol(context, *, option=default, ...) -> ProtocolResult`. Its keyword-only parameters are its options
in Python, in YAML and on the command line, which shows their lines of the docstring as help. It validates its options
and draws its episodes before it first uses `context.model` or `context.bank`.
"""

from vlfew.core.registry import Registry

PROTOCOLS = Registry(
    "protocol",
    {
        "few-shot": "vlfew.evaluation.protocols.few_shot:few_shot",
        "zero-shot": "vlfew.evaluation.protocols.zero_shot:zero_shot",
        "asif": "vlfew.evaluation.protocols.asif:asif",
        "conse": "vlfew.evaluation.protocols.conse:conse",
        "multimodal": "vlfew.evaluation.protocols.multimodal:multimodal",
        "retrieval": "vlfew.evaluation.protocols.retrieval:retrieval",
        "verification": "vlfew.evaluation.protocols.verification:verification",
        "identification": "vlfew.evaluation.protocols.identification:identification",
        "threshold": "vlfew.evaluation.protocols.threshold:threshold",
        "omniglot-trials": "vlfew.evaluation.protocols.omniglot:omniglot_trials",
        "omniglot-runs": "vlfew.evaluation.protocols.omniglot:omniglot_runs",
    },
)

NEEDS_TEXT = frozenset({"zero-shot", "multimodal", "retrieval"})
"""Protocols that need a text encoder and classes with names or descriptions."""

NEEDS_BOXES: frozenset[str] = frozenset()
"""Protocols of images of several objects, with boxes; all others need one label for each image."""

__all__ = ["NEEDS_BOXES", "NEEDS_TEXT", "PROTOCOLS"]
