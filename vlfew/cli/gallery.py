"""`vlfew gallery`: enroll identities once, recognize them ever after."""

from __future__ import annotations

import csv
import json
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rich_click as click

from vlfew.cli.options import RUN_HELP, UserPath, settings_argument, with_parameters
from vlfew.core.console import log, print_table
from vlfew.core.errors import DataError, VlfewError
from vlfew.core.plurals import counted

if TYPE_CHECKING:
    from vlfew.gallery.gallery import Gallery
    from vlfew.gallery.matches import Identification, Match
    from vlfew.gallery.store import Enrolled


class GalleryPlace(UserPath):
    """A path, or the URL of a gallery in Postgres, which stays a str."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if isinstance(value, str) and value.startswith(("postgresql:", "postgres:")):
            return value
        return super().convert(value, param, ctx)


db_argument = click.argument("db", metavar="DB", type=GalleryPlace(dir_okay=False))
name_argument = click.argument("name", metavar="NAME")
images_argument = click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
model_option = click.option(
    "--model",
    metavar="RUN",
    help="The gallery's model, where it is not any more where it was; by default as the gallery names it.",
)
threshold_option = click.option(
    "--threshold",
    type=float,
    help="Lowest score that is accepted; by default the gallery's own, where it has one.",
)
FEW_IN_COHORT = 100
NO_THRESHOLD = "vlfew gallery calibrate sets one, or give --threshold"
limit_option = click.option(
    "--limit", type=click.IntRange(1), default=20, show_default=True, help="How many, best first."
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def gallery() -> None:
    """Enroll identities by images, texts or both, and find out who is in an image.

    DB is the gallery's file, such as faces.db, or the URL of one in Postgres, such as
    "postgresql://me@host/faces?gallery=staff".
    """


@contextmanager
def _warnings_as_lines() -> Iterator[None]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            yield
        finally:
            for warning in caught:
                log(f"vlfew: warning: {warning.message}")


@contextmanager
def opened_gallery(db: Path | str, model: str | None = None) -> Iterator[Gallery]:
    """The gallery, closed at the end; its warnings are lines."""
    from vlfew.gallery.gallery import Gallery

    with _warnings_as_lines(), Gallery.open(db, model) as opened:
        yield opened


@gallery.command(epilog=RUN_HELP)
@db_argument
@click.option("--model", metavar="RUN", required=True, help="The model that encodes images and texts.")
@click.option(
    "--combine",
    type=click.Choice(["mean", "max"]),
    default="mean",
    show_default=True,
    help="Several images of an identity: the normalized mean of their embeddings, or the most similar one.",
)
@click.option(
    "--text-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Weight of the texts where an identity has images and texts.",
)
@click.option("--thumbnails/--no-thumbnails", default=True, help="Keep a small JPEG of each image.")
@click.option(
    "--store-images",
    is_flag=True,
    help="Keep the images themselves: re-embed then does not need their files.",
)
@click.option(
    "--search",
    type=click.Choice(["exact", "hnsw"]),
    default="exact",
    show_default=True,
    help="Exact, or in Postgres by an index that is fast in large galleries and finds nearly all.",
)
def create(db: Path | str, model: str, **settings: Any) -> None:
    """Make a new, empty gallery."""
    from vlfew.gallery.gallery import Gallery

    with _warnings_as_lines(), Gallery.create(db, model, **settings) as made:
        print(
            f"{made.store.name}  {made.settings['dim']} numbers per embedding, model {made.settings['fingerprint']}"
        )


@gallery.command()
@db_argument
@click.argument("name", metavar="[NAME]", required=False)
@click.argument("images", metavar="[IMAGE...]", nargs=-1)
@click.option("--text", "texts", multiple=True, metavar="TEXT", help="A text of NAME; repeatable.")
@click.option(
    "--replace", is_flag=True, help="Remove what the identities have first; by default it is added to."
)
@click.option("--folder", type=UserPath(), help="A folder with a folder of images for each identity.")
@click.option(
    "--csv",
    "table",
    type=UserPath(dir_okay=False),
    help="A table with the columns name and image, text or both; images are relative to it.",
)
@model_option
def enroll(
    db: Path | str,
    name: str | None,
    images: tuple[str, ...],
    texts: tuple[str, ...],
    replace: bool,
    folder: Path | None,
    table: Path | None,
    model: str | None,
) -> int:
    """Enroll one identity, or many from a folder or a table.

    IMAGE is an image file, a folder or a glob. Images of a folder or a table that cannot be read are left out and
    listed at the end; the exit status is then 1. The same command again enrolls what is missing.
    """
    if (name is not None) + (folder is not None) + (table is not None) != 1:
        raise VlfewError("give one of NAME with images or texts, --folder and --csv")
    if name is None:
        if texts:
            raise VlfewError("--text is for NAME; the column text of --csv gives texts of many identities")
        identities = _folder_items(folder) if folder is not None else _table_items(table)
        with opened_gallery(db, model) as opened:
            return _enroll_many(opened, identities, replace)
    from vlfew.models.class_file import find_images

    paths = find_images(images)
    with opened_gallery(db, model) as opened:
        print(_enrolled_line(opened.enroll(name, paths, texts, replace=replace), replace))
    return 0


def _folder_items(folder: Path) -> dict[str, list[Any]]:
    """The images of each folder in a folder."""
    from vlfew.models.class_file import find_images

    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder")
    found: dict[str, list[Any]] = {}
    for path in find_images([str(folder)]):
        parts = path.relative_to(folder).parts
        if len(parts) < 2:
            raise DataError(f"{path} is in no folder of an identity; put it into {folder}/NAME/")
        found.setdefault(parts[0], []).append(path)
    return found


def _table_items(table: Path | None) -> dict[str, list[Any]]:
    """The images and texts of each name of a table."""
    from vlfew.core.paths import user_path
    from vlfew.data.table_files import is_missing, read_rows

    assert table is not None
    found: dict[str, list[Any]] = {}
    for where, row in read_rows(table, ["name"]):
        image, text = (str(row.get(column) or "").strip() for column in ("image", "text"))
        items: list[Any] = [] if is_missing(image) else [table.parent / user_path(image)]
        items += [] if is_missing(text) else [text]
        if not items:
            raise DataError(f"{where}: neither an image nor a text; fill in one of them, or remove the line")
        found.setdefault(row["name"].strip(), []).extend(items)
    if not found:
        raise DataError(f"{table}: there is nobody in it")
    return found


def _enroll_many(opened: Gallery, identities: dict[str, list[Any]], replace: bool) -> int:
    asked = sum(map(len, identities.values()))
    done = opened.enroll_many(identities, replace=replace, on_bad_image="skip")
    for warning in done.warnings:
        log(f"vlfew: warning: {warning}")
    added = sum(one.added for one in done.enrolled)
    known = asked - added - len(done.errors)
    line = f"{counted(added, 'item')} of {counted(len(identities), 'identity')} added"
    print(line + (f", {known:,} were there already" if known else ""))
    for error in done.errors:
        log(f"vlfew: {error}")
    return 1 if done.errors else 0


def _enrolled_line(one: Enrolled, replaced: bool) -> str:
    what = "new" if one.created else "replaced" if replaced else "added to"
    has = [counted(one.images, "image")] * (one.images > 0) + [counted(one.texts, "text")] * (one.texts > 0)
    return f"{one.name}: {what}; {counted(one.added, 'item')} added, has {' and '.join(has)} now"


@gallery.command()
@db_argument
@images_argument
@click.option(
    "-k", type=click.IntRange(1), default=5, show_default=True, help="How many identities, best first."
)
@threshold_option
@json_option
@click.option("--csv", "as_csv", is_flag=True, help="Print a table of comma-separated values.")
@model_option
def identify(
    db: Path | str,
    images: tuple[str, ...],
    k: int,
    threshold: float | None,
    as_json: bool,
    as_csv: bool,
    model: str | None,
) -> int:
    """Find the most similar identities of images.

    IMAGE is an image file, a folder or a glob. Images that cannot be read are named and left out; the exit status is
    then 1.
    """
    from vlfew.models.class_file import find_images

    if as_json and as_csv:
        raise VlfewError("give one of --json and --csv")
    paths, found, status = find_images(images), list["Identification"](), 0
    with opened_gallery(db, model) as opened:
        try:
            found = opened.identify(paths, k, threshold)
        except DataError:
            if not len(opened):
                raise
            for path in paths:  # all that can be read
                try:
                    found += opened.identify([path], k, threshold)
                except DataError as error:
                    log(f"vlfew: {error}")
                    status = 1
        stands_for = _stands_for(opened)
    if not found:
        return 2
    rows = [
        {"image": one.image, "rank": rank, **_values(match)}
        for one in found
        for rank, match in enumerate(one.matches, 1)
    ]
    if all(row["accepted"] is None for row in rows):
        log(f"vlfew: note: there is no threshold, so that nobody is unknown; {NO_THRESHOLD}")
    if as_json:
        answers = [
            {"image": one.image, "name": one.name, "matches": [*map(_values, one.matches)]} for one in found
        ]
        print(json.dumps(answers, indent=2, ensure_ascii=False))
    elif as_csv:
        writer = csv.DictWriter(sys.stdout, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    else:
        shown = {None: "-", True: "accepted", False: "unknown"}
        cells = [
            [
                *[*row.values()][:5],
                "-" if row["threshold"] is None else f"{row['threshold']:.4f}",
                "-" if row["probability"] is None else f"{row['probability']:.3g}",
                shown[row["accepted"]],
            ]
            for row in rows
        ]
        header = ["image", "rank", "name", "score", "support", "threshold", "probability", "decision"]
        print_table(header, cells)
        for line in stands_for if threshold is None else ():
            log(f"vlfew: {line}")
    return status


def _stands_for(opened: Gallery) -> list[str]:
    """A line for each threshold of the gallery, and what must be known of it."""
    from vlfew.gallery.calibration import Calibration

    found = []
    for kind, stored in opened.thresholds.items():
        calibration = Calibration.from_json(stored)
        if calibration is not None:
            found.append(f"{kind}: {calibration.threshold.describe()}")
            found += calibration.threshold.notes[-1:] if calibration.threshold.borrowed else []
    return found


def _values(match: Match) -> dict[str, Any]:
    """A match for printing."""
    values = match._asdict() | {"score": round(match.score, 4)}
    return {key: values[key] for key in ("name", "score", "support", "accepted", "threshold", "probability")}


@gallery.command()
@db_argument
@name_argument
@click.argument("image", metavar="IMAGE", type=UserPath(dir_okay=False))
@threshold_option
@json_option
@model_option
def verify(
    db: Path | str, name: str, image: Path, threshold: float | None, as_json: bool, model: str | None
) -> int:
    """Compare an image with one identity; the exit status is 1 where it is not accepted."""
    with opened_gallery(db, model) as opened:
        match = opened.verify(name, image, threshold)
        stands_for = _stands_for(opened)
    if as_json:
        print(json.dumps(_values(match), indent=2, ensure_ascii=False))
    else:
        decision = {None: f"no threshold; {NO_THRESHOLD}", True: "accepted", False: "rejected"}[
            match.accepted
        ]
        against = "" if match.threshold is None else f" against {match.threshold:.4f}"
        print(f"{match.name}: score {match.score:.4f}{against}: {decision}")
        for line in stands_for if threshold is None else ():
            log(f"vlfew: {line}")
    return 1 if match.accepted is False else 0


@with_parameters(click.Argument(["db"], metavar="DB", type=GalleryPlace(dir_okay=False)), settings_argument())
@gallery.command()
@click.option(
    "--far", type=float, help="Share of comparisons with someone else that may be accepted, such as 0.001."
)
@click.option(
    "--fpir",
    type=float,
    help="Share of images of people who are not enrolled that may be accepted, by a gallery of this size.",
)
@click.option(
    "--impostors",
    type=UserPath(),
    help="Folder with images of people who are not enrolled; a folder in it is one person.",
)
@click.option("--data", metavar="SOURCE", help="A data source, whose images are compared instead.")
@click.option("--root", type=UserPath(), help="Folder of the data.")
@click.option("--split", metavar="SPLIT", help="Of --data; by default all but what the model was trained on.")
@click.option(
    "--pairs",
    type=UserPath(dir_okay=False),
    help="Labeled pairs to compare instead: a CSV with the columns first, second and same, or a list as LFW's.",
)
@json_option
@model_option
def calibrate(
    db: Path | str,
    settings: tuple[str, ...],
    far: float | None,
    fpir: float | None,
    impostors: Path | None,
    data: str | None,
    root: Path | None,
    split: str | None,
    pairs: Path | None,
    as_json: bool,
    model: str | None,
) -> int:
    """Set the thresholds for an error rate, from the gallery's own images.

    Give one of --far and --fpir. Each image is left out in turn and compared with everyone. Where the images are too
    few for the rate, the validation images of the model's run serve, and the threshold says so. --data or --pairs
    compare other images by the gallery's model instead, which sets the threshold of identities of images. Impostors
    that cannot be read are named and left out; the exit status is then 1.
    """
    from vlfew.models.class_file import find_images
    from vlfew.workflows.calibration_trials import data_trials, pair_trials
    from vlfew.workflows.validation_images import validation_images

    if (far is None) == (fpir is None):
        raise VlfewError("give one of --far RATE and --fpir RATE, such as --far 0.001")
    if sum(part is not None for part in (impostors, data, pairs)) > 1:
        raise VlfewError("give one of --impostors, --data and --pairs")
    if data is None and (root is not None or split is not None or settings):
        raise VlfewError("--root, --split and data.KEY=VALUE are for --data SOURCE")
    paths = [] if impostors is None else find_images([str(impostors)])
    with opened_gallery(db, model) as opened:
        images, errors = opened.read_images(paths)
        who = [i.name if Path(i.name).parent == impostors else str(Path(i.name).parent) for i in images]
        trials = None
        if data is not None:
            trials = data_trials(
                opened.model,
                data,
                root=root,
                options=settings,
                split=split,
                combine=opened.settings["combine"],
                cohort=opened.cohort,
            )
        elif pairs is not None:
            trials = pair_trials(opened.model, pairs, opened.cohort)
        found = opened.calibrate(
            far=far,
            fpir=fpir,
            impostors=images,
            impostor_names=who,
            trials=trials,
            source="other images" if pairs is None else "pairs",
            validation=lambda: validation_images(opened.model),
        )
    for error in errors:
        log(f"vlfew: {error}")
    if as_json:
        print(json.dumps({k: t.model_dump(mode="json") for k, t in found.items()}, indent=2))
    else:
        for kind, threshold in found.items():
            print(f"{kind}: {threshold.describe()}")
            for note in threshold.notes:
                log(f"vlfew: note: {note}")
    return 1 if errors else 0


@gallery.command()
@db_argument
@click.argument("cohort", metavar="[COHORT]...", nargs=-1)
@click.option(
    "--top-k",
    type=click.IntRange(2),
    default=200,
    show_default=True,
    help="How many of the most similar people of the cohort count.",
)
@click.option("--off", is_flag=True, help="Scores are cosines again; the cohort is removed.")
@model_option
def normalize(db: Path | str, cohort: tuple[str, ...], top_k: int, off: bool, model: str | None) -> int:
    """Normalize scores against a cohort: images of many other people, one of each.

    A score then says how much more similar an image and an identity are than either is to the cohort, in standard
    deviations (AS-norm). The people of the cohort are neither enrolled nor to be identified. Thresholds are dropped.
    """
    from vlfew.models.class_file import find_images

    if bool(cohort) == off:
        raise VlfewError("give one of COHORT, an image file, a folder or a glob, and --off")
    with opened_gallery(db, model) as opened:
        images, errors = opened.read_images(find_images(cohort) if cohort else [])
        opened.set_cohort(images, min(top_k, max(2, len(images))))
    for error in errors:
        log(f"vlfew: {error}")
    if 0 < len(images) < FEW_IN_COHORT:
        log(f"vlfew: note: a cohort of {len(images)} is small: a few hundred people are usual")
    what = f"normalized against {counted(len(images), 'image')}" if images else "cosines"
    print(f"scores are {what} from now on; the thresholds are dropped: vlfew gallery calibrate sets new ones")
    return 1 if errors else 0


@gallery.command("list")
@db_argument
@json_option
def list_identities(db: Path | str, as_json: bool) -> None:
    """List the identities."""
    with opened_gallery(db) as opened:
        rows = opened.list()
    if as_json:
        print(json.dumps([row._asdict() for row in rows], indent=2, ensure_ascii=False))
    else:
        print_table(
            ["name", "images", "texts", "since"], [[r.name, r.images, r.texts, r.created] for r in rows]
        )


@gallery.command()
@db_argument
@click.argument("name", metavar="[NAME]", required=False)
@json_option
def show(db: Path | str, name: str | None, as_json: bool) -> None:
    """Show the items of an identity, or the gallery's settings."""
    with opened_gallery(db) as opened:
        if name is None:
            known = {key: value for key, value in opened.settings.items() if not key.startswith("key:")}
            if known.get("cohort"):
                known["cohort"] = {key: known["cohort"][key] for key in ("size", "top_k")}
            settings = {**known, "identities": len(opened)}
            if as_json:
                print(json.dumps(settings, indent=2, ensure_ascii=False))
            else:
                print_table(["setting", "value"], [*map(list, settings.items())])
            return
        items = opened.show(name)
    if as_json:
        rows = [
            {
                "id": i.id,
                "kind": i.kind,
                "text": i.text,
                "source": i.source,
                "sha256": i.digest.hex(),
                "since": i.created,
            }
            for i in items
        ]
        print(json.dumps(rows, indent=2, ensure_ascii=False))
    else:
        print_table(
            ["item", "kind", "text or source", "since"],
            [[item.id, item.kind, item.text or item.source or "-", item.created] for item in items],
        )


@gallery.command()
@db_argument
@name_argument
@click.argument("new", metavar="NEW")
def rename(db: Path | str, name: str, new: str) -> None:
    """Give an identity another name."""
    with opened_gallery(db) as opened:
        opened.rename(name, new)
    print(f"{name} is now {new}")


@gallery.command()
@db_argument
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--item", type=int, metavar="ID", help="An item alone (vlfew gallery show lists them).")
def remove(db: Path | str, names: tuple[str, ...], item: int | None) -> None:
    """Remove identities, or one item; nothing of them stays in the gallery."""
    if bool(names) == (item is not None):
        raise VlfewError("give one of NAME... and --item ID")
    with opened_gallery(db) as opened:
        if item is None:
            print(f"{', '.join(names)}: removed with {counted(opened.remove(*names), 'item')}")
        else:
            print(f"item {item} of {opened.remove_item(item)} removed")


@gallery.command()
@db_argument
@click.argument("folder", metavar="FOLDER", type=UserPath())
def export(db: Path | str, folder: Path) -> None:
    """Write the gallery as safetensors and JSON."""
    with opened_gallery(db) as opened:
        made = opened.export(folder)
        print(made, made.with_suffix(".safetensors"), sep="\n")


@gallery.command("import")
@db_argument
@click.argument("folder", metavar="FOLDER", type=UserPath())
@click.option("--replace", is_flag=True, help="Remove what identities of the same names have first.")
@click.option(
    "--search",
    type=click.Choice(["exact", "hnsw"]),
    help="Exact, or in Postgres by an index that is fast in large galleries and finds nearly all; else as before.",
)
def import_(db: Path | str, folder: Path, replace: bool, search: Any) -> None:
    """Take over what `export` wrote; makes DB where there is none."""
    from vlfew.gallery.gallery import Gallery
    from vlfew.gallery.stores import exists

    if not exists(db):
        with Gallery.restore(db, folder, search=search) as made:
            print(f"{made.store.name}  {counted(len(made), 'identity')}")
        return
    if search:
        raise VlfewError("--search is for a new gallery, and DB is there; leave it out, or name another DB")
    with opened_gallery(db) as opened:
        enrolled = opened.import_(folder, replace=replace)
    print(
        f"{counted(sum(one.added for one in enrolled), 'item')} of {counted(len(enrolled), 'identity')} added"
    )


@gallery.command()
@db_argument
def check(db: Path | str) -> int:
    """Check the gallery, its content, and that nothing is left of what was removed."""
    with opened_gallery(db) as opened:
        problems = opened.check()
        if not problems:
            identities, items = opened.store.count()
            print(
                f"{opened.store.name}: {counted(identities, 'identity')} with {counted(items, 'item')}; all is well"
            )
    for problem in problems:
        log(f"vlfew: {problem}")
    return 1 if problems else 0


@gallery.command("look-alikes")
@db_argument
@limit_option
@json_option
def look_alikes(db: Path | str, limit: int, as_json: bool) -> None:
    """List the closest different identities, which are most easily taken for each other."""
    with opened_gallery(db) as opened:
        found = opened.look_alikes(limit)
        names = opened.names([i for pair in found for i in (pair.first, pair.second)])
    rows = [[names[p.first], names[p.second], round(p.score, 4), p.support] for p in found]
    _print_rows(["name", "other", "score", "support"], rows, as_json)


@gallery.command()
@db_argument
@limit_option
@click.option(
    "--score",
    type=click.FloatRange(-1, 1),
    default=0.95,
    show_default=True,
    help="Lowest cosine of two images that are listed.",
)
@json_option
def duplicates(db: Path | str, limit: int, score: float, as_json: bool) -> None:
    """List images that are the same, or nearly so, under two names: who may be enrolled twice."""
    with opened_gallery(db) as opened:
        found = opened.duplicates(limit, score)
        ids = {identity for rows in found.same.values() for identity, _ in rows}
        names = opened.names([*ids.union(*({pair.first, pair.second} for pair in found.near))])
    rows: list[list[Any]] = []
    for (first, item), *others in found.same.values():
        rows += [[names[first], item, names[other], same, 1.0, "the same file"] for other, same in others]
    rows += [
        [names[p.first], p.first_item, names[p.second], p.second_item, round(p.score, 4), "similar"]
        for p in found.near
    ]
    _print_rows(["name", "item", "other", "other item", "score", "why"], rows[:limit], as_json)


def _print_rows(header: list[str], rows: list[list[Any]], as_json: bool) -> None:
    if as_json:
        shown = [dict(zip((h.replace(" ", "_") for h in header), row, strict=True)) for row in rows]
        print(json.dumps(shown, indent=2, ensure_ascii=False))
    else:
        print_table(header, rows)


@gallery.command("re-embed", epilog=RUN_HELP)
@db_argument
@click.option("--model", metavar="RUN", required=True, help="The new model.")
def re_embed(db: Path | str, model: str) -> None:
    """Embed everything again with another model: all of it, or nothing."""
    with opened_gallery(db) as opened:
        lost = ["the thresholds"] * bool(opened.thresholds) + ["the cohort"] * (opened.cohort is not None)
        count = opened.re_embed(model)
        print(f"{counted(count, 'item')} embedded again, model {opened.settings['fingerprint']}")
        if lost:
            log(f"vlfew: note: {' and '.join(lost)} were of the old model and are dropped; calibrate again")
