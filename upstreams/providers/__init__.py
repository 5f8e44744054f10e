"""Whom we buy from: one file for each, and here the list of them.

A new one is a file with a class (upstreams/provider.py has the contract) and a line in KINDS.
"""

import base64
import difflib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Any, NamedTuple

from gateway.core.addresses import refuse_url
from gateway.core.vendor_call import Standing
from upstreams.leaks import Leaks
from upstreams.provider import AnyProvider, Line, ProviderTerms
from upstreams.providers import (
    apollo,
    brave,
    enformion_go,
    exa,
    gleif,
    hunter,
    npi,
    open_corporates,
    people_data_labs,
    searxng,
    sec_edgar,
    serper,
    tavily,
    trestle,
    twilio,
    whitepages,
)
from upstreams.providers.apollo import Apollo, ApolloFirms
from upstreams.providers.brave import Brave
from upstreams.providers.enformion_go import EnformionGo
from upstreams.providers.exa import Exa
from upstreams.providers.gleif import Gleif
from upstreams.providers.hunter import Hunter
from upstreams.providers.local_directory import NAME as LOCAL
from upstreams.providers.npi import Npi
from upstreams.providers.open_corporates import OpenCorporates
from upstreams.providers.people_data_labs import PeopleDataLabs, PeopleDataLabsFirms
from upstreams.providers.searxng import Searxng
from upstreams.providers.sec_edgar import SecEdgar
from upstreams.providers.serper import Serper
from upstreams.providers.tavily import Tavily
from upstreams.providers.trestle import Trestle
from upstreams.providers.twilio import Twilio
from upstreams.providers.whitepages import Whitepages

PHONE, PERSON, EMAIL, COMPANY = "enrich/phone", "enrich/person", "enrich/email", "enrich/company"
WEBSEARCH = "enrich/websearch"
_NOT_LOCAL = (EMAIL, COMPANY)
"""What the directory is not asked for."""


@dataclass(frozen=True, slots=True)
class Account:
    """A `[providers.NAME]` table: what an operator has with a provider. "" and None: not said."""

    key: str = field(default="", repr=False)
    user: str = ""
    url: str = ""
    score_min: float | None = None
    cost_per_call_micros: int | None = None
    cost_per_match_micros: int | None = None
    bill_misses: bool | None = None
    timeout_s: float = 10.0
    repeatable: bool = False
    private: bool = False
    requests_per_min: int | None = None
    quota_low: int | None = None
    line: Line = field(default_factory=Line, init=False, repr=False, compare=False)
    """The one to it in this process: whoever buys of it shares it."""

    def __post_init__(self) -> None:
        login = base64.b64encode(f"{self.user}:{self.key}".encode()).decode()
        self.line.leaks = Leaks((self.key, login) if self.key else ())

    def standing(self, now_s: float) -> Standing:
        return self.line.standing(now_s, self.quota_low)

    def terms(self, kind: "Kind") -> ProviderTerms:
        return ProviderTerms(
            cost_per_call_micros=self.cost_per_call_micros or 0,
            cost_per_match_micros=self.cost_per_match_micros or 0,
            bill_misses=kind.bills_misses if self.bill_misses is None else self.bill_misses,
            timeout_s=self.timeout_s,
            repeatable=self.repeatable,
            private=self.private,
            requests_per_min=self.requests_per_min,
        )


Build = Callable[[Account, ProviderTerms, Mapping[str, Any]], AnyProvider[Any, Any]]
"""`(account, its terms, {"url": ..., "score_min": ...} as far as they are set)`."""


class Kind(NamedTuple):
    """One of those we can buy from."""

    serves: tuple[str, ...]
    """Ids of operations, of which it can be one of the providers."""
    needs: tuple[str, ...]
    """Settings it cannot do without."""
    bills_misses: bool
    """Whether a miss costs what a call costs, where the operator does not say."""
    build: Build
    others: Mapping[str, Build] = MappingProxyType({})
    """By operation, where that asks another kind of question."""
    free: bool = False
    """Whether it takes nothing from anybody."""


def _by_key(provider: Callable[..., AnyProvider[Any, Any]]) -> Build:
    return lambda has, terms, more: provider(has.key, terms, has.line, **more)


def _by_login(provider: Callable[..., AnyProvider[Any, Any]]) -> Build:
    return lambda has, terms, more: provider(has.user, has.key, terms, has.line, **more)


def _open(provider: Callable[..., AnyProvider[Any, Any]]) -> Build:
    return lambda has, terms, more: provider(terms, has.line, **more)


def _by_name(provider: Callable[..., AnyProvider[Any, Any]], requests_per_min: int) -> Build:
    """`requests_per_min` is what it asks for itself."""
    return lambda has, terms, more: provider(has.user, _paced(terms, requests_per_min), has.line, **more)


def _by_nothing(provider: Callable[..., AnyProvider[Any, Any]], requests_per_min: int) -> Build:
    return lambda has, terms, more: provider(_paced(terms, requests_per_min), has.line, **more)


def _paced(terms: ProviderTerms, requests_per_min: int) -> ProviderTerms:
    return replace(terms, requests_per_min=terms.requests_per_min or requests_per_min, repeatable=True)


_PEOPLE = (PHONE, PERSON)
_WEB = (WEBSEARCH,)
_FIRMS = (COMPANY, WEBSEARCH)
REGISTRIES = frozenset((sec_edgar.NAME, gleif.NAME, npi.NAME))
"""Public records of firms: asked about a firm, wherever they are asked."""
KINDS: Mapping[str, Kind] = {
    whitepages.NAME: Kind(_PEOPLE, ("key",), True, _by_key(Whitepages)),
    trestle.NAME: Kind(_PEOPLE, ("key",), True, _by_key(Trestle)),
    people_data_labs.NAME: Kind(
        (*_PEOPLE, EMAIL, COMPANY), ("key",), False, _by_key(PeopleDataLabs), {COMPANY: _by_key(PeopleDataLabsFirms)}
    ),
    twilio.NAME: Kind(_PEOPLE, ("user", "key"), True, _by_login(Twilio)),
    enformion_go.NAME: Kind(_PEOPLE, ("user", "key"), True, _by_login(EnformionGo)),
    hunter.NAME: Kind((EMAIL,), ("key",), False, _by_key(Hunter)),
    apollo.NAME: Kind((EMAIL, COMPANY), ("key",), False, _by_key(Apollo), {COMPANY: _by_key(ApolloFirms)}),
    sec_edgar.NAME: Kind(_FIRMS, ("user",), False, _by_name(SecEdgar, 500), free=True),
    gleif.NAME: Kind(_FIRMS, (), False, _by_nothing(Gleif, 60), free=True),
    npi.NAME: Kind(_FIRMS, (), False, _by_nothing(Npi, 300), free=True),
    open_corporates.NAME: Kind((COMPANY,), ("key",), True, _by_key(OpenCorporates)),
    searxng.NAME: Kind(_WEB, ("url",), True, _open(Searxng), free=True),
    tavily.NAME: Kind(_WEB, (), True, _by_key(Tavily)),
    brave.NAME: Kind(_WEB, ("key",), True, _by_key(Brave)),
    exa.NAME: Kind(_WEB, ("key",), True, _by_key(Exa)),
    serper.NAME: Kind(_WEB, ("key",), True, _by_key(Serper)),
}
"""By the name of their table. Their order is that in which they are asked where the operator names none."""

_NEEDED = {"key": "what it knows you by", "user": "the login beside the key", "url": "where yours is"}


def built(accounts: Mapping[str, Account], operation: str = "") -> dict[str, AnyProvider[Any, Any]]:
    """One of each. With an `operation` those that answer its kind of question: they share the account's line."""
    providers = {}
    for name, kind in KINDS.items():
        if (account := accounts.get(name)) is not None:
            more = {"url": account.url.rstrip("/"), "score_min": account.score_min}
            said = {key: value for key, value in more.items() if value}
            build = kind.others.get(operation, kind.build)
            providers[name] = build(account, account.terms(kind), said)
    return providers


def order(operation: str, accounts: Mapping[str, Account], waterfalls: Mapping[str, Sequence[str]]) -> tuple[str, ...]:
    """Whose turn it is when: as the operator says, else the directory and then whoever is configured."""
    if operation in waterfalls:
        return tuple(waterfalls[operation])
    local = () if operation in _NOT_LOCAL else (LOCAL,)
    return (*local, *(name for name, kind in KINDS.items() if name in accounts and operation in kind.serves))


def mistakes(
    accounts: Mapping[str, Account], waterfalls: Mapping[str, Sequence[str]], prices: Mapping[str, int]
) -> Iterator[str]:
    """One line a mistake: its place, a colon, what is wrong and its mend. `prices` are of the operations that can be
    bought for, in micro-USD."""
    for name, account in accounts.items():
        kind = KINDS.get(name)
        if kind is None:
            yield f"[providers.{name}]: there is no such provider{_meant(name, KINDS)}"
            continue
        for needed in kind.needs:
            if not getattr(account, needed).strip():
                what = _NEEDED[needed]
                if kind.free and needed == "user":
                    what = "who asks, with an address: it answers nobody else"
                yield f'[providers.{name}] {needed}: is missing: {what}, as "${{{name.upper()}_{needed.upper()}}}"'
        if not kind.free and account.cost_per_call_micros is None and account.cost_per_match_micros is None:
            yield (
                f"[providers.{name}] cost_per_call: is missing: the USD it takes for a call, such as "
                f'"0.10", or cost_per_match where it takes nothing for a miss; "0" where it takes nothing'
            )
        if account.score_min is not None and not hasattr(kind.build(account, account.terms(kind), {}), "score_min"):
            yield f"[providers.{name}] score_min: it gives no score of its own; remove this"
        if account.url and (refusal := refuse_url(account.url, private=account.private)) is not None:
            yield f"[providers.{name}] url: {refusal.message}"
        yield from _unaffordable(name, account, kind, waterfalls, prices)
    for operation, named in waterfalls.items():
        yield from _in_waterfall(operation, named, accounts)


def _unaffordable(
    name: str, account: Account, kind: Kind, waterfalls: Mapping[str, Sequence[str]], prices: Mapping[str, int]
) -> Iterator[str]:
    most = account.terms(kind).most_micros
    for operation in kind.serves:
        asked = name in waterfalls.get(operation, (name,))
        if asked and operation in prices and most > prices[operation]:
            yield (
                f"[providers.{name}] cost_per_call: it can take more than {operation} is sold for, and would never be "
                f"asked: raise the price, or leave it out of [waterfalls]"
            )


def _in_waterfall(operation: str, named: Sequence[str], accounts: Mapping[str, Account]) -> Iterator[str]:
    where = f'[waterfalls] "{operation}"'
    sold = sorted({served for kind in KINDS.values() for served in kind.serves})
    if operation not in sold:
        yield f"{where}: nothing is bought for such an operation{_meant(operation, sold)}"
        return
    if not named:
        yield f"{where}: names nobody: remove it, or name whom to ask"
    for number, name in enumerate(named):
        if name in named[:number]:
            yield f"{where}: {name} stands there twice"
        elif name == LOCAL and operation not in _NOT_LOCAL:
            continue
        elif name == LOCAL or (name in KINDS and operation not in KINDS[name].serves):
            yield f"{where}: {name} has no answer to this"
        elif name not in KINDS:
            yield f"{where}: there is no provider {name}{_meant(name, (LOCAL, *KINDS))}"
        elif name not in accounts:
            yield f"{where}: {name} is not configured: add [providers.{name}]"


def _meant(name: str, known: Mapping[str, Any] | Sequence[str]) -> str:
    close = difflib.get_close_matches(name, sorted(known), 1)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(sorted(known))}"
