"""`scripts/bench [--quick] [--only KEY,...] [--json FILE]`: our figures beside the peer's, in one run, as ratios.

The peer is the official Python x402 SDK: its FastAPI middleware, its own facilitator in another process, on the same
anvil (tests/bench/peer.py). Targets take turns and their order rotates, because the machine is noisy; each round of
settlements has a fresh chain, because anvil slows down as blocks pile up; every figure is a median.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import uvloop
from bench import chainpaid, directory, handed_over, machine, offline, registering, statements
from bench.figures import Figure, Plan

MEASURES: dict[tuple[str, ...], Callable[[Plan], Awaitable[dict[str, Figure]]]] = {
    ("verify", "verify_coincurve"): offline.verify,
    ("debits",): offline.debits,
    ("bearer_auth",): offline.bearer,
    ("start", "memory"): machine.start_and_memory,
    ("challenge_rate", "challenge_cpu"): machine.challenges,
    ("balance_c32", "balance_c32_p99"): machine.balance,
    ("directory_phone_p50", "directory_name_p50"): directory.speed,
    ("matcher_precision", "matcher_recall", "matcher_recall_name"): directory.matching,
    ("statement_page",): statements.page,
    ("jobs_drain",): handed_over.drain,
    ("job_submit",): handed_over.submit,
    ("longpoll_memory", "longpoll_slowdown"): handed_over.longpolls,
    ("register_cpu",): registering.cpu,
    ("settle_c1",): chainpaid.settle_c1,
    ("settle_c16",): chainpaid.settle_c16,
    ("settle_c64", "gas"): chainpaid.settle_c64,
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds, shorter windows")
    parser.add_argument("--only", default="", help="keys, separated by commas")
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    options = parser.parse_args()
    known = {key for keys in MEASURES for key in keys}
    wanted = set(filter(None, options.only.split(","))) or known
    if strange := wanted - known:
        parser.error(f"no such key: {', '.join(sorted(strange))}; there are {', '.join(sorted(known))}")
    plan = Plan(quick=options.quick, peer_python=peer_python())
    figures: dict[str, Figure] = {}
    for keys, measure in MEASURES.items():
        if wanted & set(keys):
            print(f"measuring {', '.join(keys)} ...", file=sys.stderr, flush=True)
            found = uvloop.run(measure(plan))  # type: ignore[arg-type]
            figures |= {key: figure for key, figure in found.items() if key in wanted}
    show(figures)
    if options.json:
        options.json.write_text(json.dumps({key: figure.to_json() for key, figure in figures.items()}, indent=2))
    return 0


def peer_python() -> Path:
    """The peer's own virtual environment, made on first use, beside ours: without coincurve, as the SDK installs."""
    home = Path(".cache/bench-peer")
    python = home / "bin" / "python"
    stamp = home / "installed"
    if not stamp.exists():
        print("making the peer's virtual environment ...", file=sys.stderr, flush=True)
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        packages = ["x402[evm,fastapi,httpx]==2.25.0", "uvicorn", "uvloop", "httptools"]
        subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *packages], check=True)
        # Beside it, each on a path of its own: coincurve for the one figure that asks for it, aiosqlite for ours.
        for package in ("coincurve>=21", "aiosqlite"):
            place = home / package.partition(">")[0]
            extra = ["-m", "pip", "install", "-q", "--disable-pip-version-check", "--target", place, package]
            subprocess.run([python, *extra], check=True)
        stamp.touch()
    return python.absolute()


def show(figures: dict[str, Figure]) -> None:
    print(f"{'':20}{'ours':>12}{'peer':>12}{'ratio':>9}{'must reach':>13}  unit")
    for key, figure in figures.items():
        peer = "-" if figure.peer is None else f"{figure.peer:,.1f}"
        ratio = "-" if figure.ratio is None else f"{figure.ratio:.1f}"
        mark = " " if figure.reached else "!"
        ours = f"{figure.ours:,.3f}" if figure.ours < 1 else f"{figure.ours:,.1f}"
        print(f"{mark} {key:18}{ours:>12}{peer:>12}{ratio:>9}{figure.target:>13}  {figure.unit}")


if __name__ == "__main__":
    sys.exit(main())
