"""A process that holds charges as fast as it can and prints each id once it was answered. Made to be killed.

python -m rigs.writer LEDGER [CRASH_POINT:COUNT]
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from rigs import books

from gateway.core import crash
from gateway.store import charges

CALLERS = 8


def die_at(name: str, count: int) -> None:
    """SIGKILL to this process at the count-th time it comes by."""
    left = count

    def reached(point: str) -> None:
        nonlocal left
        left -= point == name
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    crash.arm(reached)


async def main(ledger: Path, prefix: str) -> None:
    async with books.books(ledger, clean=False) as db:

        async def caller(name: str) -> None:
            for n in range(100_000):
                id = f"{prefix}{name}{n}"
                await db.write(charges.hold, books.signed(id, 300), books.work(), books.claim(id, 300), None)
                sys.stdout.write(f"{id}\n")
                sys.stdout.flush()

        await asyncio.gather(*(caller(chr(97 + n)) for n in range(CALLERS)))


if __name__ == "__main__":
    if len(sys.argv) > 2:
        point, _, times = sys.argv[2].partition(":")
        die_at(point, int(times or 1))
    asyncio.run(main(Path(sys.argv[1]), f"p{os.getpid()}."))
