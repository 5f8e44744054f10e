"""SEC EDGAR: listed firms, with phone and business address. Free; it wants to know who asks, and no more than 10
questions a second.

Two steps: the list of all names (company_tickers.json, a megabyte, kept for a day), then the filer's own record
(submissions/CIK##########.json). `User-Agent` names a contact: without one it is 403, which here is our own fault.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

from gateway.core.upstream import Context
from upstreams.firms import Firm, FirmQuestion, Firms, alike, bare_domain, core_name
from upstreams.http_api.answers import Unusable, read_json
from upstreams.persons import Source
from upstreams.provider import ErrorClass, HttpAsk, Line, Outcome, ProviderTerms, Reply, ask, by_status, failed
from upstreams.providers import tolerant
from upstreams.providers.tolerant import several, table, tables, text

NAME: Final = "sec_edgar"
LIST_URL: Final = "https://www.sec.gov"
URL: Final = "https://data.sec.gov"
_KEPT_S: Final = 86_400
_LIST_BYTES_MAX: Final = 16 * 1024 * 1024
_OFFICIAL: Final = 0.9
_LIKE_MIN: Final = 0.90


class Listed(NamedTuple):
    core: str
    """The name as names of firms are compared."""
    cik: int
    ticker: str


Names = tuple[Listed, ...]


@dataclass(frozen=True, slots=True)
class _List:
    """upstreams.provider.Provider[None, Names]."""

    agent: str
    terms: ProviderTerms
    line: Line
    url: str
    name: str = NAME
    family: str = NAME

    def asks(self, question: None, /) -> HttpAsk | None:
        agent = {"User-Agent": self.agent}
        return HttpAsk(f"{self.url}/files/company_tickers.json", headers=agent, bytes_max=_LIST_BYTES_MAX)

    def read(self, question: None, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Names]:
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        rows = answer.values() if isinstance(answer, dict) else ()
        listed = tuple(
            Listed(core_name(text(row.get("title"))), row["cik_str"], text(row.get("ticker")))
            for row in rows
            if isinstance(row, dict) and type(row.get("cik_str")) is int and text(row.get("title"))
        )
        return Reply(Outcome.MATCH, listed) if listed else failed(ErrorClass.SHAPE)


@dataclass(frozen=True, slots=True)
class _Record:
    """upstreams.provider.Provider[int, Firm]: a filer by its number."""

    agent: str
    terms: ProviderTerms
    line: Line
    url: str
    name: str = NAME
    family: str = NAME

    def asks(self, question: int, /) -> HttpAsk | None:
        agent = {"User-Agent": self.agent}
        url = f"{self.url}/submissions/CIK{question:010}.json"
        return HttpAsk(url, headers=agent, bytes_max=_LIST_BYTES_MAX)

    def read(self, question: int, status: int, headers: Mapping[str, str], body: bytes, /) -> Reply[Firm]:
        if status == 404:
            return Reply(Outcome.NO_MATCH)
        refused = by_status(status)
        if refused is not None:
            return refused
        try:
            answer = read_json(body)
        except Unusable:
            return failed(ErrorClass.SHAPE)
        firm = _firm(table(answer), question)
        return Reply(Outcome.MATCH, firm) if firm else failed(ErrorClass.SHAPE)


@dataclass(slots=True)
class SecEdgar:
    """upstreams.provider.LocalProvider[FirmQuestion, Firms]: it asks in two steps of its own."""

    user: str
    """Who asks: a name and an address, as "Example Data you@example.com"."""
    terms: ProviderTerms
    line: Line
    url: str = ""
    """In tests both of its hosts."""
    name: str = NAME
    family: str = NAME
    _names: Names = field(default=(), repr=False)
    _read_s: float = 0.0

    async def look(self, question: FirmQuestion, context: Context, /) -> Reply[Firms]:
        if not question.name:
            return Reply(Outcome.SKIPPED)
        inner = replace(context, bought=lambda call: None)  # whoever asks us records it, as one
        if not self._names or context.now() - self._read_s > _KEPT_S:
            listing = _List(self.user, self.terms, self.line, self.url or LIST_URL)
            # The whole list has no place in a job's journal, and is for nothing to be had again.
            names = await ask(listing, None, replace(inner, journal=None), hop="list")
            if names.found is None:
                return Reply(names.outcome, error=names.call.error, retry_after_s=names.retry_after_s)
            self._names, self._read_s = names.found, context.now()
        listed = await asyncio.to_thread(_likest, question.name, self._names)
        if listed is None:
            return Reply(Outcome.NO_MATCH, Firms())
        record = _Record(self.user, self.terms, self.line, self.url or URL)
        tried = await ask(record, listed.cik, inner, hop="record")
        firms = Firms((tried.found,)) if tried.found is not None else Firms()
        return Reply(tried.outcome, firms, error=tried.call.error, retry_after_s=tried.retry_after_s)


def _likest(name: str, names: Names) -> Listed | None:
    """The one listed name that is most like it; of several alike the first, which has the largest market value."""
    core = core_name(name)
    same = next((one for one in names if one.core == core), None)
    if same is not None or len(core) < 4:
        return same
    close = [one for one in names if one.core[:2] == core[:2]]
    likeness, best = max(((alike(core, one.core), one) for one in close), key=lambda pair: pair[0], default=(0.0, None))
    return best if likeness >= _LIKE_MIN else None


def _firm(record: Mapping[str, Any], cik: int) -> Firm | None:
    name = text(record.get("name"))
    if not name:
        return None
    source = Source(NAME, f"{NAME}#{cik:010}")
    addresses = table(record.get("addresses"))
    tickers = [text(ticker) for ticker in several(record.get("tickers")) if text(ticker)]
    return Firm(
        source=source,
        name=name,
        aliases=tuple(filter(None, (text(each.get("name")) for each in tables(record.get("formerNames"))))),
        domain=bare_domain(text(record.get("website"))),
        website=text(record.get("website")),
        phones=tolerant.unique_phones([tolerant.a_phone(record.get("phone"), _OFFICIAL, source)]),
        addresses=tolerant.some(_address(table(addresses.get(kind)), source) for kind in ("business", "mailing")),
        identifiers={
            "cik": f"{cik:010}",
            **({"ein": text(record.get("ein"))} if text(record.get("ein")).strip("0") else {}),
            **({"ticker": tickers[0]} if tickers else {}),
        },
        industry=text(record.get("sicDescription")) or None,
        jurisdiction=text(record.get("stateOfIncorporation")) or None,
        score=_OFFICIAL,
    )


def _address(record: Mapping[str, Any], source: Source) -> Any:
    return tolerant.an_address(
        source, _OFFICIAL, line1=text(record.get("street1")).title(), line2=text(record.get("street2")).title(),
        city=text(record.get("city")).title(), state=record.get("stateOrCountry"), zip=record.get("zipCode"),
    )  # fmt: skip
