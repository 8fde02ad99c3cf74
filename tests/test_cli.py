"""The command line."""

from __future__ import annotations

import json
import re
import resource
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import torch
from PIL import Image

from tests.training.conftest import ENVIRONMENT
from vlfew.cli import app, main


def fails(capsys, *arguments: str) -> str:
    """Run `vlfew ...`, expect exit status 2 and one line; returns the line."""
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    assert error.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    return lines[0]


def succeeds(capsys, *arguments: str) -> tuple[str, str]:
    """Run `vlfew ...`, expect exit status 0; returns standard output and standard error."""
    with pytest.raises(SystemExit) as error:
        main(list(arguments))
    captured = capsys.readouterr()
    assert error.value.code == 0, captured.err
    return captured.out, captured.err


def test_help_answers_at_once():
    """In 0.6 s of processor time, which other work on the machine does not lengthen."""
    help_command = [sys.executable, "-m", "vlfew.cli", "--help"]
    subprocess.run(help_command, capture_output=True, env=ENVIRONMENT)  # compiles the bytecode
    took = []
    for _ in range(5):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(help_command, capture_output=True, text=True, env=ENVIRONMENT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        took.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert "evaluate" in done.stdout
    assert min(took) < 0.6


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from vlfew.cli import main\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'transformers', 'matplotlib', 'accelerate', 'optuna'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr


def test_missing_config(capsys, tmp_path):
    assert "no such configuration file" in fails(capsys, "train", str(tmp_path / "none.yaml"))


def test_a_folder_without_a_model(capsys, tmp_path):
    line = fails(capsys, "evaluate", "few-shot", str(tmp_path), "--data", "glyphs")
    assert "holds no model" in line


def test_unknown_protocol_and_option(capsys, tmp_path):
    line = fails(capsys, "evaluate", "few-shto", str(tmp_path))
    assert "did you mean 'few-shot'?" in line
    line = fails(capsys, "evaluate", "zero-shot", str(tmp_path), "--shots", "1")
    assert "No such option '--shots'" in line and "vlfew evaluate zero-shot --help" in line
    line = fails(capsys, "evaluate", "few-shot", str(tmp_path), "--ways", "few")
    assert "few-shot: ways='few'; input should be a valid integer" in line and "should be 'all'" in line
    line = fails(capsys, "evaluate", "few-shot", str(tmp_path), "--episodes", "all")
    assert "few-shot: episodes='all'; input should be" in line and "should be 'each'" in line


def test_unknown_data_source(capsys):
    assert "did you mean 'omniglot'?" in fails(capsys, "data", "show", "omniglt")


def test_unknown_option_of_a_data_source(capsys):
    line = fails(capsys, "data", "show", "omniglot", "--rotatoins")
    assert "--rotations" in line


@pytest.mark.parametrize(("option", "value"), [("protocol", "person"), ("fold", "one")])
def test_invalid_value_of_a_source_option(capsys, option, value):
    line = fails(capsys, "data", "show", "lfw", f"--{option}", value)
    assert f"lfw: {option}={value!r}; input should be" in line


def test_prepare_needs_exactly_one_way(capsys):
    assert "one of --from PATH and --download" in fails(capsys, "data", "prepare", "omniglot")


def test_models_and_data_list(capsys):
    for arguments, expected in (
        (["models"], ["wavelet", "pca", "koch", "timm:NAME", "minilm"]),
        (["data", "list"], ["glyphs", "omniglot", "att_faces", "mnist"]),
    ):
        with pytest.raises(SystemExit) as error:
            main(arguments)
        assert error.value.code == 0
        out = capsys.readouterr().out
        assert all(text in out for text in expected)


def test_data_show_writes_a_sheet(capsys, tmp_path):
    for c in range(6):
        for n in range(3):
            path = tmp_path / "pets" / f"kind {'abcdef'[c]}" / f"{n}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (20, 30), (40 * c, 80 * n, 99)).save(path)
    sheet = tmp_path / "sheet.png"
    with pytest.raises(SystemExit) as error:
        main(["data", "show", "folder", "--root", str(tmp_path / "pets"), "--sheet", str(sheet)])
    assert error.value.code == 0
    out = capsys.readouterr().out
    assert "18" in out and "kind a" in out and "stretched to a square (--resize crop" in out
    with Image.open(sheet) as image:
        assert min(image.size) > 100


def test_data_show_notes_too_few_classes_and_applies_resize(capsys, tmp_path):
    for c, name in enumerate("abc"):
        (tmp_path / "few" / f"kind {name}").mkdir(parents=True)
        for n in range(5):
            image = Image.new("RGB", (20, 40), (250, 0, 0))  # the middle square is not red
            image.paste((0, 80 * c, 250), (0, 10, 20, 30))
            image.save(tmp_path / "few" / f"kind {name}" / f"{n}.png")
    red = {}
    for resize in ("stretch", "crop"):
        sheet = tmp_path / f"{resize}.png"
        show = ["data", "show", "folder", "--root", str(tmp_path / "few"), "--resize", resize]
        with pytest.raises(SystemExit) as error:
            main([*show, "--sheet", str(sheet)])
        assert error.value.code == 0
        out = capsys.readouterr().out
        assert "3 classes are too few to hold some out for val and test (6 are needed" in out
        assert "train      3 classes, 15 images" in out
        with Image.open(sheet) as image:
            red[resize] = any(
                r > 200 and g < 50 and b < 50 for _, (r, g, b) in image.convert("RGB").getcolors(1 << 24)
            )
    assert red == {"stretch": True, "crop": False}


def test_data_show_names_bad_images_or_counts_them(capsys, tmp_path):
    for name in "abcdef":
        (tmp_path / "pets" / f"kind {name}").mkdir(parents=True)
        for n in range(2):
            Image.new("RGB", (20, 30), (n, 0, 0)).save(tmp_path / "pets" / f"kind {name}" / f"{n}.png")
    (tmp_path / "pets" / "kind b" / "text.jpg").write_text("hello")
    show = ("data", "show", "folder", "--root", str(tmp_path / "pets"), "--sheet", str(tmp_path / "a.png"))
    assert "kind b/text.jpg: cannot be read" in fails(capsys, *show)
    with pytest.raises(SystemExit) as error:
        main([*show, "--skip-bad"])
    assert error.value.code == 0
    assert "1 unreadable image skipped" in capsys.readouterr().out


@pytest.fixture(scope="module")
def dual_run(tmp_path_factory):
    """A tiny untrained dual-stream model, saved as a run folder."""
    from vlfew.models import DualStream, ModelSpec, save_model
    from vlfew.models.spec import TextSpec

    torch.manual_seed(0)
    spec = ModelSpec(
        backbone="conv4",
        backbone_options={"width": 8},
        text=TextSpec(encoder="minilm", projection="linear"),
        embedding_dim=16,
        image_size=16,
    )
    folder = tmp_path_factory.mktemp("dual")
    save_model(DualStream.from_spec(spec), folder, {"trained_on": "nothing"})
    return folder


def test_classify_by_text_images_and_both(capsys, dual_run, tmp_path):
    for name, level in (("dark.png", 10), ("light.png", 240)):
        Image.effect_noise((24, 24), level / 4).point(lambda v, level=level: (v + level) // 2).save(
            tmp_path / name
        )
    (tmp_path / "classes.yaml").write_text(
        "dark: {images: dark.png}\nlight: {images: light.png, text: a light square}\nother: {text: a dog}\n"
    )
    classes = ("--classes", str(tmp_path / "classes.yaml"))
    out, err = succeeds(
        capsys, "classify", str(dual_run), str(tmp_path / "*.png"), *classes, "--text-weight", "0", "--json"
    )
    assert err.count("only texts (other) will seldom win against classes with images") == 1
    rows = {row["image"].rpartition("/")[2]: row for row in json.loads(out)}
    assert rows["dark.png"]["label"] == "dark" and rows["light.png"]["label"] == "light"
    assert rows["dark.png"]["score"] == pytest.approx(1.0, abs=1e-3)
    table, _ = succeeds(capsys, "classify", str(dual_run), str(tmp_path / "dark.png"), *classes)
    assert "dark" in table and "margin" in table


def test_classify_names_the_image_it_cannot_read(capsys, dual_run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    (tmp_path / "classes.yaml").write_text("a: {text: a thing}\nb: {text: another}\n")
    line = fails(
        capsys,
        "classify",
        str(dual_run),
        str(tmp_path / "a.png"),
        "--classes",
        str(tmp_path / "classes.yaml"),
    )
    assert "a.png" in line


def test_classify_leaves_out_what_it_cannot_read(capsys, dual_run, tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    Image.effect_noise((24, 24), 40).save(tmp_path / "b.png")
    (tmp_path / "classes.yaml").write_text("a: {text: a thing}\nb: {text: another}\n")
    arguments = [
        "classify",
        str(dual_run),
        str(tmp_path / "*.png"),
        "--classes",
        str(tmp_path / "classes.yaml"),
    ]
    with pytest.raises(SystemExit) as error:
        main([*arguments, "--json"])
    out, err = capsys.readouterr()
    assert error.value.code == 1
    assert [Path(row["image"]).name for row in json.loads(out)] == ["b.png"]
    line, note = err.strip().splitlines()
    assert "a.png" in line and "probabilities are not calibrated" in note


def test_an_output_file_with_another_suffix_is_not_replaced(tmp_path, capsys):
    (tmp_path / "keep.yaml").write_text("name: keep")
    with pytest.raises(SystemExit) as error:
        main(["report", "runs/x", "--out", str(tmp_path / "keep.yaml")])
    assert error.value.code == 2 and "does not end in .html" in " ".join(capsys.readouterr().err.split())
    assert (tmp_path / "keep.yaml").read_text() == "name: keep"


@pytest.mark.parametrize(
    "arguments",
    [["evaluate", "few-shot", "runs/x", "--json"], ["report", "runs/x", "--out"]],
)
def test_a_folder_as_output_file_is_rejected_first(arguments, tmp_path, capsys):
    with pytest.raises(SystemExit) as error:
        main([*arguments, str(tmp_path)])
    assert error.value.code == 2 and "directory" in capsys.readouterr().err


PROTOCOL = '''"""A toy protocol."""

from typing import Literal

from vlfew.evaluation.context import ProtocolResult


def coin(context, *, split: str = "test", sides: int | Literal["many"] = 2, fair: bool = True) -> ProtocolResult:
    """Accuracy of a coin.

    Args:
        context: the model and the data.
        split: of the images.
        sides: sides of the coin, or `many`.
        fair: whether all sides are equally likely.
    """
    sides = 1000 if sides == "many" else sides
    return ProtocolResult(1 / sides if fair else 0.0, 0.0, 1)
'''


def test_a_new_protocol_is_one_file_and_one_line(capsys, dual_run, tmp_path, monkeypatch):
    from vlfew.evaluation import PROTOCOLS

    (tmp_path / "coin_protocol.py").write_text(PROTOCOL)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(PROTOCOLS.entries, "coin", "coin_protocol:coin")
    out, _ = succeeds(capsys, "evaluate", "--help")
    assert "coin" in out and "Accuracy of a coin." in out
    out, _ = succeeds(capsys, "evaluate", "coin", "--help")
    assert "--sides" in out and "INT|many" in out and "--no-fair" in out and "Sides of the coin" in out
    assert "--shots" not in out
    results = tmp_path / "results.json"
    evaluate = ["evaluate", "coin", str(dual_run), "--data", "glyphs", "--json", str(results)]
    succeeds(capsys, *evaluate, "--sides", "4", "--csv", str(tmp_path / "results.csv"))
    (result,) = json.loads(results.read_text())
    assert result["accuracy"] == 0.25 and result["options"]["sides"] == 4
    assert "vlfew evaluate coin" in result["command"] and "--sides 4" in result["command"]
    assert "coin" in (tmp_path / "results.csv").read_text()
    line = fails(capsys, *evaluate, "--sides", "few")
    assert "coin: sides='few'; input should be a valid integer" in line


@pytest.mark.parametrize(
    ("command", "flag", "new"),
    [
        ("evaluate few-shot RUN", "--protocol", "the first argument"),
        ("evaluate few-shot RUN", "--too-few", "--on-small-class"),
        ("evaluate few-shot RUN", "--scorer", "--method"),
        ("evaluate verification RUN", "--scorer", "--similarity"),
        ("evaluate identification RUN", "--enrolled", "--gallery-size"),
        ("evaluate identification RUN", "--draws", "--repeats"),
        ("evaluate zero-shot RUN", "--template", "--templates"),
        ("evaluate few-shot RUN", "--set", "plain data.KEY=VALUE"),
        ("adapt RUN", "--seeds", "--repeats"),
        ("adapt RUN", "--choose", "--tune-on"),
        ("adapt RUN", "--fix", "--METHOD.OPTION VALUE"),
        ("data show folder", "--set", "an option of its own"),
    ],
)
def test_old_flags_name_the_new_ones(capsys, command, flag, new):
    assert f"{flag} is now {new}" in fails(capsys, *command.split(), flag, "x")


def test_flags_that_were_never_those_of_a_command_are_not_old(capsys):
    assert "is now" not in fails(capsys, "data", "show", "glyphs", "--template", "x")
    assert "is now" not in fails(capsys, "evaluate", "retrieval", "RUN", "--choose", "x")


@pytest.mark.parametrize(
    ("arguments", "override"),
    [
        ("--steps 20", "optim.steps=20"),
        ("--num-workers=2", "training.num_workers=2"),
        ("--seed 1", "seed=1"),
        ("--compile data.root=x", "training.compile=VALUE"),
        ("--lr --seed 3", "optim.lr=VALUE"),
        ("--hidden 'a b'", "'text.hidden=a b'"),
    ],
)
def test_a_key_of_the_configuration_given_as_a_flag(capsys, arguments, override):
    line = fails(capsys, "train", "folder", *shlex.split(arguments))
    assert f"a key of the configuration is set by {override}" in line
    assert "No such option '--nothing'" in fails(capsys, "train", "folder", "--nothing")


def test_help_shows_values_and_sentences(capsys):
    """Of `adapt`, which has options of nearly all components: defaults are values, and help is not a fragment."""
    command = app.commands["adapt"]
    texts = {
        p.opts[0]: p.help for p in command.get_params(click.Context(command)) if isinstance(p, click.Option)
    }
    assert texts["--lora.alpha"].endswith("[default: 1.414]")
    assert texts["--cross_attention_transductive.share"].endswith("[default: 0.4667]")
    assert texts["--am3.steps"] == "Steps of AdamW. [default: 100]"
    assert texts["--cross_attention.batch_norm"].endswith("[default: true]")
    assert not [text for text in texts.values() if re.match("(Of|On|By|See|How many) ", text)]
    for arguments in (("adapt",), ("evaluate", "few-shot"), ("export",)):
        out, _ = succeeds(capsys, *arguments, "--help")
        assert all(prefix in out for prefix in ("open_clip:", "transformers:", "timm:"))


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shell_completion_needs_no_torch(shell):
    code = (
        "import sys; from vlfew.cli import app, main\n"
        "from click.shell_completion import ShellComplete\n"
        "complete = ShellComplete(app, {}, 'vlfew', '_VLFEW_COMPLETE').get_completions\n"
        "names = lambda *a: {item.value for item in complete(*a)}\n"
        "assert {'few-shot', 'verification'} <= names(['evaluate'], '')\n"
        "assert '--on-small-class' in names(['evaluate', 'few-shot', 'run'], '--on')\n"
        "assert '--tip_adapter.alpha' in names(['adapt', 'run'], '--tip_adapter.'), names(['adapt', 'run'], '--')\n"
        "assert {'quickstart'} == names(['train'], 'quick')\n"
        "assert 'torch' not in sys.modules\n"
        f"main(['completion', {shell!r}])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=ENVIRONMENT)
    assert done.returncode == 0, done.stderr
    assert "_VLFEW_COMPLETE" in done.stdout


def test_recipes_are_listed_and_printed(capsys):
    out, _ = succeeds(capsys, "recipes")
    assert "quickstart" in out and "studies/mnist_focal" in out and "glyphs are built in" in out
    out, _ = succeeds(capsys, "recipes", "quickstart")
    assert "name: glyphs" in out
    assert "did you mean 'quickstart'?" in fails(capsys, "train", "quickstrat")


def test_a_reader_that_stops_reading_is_no_error():
    """As in `vlfew ... | head -1`."""
    for arguments in (["models"], ["data", "show", "glyphs", "--help"]):
        process = subprocess.Popen(
            [sys.executable, "-m", "vlfew.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
        )
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait() == 1 and not error
