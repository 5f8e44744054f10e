"""Everybody a gateway buys from, on one port: people, addresses, a register, a search engine, a model and a website.

    async with Market.open() as market:
        async with Gate.open(home, toml=market.toml(), configured=True) as gate:
            market.instead["whitepages"] = status(429)
            await gate.ask("enrich/phone", QUESTIONS["enrich/phone"], token=token)
            market.asked("whitepages")

What they know is all about one person who has never been, `rigs.person.CANARY`, and her firm: whatever of it is found
where it does not belong has leaked. So has a key of `KEYS`.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from rigs.person import CANARY
from rigs.upstream import Behaviour, ScriptedUpstream, Seen, Wire, reply, status

FIRM = "Quillwort Window Care LLC"
STREET = {"line1": CANARY.street, "city": "Seattle", "state": "WA", "zip": "98101"}
QUESTIONS: dict[str, dict[str, Any]] = {
    "enrich/phone": {"phone": CANARY.phone},
    "enrich/person": {"name": CANARY.name, "city": "Seattle", "state": "WA"},
    "enrich/email": {"first_name": CANARY.first, "last_name": CANARY.last, "domain": "example.com"},
    "enrich/company": {"name": FIRM, "state_code": "WA"},
    "enrich/websearch": {"business_name": FIRM, "city": "Seattle", "state": "WA", "prompt": f"Is it {CANARY.name}'s?"},
    "enrich/lead-session": {
        "lead": {"company": FIRM, "dm_name": CANARY.name, "city": "Seattle", "state": "WA", "website": "example.com"},
        "prompts": [f"the email address of {CANARY.name}"],
    },
}
"""One of each operation, which a market in good order can answer."""
ASKS = {
    "enrich/phone": ("whitepages",),
    "enrich/person": ("whitepages",),
    "enrich/email": ("hunter",),
    "enrich/company": ("gleif",),
    "enrich/websearch": ("serper", "gleif", "site", "llm"),
    "enrich/lead-session": ("whitepages", "serper", "gleif", "site", "llm"),
}
"""Of whom each of them buys; the site is read."""
SELLERS = tuple(dict.fromkeys(name for names in ASKS.values() for name in names))
KEYED = ("whitepages", "hunter", "serper", "llm")
KEYS = {name: f"{name}-key-canary-31c9" for name in KEYED}


@dataclass
class Market:
    up: ScriptedUpstream
    instead: dict[str, Behaviour] = field(default_factory=dict)
    """By seller, what it does and not what it should."""
    headers: dict[str, str] = field(default_factory=dict)
    """Of every answer, beside what belongs there."""
    status: int = 200
    """Of every answer of a seller."""

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Market"]:
        async with ScriptedUpstream() as up:
            market = cls(up)
            up.default = market._serve
            yield market

    def toml(self, *, timeout_s: float = 5, page_s: float = 5, **sellers: str) -> str:
        """Its part of faregate.toml. `sellers`: more lines in the table of one of them. Nothing takes any money."""
        tables = []
        for name in ("whitepages", "hunter", "gleif", "serper"):
            key = f'key = "{KEYS[name]}"\n' if name in KEYS else ""
            tables.append(
                f'[providers.{name}]\n{key}url = "{self.up.url(f"/{name}")}"\nprivate = true\ncost_per_call = "0"\n'
                f"timeout_s = {timeout_s}\n{sellers.get(name, '')}\n"
            )
        model = (
            f'[llm]\napi = "openai"\nmodel = "scripted"\nurl = "{self.up.url("/llm")}"\nkey = "{KEYS["llm"]}"\n'
            f'input_usd = "0"\noutput_usd = "0"\nprivate = true\ntimeout_s = {timeout_s}\n{sellers.get("llm", "")}\n'
        )
        return "\n".join([*tables, model, "[web]\nprivate = true\n"])

    def asked(self, *sellers: str) -> list[Seen]:
        """What has come to these; to all of them where none is named. The site's robots.txt is the site's."""
        return [seen for seen in self.up.seen if not sellers or _seller(seen) in sellers]

    def counts(self) -> dict[str, int]:
        return {name: len(found) for name in SELLERS if (found := self.asked(name))}

    async def _serve(self, seen: Seen, wire: Wire) -> None:
        name = _seller(seen)
        behave = self.instead.get(name)
        if behave is None or (name == "site" and seen.path == "/robots.txt"):
            behave = self._proper(name, seen)
        await behave(seen, wire)

    def _proper(self, name: str, seen: Seen) -> Behaviour:
        match name:
            case "whitepages":
                person = {"id": "P1234567890", **CANARY.vendor, "match_score": 95}
                return self._says({"results": [person | {"phones": [{"number": CANARY.phone, "score": 95}]}]})
            case "hunter":
                found = {"first_name": CANARY.first, "last_name": CANARY.last, "email": CANARY.email, "score": 97,
                         "domain": "example.com", "position": "Owner", "verification": {"status": "valid"}}  # fmt: skip
                return self._says({"data": found, "meta": {}})
            case "gleif":
                address = {"addressLines": [CANARY.street], "city": "Seattle", "region": "US-WA", "country": "US",
                           "postalCode": "98101"}  # fmt: skip
                entity = {"legalName": {"name": FIRM}, "legalAddress": address, "jurisdiction": "US-WA"}
                record = {"lei": "00000000000000000000", "entity": entity, "registration": {"status": "ISSUED"}}
                return self._says({"data": [{"attributes": record}], "meta": {}})
            case "serper":
                known = {"title": FIRM, "phoneNumber": CANARY.phone, "address": f"{CANARY.street}, Seattle, WA 98101"}
                links = [{"title": FIRM, "link": self.up.url(f"/site/{page}"), "snippet": "..."} for page in PAGES]
                return self._says({"organic": links, "knowledgeGraph": known})
            case "llm":
                return self._says(_model(orjson.loads(seen.body)))
            case "site" if seen.path == "/robots.txt":
                return reply(body=b"", content_type="text/plain")
            case "site" if seen.path.removeprefix("/site/") in PAGES:
                text = PAGES[seen.path.removeprefix("/site/")]
                return reply(body=text.encode(), content_type="text/html; charset=utf-8", headers=self.headers)
        return status(404)

    def _says(self, value: object) -> Behaviour:
        return reply(value, status=self.status, headers=self.headers)


def _seller(seen: Seen) -> str:
    return "site" if seen.path == "/robots.txt" else seen.path.split("/")[1]


def _page(title: str, *body: str) -> str:
    return f"<!doctype html><html><head><title>{title}</title></head><body>{' '.join(body)}</body></html>"


SAID = f"{CANARY.name} runs the crews as Head of Operations."
PAGES = {
    "": _page(f"{FIRM} | Home", f"<p>Call {CANARY.phone}</p><p>{CANARY.street}, Seattle, WA 98101</p>"),
    "team": _page(f"Our team | {FIRM}", f"<p>{SAID}</p>"),
}


def _model(asked: dict[str, Any]) -> dict[str, Any]:
    """Reads what it is shown, or takes the first step that it is offered."""
    if "tools" in asked:
        function = asked["tools"][0]["function"]
        about = function["parameters"]["properties"].get("about", {"enum": [""]})["enum"][0]
        call = {"name": function["name"], "arguments": json.dumps({"about": about})}
        message: dict[str, Any] = {"role": "assistant", "content": None, "tool_calls": [{"function": call}]}
    else:
        shown = orjson.loads(asked["messages"][1]["content"])
        people = [
            {"name": CANARY.name, "title": "Head of Operations", "source": page["source"], "quote": SAID}
            for page in shown["pages"]
        ]
        message = {"role": "assistant", "content": json.dumps({"people": people, "legal_associates": []})}
    usage = {"prompt_tokens": 500, "completion_tokens": 50}
    return {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
