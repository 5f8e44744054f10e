"""A person nobody has ever been, planted everywhere, and the operator's words about her.

await operator(home, "subject", "erase", *CANARY.options)      # beside a gateway that runs there
assert left_in(home) == []                                     # no byte of her in any file
"""

import asyncio
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from typer.testing import CliRunner

from gateway.cli import app

HOUSE = ("--city", "Seattle", "--state", "WA")


@dataclass(frozen=True)
class Canary:
    first: str = "Zephyrine"
    last: str = "Quillwort"
    phone: str = "+12065550142"
    email: str = "zq.canary@example.com"
    street: str = "42 Imagined Ct"

    @property
    def name(self) -> str:
        return f"{self.first} {self.last}"

    @property
    def options(self) -> tuple[str, ...]:
        return ("--phone", self.phone, "--email", self.email, "--name", self.name, *HOUSE)

    @property
    def person(self) -> dict[str, Any]:
        """As an answer tells of her."""
        return {
            "name": self.name,
            "phones": [{"number": self.phone, "score": 0.9}],
            "emails": [{"email": self.email}],
            "addresses": [{"line1": self.street, "city": "Seattle", "state_code": "WA", "zip": "98101"}],
        }

    @property
    def vendor(self) -> dict[str, Any]:
        """As Whitepages tells of her."""
        return {
            "name": self.name,
            "phones": [self.phone],
            "emails": [self.email],
            "current_addresses": [{"id": "A1", "address": f"{self.street}, Seattle, WA 98101"}],
        }


CANARY = Canary()
LEE = Canary("Lee", "Sample", "+12065550101", "lee@example.com", "7 Sample Way")
BYTES = re.compile(rb"zephyrine|quillwort|206.{0,3}555.{0,2}0142|zq\.canary|imagined ct", re.IGNORECASE)
"""Any of her, in the spellings in which she was planted."""


async def operator(home: Path, *words: str, toml: str, status: int = 0) -> str:
    """A command of the operator's, beside whatever runs in `home`: what it printed, on both."""
    config = home / "faregate.toml"
    config.write_text(toml)

    def run() -> str:
        done = CliRunner().invoke(app, [*words, "--config", str(config)])
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == status, done.output
        # The gateway of this process writes its log to the same standard output meanwhile.
        return "".join(line for line in done.output.splitlines(True) if not re.match(r"20\d\d-\d\d-\d\d \d", line))

    return await asyncio.to_thread(run)


def left_in(home: Path) -> list[str]:
    """Every file with a byte of her: databases, their free pages, write-ahead logs, whatever lies there."""
    return [
        f"{path.relative_to(home)}: {found[0]!r}"
        for folder, _, names in os.walk(home)
        for path in (Path(folder) / name for name in names)
        if (found := BYTES.findall(path.read_bytes()))
    ]
