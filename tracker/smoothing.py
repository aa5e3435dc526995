"""What the newest pose says of the last few frames: a smoother of fixed lag.

Beside its present state every hypothesis keeps its last N states and how each goes with the present
one. A new pose then moves them as it moves the present, by their covariance with it (the augmented
filter, Anderson & Moore 1979, in which the past states' covariances with each other are not
needed). With N at least as long as the sequence this is the smoother of Rauch, Tung and Striebel.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from tracker import kalman


@dataclass(frozen=True, slots=True, eq=False)
class Past:
    """The last N states of M hypotheses, the newest first; zero where there was none."""

    mean: Float[np.ndarray, "M N B x"]
    cov: Float[np.ndarray, "M N B x x"]
    cross: Float[np.ndarray, "M N B x x"]
    """cov(state then, state now)."""
    echo: Float[np.ndarray, "M N B x d"]
    """cov(state then, error of the last measurement)."""
    depth: Int[np.ndarray, " M"]
    """How many of the N there are."""

    @classmethod
    def none(cls, mean: Float[np.ndarray, "M B x"], lag: int) -> "Past":
        M, B, x = mean.shape
        square = np.zeros((M, lag, B, x, x))
        return cls(
            np.zeros((M, lag, B, x)),
            square,
            square,
            np.zeros((M, lag, B, x, x // 2)),
            np.zeros(M, dtype=int),
        )

    def rows(self, index: Int[np.ndarray, " n"]) -> "Past":
        """Some of the hypotheses."""
        return Past(
            self.mean[index],
            self.cov[index],
            self.cross[index],
            self.echo[index],
            self.depth[index],
        )

    @classmethod
    def together(cls, *pasts: "Past") -> "Past":
        return cls(
            np.concatenate([past.mean for past in pasts]),
            np.concatenate([past.cov for past in pasts]),
            np.concatenate([past.cross for past in pasts]),
            np.concatenate([past.echo for past in pasts]),
            np.concatenate([past.depth for past in pasts]),
        )


def remember(
    past: Past,
    mean: Float[np.ndarray, "M B x"],
    cov: Float[np.ndarray, "M B x x"],
    F: Float[np.ndarray, "M B x x"],
) -> Past:
    """Put a state into the past, from which F leads to the present."""
    cross = np.concatenate([cov[:, None], past.cross[:, :-1]], axis=1)
    lag = past.mean.shape[1]
    return Past(
        np.concatenate([mean[:, None], past.mean[:, :-1]], axis=1),
        np.concatenate([cov[:, None], past.cov[:, :-1]], axis=1),
        cross @ F[:, None].mT,
        -cross[..., : mean.shape[-1] // 2],
        np.minimum(past.depth + 1, lag),
    )


def revise(
    past: Past,
    gain: Float[np.ndarray, "M B d"],
    innovation: kalman.Innovation,
    pull: Float[np.ndarray, "M B d x"],
) -> Past:
    """Let a measurement move the past: its innovation moves the present by `pull`."""
    d = gain.shape[-1]
    cross = past.cross[..., :d] + past.echo * gain[:, None, :, None, :]
    every = kalman.Innovation(
        innovation.factor[:, None], innovation.whitened[:, None], innovation.measured[:, None]
    )
    back = kalman.pull(cross, every)  # (M, N, B, d, x)
    return replace(
        past,
        mean=past.mean + (back.mT @ every.whitened[..., None])[..., 0],
        cov=past.cov - back.mT @ back,
        cross=past.cross - back.mT @ pull[:, None],
    )


def blend(
    past: Past,
    mean: Float[np.ndarray, "M B x"],
    share: Float[np.ndarray, "G M"],
    joined: Float[np.ndarray, "G B x"],
) -> Past:
    """The past of hypotheses joined with these shares, with the moments of the whole."""
    then = np.einsum("gm,mnbx->gnbx", share, past.mean)
    off = past.mean[None] - then[:, None]  # (G, M, N, B, x)
    now = mean[None] - joined[:, None]  # (G, M, B, x)

    def mixed(
        within: Float[np.ndarray, "M N B x y"], b: Float[np.ndarray, "G M N B y"]
    ) -> Float[np.ndarray, "G N B x y"]:
        between = np.einsum("gm,gmnbx,gmnby->gnbxy", share, off, b, optimize=True)
        return np.einsum("gm,mnbxy->gnbxy", share, within, optimize=True) + between

    depth = np.array([past.depth[row > 0].min() for row in share])
    presents = np.broadcast_to(now[:, :, None], off.shape)
    echo = np.einsum("gm,mnbxy->gnbxy", share, past.echo, optimize=True)
    return Past(then, mixed(past.cov, off), mixed(past.cross, presents), echo, depth)
