"""How often a caller may ask for what costs nothing: so many times in a window, by address, by token, by wallet.

    documents    documents, listings, health, and paths where nothing is      by address
    unpaid       unpaid 402s                                                  by address
    balance      an agent about itself                                        by token, and by agent or usage key
    polls        jobs and charges                                             by token, and by agent or usage key
    changes      an agent's tokens, keys, webhook secret and wallets          by agent
    bad_tokens   of these, what brought a token that opens nothing            by address
    misses       look-ups that found nothing and were free                    by agent or paying wallet
    claims       of deposits, each of which asks the chain                    by agent
    nonces       messages for a wallet to sign                                by address
    registrations, recoveries: what wallets begin                by address, and by wallet once it has proven itself

An address is an IPv4 address, or the /64 that an IPv6 caller owns whole; its network (/24, /48) has a few times as
much, but of bad tokens: 32 random bytes need no guard against guesses, that limit saves look-ups, and neighbours must
not shut each other out by it. A token that has opened something lately is looked up whatever its address has tried.
This machine itself has no limit: what comes from there without another address is its operator, or a proxy that
is not in trusted_proxies, and to count all of its callers as one would shut them out together.

A token is easily had anew, so once it is known whose it is, the agent counts: all tokens it has had together, and each
of its usage keys for itself. An agent with all its keys has a few times as much, as a network has.

Whatever anybody may do in a wallet's name is not counted for that wallet: else anybody could shut it out (F-124).

Nobody is refused a call that he pays for: misses are looked at before anything is held or claimed, and only for new
work. Windows begin with their first request, are counted by a clock that never jumps (F-177), by each process for
itself, and there are at most so many of them: a flood of addresses makes the oldest forgotten, nothing else.
"""

import hashlib
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

from limits import RateLimitItem, parse_many
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter
from starlette.requests import Request

from gateway.core.agent import Principal
from gateway.core.errors import Code, Problem
from gateway.edge.visit import Standing, Visit, counted_as, visit_of

ADDRESS_ALONE = frozenset({"bad_tokens"})
"""Not counted for the network as well."""
OPENED_MAX = 20_000
"""Tokens that have opened something lately; about 3 MB."""
WINDOWS_MAX = 20_000
"""For each limit and level; about 5 MB where all are full."""
QUIET = frozenset({"documents", "unpaid"})
"""What everybody gets in the same bytes, from caches too, tells of a limit only where it is reached."""
OF_AGENTS = frozenset({"balance", "polls"})
OPENS_NOTHING = frozenset({Code.INVALID_TOKEN, Code.NOT_FOUND, Code.JOB_NOT_FOUND})

Monotonic = Callable[[], float]
Asks = Callable[[Principal | None], None]
"""Tells a limit who it is that asks, where that is an agent. Raises Problem RATE_LIMITED."""


class Windows(Storage):
    """The storage of `limits` for one limit: in memory, on the clock it is given, and bounded. All windows are of one
    length, so the one that began first ends first, and what has ended is dropped when something new begins."""

    STORAGE_SCHEME = None

    def __init__(self, monotonic: Monotonic, windows_max: int = WINDOWS_MAX) -> None:
        super().__init__()
        self._monotonic = monotonic
        self._windows_max = windows_max
        self._windows: OrderedDict[str, tuple[int, float]] = OrderedDict()
        """Key -> (how often, until when)."""

    def __len__(self) -> int:
        return len(self._windows)

    @property
    def base_exceptions(self) -> tuple[type[Exception], ...]:
        return ()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        now_s = self._monotonic()
        count, ends_s = self._windows.get(key, (0, 0.0))
        if not count or ends_s <= now_s:
            self._make_room(now_s)
            self._windows.pop(key, None)
            count, ends_s = 0, now_s + expiry
        self._windows[key] = (count + amount, ends_s)
        return count + amount

    def _make_room(self, now_s: float) -> None:
        while self._windows:
            first = next(iter(self._windows))
            if self._windows[first][1] > now_s and len(self._windows) < self._windows_max:
                return
            del self._windows[first]

    def get(self, key: str) -> int:
        count, ends_s = self._windows.get(key, (0, 0.0))
        return count if ends_s > self._monotonic() else 0

    def get_expiry(self, key: str) -> float:
        now_s = self._monotonic()
        return max(now_s, self._windows.get(key, (0, now_s))[1])

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)


class Quota:
    """One `n per period` of one kind, for addresses, networks or whatever a door names."""

    def __init__(self, kind: str, name: str, item: RateLimitItem, monotonic: Monotonic) -> None:
        self.kind = kind
        self.windows = Windows(monotonic)
        self._name = name
        self._item = item
        self._monotonic = monotonic
        self._limiter = FixedWindowRateLimiter(self.windows)

    def hit(self, key: str) -> Standing:
        within = self._limiter.hit(self._item, key)
        return self._standing(key, exceeded=not within)

    def look(self, key: str) -> Standing:
        """The same for one more, which is not counted."""
        within = self._limiter.test(self._item, key)
        return self._standing(key, exceeded=not within)

    def is_beyond(self, key: str) -> bool:
        """`hit` for where microseconds count: a third of its cost, and nothing is told but whether it was too much."""
        return self.windows.incr(key, self._item.get_expiry()) > self._item.amount

    def standing(self, key: str) -> Standing:
        """Of whoever `is_beyond`."""
        ends_s = self.windows.get_expiry(key)
        return self._told(0, ends_s, exceeded=True)

    def _standing(self, key: str, *, exceeded: bool) -> Standing:
        stats = self._limiter.get_window_stats(self._item, key)
        return self._told(max(0, stats.remaining), stats.reset_time, exceeded=exceeded)

    def _told(self, remaining: int, ends_s: float, *, exceeded: bool) -> Standing:
        reset_s = max(1, math.ceil(ends_s - self._monotonic()))
        return Standing(self._name, self._item.amount, self._item.get_expiry(), remaining, reset_s, exceeded)


class Limiter:
    """Every limit of a gateway. A kind without one costs nothing; without any it lets everything pass."""

    def __init__(
        self,
        limits: Mapping[str, str],
        *,
        monotonic: Monotonic,
        network_times: int = 8,
        refused: Callable[[str], None] = lambda kind: None,
    ) -> None:
        """`limits`: kind -> "n per period", several parted by semicolons, or "" for none. `refused` hears the kind of
        every refusal. Raises ValueError for what cannot be read."""
        self._refused = refused
        self._quotas: dict[str, list[Quota]] = {}
        self._networks: dict[str, list[Quota]] = {}
        self._principals: dict[str, list[Quota]] = {}
        self._agents: dict[str, list[Quota]] = {}
        for kind, text in limits.items():
            items = parse_many(text) if text else []
            for item in items:
                name = kind if len(items) == 1 else f"{kind}-{item.get_expiry()}"
                self._quotas.setdefault(kind, []).append(Quota(kind, name, item, monotonic))
                several = type(item)(item.amount * network_times, item.multiples)
                if kind not in ADDRESS_ALONE:
                    self._networks.setdefault(kind, []).append(Quota(kind, f"{name}-network", several, monotonic))
                if kind in OF_AGENTS:
                    # Of their own: nobody fills these with names that he makes up.
                    self._principals.setdefault(kind, []).append(Quota(kind, name, item, monotonic))
                    self._agents.setdefault(kind, []).append(Quota(kind, f"{name}-agent", several, monotonic))
        self._opened: OrderedDict[bytes, None] = OrderedDict()
        """Hashes of tokens that have opened something, the latest last."""

    # for the doors

    def caller(self, kind: str, visit: Visit) -> None:
        """Counts a request for its address and network. Raises Problem RATE_LIMITED."""
        for quota, key in self._of_address(kind, visit.client):
            self._judge(quota, quota.hit(key), visit)

    def hit(self, kind: str, key: str, visit: Visit | None = None) -> None:
        """Counts a request for whatever it names: an agent, a wallet in lower case. Ask after `caller`, so that nobody
        fills the table with names that he makes up. Raises Problem RATE_LIMITED."""
        for quota in self._quotas.get(kind, ()):
            self._judge(quota, quota.hit(key), visit)

    @contextmanager
    def asking(self, kind: str, request: Request) -> Iterator[Asks]:
        """Around a read by whoever holds a token: counts for the token before anything is looked up, for the agent
        when it is known, by what this yields, and for the address what brought one that opens nothing. Raises Problem
        RATE_LIMITED, and what is raised within."""
        visit = visit_of(request)
        shown = request.headers.get("x-charge-token") or request.headers.get("authorization", "")
        token_hash = hashlib.sha256(shown.split()[-1].encode("latin-1", "replace")).digest() if shown.strip() else None
        guesses = list(self._of_address("bad_tokens", visit.client))
        if token_hash not in self._opened:
            for quota, key in guesses:
                standing = quota.look(key)
                if standing.exceeded:
                    self._judge(quota, standing, visit)
        if token_hash is not None:
            self.hit(kind, token_hash.hex(), visit)
        else:
            self.caller(kind, visit)
        try:
            yield partial(self._asks, kind, visit)
        except Problem as problem:
            if problem.code in OPENS_NOTHING:
                for quota, key in guesses:
                    quota.hit(key)
            if problem.code is Code.INVALID_TOKEN and token_hash is not None:
                self._opened.pop(token_hash, None)
            raise
        if token_hash is not None:
            self.opened(token_hash)

    def _asks(self, kind: str, visit: Visit, principal: Principal | None) -> None:
        if principal is None:
            return
        for quota in self._principals.get(kind, ()):
            self._judge(quota, quota.hit(principal.key_id or principal.agent_id), visit)
        for quota in self._agents.get(kind, ()):
            self._judge(quota, quota.hit(principal.agent_id), visit)

    def opened(self, token_hash: bytes) -> None:
        """A token of this hash (gateway/core/ids.py) was good just now."""
        self._opened[token_hash] = None
        self._opened.move_to_end(token_hash)
        if len(self._opened) > OPENED_MAX:
            self._opened.popitem(last=False)

    # for unpaid 402s, which cost little enough that this shows

    def unpaid(self, client: str) -> Standing | None:
        """Counts one; the standing of an address that has had too many."""
        for quota, key in self._of_address("unpaid", client):
            if quota.is_beyond(key):
                self._refused(quota.kind)
                return quota.standing(key)
        return None

    # for paid calls

    def require_probe(self, party: str) -> None:
        """That this agent or wallet may look for something new. Raises Problem RATE_LIMITED: then nothing was held."""
        for quota in self._quotas.get("misses", ()):
            standing = quota.look(party)
            if standing.exceeded:
                self._judge(quota, standing, None)

    def missed(self, party: str) -> None:
        """Something was looked for in vain, and for nothing (F-117)."""
        for quota in self._quotas.get("misses", ()):
            quota.hit(party)

    @property
    def windows(self) -> int:
        """How many are remembered, of all kinds."""
        kinds = (self._quotas, self._networks, self._principals, self._agents)
        return sum(len(q.windows) for each in kinds for several in each.values() for q in several)

    def _of_address(self, kind: str, client: str) -> Iterator[tuple[Quota, str]]:
        quotas = self._quotas.get(kind)
        counted = counted_as(client) if quotas else None
        if quotas and counted is not None:
            address, network = counted
            yield from ((quota, address) for quota in quotas)
            yield from ((quota, network) for quota in self._networks.get(kind, ()))

    def _judge(self, quota: Quota, standing: Standing, visit: Visit | None) -> None:
        if visit is not None and (standing.exceeded or quota.kind not in QUIET):
            visit.stands(standing)
        if standing.exceeded:
            self._refused(quota.kind)
            raise refusal(standing)


def refusal(standing: Standing) -> Problem:
    return Problem(
        Code.RATE_LIMITED,
        f"too many requests: {standing.quota} in {standing.window_s} s are allowed; nothing was charged, ask later",
        details={"limit": standing.policy, "quota": standing.quota, "window_seconds": standing.window_s},
        retry_after_s=standing.reset_s,
    )
