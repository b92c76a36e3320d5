"""`make bench`: every benchmark in a process of its own, one after the other. Names as arguments choose among them."""

import subprocess
import sys

BENCHMARKS = ("decode", "resume", "start", "quantisation", "serve", "desk", "training")


def main() -> int:
    names = sys.argv[1:] or BENCHMARKS
    return max(subprocess.call([sys.executable, "-m", f"tests.benchmarks.{name}"]) for name in names)


if __name__ == "__main__":
    sys.exit(main())
