"""`faregate providers`: whom answers are bought from, and how we stand with each.

Three sources, each for what it knows: the configuration says who is asked for what and at which cost, the ledger what
came of the last question, and the running gateway, by its own /metrics, who rests and what is left of a quota. That
nobody has written down: it ends with the process.
"""

import json
import re
import time
from typing import TYPE_CHECKING, Any

from gateway.cli import terminal
from gateway.cli.agents import with_database

if TYPE_CHECKING:
    from gateway.core.vendor_call import VendorCall
    from gateway.settings import Settings
    from gateway.store.database import Database
    from gateway.store.vendor_calls import Last

TIMEOUT_S = 2.0
_LINE = re.compile(r'^faregate_provider_(\w+)\{provider="([\w-]+)"\} (\S+)$', re.MULTILINE)
_EVERYWHERE = ("0.0.0.0", "::", "localhost")


def providers(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """List whom answers are bought from: for what, at which cost, what came last, who rests until when, quotas left.

    Who rests and what is left of a quota is asked of the gateway that runs by this configuration.
    """
    settings = terminal.read_settings(config, whole=True)

    async def work(settings: "Settings", db: "Database") -> "tuple[dict[str, Last], dict[str, dict[str, int]] | None]":
        from gateway.store.vendor_calls import last

        return await db.read(last), await _running(settings)

    came, running = with_database(config, work)
    rows = [_row(name, terms, came.get(name), running) for name, terms in _bought(settings).items()]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(_SHOWN, [[_cell(row, name) for name in _SHOWN] for row in rows])
    else:
        terminal.note('There are none: README.md, "Buying answers".')
    if rows and running is None:
        terminal.note("No gateway answers here: who rests, and what is left of a quota, only a running one knows.")


_SHOWN = (
    "provider",
    "asked_for",
    "per_call_usd",
    "per_match_usd",
    "misses",
    "asked",
    "came",
    "last_error",
    "rests_until",
    "quota",
)


def _bought(settings: "Settings") -> dict[str, dict[str, Any]]:
    """Every provider of the configuration and its terms: {"asked_for": {operation: its place}, ...}."""
    from gateway.assemble import Vendors
    from gateway.core.money import format_usd
    from upstreams import providers as known

    accounts = Vendors.of(settings).accounts
    found: dict[str, dict[str, Any]] = {}
    for name, account in accounts.items():
        kind = known.KINDS[name]
        orders = {id: known.order(id, accounts, settings.waterfalls) for id in kind.serves}
        terms = account.terms(kind)
        found[name] = {
            "asked_for": {id: order.index(name) + 1 for id, order in orders.items() if name in order},
            "per_call_usd": format_usd(terms.cost_per_call_micros),
            "per_match_usd": format_usd(terms.cost_per_match_micros),
            "misses": "paid" if terms.bill_misses and terms.cost_per_call_micros else "free",
        }
    if settings.llm.api:
        found[settings.llm.api] = {"asked_for": {}, "per_call_usd": None, "per_match_usd": None, "misses": "paid"}
    return found


def _row(
    name: str, terms: dict[str, Any], came: "Last | None", running: dict[str, dict[str, int]] | None
) -> dict[str, Any]:
    from gateway.core.answer import iso

    def told(call: "VendorCall | None") -> dict[str, str] | None:
        if call is None:
            return None
        return {
            "at": iso(call.at_ms),
            "came": call.outcome.value,
            **({"error": call.error.value} if call.error else {}),
        }

    now = (running or {}).get(name, {})
    rest_s = now.get("rest_seconds")
    return {
        "provider": name,
        **terms,
        "last": told(came.asked if came else None),
        "last_error": told(came.failed if came else None),
        "rests_until": iso(int((time.time() + rest_s) * 1000)) if rest_s else None,
        "quota_left": now.get("quota_left"),
        "quota_limit": now.get("quota_limit"),
    }


def _cell(row: dict[str, Any], name: str) -> str:
    last, error = row["last"], row["last_error"]
    match name:
        case "asked_for":
            return ", ".join(f"{id} {place}" for id, place in row["asked_for"].items()) or "-"
        case "asked":
            return last["at"] if last else "-"
        case "came":
            return f"{last['came']} {last.get('error', '')}".strip() if last else "-"
        case "last_error":
            return f"{error['error']} {error['at']}" if error else "-"
        case "quota":
            left, limit = row["quota_left"], row["quota_limit"]
            return "-" if left is None else f"{left} of {limit}" if limit is not None else str(left)
        case _:
            return "-" if row[name] is None else str(row[name])


async def _running(settings: "Settings") -> dict[str, dict[str, int]] | None:
    """What the gateway of this configuration says of each; None: none answers, or it is another one."""
    import aiohttp

    host, port, token = settings.service.host, settings.service.port, settings.service.operator_token
    host = "127.0.0.1" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    headers = {"Authorization": f"Bearer {token.get_secret_value()}"} if token else {}
    try:
        async with (
            aiohttp.ClientSession(trust_env=False, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S)) as session,
            session.get(f"http://{host}:{port}/metrics", headers=headers, allow_redirects=False) as response,
        ):
            page = await response.text() if response.status == 200 else ""
    except (aiohttp.ClientError, TimeoutError, OSError, UnicodeDecodeError):
        return None
    told: dict[str, dict[str, int]] = {}
    for figure, name, value in _LINE.findall(page):
        told.setdefault(name, {})[figure] = int(float(value))
    return told or None
