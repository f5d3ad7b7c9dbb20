"""Eqs. 1-8 as NumPy float64 loops, to read alongside the paper and to compare with.

The functions have the names and arguments of those in `ranet_jax.ops`. They accept JAX and NumPy
arrays and return NumPy arrays; `representatives` is any triple (roots, indices, valid). They are
slow, and meant for a few dozen pixels.
"""

import math

import jax
import numpy as np
from jaxtyping import Bool, Float, Int

Array = jax.Array | np.ndarray
Triple = tuple[Array, Array, Array]


def segment_max(boundary: Float[Array, "h w"]) -> Float[np.ndarray, "n n"]:
    """Eq. 1, D_ij: the largest boundary score on the segment from pixel i to pixel j."""
    B = np.asarray(boundary, np.float64)
    h, w = B.shape
    D = np.zeros((h * w, h * w))
    for i in range(h * w):
        for j in range(h * w):
            (y_i, x_i), (y_j, x_j) = divmod(i, w), divmod(j, w)
            s = max(abs(y_j - y_i), abs(x_j - x_i))
            between = [
                _interpolate(B, y_i + t * (y_j - y_i) / s, x_i + t * (x_j - x_i) / s)
                for t in range(1, s)
            ]
            D[i, j] = max(B[y_i, x_i], *between, B[y_j, x_j])
    return D


def _interpolate(B: np.ndarray, y: float, x: float) -> float:
    """Score at a position that has at least one integer coordinate."""
    y_0, x_0 = math.floor(y), math.floor(x)
    y_1, x_1 = math.ceil(y), math.ceil(x)
    f = max(y - y_0, x - x_0)
    return float((1 - f) * B[y_0, x_0] + f * B[y_1, x_1])


def jensen_shannon(probabilities: Float[Array, "n c"]) -> Float[np.ndarray, "n n"]:
    """Eq. 2, E_ij: the Jensen-Shannon divergence of the categories of i and j, in bits."""
    C = np.asarray(probabilities, np.float64)
    n = len(C)
    E = np.zeros((n, n))
    for i in range(n):
        for j in range(n):
            E[i, j] = _entropy((C[i] + C[j]) / 2) - (_entropy(C[i]) + _entropy(C[j])) / 2
    return E


def _entropy(p: np.ndarray) -> float:
    """Entropy in bits, with 0 log 0 = 0."""
    return -sum(p_n * math.log2(p_n) for p_n in p.tolist() if p_n > 0)


def region_attention(
    crossing: Float[Array, "n n"], divergence: Float[Array, "n n"]
) -> Float[np.ndarray, "n n"]:
    """Eq. 3, F_ij = (1 - D_ij)(1 - E_ij)."""
    D, E = np.asarray(crossing, np.float64), np.asarray(divergence, np.float64)
    return (1 - D) * (1 - E)


def regularize(
    attention: Float[Array, "n n"], kernel: Float[Array, "k k"], shape: tuple[int, int]
) -> Float[np.ndarray, "n n"]:
    """Eq. 4, F^g: each pixel's own h x w attention map filtered with W^g, clipped to [0, 1]."""
    F, W = np.asarray(attention, np.float64), np.asarray(kernel, np.float64)
    (h, w), k = shape, len(W)
    Fg = np.zeros_like(F)
    for i in range(h * w):
        F_i = F[i].reshape(h, w)
        for j in range(h * w):
            for a in range(k):
                for b in range(k):
                    y, x = j // w + a - k // 2, j % w + b - k // 2
                    if 0 <= y < h and 0 <= x < w:
                        Fg[i, j] += W[a, b] * F_i[y, x]
    return np.clip(Fg, 0, 1)


def region_decision(attention: Float[Array, "n n"], threshold: float) -> Bool[np.ndarray, "n n"]:
    """Eq. 4, G_ij: whether the mean of F^g_ij and F^g_ji exceeds the threshold."""
    Fg = np.asarray(attention, np.float64)
    return (Fg + Fg.T) / 2 > threshold


def partition(decision: Bool[Array, "n n"]) -> Int[np.ndarray, " n"]:
    """Sec. 3.1, the regions R_q: each pixel follows the smallest i <= j with G_ji to a root."""
    G = np.asarray(decision)
    n = len(G)
    root = np.zeros(n, np.int64)
    for j in range(n):
        i = next((i for i in range(j) if G[j, i]), j)
        # The root of a pixel before j is already known.
        root[j] = j if i == j else root[i]
    return root


def representative_score(
    attention: Float[Array, "n n"], labels: Int[Array, " n"]
) -> Float[np.ndarray, " n"]:
    """Eq. 5, J_i: the mean of F^g_ij over the pixels j of i's region."""
    Fg, region = np.asarray(attention, np.float64), np.asarray(labels)
    return np.array(
        [np.mean([Fg[i, j] for j in _pixels(region, region[i])]) for i in range(len(Fg))]
    )


def select_representatives(
    score: Float[Array, " n"], labels: Int[Array, " n"], num_regions: int, per_region: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Sec. 3.2, phi(R_q): the K pixels of largest J in each of the Q largest regions."""
    J, region = np.asarray(score, np.float64), np.asarray(labels)
    roots = np.full(num_regions, -1)
    indices = np.zeros((num_regions, per_region), np.int64)
    valid = np.zeros((num_regions, per_region), bool)

    by_size = sorted(set(region.tolist()), key=lambda root: (-len(_pixels(region, root)), root))
    for q, root in enumerate(by_size[:num_regions]):
        roots[q] = root
        by_score = sorted(_pixels(region, root), key=lambda i: (-np.round(J[i] * 2**16), i))
        for k, i in enumerate(by_score[:per_region]):
            indices[q, k], valid[q, k] = i, True
    return roots, indices, valid


def collect(
    features: Float[Array, "n m"],
    score: Float[Array, " n"],
    labels: Int[Array, " n"],
    representatives: Triple,
) -> Float[np.ndarray, "q k m"]:
    """Eq. 6, A^l_qk: what representative k of region q gathers within its region."""
    A, J = np.asarray(features, np.float64), np.asarray(score, np.float64)
    region = np.asarray(labels)
    roots, p, valid = (np.asarray(x) for x in representatives)
    Al = np.zeros((*p.shape, A.shape[1]))
    for q, k in _filled(valid):
        phi = {int(i) for i in p[q][valid[q]]}
        others = [i for i in _pixels(region, roots[q]) if i not in phi]
        W = _softmax([A[p[q, k]] @ (J[i] * A[i]) for i in others])
        Al[q, k] = J[p[q, k]] * A[p[q, k]]
        for W_i, i in zip(W, others, strict=True):
            Al[q, k] += W_i * (J[i] * A[i])
    return Al


def interact(
    local: Float[Array, "q k m"], score: Float[Array, " n"], representatives: Triple
) -> Float[np.ndarray, "q k m"]:
    """Eq. 7, A^g_qk: what representative k of region q gathers from every other region s."""
    Al, J = np.asarray(local, np.float64), np.asarray(score, np.float64)
    _, p, valid = (np.asarray(x) for x in representatives)
    Ag = np.zeros_like(Al)
    for q, k in _filled(valid):
        Ag[q, k] = J[p[q, k]] * Al[q, k]
        for s in range(len(p)):
            if s == q:
                continue
            places = [i for i in range(p.shape[1]) if valid[s, i]]
            W = _softmax([Al[q, k] @ (J[p[s, i]] * Al[s, i]) for i in places])
            for W_i, i in zip(W, places, strict=True):
                Ag[q, k] += W_i * (J[p[s, i]] * Al[s, i])
    return Ag


def distribute(
    features: Float[Array, "n m"],
    score: Float[Array, " n"],
    labels: Int[Array, " n"],
    representatives: Triple,
    context: Float[Array, "q k m"],
) -> Float[np.ndarray, "n m"]:
    """Eq. 8, O_i: what pixel i gathers from the representatives of its own region."""
    A, J, Ag = (np.asarray(x, np.float64) for x in (features, score, context))
    roots, p, valid = (np.asarray(x) for x in representatives)
    out = J[:, None] * A
    for i in range(len(A)):
        places = [(q, k) for q, k in _filled(valid) if roots[q] == labels[i]]
        W = _softmax([A[i] @ (J[p[q, k]] * Ag[q, k]) for q, k in places])
        for W_k, (q, k) in zip(W, places, strict=True):
            out[i] += W_k * (J[p[q, k]] * Ag[q, k])
    return out


def _pixels(region: np.ndarray, root: int | np.integer) -> list[int]:
    """The pixels of a region, in order."""
    return np.flatnonzero(region == root).tolist()


def _filled(valid: np.ndarray) -> list[tuple[int, int]]:
    """The index pairs (q, k) of the filled places."""
    return [(q, k) for q in range(valid.shape[0]) for k in range(valid.shape[1]) if valid[q, k]]


def _softmax(logits: list[float]) -> np.ndarray:
    """Softmax of a list that may be empty."""
    if not logits:
        return np.zeros(0)
    powers = np.exp(np.array(logits) - max(logits))
    return powers / powers.sum()
