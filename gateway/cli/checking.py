"""`faregate check`: is everything there that this configuration needs? What is wrong is told with its mend.

Nothing is changed: only the ledger is opened (and brought up to date), as `serve` would.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.cli import terminal

if TYPE_CHECKING:
    import aiohttp

    from gateway.core.api_key import ApiKey
    from gateway.settings import Settings
    from gateway.settings.tables import NetworkTable
    from gateway.settlement.rpc import Rpc

TIMEOUT_S = 10.0
GOOD, ODD, BAD = "ok", "note", "FAIL"


class Finding(NamedTuple):
    level: str
    subject: str
    text: str


def check(config: terminal.Config = None) -> None:
    """Check that this configuration works.

    Looks at ledger, chains, tokens, gas and facilitator; exit status 1 if anything must be mended.
    """
    import structlog

    settings = terminal.read_settings(config, whole=True)
    # What the parts would log, the report says.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(50))
    bad = asyncio.run(_all(settings))
    if bad:
        terminal.fail(f"{bad} of these must be mended before `faregate serve` works as configured.")
    terminal.note("All is well.")


async def _all(settings: "Settings") -> int:
    import aiohttp

    bad = 0
    async with aiohttp.ClientSession(trust_env=False) as http:
        for look in (_configuration, _ledger, _sold, _chains, _facilitator):
            async for finding in look(settings, http):
                bad += finding.level == BAD
                terminal.say(f"{finding.level:<5} {finding.subject:<14} {finding.text}")
    return bad


async def _configuration(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    where = str(settings.source) if settings.source else "none: defaults and environment"
    yield Finding(GOOD, "configuration", where)
    yield Finding(GOOD, "address", f"{settings.service.origin}, listening on {settings.service.host}")
    if settings.service.public_url and not settings.service.trusted_proxies:
        told = "trusted_proxies is empty: a proxy's callers have no address here, and no limit by address"
        yield Finding(ODD, "limits", told)
    kind = settings.settlement.kind
    words = {
        "none": "none: only agents with a balance can pay",
        "sandbox": "sandbox: play money, on this machine only",
    }
    yield Finding(ODD if kind in words else GOOD, "settlement", words.get(kind, kind))


async def _ledger(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    from gateway.assemble import open_database
    from gateway.core.errors import Problem
    from gateway.store.database import OpenRefused

    path = settings.store.path
    try:
        db = await open_database(settings)
    except (OpenRefused, Problem, OSError) as error:
        yield Finding(BAD, "ledger", f"{path}: {error}; mend it, or name another file in [store] path")
        return
    try:
        ((version,),) = await db.read(lambda tx: tx.execute("SELECT sqlite_version()"))
        await db.write(lambda tx: None)
    except Problem as error:
        yield Finding(BAD, "ledger", f"{path}: {error}")
    else:
        yield Finding(GOOD, "ledger", f"{path}, SQLite {version}")
    finally:
        await db.close()


async def _sold(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    from gateway.assemble import configured_upstreams
    from upstreams import lead_lists
    from upstreams.directory.database import DirectoryError

    sold = configured_upstreams(settings)
    online = [each.operation.id for upstream in sold for each in upstream.offerings()]
    offline = [operation.id for upstream in sold for operation in upstream.offline()]
    for upstream in sold:
        try:
            await upstream.start()
        except (DirectoryError, OSError) as error:
            yield Finding(BAD, "upstream", f"{upstream.name}: {error}")
        finally:
            await upstream.close()
    if online:
        yield Finding(GOOD, "on sale", ", ".join(online))
    else:
        yield Finding(ODD, "on sale", "nothing yet")
    if offline:
        mend = "load a directory with `faregate directory load`, or name [providers] in the configuration"
        if lead_lists.ID in offline:
            mend += "; lists are sold where [directory] says sell_lists = true"
        yield Finding(ODD, "offline", f"{', '.join(offline)}: {mend}")


async def _chains(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    from gateway.settlement.rpc import Rpc, RpcUnavailable

    if settings.sandbox:
        return
    for table in settings.networks:
        working = None
        for place, url in enumerate(table.rpc_urls):
            rpc = Rpc(http, [url], chain_id=table.network.chain_id, timeout_s=TIMEOUT_S)
            try:
                block = await rpc.latest([], lambda block, _: block)
            except RpcUnavailable as failure:
                yield Finding(BAD, table.id, f"rpc_urls no. {place + 1}: {failure}; mend or remove this url")
            else:
                working = working or rpc
                yield Finding(GOOD, table.id, f"rpc_urls no. {place + 1} is of this chain, at block {block.number}")
        if working is not None:
            async for finding in _standing(settings, table, working):
                yield finding


async def _standing(settings: "Settings", table: "NetworkTable", rpc: "Rpc") -> AsyncIterator[Finding]:
    """Contracts, tokens and gas: what the settler itself looks at before it takes a payment."""
    from gateway.settlement.onchain import OnChain
    from gateway.settlement.rpc import RpcUnavailable

    chain = OnChain(table.network, rpc, pay_to=table.pay_to)
    for found in await chain.describe(table.methods):
        if found.ok:
            yield Finding(GOOD, table.id, f"{found.subject}: {found.message}")
        elif found.subject == "Multicall3" and settings.settlement.kind != "relayer":
            yield Finding(ODD, table.id, f"{found.subject}: {found.message}; the facilitator may not need it")
        else:
            yield Finding(BAD, table.id, f"{found.subject}: {found.message}; {_mend(found.subject)}")
    if settings.settlement.kind == "relayer":
        try:
            for address in settings.relayer.addresses:
                yield await _gas(settings, table, rpc, address)
        except RpcUnavailable as failure:
            yield Finding(BAD, table.id, f"the node stopped answering: {failure}")


def _mend(subject: str) -> str:
    if subject == "Multicall3":
        return "the relayer cannot settle on this chain: choose another, or a facilitator"
    if subject == "Permit2" or subject.startswith("x402 "):
        return 'set methods = ["eip3009"] for this network'
    return "mend the token in the network's table, or leave tokens out for its USDC"


async def _gas(settings: "Settings", table: "NetworkTable", rpc: "Rpc", address: str) -> Finding:
    from gateway.settlement.rpc import quantity

    relayer = settings.relayer
    wei = quantity(await rpc.call("eth_getBalance", address, "latest"))
    has = f"the relayer {address} has {wei / 10**18:.6f} ETH for gas"
    if wei < relayer.gas_low_wei:
        return Finding(BAD, table.id, f"{has}, less than gas_low_eth = {relayer.gas_low_eth}; send it some")
    return Finding(GOOD, table.id, has)


async def _facilitator(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    import aiohttp
    from yarl import URL

    from gateway.settlement.facilitator import authorization

    remote = settings.facilitator
    if settings.settlement.kind != "facilitator" or remote.url is None:
        return
    credential, wait = remote.credential, aiohttp.ClientTimeout(total=TIMEOUT_S)
    try:
        url = URL(remote.url.rstrip("/") + "/supported")
        shown = authorization(credential, "GET", url, time.time())
        async with http.get(url, headers=shown, timeout=wait, allow_redirects=False) as response:
            if response.status != 200:
                yield Finding(BAD, "facilitator", _not_let_in(response.status, credential))
                return
            supported = await response.json(content_type=None)
        if credential is not None:
            async with http.get(url, timeout=wait, allow_redirects=False) as response:
                yield _let_in(credential, anybody=response.status == 200)
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        yield Finding(BAD, "facilitator", f"it cannot be asked ({type(error).__name__}); mend [facilitator] url")
        return
    kinds = supported.get("kinds") if isinstance(supported, dict) else None
    settles = {kind.get("network") for kind in kinds or () if isinstance(kind, dict) and kind.get("scheme") == "exact"}
    for table in settings.networks:
        if table.id in settles:
            yield Finding(GOOD, "facilitator", f"settles exact on {table.id}")
        else:
            yield Finding(BAD, "facilitator", f"does not settle exact on {table.id}: remove the network or change url")
    if settings.facilitator.trust_facilitator:
        yield Finding(ODD, "facilitator", "its word is taken for proof: it can take your goods for nothing")


def _known_by(credential: "str | ApiKey") -> str:
    return "bearer" if isinstance(credential, str) else f"a token signed by jwt_secret ({credential.algorithm})"


def _let_in(credential: "str | ApiKey", *, anybody: bool) -> Finding:
    """Whoever answers everybody has not told what it thinks of what it was shown."""
    if anybody:
        told = (
            f"it is shown {_known_by(credential)}, but answers /supported without: a payment will tell if it is right"
        )
        return Finding(ODD, "facilitator", told)
    return Finding(GOOD, "facilitator", f"/supported takes {_known_by(credential)}")


def _not_let_in(status: int, credential: "str | ApiKey | None") -> str:
    if status not in (401, 403):
        return f"/supported answers {status}; mend [facilitator] url"
    if credential is None:
        return f"/supported answers {status}: it wants to know who asks; set bearer, or jwt_key_id and jwt_secret"
    mend = "bearer" if isinstance(credential, str) else "jwt_key_id or jwt_secret, or set this machine's clock"
    return f"/supported does not take {_known_by(credential)} and answers {status}; mend {mend}"
