"""Where data are searched, and the message if they are missing."""

from pathlib import Path

import pytest

from vlfew.core.errors import ConfigError, DataError
from vlfew.data.data_root import find_data
from vlfew.data.loading import find_source, load_data

ALSO = ("things.zip", "old_things")


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Path]:
    monkeypatch.setenv("VLFEW_DATA", str(tmp_path / "data"))
    return tmp_path / "data", tmp_path / "cache" / "vlfew" / "data"


def test_the_data_root_precedes_the_cache_and_the_name_its_alternatives(places: tuple[Path, Path]) -> None:
    root, cache = places
    for folder in (cache / "old_things", cache / "things", root / "old_things", root / "things"):
        folder.mkdir(parents=True)
        assert find_data("things", also=ALSO) == folder
    (root / "things").rmdir()
    (root / "things.zip").touch()
    assert find_data("things", also=ALSO) == root / "things.zip"
    assert find_data("things") == cache / "things"


def test_an_explicit_folder_is_the_only_one_searched(places: tuple[Path, Path], tmp_path: Path) -> None:
    (places[0] / "things").mkdir(parents=True)
    assert find_data("things", tmp_path, ALSO) == tmp_path
    with pytest.raises(DataError, match="nowhere is not a folder"):
        find_data("things", tmp_path / "nowhere", ALSO)


def test_missing_data_name_the_searched_places_and_the_way_out(places: tuple[Path, Path]) -> None:
    for also, alternatives in (((), ""), (ALSO, " (or things.zip or old_things next to it)")):
        with pytest.raises(DataError) as error:
            find_data("things", also=also)
        searched = (
            f"looked in {places[0] / 'things'} and {places[1] / 'things'}{alternatives}; set VLFEW_DATA"
        )
        assert searched in str(error.value) and "vlfew data prepare things --from PATH" in str(error.value)


def test_sources_without_prepare_do_not_suggest_it(places: tuple[Path, Path]) -> None:
    with pytest.raises(DataError, match=r"set VLFEW_DATA or data.root$"):
        load_data("pairs", file="pairs.csv")


def test_a_folder_as_a_string_and_unknown_options(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither captions"):
        load_data("captions", str(tmp_path))
    with pytest.raises(ConfigError, match=r"preprocessor=vlfew\.ImagePreprocessor\(image_size=\.\.\.\)"):
        load_data("captions", image_size=32)
    with pytest.raises(
        ConfigError, match="captions has no option 'val_fractoin'; did you mean 'val_fraction'"
    ):
        load_data("captions", tmp_path, val_fractoin=0.5)


def test_sources_are_found_by_their_alternative_names(places: tuple[Path, Path]) -> None:
    root, _ = places
    root.mkdir()
    (root / "orl_faces.zip").touch()
    assert find_source("att_faces") == root / "orl_faces.zip"
    (root / "MNIST").mkdir()
    assert find_source("mnist") == root / "MNIST"
    with pytest.raises(DataError, match="no data for 'omniglot'"):
        find_source("omniglot")
