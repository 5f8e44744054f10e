"""The upstream of `enrich/lead-session`: offline while there is no tool to ask."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from gateway.core.catalogue import Operation, Price
from gateway.core.money import format_usd
from gateway.core.upstream import Context, Offering, Outcome
from upstreams.leads.choosing import Advise
from upstreams.leads.example import EXAMPLE, FOUND
from upstreams.leads.query import LeadQuery
from upstreams.leads.session import SCHEMA, Walk
from upstreams.leads.settings import LeadSettings
from upstreams.leads.tools import Tools

ID = "enrich/lead-session"
TIMEOUT_S = 180.0


class Leads:
    """core.upstream.Upstream over whatever tools there are when it is asked what it sells."""

    name = "leads"

    def __init__(self, settings: LeadSettings, tools: Callable[[], Tools] = dict, advise: Advise | None = None) -> None:
        """`tools`: what is configured; `advise`: an LLM that plans, where there is one."""
        self._settings = settings
        self._tools = tools
        self._advise = advise
        self.operation = operation(settings)

    def offerings(self) -> Sequence[Offering]:
        return (Offering(self.operation, self._fulfil),) if self._tools() else ()

    def offline(self) -> Sequence[Operation]:
        return () if self.offerings() else (self.operation,)

    def available(self, operation_id: str, now_s: float) -> int | None:
        """One tool that rests is one tool less; where all of them do, there is nothing to hold money for."""
        rests = [tool.rests(now_s) for tool in self._tools().values()]
        known = [rest for rest in rests if rest is not None]
        return min(known) if known and len(known) == len(rests) else None

    async def start(self) -> None:
        """There is nothing to start: the tools belong to others."""

    async def close(self) -> None:
        """There is nothing to close."""

    async def _fulfil(self, query: LeadQuery, context: Context) -> Outcome:
        return await Walk(query, context, self._tools(), self._settings, self._advise).run()


def operation(settings: LeadSettings) -> Operation:
    base = settings.price_micros
    return Operation(
        id=ID,
        method="POST",
        path=f"/api/v1/{ID}",
        summary="Research a lead: people, phones, emails, addresses, registers",
        description=(
            "Takes a lead as your CRM has it, under any keys, asks one source after the other within your budget, "
            "and returns one graph: entities, contacts, phones, emails, edges, each with sources and confidence. "
            "Billed by what it takes, from the base price on, and only when something new is found."
        ),
        input=LeadQuery.of(region=settings.default_region, base_micros=base, ceiling_micros=settings.ceiling_micros),
        output=ANSWER,
        price=Price(base, metered=True, markup_percent=settings.markup_percent, ceiling_micros=settings.ceiling_micros),
        example=EXAMPLE,
        example_output={
            "request_id": "req_example",
            "route": ID,
            "matched": True,
            "billed": True,
            "cache_hit": False,
            "billing": {
                "mode": "virtual_balance",
                "charge_id": "chg_example",
                "bill_up_to_usd": format_usd(settings.usual_micros),
                "charged_usd": format_usd(base),
            },
            "data": FOUND,
            "metadata": {"elapsed_ms": 4},
        },
        timeout_s=TIMEOUT_S,
        job=True,
        asks_micros=max(settings.usual_micros, base),
        tags=("leads", "people", "company", "enrichment"),
    )


# The answer. JSON Schema with everything inlined, since crawlers follow no references.


def _object(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": dict(properties), "required": required}


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_BOOLEAN = {"type": "boolean"}
_MAYBE = {"type": ["string", "null"]}
_STRINGS = _list(_STRING)
_ADDRESS = {
    "type": ["object", "null"],
    "properties": dict.fromkeys(("line1", "line2", "city", "state_code", "zip", "country"), _MAYBE),
}
_SAID = {"confidence": _NUMBER, "sources": _STRINGS}

_BACKFILL = _object(
    {
        "entities": _list(
            _object(
                {
                    "id": _STRING,
                    "type": {"enum": ["business", "person", "place"]},
                    "name": _STRING,
                    "names": _list(_object({"value": _STRING, "kind": _STRING, **_SAID})),
                    "identifiers": _list(_object({"scheme": _STRING, "value": _STRING, **_SAID})),
                    "status": _MAYBE,
                    "domain": _MAYBE,
                    "industry": _MAYBE,
                    "address": _ADDRESS,
                    "from_input": _BOOLEAN,
                    **_SAID,
                },
                "name", "names", "identifiers", "status", "domain", "industry", "address",
            )
        ),
        "contacts": _list(
            _object(
                {
                    "id": _STRING,
                    "entity_id": _STRING,
                    "name": _STRING,
                    "title": _MAYBE,
                    "roles": _STRINGS,
                    "phones": _STRINGS,
                    "emails": _STRINGS,
                    "confidence": _NUMBER,
                    "rank": _INTEGER,
                }
            )
        ),
        "phones": _list(
            _object(
                {
                    "id": _STRING,
                    "e164": _STRING,
                    "national": _STRING,
                    "line_type": _MAYBE,
                    "owner_entity_id": _MAYBE,
                    "label": _MAYBE,
                    "from_input": _BOOLEAN,
                    "is_new": _BOOLEAN,
                    "status": {"enum": ["input_only", "single_source", "corroborated", "conflicting"]},
                    **_SAID,
                }
            )
        ),
        "emails": _list(
            _object(
                {
                    "id": _STRING,
                    "email": _STRING,
                    "owner_entity_id": _MAYBE,
                    "from_input": _BOOLEAN,
                    "is_new": _BOOLEAN,
                    "status": {"enum": ["input_only", "single_source", "corroborated", "conflicting"]},
                    **_SAID,
                }
            )
        ),
        "edges": _list(
            _object(
                {
                    "id": _STRING,
                    "from": _STRING,
                    "to": _STRING,
                    "type": _STRING,
                    "attrs": {"type": "object"},
                    **_SAID,
                }
            )
        ),
        "conflicts": _list(
            _object({"field": _STRING, "values": _list(_object({"value": _STRING, **_SAID})), "chosen": _INTEGER})
        ),
        "sources": _list(
            _object(
                {
                    "id": _STRING,
                    "kind": {"enum": ["input", "prior", "directory", "vendor", "own_site", "web", "registry"]},
                    "provider": _STRING,
                    "retrieved_at": _STRING,
                    "tool": _STRING,
                    "round": _INTEGER,
                    "cache_hit": _BOOLEAN,
                    "record_ref": _STRING,
                    "url": _STRING,
                    "quote": _STRING,
                },
                "tool", "round", "cache_hit", "record_ref", "url", "quote",
            )
        ),
        "summary_markdown": _STRING,
    }
)  # fmt: skip
_LEVEL = {"enum": ["none", "weak", "good"]}
_DATA = _object(
    {
        "schema": {"enum": [SCHEMA]},
        "session_id": _STRING,
        "chat_session_id": _MAYBE,
        "mode": {"enum": ["auto", "interactive"]},
        "input": _object(
            {
                "subject_kind": {"enum": ["business", "person", "person_or_sole_prop"]},
                "external_id": _MAYBE,
                "mapped": {"type": "object"},
                "ignored_keys": _STRINGS,
                "warnings": _STRINGS,
            }
        ),
        "backfill": _BACKFILL,
        "found": {"type": "object", "additionalProperties": _INTEGER},
        "coverage": _object(
            {
                "phone": _LEVEL,
                "decision_maker": {"enum": ["none", "named", "found"]},
                "email": _LEVEL,
                "address": _LEVEL,
                "registry": _LEVEL,
                "score": _NUMBER,
            }
        ),
        "gaps": _list(_object({"code": _STRING, "text": _STRING, "about": _STRING}, "about")),
        "dig_deeper": {
            "type": ["array", "null"],
            "items": _object(
                {
                    "id": _STRING,
                    "label": _STRING,
                    "tool": _STRING,
                    "est_charge_usd": _STRING,
                    "est_rounds": _INTEGER,
                }
            ),
        },
        "suggested_user_prompts": {"type": ["array", "null"], "items": _STRING},
        "session": _object(
            {
                "planner": {"enum": ["rules", "llm", "rules(fallback)"]},
                "rounds_used": _INTEGER,
                "max_rounds": _INTEGER,
                "stop_reason": _STRING,
                "budget_usd": _STRING,
                "budget_usd_effective": _STRING,
                "projected_charge_usd": _STRING,
                "elapsed_ms": _INTEGER,
                "hops": _list(
                    _object(
                        {
                            "n": _INTEGER,
                            "tool": _STRING,
                            "provider": _MAYBE,
                            "why": _STRING,
                            "status": _STRING,
                            "cache_hit": _BOOLEAN,
                            "added": {"type": "object"},
                            "ms": _INTEGER,
                            "cogs_usd": _STRING,
                            "projected_charge_usd": _STRING,
                        },
                        "cogs_usd", "projected_charge_usd",
                    )
                ),
            }
        ),
    }
)  # fmt: skip

ANSWER = _object(
    {
        "request_id": _STRING,
        "route": _STRING,
        "matched": _BOOLEAN,
        "billed": _BOOLEAN,
        "cache_hit": _BOOLEAN,
        "billing": {"type": "object"},
        "data": _DATA,
        "metadata": {"type": "object"},
    }
)
