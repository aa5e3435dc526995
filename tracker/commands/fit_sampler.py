"""`surepose fit-sampler`."""

import sys
from dataclasses import replace
from pathlib import Path

from tracker.commands.common import OptionalPath, OptionalStr, check, start_log
from tracker.errors import TrackerError
from tracker.heatmaps import IMAGENET, View


def fit_sampler(
    heatmaps: str,
    *,
    data: OptionalPath = None,
    out: OptionalPath = None,
    cache: OptionalPath = None,
    view: View = IMAGENET,
    output: OptionalStr = None,
    hypotheses: int = 8,
    views: int = 16_000,
    stages: tuple[str, ...] = (),
    name: str = "own",
    seed: int = 0,
) -> int:
    """Fit error bars and rival poses to a heatmap network of your own, which stays as it is.

    It looks at labelled people once; a sampler is trained on its heatmaps, calibrated on people
    held out, and exported with its card. Started again with the same --out it goes on. How to use
    the result: docs/fit-sampler.md.

    Args:
        heatmaps: Your network, an .onnx or an ncnn .param; or a folder with its views of labelled
            people (heatmap.npy, labels.npz); or the name of a shipped pose network (nano).
        data: Folder with train.npz and its .bin files; not needed for a folder of views.
        out: Views, checkpoints, log.jsonl, and at the end the .onnx and its card; by default
            runs/sampler-NAME.
        cache: Where pictures are kept decoded (some GB); by default within --out.
        view: How the network wants its crops.
        output: Name of the heatmaps among the network's outputs; by default the first of four axes.
        hypotheses: How many poses a person; 1 fits a single Gaussian.
        views: How many random crops the network looks at.
        stages: Instead of the recipe's: imle:CROPS mixture:CROPS.
        name: The files will be sampler-NAME.onnx and .json.
        seed: Of the views, the first weights and the order.
    """
    try:
        from tracker.training.fit import FitRecipe, FitRun, load_frozen
        from tracker.training.fit import fit_sampler as fit
        from tracker.training.pose import Stage
    except ImportError as error:
        raise TrackerError(
            f"fitting needs torch, which is not here ({error}): pip install 'surepose[train]'"
        ) from error
    check("--hypotheses", hypotheses, at_least=1)
    check("--views", views, at_least=1)
    start_log()
    out = out or Path("runs") / f"sampler-{name}"
    recipe = FitRecipe(views=views, hypotheses=hypotheses, seed=seed)
    if stages:
        recipe = replace(recipe, stages=tuple(map(Stage.parse, stages)))
    path = fit(
        FitRun(out, data, cache or out / "cache", name),
        recipe,
        load_frozen(heatmaps, view, output),
    )
    sys.stdout.write(f"{path}\n")
    return 0
