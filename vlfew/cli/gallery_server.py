"""`vlfew gallery serve` and `vlfew gallery key`: a gallery over HTTP, and who may use it."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import rich_click as click

from vlfew.cli.gallery import db_argument, gallery, json_option, model_option, opened_gallery
from vlfew.cli.options import UserPath
from vlfew.core.console import log, print_table
from vlfew.core.errors import ConfigError
from vlfew.core.plurals import counted

GALLERY = gallery
"""The group with all of its commands."""
SERVE_NEEDS = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


@gallery.command()
@db_argument
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port; 0 for a free one."
)
@click.option("--ssl-certfile", type=UserPath(dir_okay=False), metavar="PEM", help="Certificate, for HTTPS.")
@click.option("--ssl-keyfile", type=UserPath(dir_okay=False), metavar="PEM", help="Its private key.")
@click.option(
    "--allow-host",
    "allow_hosts",
    multiple=True,
    metavar="NAME",
    help="A name that requests may call the server by; repeatable.",
)
@click.option("--require-key", is_flag=True, help="Ask for a key at 127.0.0.1, too, such as behind a proxy.")
@click.option(
    "--re-embed-model",
    "re_embed_models",
    multiple=True,
    metavar="RUN",
    help="A model that requests may embed the gallery again with; repeatable.",
)
@click.option(
    "--decoders",
    type=click.IntRange(1, 64),
    default=2,
    show_default=True,
    help="Processes that decode images, each of about 300 MB.",
)
@model_option
def serve(
    db: Path | str,
    host: str,
    port: int,
    ssl_certfile: Path | None,
    ssl_keyfile: Path | None,
    allow_hosts: tuple[str, ...],
    require_key: bool,
    re_embed_models: tuple[str, ...],
    decoders: int,
    model: str | None,
) -> None:
    """Serve the gallery over HTTP, with a web page.

    At 127.0.0.1 no key is needed; elsewhere vlfew gallery key makes one. SIGTERM or Ctrl-C ends it after the requests
    in flight.
    """
    if missing := [name for name in SERVE_NEEDS if find_spec(name) is None]:
        raise ConfigError(f"serve needs {', '.join(missing)}: pip install 'vlfew[serve]'")
    if (ssl_certfile is None) != (ssl_keyfile is None):
        raise ConfigError("give both of --ssl-certfile and --ssl-keyfile")
    from vlfew.serving.options import ServeOptions
    from vlfew.serving.run import serve as run
    from vlfew.workflows.validation_images import validation_images

    with opened_gallery(db, model) as opened:
        opened.model  # noqa: B018 - a model that is gone is said now, not at the first request
        options = ServeOptions(
            key_required=require_key,
            re_embed_models=re_embed_models,
            decoders=decoders,
            validation=lambda: validation_images(opened.model),
        )
        run(
            opened,
            host,
            port,
            options,
            allow_hosts=allow_hosts,
            certificate=ssl_certfile,
            certificate_key=ssl_keyfile,
            ready=lambda url: log(f"vlfew: {counted(len(opened), 'identity')} of {opened.name} at {url}"),
        )


@gallery.group()
def key() -> None:
    """Keys of the gallery's server."""


@key.command()
@db_argument
@click.argument("name", metavar="NAME")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(["read", "write"]),
    multiple=True,
    default=["read"],
    show_default=True,
    help="read: identify and look; write: enroll and change. Repeatable.",
)
@json_option
def add(db: Path | str, name: str, scopes: tuple[str, ...], as_json: bool) -> None:
    """Make a key; it is printed once, and the gallery keeps only its hash. NAME says what it is for."""
    from vlfew.serving.keys import add_key

    with opened_gallery(db) as opened:
        made, token = add_key(opened, name, scopes)
    if as_json:
        print(json.dumps({"id": made.id, "name": made.name, "scopes": made.scopes, "key": token}, indent=2))
    else:
        print(token)
        log(f"vlfew: key {made.name} ({', '.join(made.scopes)}); it is not shown again")


@key.command("list")
@db_argument
@json_option
def list_all(db: Path | str, as_json: bool) -> None:
    """List the keys, without what they are."""
    from vlfew.serving.keys import list_keys

    with opened_gallery(db) as opened:
        keys = list_keys(opened)
    if as_json:
        shown = [{"id": k.id, "name": k.name, "scopes": k.scopes, "created": k.created} for k in keys]
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print_table(
            ["id", "name", "scopes", "since"], [[k.id, k.name, ", ".join(k.scopes), k.created] for k in keys]
        )


@key.command()
@db_argument
@click.argument("name", metavar="NAME")
def revoke(db: Path | str, name: str) -> None:
    """Make a key worthless, by its name or id; a running server refuses it after about a second."""
    from vlfew.serving.keys import revoke_key

    with opened_gallery(db) as opened:
        gone = revoke_key(opened, name)
    print(f"key {gone.name} revoked")
