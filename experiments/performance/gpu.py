"""One accelerator measured, in eight minutes at most and a part at a time.

Command::

    python experiments/performance/gpu.py                      # all parts, gpu.json
    python experiments/performance/gpu.py --quick              # a minute on a CPU
    python experiments/performance/gpu.py --parts w1,overhead --output mine.json

Each part runs in a process of its own and is killed at its limit; what it has found by
then is in the file, and the others go on. What is needed, what each part measures and
how to read the file stands in ``README.md`` beside this file.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from datetime import UTC, datetime
from pathlib import Path

from gpu_parts.book import NOT_BEGUN, Book, summary
from gpu_parts.plan import PARTS, TOTAL, Part, PlanError, allowed, chosen
from gpu_parts.running import run

HERE = Path(__file__).resolve()


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The options."""
    each = "\n".join(f"  {p.name:12} {p.seconds:4.0f} s  {p.what}" for p in PARTS)
    parser = argparse.ArgumentParser(
        description="Measures the simulator on one accelerator, in parts.",
        epilog=f"parts, in this order, and their limits:\n{each}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--quick", action="store_true", help="tiny sizes: a minute on a CPU"
    )
    parser.add_argument(
        "--parts", default="", metavar="A,B", help="only these parts (default: all)"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("gpu.json"), metavar="FILE",
        help="JSON; parts that it holds already are kept (default: gpu.json)",
    )  # fmt: skip
    parser.add_argument(
        "--data", type=Path, metavar="FOLDER",
        help="folder with cifar10/ and femnist/ (default: synthetic rows)",
    )  # fmt: skip
    parser.add_argument(
        "--seconds", type=float, default=TOTAL, metavar="S",
        help=f"all parts together (default: {TOTAL:.0f})",
    )  # fmt: skip
    parser.add_argument(
        "--limit", action="append", default=[], metavar="PART=S",
        help="another limit for a part; may be given again",
    )  # fmt: skip
    parser.add_argument("--run-part", metavar="NAME", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.data is not None and not options.data.is_dir():
        parser.error(f"--data: there is no folder {options.data}")
    if options.data is not None and options.quick:
        parser.error("--quick makes the few rows that it needs; leave --data out")
    if not options.seconds > 0:
        parser.error(f"--seconds must be above 0, not {options.seconds:g}")
    return options


def command(options: argparse.Namespace, *words: str) -> list[str]:
    """The command with some words, and the options that every part gets."""
    found = ["python", "experiments/performance/gpu.py", *words]
    found += ["--quick"] if options.quick else []
    return found + (["--data", str(options.data)] if options.data else [])


def measure(parts: list[Part], options: argparse.Namespace, book: Book) -> bool:
    """Runs the parts one after another; whether all have finished."""
    end, well = time.monotonic() + options.seconds, True
    for part in parts:
        seconds = allowed(part, end - time.monotonic())
        if not seconds and book.has(part.name):
            print(f"{part.name}: {NOT_BEGUN}; what the file holds of it stays")
            well = False
            continue
        what = command(options, "--run-part", part.name, "--seconds", f"{seconds:.1f}")
        again = shlex.join(command(options, "--parts", part.name))
        now = datetime.now(UTC).isoformat(timespec="seconds")
        limit = round(seconds, 1)
        begin, status = time.monotonic(), NOT_BEGUN
        kept = book.begin(part.name, command=again, began=now, limit_seconds=limit)
        try:
            if seconds:
                what[:2] = [sys.executable, str(HERE)]
                said = lambda line, kept=kept: book.say(kept, line)  # noqa: E731
                status = run(what, seconds, said, options.quick)
        except KeyboardInterrupt:
            status = "stopped from outside"
            raise
        finally:
            book.end(kept, status, time.monotonic() - begin)
        print(f"{part.name}: {kept['status']}, {kept['seconds']} s")
        print("\n".join(summary(kept)), flush=True)
        well = well and kept["status"] == "finished"
    return well


def main() -> int:
    """The command; 0 if every part has finished, 1 if not, 2 for what cannot be."""
    options = parse()
    if options.run_part:
        from gpu_parts.child import serve  # needs jax, which the rest does without

        return serve(options.run_part, options.quick, options.data, options.seconds)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        parts = chosen(options.parts, options.limit, options.quick)
        book = Book(options.output, options.quick)
        well = measure(parts, options, book)
    except PlanError as error:
        print(f"gpu.py: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"stopped; {options.output} has what was found", file=sys.stderr)
        return 130
    print(f"wrote {options.output}")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main())
