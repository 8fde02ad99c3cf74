"""README and documentation hold: their code runs, their commands parse, and the reference lists what there is.

Every `bash` and `python` block runs, in the order of `PAGES`, as it is written. Trainings are cut to a few steps, one
model selection and one small evaluation, those of LFW to one fold, searches to two trials, glyphs to numbers and
punctuation, Omniglot to eleven alphabets, and LFW to a tenth of its pairs. Other commands (`console` blocks, and
those in running text) take too long: they are parsed, with their configurations.
"""

from __future__ import annotations

import os
import re
import shlex
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import numpy as np
import pytest
import yaml
from PIL import Image

from tests.conftest import part_of_lfw, real_data
from vlfew.classifiers import CLASSIFIERS
from vlfew.cli import app, main
from vlfew.cli.component_command import component_values
from vlfew.core import renamed
from vlfew.core.config import Config
from vlfew.core.recipes import find_recipe
from vlfew.data.sources import SOURCES
from vlfew.encoders import BACKBONES, PREPROCESSING
from vlfew.evaluation import PROTOCOLS
from vlfew.losses import LOSSES
from vlfew.workflows.assemble import read_config

ROOT = Path(__file__).parents[1]
PAGES = (
    "README.md",
    "docs/index.md",
    "docs/tutorial.md",
    "docs/how-to/own-images.md",
    "docs/how-to/clip-few-shots.md",
    "docs/how-to/faces.md",
    "docs/how-to/gallery.md",
    "docs/how-to/serve.md",
    "docs/how-to/omniglot.md",
    "docs/how-to/fine-tune.md",
    "docs/how-to/compare-runs.md",
    "docs/how-to/tune.md",
    "docs/how-to/scikit-learn.md",
    "docs/how-to/python.md",
    "docs/how-to/add-a-component.md",
    "docs/how-to/deploy.md",
    "docs/reference/command-line.md",
    "docs/reference/configuration.md",
    "docs/reference/networks.md",
    "docs/reference/data.md",
    "docs/reference/losses.md",
    "docs/reference/protocols.md",
    "docs/reference/thresholds.md",
    "docs/reference/classifiers.md",
    "docs/reference/api.md",
)
"""In an order in which each page finds the runs that it uses."""
EVERY_PAGE = sorted(
    ["README.md", "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/**/*.md"))]
)
MODULE = re.compile(r"# (\w+\.py)\n")
"""The first line of a Python block that is a file of its own."""
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHORT = [
    "optim.steps=4",
    "optim.warmup_steps=1",
    "training.eval_every=4",
    "training.save_every=4",
    "model_selection=null",
    "evaluate=[{protocol: few-shot, ways: 3, queries: 2, episodes: 50, on_small_class: skip}]",
]


def text_of(page: str) -> str:
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str, pages: tuple[str, ...] = PAGES) -> list[tuple[str, str, str]]:
    """`(page, language, text)` of each fenced block, in order."""
    return [
        (page, language, text)
        for page in pages
        for language, text in BLOCK.findall(text_of(page))
        if language in languages
    ]


def draw(path: Path, seed: int, size: int = 40) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 256, (size, size, 3), dtype=np.uint8)).save(path)


def yaml_block(page: str) -> str:
    """The first YAML block of a page."""
    return blocks("yaml", pages=(page,))[0][2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    """A folder as the documents imagine it."""
    folder = tmp_path_factory.mktemp("workspace")
    for name in ("configs", "scripts"):
        (folder / name).symlink_to(ROOT / name)
    for number, kind in enumerate(("red mug", "old boot", "tin can", "fir cone", "glass bowl") * 4):
        for image in range(4):
            draw(folder / "my_images" / f"{kind} {'abcd'[number // 5]}" / f"{image}.png", 10 * number + image)
    for number, name in enumerate(
        ("my_sign.png", "arrow1.png", "arrows/a.png", "letters/a.png", "new_images/x.png")
    ):
        draw(folder / name, 1000 + number)
    pairs = ["first,second,same"]
    for number in range(20):
        for image in (1, 2):
            draw(folder / "my_pairs" / f"p{number}" / f"{image}.png", 2000 + number)
        pairs.append(f"p{number}/1.png,p{number}/2.png,1")
        pairs.append(f"p{number}/1.png,p{(number + 1) % 20}/1.png,0")
    (folder / "my_pairs" / "pairs.csv").write_text("\n".join(pairs) + "\n")
    for page, name in (("README.md", "classes.yaml"), ("docs/how-to/tune.md", "space.yaml")):
        (folder / name).write_text(yaml_block(page))
    return folder


def part_of_omniglot(source: Path, folder: Path) -> None:
    """The official runs, eight alphabets of the background set and three of the evaluation set."""
    folder.mkdir()
    (folder / "one_shot_runs.zip").symlink_to(source / "one_shot_runs.zip")
    for part, alphabets in (("images_background", 8), ("images_evaluation", 3)):
        with (
            zipfile.ZipFile(source / f"{part}.zip") as whole,
            zipfile.ZipFile(folder / f"{part}.zip", "w") as few,
        ):
            drawings = [name for name in whole.namelist() if name.endswith(".png")]
            chosen = sorted({name.split("/")[1] for name in drawings})[:alphabets]
            for name in drawings:
                if name.split("/")[1] in chosen:
                    few.writestr(name, whole.read(name))


def commands(text: str) -> Iterator[list[str]]:
    """The arguments of `vlfew` that the lines of a block stand for; scripts that train count as `vlfew train`."""
    for line in text.replace("\\\n", " ").strip().splitlines():
        parts = shlex.split(line.removeprefix("pip install uv && ").removeprefix("uv run "), comments=True)
        if not parts:
            continue
        if parts[0] in ("accelerate", "torchrun"):
            parts = ["vlfew", "train", *parts[parts.index("scripts/train.py") + 1 :]]
        if parts[0] == "vlfew":
            yield parts[1:]
        elif parts[0] in ("python", "--group", "scripts/benchmark.py"):
            script = next(part for part in parts if part.startswith("scripts/"))
            assert (ROOT / script).is_file(), line
            assert all((ROOT / part).is_file() for part in parts if part.startswith("configs/")), line
        else:
            assert parts[0] in ("pytest", "docker", "mkdocs"), (
                f"a command that this test does not know: {line}"
            )


RUNNABLE = blocks("bash", "python")


@pytest.mark.parametrize(
    ("page", "language", "text"), RUNNABLE, ids=[f"{page}-{i}" for i, (page, *_) in enumerate(RUNNABLE)]
)
def test_block_runs(page, language, text, workspace, monkeypatch):
    monkeypatch.chdir(workspace)
    monkeypatch.setenv("XDG_CACHE_HOME", str(workspace / "cache"))
    monkeypatch.setattr("vlfew.data.sources.glyphs.CATEGORIES", "NP")
    for name in ("omniglot", "lfw"):
        if f"data prepare {name}" in text:
            part = part_of_omniglot if name == "omniglot" else part_of_lfw
            part(real_data(name), workspace / name)
            monkeypatch.delenv("VLFEW_DATA")
    if language == "python":
        if module := MODULE.match(text):
            (workspace / module[1]).write_text(text)
        # What a block registers, others must not meet.
        monkeypatch.syspath_prepend(workspace)
        for registry in (LOSSES, CLASSIFIERS, BACKBONES, SOURCES, PROTOCOLS):
            monkeypatch.setattr(registry, "entries", dict(registry.entries))
        exec(compile(text, page, "exec"), {"__name__": "block"})
        return
    for arguments in commands(text):
        if arguments[0] == "train":
            arguments += SHORT + (["repeat=null"] if "lfw" in arguments else [])
        if arguments[0] == "tune":
            arguments[arguments.index("--trials") + 1] = "2"
            arguments += SHORT
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 0, arguments
    assert os.getcwd() == str(workspace)


def parse(arguments: list[str]) -> None:
    """Parses a command as `vlfew` does, without running it; what it names is checked as well."""
    command: click.Command = app
    context, rest = None, list(arguments)
    while isinstance(command, click.Group):
        context = command.make_context("vlfew", [], parent=context, resilient_parsing=True)
        assert rest, f"vlfew {shlex.join(arguments)} lacks a command"
        _, found, rest = command.resolve_command(context, rest)
        assert found is not None
        command = found
    given = command.make_context(command.name, rest, parent=context).params
    if arguments[0] == "train" and not arguments[1].startswith("runs/"):
        read_config(find_recipe(arguments[1]), arguments[2:])
    if arguments[0] == "evaluate":
        PROTOCOLS.checked(arguments[1], component_values(given, PROTOCOLS.signature(arguments[1])))


LISTED = [
    (page, arguments)
    for page, _, text in blocks("bash", "console", pages=tuple(EVERY_PAGE))
    for arguments in commands(text)
] + [
    (page, shlex.split(text)[1:])
    for page in EVERY_PAGE
    # In running text, complete commands alone: `vlfew train` by itself is a name.
    for text in re.findall(r"`(vlfew \w+ [^`]*[\w/]\S*)`", BLOCK.sub("", text_of(page)))
    if not re.search(r"\b[A-Z]{2,}\b|RUN|--help", text)
]


@pytest.mark.parametrize(
    ("page", "arguments"), LISTED, ids=[f"{page}-{i}" for i, (page, _) in enumerate(LISTED)]
)
def test_command_parses(page, arguments, monkeypatch):
    monkeypatch.chdir(ROOT)
    parse(arguments)


FRAGMENTS = [
    (page, part)
    for page, _, text in blocks("yaml")
    if page not in ("README.md", "docs/tutorial.md", "docs/how-to/own-images.md", "docs/how-to/tune.md")
    for part in text.replace("  # or", "").split("\n" if "# or" in text else "\0")
    if part.strip()
]


@pytest.mark.parametrize(("page", "text"), FRAGMENTS)
def test_yaml_is_a_configuration(page, text, tmp_path):
    (tmp_path / "base.yaml").write_text("objective: [{loss: contrastive}]\n")
    path = tmp_path / "fragment.yaml"
    path.write_text(f"base: base.yaml\n{text}")
    read_config(path)


@pytest.mark.parametrize("page", ["docs/tutorial.md", "docs/how-to/own-images.md"])
def test_pages_show_the_same_class_file(page):
    assert yaml_block(page) == yaml_block("README.md")


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_page_names_what_exists(page):
    text = text_of(page)
    for path in set(re.findall(r"\b(?:configs|scripts)/[\w/]+\.(?:yaml|py)", text)):
        assert (ROOT / path).is_file(), f"{path} does not exist"
    for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / link).exists(), f"broken link {link}"


OLD_FLAGS = {f"--{name.replace('_', '-')}" for name in renamed.OPTIONS}.union(*renamed.FLAGS.values())


@pytest.mark.parametrize("page", EVERY_PAGE)
def test_page_speaks_of_today(page):
    """Neither old names nor words that only this project used for what the field has a term for."""
    text = text_of(page)
    for old in {*renamed.KEYS, *OLD_FLAGS} - {"fallback", "select"}:
        assert not re.search(rf"(?<![\w.-]){re.escape(old)}(?:=|`|:| )(?!\w* is now)", text), (
            f"old name {old}"
        )
    words = re.findall(
        r"\b(?:pictures?|told|nought|likest|grey|colours?|neighbours?|centred)\b", text, re.IGNORECASE
    )
    assert not words


def listed(page: str) -> set[str]:
    """What a page of the reference shows as code in its text."""
    text = BLOCK.sub("", text_of(f"docs/reference/{page}.md"))
    return {part.rstrip(":") for part in re.findall(r"[\w:-]+", " ".join(re.findall(r"`([^`]+)`", text)))}


def test_reference_lists_every_component():
    assert {name + ("NAME" if name.endswith(":") else "") for name in SOURCES.names()} <= listed("data")
    assert set(PROTOCOLS.names()) <= listed("protocols")
    assert set(LOSSES.names()) <= listed("losses")
    assert set(CLASSIFIERS.names()) <= listed("classifiers") | listed("configuration") | listed("networks")
    assert {name.rstrip(":") for name in [*BACKBONES.names(), *PREPROCESSING.names()]} <= {
        name.split(":")[0] for name in listed("networks")
    }


def test_reference_lists_every_configuration_key():
    shown = listed("configuration") | listed("networks")
    missing = set()
    for name, field in Config.model_fields.items():
        schemas = [field.annotation, *getattr(field.annotation, "__args__", ())]
        keys = {key for schema in schemas for key in getattr(schema, "model_fields", {})}
        missing |= {f"{name}.{key}" for key in keys if key not in shown}
        missing |= {name} - shown - {"name", "base"}
    assert not missing


def test_reference_shows_the_defaults():
    shown = yaml.safe_load(yaml_block("docs/reference/configuration.md"))
    assert shown == Config(objective=[{"loss": "contrastive"}]).model_dump(mode="json", exclude={"objective"})


def test_changelog_lists_every_rename():
    changelog = text_of("CHANGELOG.md")
    kinds = [renamed.VALUES[kind] for kind in ("backbone", "protocol", "method")]
    for names in (renamed.KEYS, OLD_FLAGS, *kinds):
        missing = [old for old in names if not re.search(rf"`(?:[^`|\n]* )?{re.escape(old)}\b", changelog)]
        assert not missing


def test_citation_and_metadata_agree():
    import tomllib

    citation = yaml.safe_load(text_of("CITATION.cff"))
    project = tomllib.loads(text_of("pyproject.toml"))["project"]
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
