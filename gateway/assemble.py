"""The parts list: settings in, a whole gateway out. The only file that sees everything.

    async with assemble(settings) as gateway:       # opened: database, sessions, loops; recovery has run once
        serving(gateway.app)
    # closed: calls have ended, what could not end is found again at the next start

Tests call the same function and give what is fake by name: the clock, the entropy, a settler, upstreams.
"""

import asyncio
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import EntryPoint, entry_points
from operator import attrgetter
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import aiohttp
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from gateway import __version__
from gateway.core import ids, ticket
from gateway.core.catalogue import Catalogue, Operation
from gateway.core.errors import Code, Problem, SettingsError
from gateway.core.grant import Policy
from gateway.core.http import HttpClient
from gateway.core.lead import LeadKey
from gateway.core.money import format_usd, parse_usd
from gateway.core.networks import Token
from gateway.core.settlement import State
from gateway.core.siwe import Site
from gateway.core.subject import SubjectKey
from gateway.core.upstream import Offering, Upstream
from gateway.core.vendor_call import Standing
from gateway.core.x402 import challenge
from gateway.core.x402.challenge import Challenge
from gateway.core.x402.messages import Requirements
from gateway.core.x402.offers import Terms as Accepted
from gateway.edge import deposits as deposit_door
from gateway.edge import jobs as job_door
from gateway.edge.agents import Agents
from gateway.edge.app import EdgeParts, build_app
from gateway.edge.bodies import Limits
from gateway.edge.charges import Charges
from gateway.edge.deposits import DepositDoor
from gateway.edge.health import Fact
from gateway.edge.jobs import JobDoor, JobTerms
from gateway.edge.limiter import Limiter
from gateway.edge.metrics import Metrics, Vitals
from gateway.edge.paid import Paid
from gateway.edge.rates import Rates
from gateway.edge.statement import Statement
from gateway.edge.tickets import TicketDoor
from gateway.edge.tokens import Tokens
from gateway.edge.usage_keys import UsageKeys
from gateway.edge.visit import RequestIds
from gateway.edge.wallet_recovery import WalletRecoveryDoor
from gateway.edge.wallets import WalletDoor
from gateway.flows.alarms import Alarms
from gateway.flows.answering import AnswerCache, CacheTerms
from gateway.flows.collecting import Collecting, StoredJournal
from gateway.flows.deposits import Deposits, DepositTerms
from gateway.flows.fulfilling import Fulfilling
from gateway.flows.jobs import Jobs
from gateway.flows.last_used import LastUsed
from gateway.flows.purchase import Purchase, Terms
from gateway.flows.recovery import Recovery
from gateway.flows.registration import Registration
from gateway.flows.registration import Terms as RegistrationTerms
from gateway.flows.subjects import Subjects
from gateway.flows.tickets import Tickets
from gateway.flows.wallet_recovery import WalletRecovery
from gateway.flows.webhooks import Webhooks, WebhookTerms, job_ended
from gateway.flows.worker import Worker
from gateway.outbound import OutboundClient, lookup_in
from gateway.settings import Settings
from gateway.settings.tables import SANDBOX_NETWORK, WEBSEARCH_MICROS, LlmTable, NetworkTable
from gateway.settlement.arrivals import ChainArrivals
from gateway.settlement.facilitator import Facilitator, Place
from gateway.settlement.onchain import OnChain
from gateway.settlement.protocol import Settler, Wallets
from gateway.settlement.relayer import Limits as RelayerLimits
from gateway.settlement.relayer import Relayer
from gateway.settlement.rpc import Rpc
from gateway.settlement.sandbox import Sandbox
from gateway.settlement.several import Several
from gateway.settlement.wallets import ChainWallets
from gateway.store import jobs as stored_jobs
from gateway.store import settlements
from gateway.store import subjects as stored_subjects
from gateway.store.database import Database
from gateway.store.key_file import KEY_BYTES, kept_key
from gateway.store.owners import FileLock, ProcessOwner
from gateway.store.sqlite import SqliteDatabase
from upstreams import ALL, http_api, lead_lists, model, providers
from upstreams.companies import Companies, CompanySettings
from upstreams.directory import phones
from upstreams.directory.settings import DirectorySettings
from upstreams.http_api import HttpApi
from upstreams.lead_lists import LeadLists, ListSettings
from upstreams.leads import Leads, LeadSettings, advising, leads
from upstreams.leads import Tool as LeadTool
from upstreams.leads import Tools as LeadTools
from upstreams.leads.advising import Advisor, advise_by
from upstreams.leads.choosing import Advise
from upstreams.leaks import Leaks
from upstreams.model import TokenPrices
from upstreams.people import People
from upstreams.provider import AnyProvider, Line, ProviderTerms
from upstreams.providers import Account
from upstreams.support import Support, SupportSettings
from upstreams.web import Web, WebSettings, llm
from upstreams.web.llm import Reader
from wellknown import Identity, Offer, challenge_parts, requirements, resource_of

log = structlog.get_logger("gateway")

DRAIN_S = 20.0
"""What settlements under way get at shutdown; the rest is found again at the next start."""
WEBHOOKS_DRAIN_S = 3.0
"""What tries to deliver get: strangers' servers do not keep us from stopping."""
LEAD_PRICE = "1.50"
LIST_PRICE = "1.00"
LOOKUPS = 16
"""Threads that look up the names of strangers' servers."""


@dataclass(frozen=True, slots=True)
class Gateway:
    """An open gateway."""

    settings: Settings
    app: ASGIApp
    db: Database
    catalogue: Catalogue
    identity: Identity
    settler: Settler | None
    purchase: Purchase
    worker: Worker
    recovery: Recovery
    alarms: Alarms
    metrics: Metrics
    webhooks: Webhooks
    deposits: Deposits
    wallet_recovery: WalletRecovery
    subjects: Subjects


@asynccontextmanager
async def assemble(
    settings: Settings,
    *,
    clock: Callable[[], float] = time.time,
    monotonic: Callable[[], float] = time.monotonic,
    entropy: Callable[[int], bytes] | None = None,
    http: HttpClient | None = None,
    settler: Settler | None = None,
    sold: Sequence[Upstream] | None = None,
    drain_s: float = DRAIN_S,
) -> AsyncIterator[Gateway]:
    """Opens everything in order and closes it in reverse. Raises SettingsError, OpenRefused, StoreUnavailable."""
    entropy = entropy or stocked(os.urandom)
    async with AsyncExitStack() as stack:
        strangers = await stack.enter_async_context(_client_for_strangers()) if http is None else http
        if http is None:
            client = OutboundClient()
            http = await stack.enter_async_context(client)
        db = await open_database(settings, clock)
        stack.push_async_callback(db.close)
        owner = ProcessOwner(settings.store.path.parent / f"{settings.store.path.name}.owners")
        stack.callback(owner.close)

        vendors = Vendors.of(settings)
        sold = configured_upstreams(settings, vendors) if sold is None else sold
        for upstream in sold:
            await upstream.start()
            stack.push_async_callback(upstream.close)
        offerings = settled_as_asked(settings, {o.operation.id: o for each in sold for o in each.offerings()})
        catalogue = catalogue_of(settings, offerings, [o for upstream in sold for o in upstream.offline()])

        # Of its own: what talks to chains and facilitators neither follows redirects nor reads the environment.
        session = await stack.enter_async_context(aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()))
        wallets = settler if isinstance(settler, Wallets) else None
        if settler is None:
            settler = await open_settler(settings, db, clock, session)
            wallets = settler if isinstance(settler, Wallets) else chain_wallets(settings, session)
        if settler is not None:
            # Before anything is offered: what a remote facilitator can do is known once it was asked.
            await settler.start()
            stack.push_async_callback(settler.close)
        accepted = accepted_terms(settings, settler)
        identity = identity_of(settings, accepted, clock)
        offers = {operation.id: challenge_parts(operation, identity) for operation in catalogue.operations}
        decimals = {terms.token.asset: terms.token.decimals for terms in accepted}

        metrics = Metrics()
        limiter = Limiter(
            settings.rate_limits.by_kind,
            monotonic=monotonic,
            network_times=settings.rate_limits.network_times,
            refused=metrics.rate_limited,
        )
        alarms = Alarms(db=db, settler=settler, clock=clock, providers=lambda: vendors.standings(clock()))
        collecting = None
        if settler is not None:
            collecting = Collecting(
                db=db, settler=settler, decimals=decimals, alarm=alarms.tell, match=settings.deposit_match.rule
            )
        recovery = Recovery(
            db=db,
            settler=settler,
            collecting=collecting,
            clock=clock,
            alive=owner.alive,
            neighbours=owner.neighbours,
            alarm=alarms.tell,
            accesses_kept_ms=settings.subjects.access_log_days * 86_400_000,
        )
        recoverable = recovery_tokens(settings)
        secret = kept_key(key_file(settings), entropy(KEY_BYTES))
        subjects = Subjects(db, await subject_key(settings, db, secret))
        await subjects.read()
        fulfilling = Fulfilling(
            db=db,
            offerings=offerings,
            http=http,
            decimals=decimals,
            clock=clock,
            entropy=entropy,
            lead_key=LeadKey.of(secret) if recoverable else None,
            subjects=subjects,
            cache=AnswerCache(
                db,
                subjects.key,
                CacheTerms(
                    ttl_ms=settings.cache.ttl_hours * 3_600_000,
                    shared=settings.cache.shared,
                    discount_percent=settings.cache.discount_percent,
                ),
                clock,
            ),
            bought=metrics.bought,
        )
        webhooks = Webhooks(
            db=db,
            http=strangers,
            terms=webhook_terms(settings),
            owner=owner.id,
            alive=owner.alive,
            clock=clock,
            told=metrics.webhook,
            alarm=alarms.tell,
        )
        purchase = Purchase(
            db=db,
            fulfilling=fulfilling,
            settler=settler,
            collecting=collecting,
            terms=Terms(
                offers={id: offer.accepts for id, offer in offers.items()},
                decimals=decimals,
                forbidden_payers=forbidden_payers(settings, accepted, settler),
                sponsored=frozenset(terms.token.asset for terms in accepted if terms.sponsored),
                settle_wait_s=settings.settlement.wait_s,
                result_ttl_ms=settings.store.result_ttl_hours * 3_600_000,
                token_prefix=settings.service.token_prefix,
                request_key=hmac.digest(secret, b"requests", "sha256"),
                anonymous=settings.service.anonymous == "all",
                concurrent_calls=settings.limits.concurrent_calls,
            ),
            owner=owner.id,
            clock=clock,
            entropy=entropy,
            available=resting(sold, offerings),
            captured=metrics.charged,
            require_probe=limiter.require_probe,
            missed=limiter.missed,
        )

        told = partial(job_ended, origin=settings.service.origin)

        def changed(job_id: str) -> None:
            jobs.changed(job_id)
            webhooks.wake()

        registration = Registration(
            db=db,
            wallets=wallets,
            terms=registration_terms(settings, settler, forbidden_payers(settings, accepted, settler)),
            clock=clock,
            entropy=entropy,
            signs=partial(limiter.hit, "registrations"),
        )
        result_ttl_ms = settings.jobs.result_ttl_hours * 3_600_000
        worker = Worker(
            db=db,
            fulfilling=fulfilling,
            collecting=collecting,
            offerings=offerings,
            owner=owner.id,
            at_once=settings.jobs.at_once,
            lease_s=settings.jobs.lease_s,
            result_ttl_ms=result_ttl_ms,
            told=told,
            changed=changed,
            captured=metrics.charged,
            missed=limiter.missed,
            alarm=alarms.tell,
        )
        jobs = Jobs(
            db=db,
            purchase=purchase,
            clock=clock,
            entropy=entropy,
            token_prefix=settings.service.token_prefix,
            result_ttl_ms=result_ttl_ms,
            queued=worker.queued,
            cancelled=worker.cancelled,
            told=told,
            waiters_of_party_max=settings.rate_limits.long_polls,
        )
        deposits = deposits_of(settings, db, session, clock, entropy, alarms.tell)
        wallet_recovery = WalletRecovery(
            db=db,
            deposits=deposits,
            networks={chain: token.network for chain, token in recoverable.items()},
            secret=secret,
            phone=partial(phones.normalise, region=settings.directory.default_region),
            token_prefix=settings.service.token_prefix,
            clock=clock,
            entropy=entropy,
            proves=partial(limiter.hit, "recoveries"),
        )
        last_used = LastUsed(db, clock)
        tokens = Tokens(db, settings.service.token_prefix, clock, Rates(monotonic), limiter, last_used.saw)
        app = build_app(
            edge_parts(
                settings, catalogue, identity, offers, db, tokens, purchase, jobs, deposits, registration,
                wallet_recovery, metrics, limiter, alarms, settler, vendors, clock, entropy,
            )
        )  # fmt: skip

        await recovery.orphans()
        turns = (
            recovery.run(), alarms.run(), webhooks.run(), worker.run(), jobs.watch(), deposits.run(), last_used.run(),
            subjects.run(),
        )  # fmt: skip
        loops = [asyncio.create_task(each) for each in turns]
        stack.push_async_callback(last_used.write)
        stack.push_async_callback(webhooks.drain, min(drain_s, WEBHOOKS_DRAIN_S))
        if collecting is not None:
            stack.push_async_callback(collecting.drain, drain_s)
            loops.append(asyncio.create_task(collecting.run()))
        stack.push_async_callback(_cancelled, loops)
        stack.push_async_callback(worker.drain, drain_s)
        stack.push_async_callback(purchase.drain)
        stack.callback(jobs.close)
        yield Gateway(
            settings, app, db, catalogue, identity, settler, purchase, worker, recovery, alarms, metrics, webhooks,
            deposits, wallet_recovery, subjects,
        )  # fmt: skip


def stocked(source: Callable[[int], bytes], stock_bytes: int = 4096) -> Callable[[int], bytes]:
    """The bytes of `source`, fetched many at a time. A system call lets the interpreter's lock go, and where the
    store's threads wait for it, having it back costs far more than the bytes."""
    stock = b""

    def take(count: int) -> bytes:
        nonlocal stock
        if len(stock) < count:
            stock = source(max(count, stock_bytes))
        taken, stock = stock[:count], stock[count:]
        return taken

    return take


@asynccontextmanager
async def _client_for_strangers() -> AsyncIterator[HttpClient]:
    """For urls that customers name, with connections and threads of its own: whatever those servers do, what we buy
    from is reached as ever."""
    threads = ThreadPoolExecutor(LOOKUPS, thread_name_prefix="lookup")
    try:
        async with OutboundClient(lookup=lookup_in(threads)) as client:
            yield client
    finally:
        threads.shutdown(wait=False, cancel_futures=True)


def webhook_terms(settings: Settings) -> WebhookTerms:
    return WebhookTerms(
        own_origin=settings.service.origin,
        brand=settings.webhooks.brand,
        allow_http=settings.webhooks.allow_http,
        tries=settings.webhooks.tries,
    )


async def open_database(settings: Settings, clock: Callable[[], float] = time.time) -> SqliteDatabase:
    """The gateway's memory; the command line opens it alone."""
    settings.store.path.parent.mkdir(parents=True, exist_ok=True)
    return await SqliteDatabase(settings.store.path, clock_ms=lambda: int(clock() * 1000)).open()


@dataclass(frozen=True, slots=True)
class Vendors:
    """Whom answers are bought from, each with the one line to it that all who ask it share."""

    accounts: Mapping[str, Account]
    llm: str | None
    """The model's name as a provider."""
    llm_line: Line

    @classmethod
    def of(cls, settings: Settings) -> "Vendors":
        key = settings.llm.key
        return cls(
            accounts_of(settings), settings.llm.api, Line(leaks=Leaks((key.get_secret_value(),) if key else ()))
        )  # fmt: skip

    def standings(self, now_s: float) -> dict[str, Standing]:
        bought = {name: account.standing(now_s) for name, account in self.accounts.items()}
        return bought | ({self.llm: self.llm_line.standing(now_s)} if self.llm else {})


def configured_upstreams(settings: Settings, vendors: Vendors | None = None) -> list[Upstream]:
    """Everything on sale by this configuration: what ships with the gateway, and plug-ins by their entry point.

    Raises SettingsError with every mistake in the tables of the upstreams.
    """
    vendors = vendors or Vendors.of(settings)
    people, companies, web = people_of(settings, vendors), companies_of(settings, vendors), web_of(settings, vendors)
    sold: list[Upstream] = [
        people,
        companies,
        lists_of(settings),
        web,
        Leads(lead_settings(settings), lambda: lead_tools(people, companies, web), lead_planner(settings, vendors)),
        HttpApi(http_api.read(settings.http_upstreams)),
        support_of(settings),
    ]
    assert tuple(type(upstream) for upstream in sold) == ALL, "every upstream of ALL is configured here"
    return [*sold, *plugins(settings)]


def accounts_of(settings: Settings) -> dict[str, Account]:
    """What the operator has with each provider."""
    return {
        name: Account(
            key=table.key.get_secret_value(),
            user=table.user,
            url=table.url or "",
            score_min=table.score_min,
            cost_per_call_micros=None if table.cost_per_call is None else parse_usd(table.cost_per_call),
            cost_per_match_micros=None if table.cost_per_match is None else parse_usd(table.cost_per_match),
            bill_misses=table.bill_misses,
            timeout_s=table.timeout_s,
            repeatable=table.repeatable,
            private=table.private,
            requests_per_min=table.requests_per_min,
            quota_low=table.quota_low,
        )
        for name, table in settings.providers.items()
    }


def people_of(settings: Settings, vendors: Vendors | None = None) -> People:
    accounts = (vendors or Vendors.of(settings)).accounts
    operations = (providers.PHONE, providers.PERSON)
    return People(
        directory_settings(settings),
        providers.built(accounts),
        {id: providers.order(id, accounts, settings.waterfalls) for id in operations},
        show_costs=settings.service.show_costs,
    )


def directory_settings(settings: Settings) -> DirectorySettings:
    directory = settings.directory
    return DirectorySettings(
        path=directory.path or settings.store.path.parent / "directory.db",
        default_region=directory.default_region,
        phone_price_micros=settings.prices.get("enrich/phone", 330_000),
        person_price_micros=settings.prices.get("enrich/person", 500_000),
        notice=settings.subjects.notice,
    )


def lists_of(settings: Settings) -> LeadLists:
    price_micros = settings.prices.get(lead_lists.ID, parse_usd(LIST_PRICE))
    return LeadLists(ListSettings(directory_settings(settings), settings.directory.sell_lists, price_micros))


def lead_settings(settings: Settings) -> LeadSettings:
    table, base = settings.leads, settings.prices.get(leads.ID, parse_usd(LEAD_PRICE))
    return LeadSettings(
        price_micros=base,
        markup_percent=table.markup_percent,
        ceiling_micros=max(parse_usd(table.ceiling), base),
        usual_micros=max(parse_usd(table.budget), base),
        default_region=settings.directory.default_region,
        show_costs=settings.service.show_costs,
        planner=table.planner,
    )


def lead_planner(settings: Settings, vendors: Vendors) -> Advise | None:
    if settings.leads.planner == "rules":
        return None
    most = token_prices(settings.llm).cost_micros(advising.FACTS_TOKENS_MAX, advising.TOKENS_MAX)
    server = model_server(settings.llm, most, vendors.llm_line)
    return None if server is None else advise_by(Advisor(server))


def lead_tools(people: People, companies: Companies, web: Web) -> LeadTools:
    """What a lead session may ask: whatever is on sale here of its own, our own records apart from what is bought."""
    models = {operation.id: operation.input for operation in people.operations}
    tools = {}
    for asks, id, local in (
        ("directory", providers.PERSON, True),
        ("person", providers.PERSON, False),
        ("phone", providers.PHONE, False),
    ):
        if (asking := people.asking(id, local=local)) is not None:
            kept, rests = "" if local else id, partial(people.available, id)
            tools[asks] = LeadTool(asks, asking[0], models[id], asking[1], operation=kept, rests=rests)
    for asks, upstream in (("company", companies), ("email", companies), ("websearch", web)):
        for offering in upstream.offerings():
            operation = offering.operation
            if operation.id == f"enrich/{asks}":
                most, rests = upstream.most_micros(operation.id), partial(upstream.available, operation.id)
                kept = operation.id if operation.cacheable else ""
                tools[asks] = LeadTool(asks, offering.fulfil, operation.input, most, operation=kept, rests=rests)
    return tools


def companies_of(settings: Settings, vendors: Vendors | None = None) -> Companies:
    accounts = (vendors or Vendors.of(settings)).accounts

    def asked(operation: str) -> list[AnyProvider[Any, Any]]:
        known = providers.built(accounts, operation)
        return [known[name] for name in providers.order(operation, accounts, settings.waterfalls)]

    return Companies(
        CompanySettings(
            company_price_micros=settings.prices.get(providers.COMPANY, 250_000),
            email_price_micros=settings.prices.get(providers.EMAIL, 200_000),
            region=settings.directory.default_region,
            show_costs=settings.service.show_costs,
            notice=settings.subjects.notice,
        ),
        asked(providers.COMPANY),
        asked(providers.EMAIL),
    )


def web_of(settings: Settings, vendors: Vendors | None = None) -> Web:
    vendors = vendors or Vendors.of(settings)
    web, accounts = settings.web, vendors.accounts
    asked = providers.built(accounts)
    return Web(
        WebSettings(
            directory=settings.directory.path or settings.store.path.parent / "directory.db",
            model=model_of(settings.llm, vendors.llm_line),
            pages=web.pages,
            private_pages=web.private,
            price_micros=settings.prices.get("enrich/websearch", WEBSEARCH_MICROS),
            ceiling_micros=web.ceiling_micros,
            markup_percent=web.markup_percent,
            show_costs=settings.service.show_costs,
        ),
        {name: engine for name, engine in asked.items() if name not in providers.REGISTRIES},
        providers.order(providers.WEBSEARCH, accounts, settings.waterfalls),
        {name: registry for name, registry in asked.items() if name in providers.REGISTRIES},
    )


def model_of(table: LlmTable, line: Line) -> Reader | None:
    server = model_server(table, llm.most_micros(token_prices(table), table.output_tokens), line)
    return None if server is None else Reader(server, table.output_tokens)


def model_server(table: LlmTable, most_micros: int, line: Line) -> model.Server | None:
    """`most_micros`: what one asking can cost."""
    if table.api is None:
        return None
    terms = ProviderTerms(
        cost_per_call_micros=most_micros,
        bill_misses=True,
        timeout_s=table.timeout_s,
        repeatable=table.repeatable,
        private=table.private,
    )
    key = table.key.get_secret_value() if table.key is not None else ""
    return model.server(table.api, terms, token_prices(table), line, url=table.url, name=table.model or "", key=key)


def token_prices(table: LlmTable) -> TokenPrices:
    return TokenPrices(parse_usd(table.input_usd or "0"), parse_usd(table.output_usd or "0"))


def support_of(settings: Settings) -> Support:
    support = settings.support
    return Support(SupportSettings(support.enabled, parse_usd(support.price), parse_usd(support.bug_credit)))


def mistakes(settings: Settings) -> Iterator[str]:
    """What only the upstreams can find in a configuration; goes into its one report (gateway.settings.load)."""
    found = http_api.mistakes(settings.http_upstreams)
    yield from (f"[[http_upstreams]] {mistake}" for mistake in found)
    bare = settings.model_copy(update={"providers": {}, "waterfalls": {}})
    bought = (*people_of(bare).operations, *companies_of(bare).operations, web_of(bare).operation)
    sold = (*bought, lists_of(bare).operation, Leads(lead_settings(bare)).operation)
    prices = {operation.id: operation.price.base_micros for operation in sold}
    yield from providers.mistakes(accounts_of(settings), settings.waterfalls, prices)
    priced = set(prices)
    own = {str(table.get("id")) for table in settings.http_upstreams}
    if ticket.OPERATION in own:
        yield f'[[http_upstreams]] "{ticket.OPERATION}": this is the gateway\'s own, see [support]; choose another id'
    yield from (f"[plugins.{name}]: {mistake}" for name, mistake in _misplugged(settings))
    for id in sorted(set(settings.prices) - priced):
        if id == ticket.OPERATION:
            yield f'[prices] "{id}": its price stands in [support]; remove it here'
        elif id in own:
            yield f'[prices] "{id}": its price stands in its own [[http_upstreams]] table; remove it here'
        else:
            yield f'[prices] "{id}": there is no such operation; there are {", ".join(sorted(priced))}'
    plugged = {o.operation.id for upstream in plugins(settings) for o in upstream.offerings()}
    for id in sorted(set(settings.settle) - priced - plugged):
        if id == ticket.OPERATION:
            yield f'[settle] "{id}": a ticket is never paid for in vain; remove it here'
        elif id in own:
            yield f'[settle] "{id}": say settle in its own [[http_upstreams]] table; remove it here'
        else:
            yield f'[settle] "{id}": there is no such operation; there are {", ".join(sorted(priced | plugged))}'


def plugins(settings: Settings) -> list[Upstream]:
    """The upstreams of installed packages, in the order of their names; without those that `_misplugged` tells of."""
    found = (_plugged(entry, settings) for entry in _entries().values())
    return [upstream for upstream in found if not isinstance(upstream, str)]


def _misplugged(settings: Settings) -> Iterator[tuple[str, str]]:
    entries = _entries()
    for name in sorted(settings.plugins.keys() - entries.keys()):
        there = ", ".join(entries) or "none"
        yield name, f"there is no such plug-in: install its package beside faregate; installed are {there}"
    for name, entry in entries.items():
        upstream = _plugged(entry, settings)
        if isinstance(upstream, str):
            yield name, upstream


def _entries() -> dict[str, EntryPoint]:
    return {entry.name: entry for entry in sorted(entry_points(group="faregate.upstreams"), key=attrgetter("name"))}


def _plugged(entry: EntryPoint, settings: Settings) -> Upstream | str:
    """Or what is wrong."""
    try:
        return cast("Upstream", entry.load()(settings.plugins.get(entry.name, {})))
    except ValueError as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 somebody else's code: whatever it does, the operator is told whose it is
        return f"{entry.value} cannot be loaded: {type(error).__name__}: {error}"


def settled_as_asked(settings: Settings, offerings: Mapping[str, Offering]) -> dict[str, Offering]:
    """With the operator's word on when their payments are settled, where he has one."""
    return {
        id: replace(offering, operation=replace(offering.operation, settle_first=settings.settle[id] == "before"))
        if id in settings.settle
        else offering
        for id, offering in offerings.items()
    }


def catalogue_of(settings: Settings, offerings: Mapping[str, Offering], offline: Sequence[Operation]) -> Catalogue:
    """What is on sale, and beside it the handing over of whatever can be handed over."""
    operations = [offering.operation for offering in offerings.values()]
    handing_over = job_door.operation(Catalogue(operations), job_terms(settings))
    return Catalogue([*operations, handing_over] if handing_over else operations, offline)


def job_terms(settings: Settings) -> JobTerms:
    jobs = settings.jobs
    return JobTerms(parse_usd(jobs.bill_up_to), parse_usd(jobs.bill_up_to_max), jobs.time_s)


async def open_settler(
    settings: Settings, db: Database, clock: Callable[[], float], session: aiohttp.ClientSession
) -> Settler | None:
    """Whoever collects signed payments here; None where only balances pay. Nothing is asked of a network yet."""
    match settings.settlement.kind:
        case "none":
            return None
        case "sandbox":
            proven = await db.read(settlements.proven_on, SANDBOX_NETWORK)
            return Sandbox(pay_to=settings.networks[0].pay_to, clock=clock, settled=proven)
        case "relayer":
            return Several([relayer_on(table, settings, db, clock, session) for table in settings.networks])
        case "facilitator":
            return facilitator_of(settings, clock, session)


def relayer_on(
    table: NetworkTable, settings: Settings, db: Database, clock: Callable[[], float], session: aiohttp.ClientSession
) -> Relayer:
    """Our own keys on one network. Their locks lie beside the database: one process sends, whatever the number."""
    folder = settings.store.path.parent
    return Relayer(
        network=table.network,
        pay_to=table.pay_to,
        rpc=Rpc(session, table.rpc_urls, chain_id=table.network.chain_id),
        keys=settings.relayer.private_keys,
        journal=StoredJournal(db),
        lock=lambda name: FileLock(folder / f"{settings.store.path.name}.relayer-{name}.lock"),
        clock=clock,
        limits=RelayerLimits(max_fee_wei=settings.relayer.max_fee_wei, gas_low_wei=settings.relayer.gas_low_wei),
        methods=table.methods,
        proof_depth=table.confirmations,
    )


def facilitator_of(settings: Settings, clock: Callable[[], float], session: aiohttp.ClientSession) -> Facilitator:
    """Somebody else's service; the chain is asked for the proof wherever there is an RPC url."""
    remote = settings.facilitator
    assert remote.url is not None, "settings were checked"
    return Facilitator(
        url=remote.url,
        http=session,
        places=[
            Place(table.network, table.pay_to, chain_of(table, session) if table.rpc_urls else None)
            for table in settings.networks
        ],
        clock=clock,
        credential=remote.credential,
        trust=remote.trust_facilitator,
    )


def chain_of(table: NetworkTable, session: aiohttp.ClientSession) -> OnChain:
    rpc = Rpc(session, table.rpc_urls, chain_id=table.network.chain_id)
    return OnChain(table.network, rpc, pay_to=table.pay_to, proof_depth=table.confirmations)


def deposits_of(
    settings: Settings,
    db: Database,
    session: aiohttp.ClientSession,
    clock: Callable[[], float],
    entropy: Callable[[int], bytes],
    alarm: Callable[[str, str], None] = lambda name, subject: None,
) -> Deposits:
    """Plain transfers, on every network that can be looked at; none where there is no address for them."""
    table, folder = settings.deposits, settings.store.path.parent
    watched = deposit_networks(settings)
    return Deposits(
        db=db,
        chains=[
            ChainArrivals(
                each.network, Rpc(session, each.rpc_urls, chain_id=each.network.chain_id), address=table.address
            )
            for each in watched
            if table.address is not None
        ],
        terms=DepositTerms(
            min_micros=table.min_micros,
            confirmations=table.confirmations,
            match=settings.deposit_match.rule,
            block_time_s={each.id: each.network.block_time_s for each in watched},
        ),
        lock=lambda name: FileLock(folder / f"{settings.store.path.name}.deposits-{name}.lock"),
        clock=clock,
        entropy=entropy,
        alarm=alarm,
    )


def deposit_networks(settings: Settings) -> list[NetworkTable]:
    table = settings.deposits
    if not table.enabled or table.address is None:
        return []
    return [each for each in settings.networks if each.rpc_urls]


def recovery_tokens(settings: Settings) -> dict[int, Token]:
    """By chain id: what an agent may send to be recovered. A token that cannot tell micro-dollars apart is none."""
    if not settings.wallet_recovery.enabled:
        return {}
    networks = [each.network for each in deposit_networks(settings)]
    fine = {network.chain_id: [token for token in network.tokens if token.decimals >= 6] for network in networks}
    return {chain: tokens[0] for chain, tokens in fine.items() if tokens}


async def subject_key(settings: Settings, db: Database, secret: bytes) -> SubjectKey:
    """By which people are known again. Raises SettingsError where those about whom nothing may be told would not be."""
    key = SubjectKey.of(secret)
    if (await db.read(stored_subjects.keys)) - {key.id}:
        raise SettingsError(
            (
                f"{key_file(settings)}: the suppression list was made with another key, and nobody on it would be "
                "known again: put the right file back, or take its entries off with `faregate subject unsuppress` and "
                "enter them anew",
            )
        )
    return key


def key_file(settings: Settings) -> Path:
    """Of the key that leads and people are hashed with."""
    path = settings.store.path
    return settings.wallet_recovery.key_file or path.with_name(f"{path.name}.leads-key")


def chain_wallets(settings: Settings, session: aiohttp.ClientSession) -> ChainWallets:
    """Whoever is asked about wallets that register, on each network that has somebody to ask."""
    return ChainWallets(
        {
            table.id: (table.network, Rpc(session, table.rpc_urls, chain_id=table.network.chain_id))
            for table in settings.networks
            if table.rpc_urls
        },
        looks_back_s=settings.registration.grant_looks_back_hours * 3600,
    )


def registration_terms(settings: Settings, settler: Settler | None, ours: frozenset[str]) -> RegistrationTerms:
    table, origin = settings.registration, settings.service.origin
    asked = [each for each in settings.networks if each.rpc_urls or (settler is not None and settler.sandbox)]
    return RegistrationTerms(
        site=Site(urlsplit(origin).netloc, origin),
        networks={each.network.chain_id: each.id for each in asked if table.enabled},
        policy=Policy(
            grant_micros=parse_usd(table.grant_usd),
            budget_micros=parse_usd(table.grant_budget_usd_per_day),
            least_micros=parse_usd(table.min_wallet_usd),
            once_per_dollar=table.grant_once_per_dollar,
        ),
        token_prefix=settings.service.token_prefix,
        ours=ours,
    )


def accepted_terms(settings: Settings, settler: Settler | None) -> tuple[Accepted, ...]:
    """What is accepted, in the order of the configuration: one entry a network and token."""
    if settler is None:
        return ()
    return tuple(
        Accepted(
            network=table.id,
            token=token,
            pay_to=table.pay_to,
            methods=table.methods,
            facilitator=next(iter(settler.facilitator_addresses(table.id)), None),
            sandbox=settler.sandbox,
            sponsored=token.eip2612 and settler.sponsors(table.id),
        )
        for table in settings.networks
        for token in table.network.tokens
    )


def identity_of(settings: Settings, accepted: tuple[Accepted, ...], clock: Callable[[], float]) -> Identity:
    service = settings.service
    return Identity(
        name=service.name,
        description=service.description,
        public_url=service.origin,
        version=__version__,
        updated=datetime.fromtimestamp(settings.changed_s or clock(), UTC).isoformat(timespec="seconds"),
        contact_email=service.contact_email,
        terms=accepted,
        anonymous=service.anonymous,
        sandbox=settings.sandbox,
        settle_wait_s=int(settings.settlement.wait_s),
        ownership_proofs=service.ownership_proofs,
        docs_url=service.docs_url,
        index_verification=service.index_verification,
        token_prefix=service.token_prefix,
        features=features_of(settings, accepted),
    )


def features_of(settings: Settings, accepted: Sequence[Accepted]) -> frozenset[str]:
    topups = {"topups"} if settings.deposits.enabled and accepted else set()
    transfers = {"transfers"} if deposit_networks(settings) else set()
    recovery = {"recovery"} if recovery_tokens(settings) else set()
    return frozenset(topups | transfers | recovery)


def forbidden_payers(settings: Settings, accepted: Sequence[Accepted], settler: Settler | None) -> frozenset[str]:
    """Addresses of our own, which cannot be customers."""
    ours = {terms.pay_to.lower() for terms in accepted}
    if settings.deposits.address is not None:
        ours.add(settings.deposits.address.lower())
    if settler is not None:
        ours |= {address.lower() for network in settler.networks for address in settler.facilitator_addresses(network)}
    return frozenset(ours)


def resting(sold: Sequence[Upstream], offerings: Mapping[str, Offering]) -> Callable[[str, float], int | None]:
    """`available(operation, now)` of the upstream that serves an operation."""
    serving = {o.operation.id: upstream for upstream in sold for o in upstream.offerings()}

    def available(operation: str, now: float) -> int | None:
        return serving[operation].available(operation, now) if operation in offerings else None

    return available


def edge_parts(
    settings: Settings,
    catalogue: Catalogue,
    identity: Identity,
    offers: Mapping[str, Offer],
    db: Database,
    tokens: Tokens,
    purchase: Purchase,
    jobs: Jobs,
    deposits: Deposits,
    registration: Registration,
    wallet_recovery: WalletRecovery,
    metrics: Metrics,
    limiter: Limiter,
    alarms: Alarms,
    settler: Settler | None,
    vendors: "Vendors",
    clock: Callable[[], float],
    entropy: Callable[[int], bytes],
) -> EdgeParts:
    limits = Limits(bytes_max=settings.limits.body_bytes, deadline_s=settings.limits.body_timeout_s)
    token = settings.service.operator_token

    def refusal(operation: Operation, problem: Problem, request_id: str) -> Challenge:
        key = ids.new_repeat_key(entropy(ids.ENTROPY_REPEAT_KEY_BYTES))
        return build_challenge(operation, offers[operation.id], problem, request_id, key, settings.sandbox)

    def for_job(wanted: job_door.Wanted) -> tuple[Requirements, ...]:
        operation = catalogue.get(job_door.ID)
        if operation is None:
            return ()
        asked = replace(operation, asks_micros=wanted.ceiling_micros, settle_first=wanted.settle_first)
        return requirements(asked, identity)

    def job_refusal(wanted: job_door.Wanted, problem: Problem, request_id: str) -> Challenge:
        operation = catalogue.get(job_door.ID)
        assert operation is not None, "only what is on sale is refused"
        ceiling = wanted.ceiling_micros
        shown = replace(
            operation, price=replace(operation.price, base_micros=ceiling), settle_first=wanted.settle_first
        )
        offer = offers[operation.id]._replace(accepts=for_job(wanted), resource=resource_of(shown, identity))
        key = ids.new_repeat_key(entropy(ids.ENTROPY_REPEAT_KEY_BYTES))
        return build_challenge(shown, offer, problem, request_id, key, settings.sandbox)

    topup = challenge_parts(deposit_door.operation(deposit_door.USUAL_MICROS), identity)
    # A listing is for what anybody can buy.
    topup = topup._replace(extensions={name: told for name, told in topup.extensions.items() if name != "bazaar"})

    def topup_refusal(
        operation: Operation, accepts: tuple[Requirements, ...], problem: Problem, request_id: str
    ) -> Challenge:
        key = ids.new_repeat_key(entropy(ids.ENTROPY_REPEAT_KEY_BYTES))
        offer = topup._replace(accepts=accepts)
        return build_challenge(operation, offer, problem, request_id, key, settings.sandbox)

    def unpaid(operation: Operation, request_id: str, repeat_key: str) -> Challenge | None:
        if operation.by_body:
            return None
        problem = Problem(Code.AGENT_TOKEN_REQUIRED, UNPAID)
        return build_challenge(operation, offers[operation.id], problem, request_id, repeat_key, settings.sandbox)

    door = JobDoor(
        jobs, tokens, catalogue, job_terms(settings), job_refusal, for_job, limits, webhook_terms(settings).refuse,
        limiter, metrics.call,
    )  # fmt: skip
    agent_door = Agents(
        db, tokens, catalogue, limits, clock, entropy, job_terms(settings).most_micros, settings.deposit_match.rule
    )
    money_door = DepositDoor(
        db, tokens, purchase, deposits, limits, limiter, tuple(each.network for each in deposit_networks(settings)),
        lambda operation: requirements(operation, identity), topup_refusal, settings.deposits.enabled, metrics.call,
    )  # fmt: skip
    recovery_door = WalletRecoveryDoor(
        wallet_recovery, settings.deposits.address or "", recovery_tokens(settings), settings.deposits.confirmations,
        limits, limiter,
    )  # fmt: skip
    sync = Paid(purchase, tokens, refusal, limits, metrics.call)
    filing = replace(sync, seller=Tickets(purchase, settings.support.open_max))
    ticket_door = TicketDoor(db, tokens, filing, settings.support.bug_credit_micros)

    async def paid(request: Request, operation: Operation) -> Response:
        match operation.id:
            case job_door.ID:
                return await door.submit(request, operation)
            case ticket.OPERATION:
                return await ticket_door.submit(request, operation)
            case _:
                return await sync(request, operation)

    async def ready() -> list[Fact]:
        await db.read(lambda tx: tx.execute("SELECT 1"))
        facts = [Fact("ledger", True)]
        if settler is not None:
            health = await settler.health()
            facts.append(Fact("settlement", health.ready, ", ".join(health.alarms)))
        return facts

    async def watch() -> Vitals:
        counts = await db.read(settlements.counts)
        by_state = {state.value: counts.get(state, 0) for state in State}
        jobs_open = await db.read(stored_jobs.open_counts)
        return Vitals(await alarms.levels(), by_state, jobs_open, vendors.standings(clock()))

    return EdgeParts(
        catalogue=catalogue,
        identity=identity,
        paid=paid,
        unpaid=unpaid,
        ready=ready,
        watch=watch,
        metrics=metrics,
        request_ids=RequestIds(int(clock() * 1000), entropy(ids.ENTROPY_ID_BYTES)),
        entropy=entropy,
        routes=[
            *agent_door.routes(),
            *money_door.routes(),
            *Statement(db, tokens).routes(),
            *WalletDoor(db, tokens, registration, limits, limiter, recovers=bool(wallet_recovery.networks)).routes(),
            *recovery_door.routes(),
            *UsageKeys(db, tokens, catalogue, limits, clock, entropy, jobs.revoke_key).routes(),
            *Charges(db, tokens, limiter).routes(),
            *door.routes(),
            *ticket_door.routes(),
        ],
        limits=limits,
        limiter=limiter,
        origins=settings.service.allowed_origins,
        trusted_proxies=settings.service.trusted_proxies,
        operator_token_hash=ids.token_hash(token.get_secret_value()) if token else None,
    )


UNPAID = "pay this call with x402, or bring an agent's bearer token with enough balance"


def build_challenge(
    operation: Operation, offer: Offer, problem: Problem, request_id: str, repeat_key: str, sandbox: bool
) -> Challenge:
    """The 402 of an operation with the reason for it."""
    fields = {
        "request_id": request_id,
        "price_usd": format_usd(operation.price.base_micros),
        "billing_reason": "payment_required",
        **({"settle": operation.settle} if operation.settle_first else {}),
        # A client reads the reason's word; whoever reads the answer himself is told in a sentence.
        **({"message": problem.message} if problem.reason else {}),
        **problem.details,
    }
    return challenge.build(
        resource=offer.resource,
        accepts=offer.accepts,
        extensions=offer.extensions,
        repeat_key=repeat_key,
        error=problem.reason or problem.message,
        code=problem.code,
        fields={**fields, "sandbox": True} if sandbox else fields,
    )


async def _cancelled(tasks: Sequence["asyncio.Task[None]"]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
