"""All numbers that canaryd promises: `python -m bench [--quick] [--fresh] [--only evidence|daemon|real]`.

Exit code 1 when a part says that a number was missed.
"""

import argparse
import sys
from importlib import import_module

PARTS = {
    "evidence": "false rollbacks, time to catch harm, to full weight, against other rules; speed",
    "daemon": "memory, and from verdict to route, in the sandbox",
    "real": "from verdict to route and to Envoy, on the real parts",
}


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description="The numbers that canaryd promises.")
    parser.add_argument("--quick", action="store_true", help="fewer runs of everything")
    parser.add_argument(
        "--only", choices=list(PARTS), help="; ".join(f"{part}: {what}" for part, what in PARTS.items())
    )
    parser.add_argument(
        "--fresh", action="store_true", help="the evidence anew, whatever is kept of it in docs/measured.json"
    )
    given = parser.parse_args(arguments)
    missed = 0
    for part in [given.only] if given.only else PARTS:
        print(f"=== {part}: {PARTS[part]}", flush=True)
        # Imported when it runs: the real parts' needs are not the others'.
        more = ["--quick"] * given.quick + ["--fresh"] * (given.fresh and part == "evidence")
        missed |= import_module(f"bench.{part}").main(more) or 0
        print(flush=True)
    return missed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
