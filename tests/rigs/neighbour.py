"""`faregate serve` for which this machine is the outside world: whatever name a callback has, it goes next door.

async with running(home, program, settings, command="neighbour") as gate: ...
"""

import asyncio
import signal
import sys
from pathlib import Path

from rigs.postman import next_door

from gateway.assemble import assemble
from gateway.cli import serving, terminal
from gateway.edge import logs, server


def main() -> None:
    """neighbour --config FILE ..."""
    asyncio.run(_serve(Path(sys.argv[sys.argv.index("--config") + 1])))


async def _serve(config: Path) -> None:
    settings = terminal.read_settings(config, whole=True)
    logs.configure("json", "info")
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with (
        next_door(everybody=True) as http,
        assemble(settings, http=http) as gateway,
        server.serving(gateway.app, port=settings.service.port) as url,
    ):
        serving.log_ready(url, gateway)
        await stop.wait()
