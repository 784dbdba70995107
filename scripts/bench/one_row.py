"""Products of few rows with a matrix, as it lies and turned: what `jitune.laid` goes by. CPU, float32.

    python scripts/bench/one_row.py --rows 1 8 --shapes 512x1024 2048x2048 8192x2048

One JSON line for each: microseconds a product, medians of the rounds, in which the two take turns; gb_per_s: of the
matrix, at the faster of the two. Every product reads another matrix, of as many as one cache does not hold.
"""

import argparse
import statistics
import time

from common import emit

PRODUCTS = 64  # timed at once


def parse():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--rows", type=int, nargs="+", default=[1, 8])
    p.add_argument("--shapes", nargs="+", default=["512x512", "512x1024", "1408x512", "2048x2048", "8192x2048"])
    p.add_argument("--mib", type=int, default=128, help="of all matrices")
    p.add_argument("--rounds", type=int, default=9)
    return p.parse_args()


def timed(rows: int, ins: int, outs: int, count: int, turned: bool):
    """() -> microseconds of a product, compiled and warmed up."""
    import jax
    import jax.numpy as jnp

    keys = jax.random.split(jax.random.key(0), count)
    matrices = [jax.random.normal(k, (outs, ins) if turned else (ins, outs)) * ins**-0.5 for k in keys]
    turns = max(1, PRODUCTS // count)

    @jax.jit
    def run(x, matrices):
        def each(_, x):
            for matrix in matrices:
                y = jax.lax.dot_general(x, matrix, (((1,), (1 if turned else 0,)), ((), ())))
                x = x + 1e-6 * y.sum()  # the next product waits for this one
            return x

        return jax.lax.fori_loop(0, turns, each, x)

    def once():
        began = time.perf_counter()
        jax.block_until_ready(run(jnp.ones((rows, ins)), matrices))
        return (time.perf_counter() - began) / turns / count * 1e6

    once()
    return once


def main():
    a = parse()
    for rows in a.rows:
        for shape in a.shapes:
            ins, outs = map(int, shape.split("x"))
            size = 4 * ins * outs
            ways = [timed(rows, ins, outs, max(2, a.mib * 2**20 // size), turned) for turned in (False, True)]
            found = [[], []]
            for i in range(a.rounds):
                for way in (0, 1) if i % 2 else (1, 0):
                    found[way].append(ways[way]())
            lies, turned = map(statistics.median, found)
            emit(rows=rows, shape=shape, as_it_lies_us=round(lies, 1), turned_us=round(turned, 1),
                 gb_per_s=round(size / min(lies, turned) / 1e3, 1))  # fmt: skip


if __name__ == "__main__":
    main()
