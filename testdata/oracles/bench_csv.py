"""Times pandas on the file of benches/csv.rs.

usage: bench_csv.py FILE.csv

Prints one JSON object: the least seconds of some runs and the sum of all cells but the time. pandas runs
in whichever of its ways is fastest here: its C engine, with the types named or not.
"""

import json
import sys
import time

import pandas

RUNS = 3


def main():
    path = sys.argv[1]
    names = pandas.read_csv(path, nrows=0).columns
    ways = [{}, {"dtype": {name: "float32" for name in names[1:]}}, {"low_memory": False}]
    best = float("inf")
    for way in ways:
        for _ in range(RUNS):
            start = time.perf_counter()
            table = pandas.read_csv(path, engine="c", **way)
            best = min(best, time.perf_counter() - start)
    table = pandas.read_csv(path)
    total = float(table[names[1:]].to_numpy().sum())
    print(json.dumps({"pandas": pandas.__version__, "seconds": best, "sum": total}))


if __name__ == "__main__":
    main()
