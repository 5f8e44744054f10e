"""`kill -9` around a ticket: it is there with its money, or neither is."""

from pathlib import Path

import orjson
import pytest
from rigs.program import Program
from rigs.running import GONE, Configuration, running

TOML = '[settlement]\nkind = "sandbox"\n[support]\nenabled = true\n'
TICKET = {"category": "bug", "subject": "Where is it", "body": "It is gone."}


@pytest.mark.parametrize("point", ["hold.after", "work.before", "work.after", "record.before", "record.after"])
async def test_a_ticket_and_its_charge_survive_a_crash_together(program: Program, tmp_path: Path, point: str) -> None:
    async with running(tmp_path, program, Configuration(TOML), started=False) as gate:
        await gate.start(crash_at=point)
        token = await gate.agent("1.00")
        with pytest.raises(GONE):
            await gate.call("support/tickets", TICKET, token=token, key="k")
        assert await gate.ended() == -9
        await gate.start()
        (charge,) = await gate.charges()
        kept = [
            orjson.loads(line) for line in (await gate.run("tickets", "list", "--json")).splitlines() if "{" in line
        ]
        assert charge["state"] == ("captured" if point == "record.after" else "released")
        assert len(kept) == (1 if point == "record.after" else 0)
        again = await gate.call("support/tickets", TICKET, token=token, key="k")
        assert again.status == 200
        listed = await gate.run("tickets", "list", "--json")
        assert listed.count(again.json["data"]["ticket_id"]) == 1
        assert sum(each["state"] == "captured" for each in await gate.charges()) == 1
