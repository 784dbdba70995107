"""`python -m jitune` is the command `jitune`."""

from jitune.cli import run

if __name__ == "__main__":
    run()
