"""`faregate check`: is everything there that this configuration needs? What is wrong is told with its mend.

Nothing is changed: only the ledger is opened (and brought up to date), as `serve` would.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, NamedTuple

from gateway.cli import terminal

if TYPE_CHECKING:
    import aiohttp

    from gateway.core.networks import Token
    from gateway.settings import Settings
    from gateway.settings.tables import NetworkTable
    from gateway.settlement.rpc import Answer, Call, Rpc

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
        yield Finding(ODD, "offline", f"{', '.join(offline)}: load a directory with `faregate directory load`")


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
            for look in (_tokens, _contracts, _gas):
                try:
                    async for finding in look(settings, table, working):
                        yield finding
                except RpcUnavailable as failure:
                    yield Finding(BAD, table.id, f"the node stopped answering: {failure}")


async def _tokens(settings: "Settings", table: "NetworkTable", rpc: "Rpc") -> AsyncIterator[Finding]:
    """What a payer signs is bound to the token's own name and version: with any other no payment would go through."""
    from gateway.core.x402.typed_data import domain_separator
    from gateway.settlement import calldata

    for token in table.network.tokens:
        asked = (calldata.NAME, calldata.VERSION, calldata.DECIMALS, calldata.DOMAIN_SEPARATOR)
        code, *answers = await rpc.batch(
            [("eth_getCode", token.address, "latest"), *[_read(token, selector) for selector in asked]]
        )
        where = f"token {token.symbol}"
        if code in ("0x", None):
            yield Finding(BAD, table.id, f"{where}: there is no contract at {token.address}; mend its address")
            continue
        name, version, decimals, separator = answers
        wanted = domain_separator(token.name, token.version, table.network.chain_id, token.address)
        found = f'name "{_text(name)}", version "{_text(version)}"'
        if _bytes(separator) != wanted:
            yield Finding(
                BAD, table.id, f'{where}: its domain is not name "{token.name}", version "{token.version}"; it says '
                f"{found}: mend the token's table",
            )  # fmt: skip
        elif int.from_bytes(_bytes(decimals)) != token.decimals:
            yield Finding(
                BAD, table.id, f"{where}: it has {int.from_bytes(_bytes(decimals))} decimals, not {token.decimals}"
            )
        else:
            yield Finding(GOOD, table.id, f"{where}: {found}, {token.decimals} decimals, domain agrees")


async def _contracts(settings: "Settings", table: "NetworkTable", rpc: "Rpc") -> AsyncIterator[Finding]:
    from gateway.core import networks

    wanted = {"Multicall3": networks.MULTICALL3} if settings.settlement.kind == "relayer" else {}
    if "permit2" in table.methods:
        wanted |= {"Permit2": networks.PERMIT2, "the Permit2 proxy of `exact`": networks.EXACT_PERMIT2_PROXY}
    codes = await rpc.batch([("eth_getCode", address, "latest") for address in wanted.values()]) if wanted else []
    for (name, address), code in zip(wanted.items(), codes, strict=True):
        if code not in ("0x", None):
            continue
        if name == "Multicall3":
            yield Finding(ODD, table.id, f"Multicall3 is not on this chain at {address}: payments are sent one by one")
        else:
            yield Finding(BAD, table.id, f'{name} is not on this chain at {address}: set methods = ["eip3009"]')


async def _gas(settings: "Settings", table: "NetworkTable", rpc: "Rpc") -> AsyncIterator[Finding]:
    from gateway.settlement.rpc import quantity

    if settings.settlement.kind != "relayer":
        return
    relayer = settings.relayer
    (answer,) = await rpc.batch([("eth_getBalance", relayer.address, "latest")])
    wei = quantity(answer)
    has = f"the relayer {relayer.address} has {wei / 10**18:.6f} ETH for gas"
    if wei < relayer.gas_low_wei:
        yield Finding(BAD, table.id, f"{has}, less than gas_low_eth = {relayer.gas_low_eth}: send it some")
    else:
        yield Finding(GOOD, table.id, has)


async def _facilitator(settings: "Settings", http: "aiohttp.ClientSession") -> AsyncIterator[Finding]:
    import aiohttp

    url = settings.facilitator.url
    if settings.settlement.kind != "facilitator" or url is None:
        return
    bearer = settings.facilitator.bearer
    headers = {"Authorization": f"Bearer {bearer.get_secret_value()}"} if bearer else {}
    try:
        async with http.get(
            url.rstrip("/") + "/supported", headers=headers, timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            allow_redirects=False,
        ) as response:  # fmt: skip
            if response.status != 200:
                yield Finding(BAD, "facilitator", f"/supported answers {response.status}; mend url or bearer")
                return
            supported = await response.json(content_type=None)
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


def _read(token: "Token", selector: bytes) -> "Call":
    return ("eth_call", {"to": token.address, "data": "0x" + selector.hex()}, "latest")


def _bytes(answer: "Answer") -> bytes:
    try:
        return bytes.fromhex(answer[2:]) if isinstance(answer, str) else b""
    except ValueError:
        return b""


def _text(answer: "Answer") -> str:
    """An ABI string: where it stands, its length, itself."""
    raw = _bytes(answer)
    length = int.from_bytes(raw[32:64])
    return "".join(c if c.isprintable() else "?" for c in raw[64 : 64 + min(length, 64)].decode("utf-8", "replace"))
