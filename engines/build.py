"""Plans, ahead of time or at need: from a graph, through the cache, to what an engine runs."""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

import onnx

from engines import trt
from engines.backends import Precision, Shapes
from engines.errors import CacheError, DeviceError, EngineError, GraphError
from engines.gpu import gpu, need_gpu
from engines.graph import lowered, sha256
from engines.plans import PlanCache, PlanKey

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Built:
    """A plan and where it lies."""

    key: PlanKey
    plan: bytes
    path: Path | None
    """None where the cache could not keep it."""
    seconds: float
    """0 when it was there."""


def key_of(
    library: trt.Library,
    graph: Path,
    precision: Precision,
    shapes: Shapes,
    target: str | None = None,
) -> PlanKey:
    """What the plan of this graph depends on, here or on the target GPU."""
    if target is None:
        if library == "rtx" and gpu() is None:
            raise DeviceError(
                "there is no NVIDIA GPU here to build for: say which one will run the plan, "
                f"--target {' or '.join(trt.TARGETS)}"
            )
        here = need_gpu(f"backend {library}")
        # TensorRT for RTX compiles for an architecture, TensorRT times kernels on the very GPU.
        target = here.sm if library == "rtx" else f"{here.name} {here.sm}"
    return PlanKey(
        graph.stem, sha256(graph), library, trt.version(library), target, precision, shapes
    )


def plan(
    library: trt.Library,
    graph: Path,
    precision: Precision,
    shapes: Shapes | None = None,
    *,
    cache: PlanCache | None = None,
    target: str | None = None,
    progress: trt.Progress | None = None,
    again: bool = False,
    must_keep: bool = False,
) -> Built:
    """The plan from the cache, or built and kept there.

    Args:
        library: TensorRT or TensorRT for RTX.
        graph: The .onnx file.
        precision: Of the trunk.
        shapes: Of each input: least, usual, largest; None serves batches up to 16.
        cache: By default the user's.
        target: A GPU that is not here (TensorRT for RTX only).
        progress: Told how far the build is.
        again: Build it even if it is there.
        must_keep: Raise CacheError where the cache cannot keep it; else that costs a line.
    """
    cache = cache or PlanCache.of_user()
    shapes = shapes or batches(graph)
    key = key_of(library, graph, precision, shapes, target)
    kept = None if again else cache.load(key)
    if kept is not None:
        return Built(key, kept, cache.path(key), 0.0)
    if must_keep:
        cache.check()
    log.info("building %s for %s, once", key.stem, key.gpu)
    started = time.perf_counter()
    model = lowered(graph, precision).SerializeToString()
    content = trt.build(library, model, shapes, target=target, progress=progress)
    seconds = time.perf_counter() - started
    try:
        path = cache.store(key, content, {"build_seconds": round(seconds, 2)})
    except CacheError as error:
        if must_keep:
            raise
        log.warning("%s; this run goes on without", error)
        path = None
    return Built(key, content, path, seconds)


def engine(
    library: trt.Library, graph: Path, precision: Precision, shapes: Shapes | None = None
) -> trt.TrtEngine:
    """The graph on the GPU at hand, built if need be."""
    need_gpu(f"backend {library}")
    built = plan(library, graph, precision, shapes)
    try:
        return trt.TrtEngine(library, built.plan, graph.name)
    except EngineError as error:
        if built.seconds:
            raise
        log.warning("%s; it is built again", error)
        built = plan(library, graph, precision, shapes, again=True)
        return trt.TrtEngine(library, built.plan, graph.name)


def batches(graph: Path, usual: int = 8, largest: int = 16) -> Shapes:
    """Shapes of a graph whose inputs are free in nothing but the batch."""
    shapes = {}
    for value in onnx.load(graph, load_external_data=False).graph.input:
        sizes = value.type.tensor_type.shape.dim
        if any(size.dim_param for size in sizes[1:]):
            raise GraphError(f"{value.name} of {graph} is free in more than its batch: say shapes")
        tail = tuple(size.dim_value for size in sizes[1:])
        rows = (1, usual, largest) if sizes[0].dim_param else (sizes[0].dim_value,) * 3
        least, often, most = ((n, *tail) for n in rows)
        shapes[value.name] = (least, often, most)
    return shapes
