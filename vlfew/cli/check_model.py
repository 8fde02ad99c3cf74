"""`vlfew check-model`: published towers against their own library."""

from __future__ import annotations

import json

import rich_click as click

from vlfew.core.console import log_note, print_table


@click.command("check-model")
@click.argument("model", metavar="MODEL")
@click.option("--download", is_flag=True, help="Fetch published weights that are not on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check_model(model: str, download: bool, as_json: bool) -> int:
    """Compare published towers with what their own library makes of the same files and texts.

    MODEL is open_clip:ARCH/TAG, transformers:NAME, timm:NAME, the folder of such a model, a tower in a Python package
    (efficientnet_lite0), or a run with such towers. Normalized pixels must be equal to 1e-5, tokens equal, embeddings
    equal to 1e-4 of their norm. Status 1 if a difference is larger.
    """
    from vlfew.workflows.check_model.workflow import check_model

    checked = check_model(model, download=download)
    if as_json:
        rows = [
            {
                "what": check.what,
                "compared_with": check.reference,
                "largest_difference": check.difference if check.difference < float("inf") else None,
                "limit": check.limit,
                "passed": check.passed,
            }
            for check in checked.checks
        ]
        content = {"model": model, "passed": checked.passed, "checks": rows, "notes": checked.notes}
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        print_table(
            ["what", "compared with", "largest difference", "limit", ""],
            [
                [c.what, c.reference, f"{c.difference:.1e}", f"{c.limit:.0e}", "pass" if c.passed else "FAIL"]
                for c in checked.checks
            ],
        )
        for note in checked.notes:
            log_note(note)
    return 0 if checked.passed else 1
