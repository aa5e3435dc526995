"""The fixed latent points at which the sampler is read: the same every frame, on every machine."""

import numpy as np
from jaxtyping import Float
from scipy.stats import norm, qmc

LATENT_DIM = 16


def sobol_latents(n: int, dim: int = LATENT_DIM) -> Float[np.ndarray, "n dim"]:
    """Return n standard normal points of low discrepancy (Sobol, unscrambled, without its origin).

    A longer set starts with the shorter one, so that n = 4 is the head of n = 8.
    """
    # In a power of two, as Sobol's balance wants it; the origin would map to -∞ and is left out.
    points = qmc.Sobol(dim, scramble=False).random_base2(int(np.ceil(np.log2(n + 1))))
    return norm.ppf(points[1 : n + 1]).astype(np.float32)
