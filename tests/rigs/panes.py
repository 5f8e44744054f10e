"""A gateway that sells lead sessions, web research and people, with a search engine, one page and one vendor behind it.

    async with Town.open(tmp_path) as town:
        session = await town.two_turns(token)          # she is found on the page, then her number is bought
        town.asked(HUNTS)                              # how often the vendor was asked

Everything on one port of this machine. Who owns the firm is the canary of rigs/person.py.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from rigs.gate import STORE, Gate, Reply
from rigs.person import CANARY, operator
from rigs.upstream import ScriptedUpstream, reply

JOBS = "/api/v1/enrich/jobs"
FIRM = "Placeholt Panes"
LEAD = {"company": FIRM, "city": "Seattle", "state": "WA"}
SEARCH = {"business_name": FIRM, "city": "Seattle", "state": "WA"}
LABEL = f"Find a direct phone for {CANARY.name}"
HUNTS = "/v2/person/"
BASE = 1_500_000
HUNT = 100_000
PAGE = f"""<!doctype html><html><head><title>{FIRM} | Seattle, WA</title>
<script type="application/ld+json">{{"@context": "https://schema.org", "@type": "LocalBusiness", "name": "{FIRM}",
"telephone": "(206) 555-0150", "founder": {{"@type": "Person", "name": "{CANARY.name}", "jobTitle": "Owner"}},
"employee": {{"@type": "Person", "name": "Lee Sample", "jobTitle": "Clerk"}},
"address": {{"@type": "PostalAddress", "streetAddress": "9 Sample St",
"addressLocality": "Seattle", "addressRegion": "WA", "postalCode": "98101"}}}}</script></head>
<body><h1>{FIRM}</h1><p>9 Sample St, Seattle, WA 98101</p>
<p>Call {CANARY.name} on <a href="tel:+12065550150">(206) 555-0150</a></p>
<h3>{CANARY.name}</h3><p>Owner</p><h3>Lee Sample</h3><p>Manager</p></body></html>"""
Json = Any


@dataclass
class Town:
    """A gateway that sells sessions, the web and people, out of a search engine, a page and a vendor on one port."""

    gate: Gate
    up: ScriptedUpstream
    toml: str
    home: Path

    @classmethod
    @asynccontextmanager
    async def open(cls, home: Path, *, toml: str = "", **parts: Any) -> AsyncIterator["Town"]:
        async with ScriptedUpstream(default=reply({"results": [CANARY.vendor]})) as up:
            up.on("/robots.txt", reply(status=404, body=b""))
            page = up.url("/panes")
            up.on("/search", reply({"results": [{"url": page, "title": FIRM, "content": f"{CANARY.name}, owner"}]}))
            up.on("/panes", reply(body=PAGE.encode(), content_type="text/html"))
            base = f"""
[settlement]
kind = "none"
[web]
private = true
[providers.searxng]
url = "{up.url("")}"
private = true
[providers.whitepages]
key = "some-secret"
url = "{up.url(HUNTS)}"
private = true
cost_per_call = "0.10"
{toml}"""
            async with Gate.open(home, base=base, configured=True, **parts) as gate:
                yield cls(gate, up, STORE + base, home)

    def asked(self, path: str) -> int:
        return sum(each.path.startswith(path) for each in self.up.seen)

    async def lead(self, token: str, lead: Json = LEAD, **more: Json) -> Reply:
        return await self.gate.ask("enrich/lead-session", {"lead": lead, **more}, token=token)

    async def web(self, token: str, **more: Json) -> Reply:
        return await self.gate.ask("enrich/websearch", SEARCH | more, token=token)

    async def job(self, token: str, payload: Json) -> Json:
        sent = {"Content-Type": "application/json", "Authorization": f"Bearer {token}"}
        body = {"route": "enrich/lead-session", "payload": payload, "bill_up_to_usd": "4"}
        job = await self.gate.send("POST", JOBS, headers=sent, body=orjson.dumps(body))
        assert job.status == 202, job.body
        return job

    async def ended(self, job: Reply) -> Json:
        bearer = {"Authorization": f"Bearer {job.json['poll_bearer']}"}
        while True:
            told = (await self.gate.send("GET", f"{job.json['poll_url']}?wait=10", headers=bearer)).json
            if told["status"] not in ("queued", "running"):
                return told

    async def two_turns(self, token: str) -> str:
        """She is found on the page, and then her number is bought."""
        first = await self.lead(token, mode="interactive")
        assert LABEL in [button["label"] for button in first.json["data"]["dig_deeper"]], first.json
        session = str(first.json["data"]["chat_session_id"])
        second = await self.lead(token, mode="interactive", chat_session_id=session, prompts=[LABEL])
        assert CANARY.phone in second.body.decode(), second.json
        return session

    async def operator(self, *words: str) -> str:
        said = await operator(self.home, "subject", *words, toml=self.toml)
        await self.gate.gateway.subjects.read()
        return said
