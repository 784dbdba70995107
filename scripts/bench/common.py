"""What the benchmarks share: workloads, the clock, turns with other processes, the JSON line of a result.

Import it first, for its clock starts the time to the first step. With BENCH_TURN=N a benchmark prints `TURN`
before every N timed steps and waits for a line, so that several can be run in turn and the machine's drift meets
all of them alike.
"""

import json
import os
import resource
import statistics
import sys
import time

STARTED = time.perf_counter()

# main and small, in Hugging Face's terms, with the rows and tokens of a batch.
WORKLOADS = {
    "main": (dict(vocab_size=32000, hidden_size=512, intermediate_size=1408, num_hidden_layers=8,
                  num_attention_heads=8, num_key_value_heads=4, head_dim=64), 4, 512),
    "small": (dict(vocab_size=8192, hidden_size=256, intermediate_size=704, num_hidden_layers=4,
                   num_attention_heads=4, num_key_value_heads=2, head_dim=64), 8, 256),
}


def wait_for_turn(index: int) -> None:
    """Before timed step `index`: where turns are taken, waits for this process's."""
    turn = int(os.environ.get("BENCH_TURN", "0"))
    if turn and index % turn == 0:
        print("TURN", flush=True)
        if not sys.stdin.readline():
            sys.exit(1)


def machine_seconds() -> tuple[float, float]:
    """CPU seconds that the whole machine was busy, and those of this process."""
    with open("/proc/stat") as file:
        user, nice, system, _, _, irq, soft, steal = (int(x) for x in file.readline().split()[1:9])
    own = os.times()
    return (user + nice + system + irq + soft + steal) / os.sysconf("SC_CLK_TCK"), own.user + own.system


def time_steps(step, steps: int, warmup: int) -> dict:
    """Runs `step()`, which waits for its own end. Seconds of a step, cores that others took, page faults."""
    step()
    first = time.perf_counter() - STARTED
    for _ in range(warmup):
        step()
    seconds, others, faults = [], 0.0, 0
    for index in range(steps):
        wait_for_turn(index)
        busy, own = machine_seconds()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        start = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - start)
        faults += resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
        now, mine = machine_seconds()
        others += (now - busy) - (mine - own)
    return {
        "step_s": round(statistics.median(seconds), 4), "step_min": round(min(seconds), 4),
        "step_max": round(max(seconds), 4), "n": steps, "first_step_s": round(first, 2),
        "other_cpu": round(others / sum(seconds), 2), "faults_per_step": round(faults / steps),
    }


def peak_rss_mb() -> int:
    """The most memory that this process has held, in MiB."""
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


def emit(**result) -> None:
    """Prints a result as one JSON line."""
    print(json.dumps(result), flush=True)
