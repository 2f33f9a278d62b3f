"""Times scikit-learn and YDF on the forests of benches/forest.rs: same rows, same number of trees.

usage: bench_forest.py random WIDTH THREADS TREES FIT.f32 FIT.u8 TEST.f32 TEST.u8
       bench_forest.py isolation WIDTH THREADS TREES ROWS.f32 ROWS.u8

Prints one JSON list with an object for each peer: the least seconds of its runs and the area under
its ROC curve. Each peer runs with the settings and the number of threads that were fastest.
"""

import json
import sys
import time

import numpy as np
import sklearn
from sklearn.ensemble import IsolationForest, RandomForestClassifier
from sklearn.metrics import roc_auc_score

RUNS = 2
ISOLATION_RUNS = 5


def table(rows, classes, width):
    return np.fromfile(rows, "<f4").reshape(-1, width), np.fromfile(classes, "u1")


def timed(runs, work):
    """Returns the least seconds of some runs and the last result."""
    best = float("inf")
    for _ in range(runs):
        start = time.perf_counter()
        result = work()
        best = min(best, time.perf_counter() - start)
    return best, result


def random_forests(width, threads, trees, fit_rows, fit_classes, test_rows, test_classes):
    rows, classes = table(fit_rows, fit_classes, width)
    asked, truth = table(test_rows, test_classes, width)
    model = RandomForestClassifier(trees, n_jobs=threads, random_state=0)
    seconds, model = timed(RUNS, lambda: model.fit(rows, classes))
    yield {
        "name": f"scikit-learn {sklearn.__version__}, n_jobs={threads}",
        "fit": seconds,
        "auc": roc_auc_score(truth, model.predict_proba(asked)[:, 1]),
    }
    try:
        import ydf
    except ImportError:
        print("no YDF in this Python", file=sys.stderr)
        return
    ydf.verbose(0)
    names = [f"x{column}" for column in range(width)]
    fit_table = dict(zip(names, rows.T.copy())) | {"class": classes.astype(np.int64)}
    test_table = dict(zip(names, asked.T.copy()))
    for discretised in (False, True):
        learner = ydf.RandomForestLearner(
            label="class",
            num_trees=trees,
            num_threads=threads,
            max_depth=-1,
            # As the others vote: with the share of each class in a leaf.
            winner_take_all=False,
            compute_oob_performances=False,
            discretize_numerical_columns=discretised,
        )
        seconds, model = timed(RUNS, lambda learner=learner: learner.train(fit_table))
        yield {
            "name": f"YDF {ydf.__version__}{', discretised columns' if discretised else ''}, {threads} threads",
            "fit": seconds,
            "auc": roc_auc_score(truth, model.predict(test_table)),
        }


def isolation_forests(width, threads, trees, rows, classes):
    rows, truth = table(rows, classes, width)
    fits, scores = [], []
    # More threads do not always help it at this size.
    for jobs in (1, threads):
        model = IsolationForest(n_estimators=trees, n_jobs=jobs, random_state=0)
        fits.append(timed(ISOLATION_RUNS, lambda model=model: model.fit(rows))[0])
        score, found = timed(ISOLATION_RUNS, lambda model=model: -model.score_samples(rows))
        scores.append(score)
    yield {
        "name": f"scikit-learn {sklearn.__version__}, the faster of 1 and {threads} jobs",
        "fit": min(fits),
        "score": min(scores),
        "auc": roc_auc_score(truth, found),
    }


def main():
    what, width, threads, trees, *paths = sys.argv[1:]
    peers = {"random": random_forests, "isolation": isolation_forests}[what]
    print(json.dumps(list(peers(int(width), int(threads), int(trees), *paths))))


if __name__ == "__main__":
    main()
