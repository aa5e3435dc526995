"""Recipes in files: the whole training in numbers, as TOML or as the card of a trained network."""

import json
import tomllib
from pathlib import Path
from typing import Any, TypeVar

import cattrs
from cattrs.errors import BaseValidationError

from tracker.training.data import DataError

Recipe = TypeVar("Recipe")


def read_recipe(path: Path, kind: type[Recipe]) -> Recipe:
    """Read a recipe; what the file leaves out keeps its default.

    Raises:
        DataError: the file cannot be read, or names or values in it are not a recipe's.
    """
    try:
        text = path.read_text(encoding="utf-8")
        whole: dict[str, Any]
        whole = json.loads(text)["recipe"] if path.suffix == ".json" else tomllib.loads(text)
        return cattrs.Converter(forbid_extra_keys=True).structure(whole, kind)
    except BaseValidationError as error:
        told = "; ".join(cattrs.transform_error(error, path="recipe"))
        raise DataError(f"{path} is no recipe for this training: {told}") from error
    except (OSError, KeyError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a recipe (.toml, or a card .json): {error}"
        ) from error
