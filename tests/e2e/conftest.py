"""One chain, one forking `faregate` and one loaded directory for all tests of this folder.

The chain is never put back: every gateway settles with a key of its own to an address of its own, and whatever a test
does to blocks and time it undoes.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rigs.chain import PAYER_KEYS, Chain
from rigs.payer import Payer
from rigs.program import Forks, Installed, Program

PEOPLE = """\
First Name,Last Name,Phone,Street Address,City,State,ZIP Code,E-Mail
Ada,Testerman,(206) 555-0110,47 Imagined Ave,Seattle,WA,98101,ada@example.com
Bruno,Mockley,+1 509 555 0111,7 Sample Road,Spokane,WA,99201,bruno@example.com
Clara,Fictner,503-555-0112,3 Specimen Ln,Portland,OR,97201,clara@example.com
,,not a number,,,,,
"""


@pytest.fixture(scope="session")
def chain() -> Iterator[Chain]:
    chain = Chain.start()
    for key in PAYER_KEYS:
        chain.mint(Payer(key).address, 10**12)
        chain.approve_permit2(Payer(key).address)
    chain.mine(12)
    yield chain
    chain.close()


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    forks = Forks()
    yield forks
    forks.close()


@pytest.fixture
def installed() -> Iterator[Program]:
    program = Installed()
    yield program
    program.close()


@pytest.fixture(scope="session")
def directory(program: Program, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Loaded from a CSV file by the command line."""
    home = tmp_path_factory.mktemp("directory")
    (home / "people.csv").write_text(PEOPLE)
    (home / "faregate.toml").write_text("")
    child = program.start(["directory", "load", "people.csv"], env={}, cwd=home, out=home / "said")
    while (status := child.ended()) is None:
        time.sleep(0.01)
    said = (home / "said").read_text()
    assert status == 0, said
    assert "3 of 4 rows loaded" in said
    return home / "data" / "directory.db"


@pytest.fixture
def payers() -> list[Payer]:
    return [Payer(key) for key in PAYER_KEYS]
