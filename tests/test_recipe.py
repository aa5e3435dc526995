"""Recipes come from files, and mistakes in them are told with the file and the place."""

from dataclasses import asdict
from pathlib import Path

import pytest

from tracker import weights
from tracker.training.data import DataError
from tracker.training.detector import DetectorRecipe
from tracker.training.pose import PoseRecipe, Stage, StageKind
from tracker.training.recipe import read_recipe


def test_a_file_changes_what_it_names_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "short.toml"
    path.write_text(
        'batch = 16\n[augment]\nrotation = 0.0\n[[stages]]\nkind = "heatmap"\ncrops = 64\n'
    )
    recipe = read_recipe(path, PoseRecipe)
    assert recipe.batch == 16
    assert recipe.augment.rotation == 0.0
    assert recipe.augment.scale == PoseRecipe().augment.scale
    assert recipe.stages == (Stage(StageKind.HEATMAP, 64),)
    assert recipe.learning_rate == PoseRecipe().learning_rate


@pytest.mark.parametrize(("kind", "recipe"), [("pose", PoseRecipe), ("detector", DetectorRecipe)])
def test_a_shipped_card_holds_a_recipe_that_runs(
    kind: weights.Kind, recipe: type[PoseRecipe] | type[DetectorRecipe]
) -> None:
    found = weights.find(kind, "nano")
    read = read_recipe(found.path.with_suffix(".json"), recipe)
    assert asdict(read)["stages"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("btach = 3\n", "btach"),
        ('[[stages]]\nkind = "warm"\ncrops = 3\n', r"stages\[0\].kind"),
        ("batch = \n", "cannot be read"),
    ],
)
def test_mistakes_are_told_with_their_place(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(DataError, match=told) as error:
        read_recipe(path, PoseRecipe)
    assert str(path) in str(error.value)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be read"):
        read_recipe(tmp_path / "no.toml", PoseRecipe)
