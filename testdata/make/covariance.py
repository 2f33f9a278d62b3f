"""Writes testdata/covariance.json: robust z-scores, Mahalanobis distances, principal components and nearest
neighbours of small tables, as NumPy and scikit-learn compute them.

Needs the packages of testdata/oracles/requirements.txt.

Usage: python testdata/make/covariance.py [--check]
With --check it writes nothing and fails where the committed file differs.
"""

import json
import sys
from pathlib import Path

import numpy as np
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

TARGET = Path(__file__).resolve().parent.parent / "covariance.json"
ALPHA = 0.05
DEVIATION_MIN = 0.05
VARIANCE_SHARE = 0.8
SHRINKAGE = 0.25
NEIGHBOURS = 5


def table(seed, count, width):
    """Rows that three factors explain but for some noise, short decimals in single precision."""
    draw = np.random.default_rng(seed)
    rows = draw.normal(size=(count, 3)) @ draw.normal(size=(3, width)) + 0.3 * draw.normal(size=(count, width))
    return np.round(rows, 3).astype(np.float32).astype(np.float64)


def adaptive(rows, median, spread):
    """The recursion of the robust z-score's documentation, on the rows in order."""
    median, spread = median.copy(), spread.copy()
    scores = []
    for row in rows:
        deviation = np.maximum(1.482602218505602 * spread, DEVIATION_MIN)
        difference = row - median
        scores.append(difference / deviation)
        median = median + ALPHA * deviation * np.sign(difference)
        spread = spread + ALPHA * spread * np.sign(np.abs(difference) - spread)
        spread = np.maximum(spread, DEVIATION_MIN / 1.482602218505602)
    return np.array(scores)


def mahalanobis(centred, covariance):
    """Distance over the square root of the width, and what the other numbers let expect of each."""
    precision = np.linalg.inv(covariance)
    squares = np.einsum("ij,jk,ik->i", centred, precision, centred)
    expected = centred - centred @ precision / np.diag(precision)
    return np.sqrt(squares / centred.shape[1]), expected


def case(name, seed, count, width):
    rows, probes = table(seed, count, width), table(seed + 1, 12, width)
    median = np.median(rows, axis=0)
    spread = np.median(np.abs(rows - median), axis=0)
    mean = rows.mean(axis=0)

    fitted = LedoitWolf().fit(rows)
    distances, expected = mahalanobis(probes - mean, fitted.covariance_)
    empirical = np.cov(rows.T, bias=True)
    target = np.trace(empirical) / width * np.eye(width)
    fixed, _ = mahalanobis(probes - mean, (1 - SHRINKAGE) * empirical + SHRINKAGE * target)

    pca = PCA(VARIANCE_SHARE, svd_solver="full").fit(rows)
    reconstruction = pca.inverse_transform(pca.transform(probes))

    chosen = [int(np.argmin(((rows - mean) ** 2).sum(axis=1)))]
    while len(chosen) < NEIGHBOURS:
        to_nearest = ((rows[:, None, :] - rows[None, chosen, :]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(np.argmax(to_nearest)))
    nearest, index = NearestNeighbors(n_neighbors=1).fit(rows[chosen]).kneighbors(probes)
    return {
        "name": name,
        "rows": rows.tolist(),
        "probes": probes.tolist(),
        "alpha": ALPHA,
        "frozen": ((probes - median) / np.maximum(1.482602218505602 * spread, DEVIATION_MIN)).tolist(),
        "adaptive": adaptive(probes, median, spread).tolist(),
        "shrinkage": float(fitted.shrinkage_),
        "distances": distances.tolist(),
        "expected": (expected + mean).tolist(),
        "fixed_shrinkage": SHRINKAGE,
        "fixed_distances": fixed.tolist(),
        "variance_share": VARIANCE_SHARE,
        "component_count": int(pca.n_components_),
        "reconstruction": reconstruction.tolist(),
        "neighbours": NEIGHBOURS,
        "nearest": rows[np.array(chosen)[index[:, 0]]].tolist(),
        "nearest_distances": (nearest[:, 0] / np.sqrt(width)).tolist(),
    }


def cases():
    yield case("many rows", 11, 80, 6)
    yield case("fewer rows than numbers", 21, 9, 14)


def near(found, expected):
    if isinstance(expected, dict):
        return found.keys() == expected.keys() and all(near(found[key], value) for key, value in expected.items())
    if isinstance(expected, list):
        return len(found) == len(expected) and all(map(near, found, expected))
    if isinstance(expected, float):
        return abs(found - expected) <= 1e-9 * max(1.0, abs(expected))
    return found == expected


def main():
    text = json.dumps(list(cases()), separators=(",", ":")).replace('},{"name"', '},\n{"name"') + "\n"
    if "--check" not in sys.argv[1:]:
        TARGET.write_text(text, encoding="utf-8")
        return 0
    if not near(json.loads(text), json.loads(TARGET.read_text(encoding="utf-8"))):
        print(f"{TARGET} differs", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
