"""Registering by wallet: the order in which a stranger's signature is believed.

    invite      a message to sign, and nothing is kept of it
    read        nonce, expiry and message, against what we would have written: no I/O but the nonces' key, read once
    recover     the signature, by hand: an account with a key is sure after this
    look up     whether the nonce was used
    ask         the chain, now at last: a contract for its word; then, of a wallet that is not known where it has proven
                itself, its money and where that came from
    write       the nonce's mark, agent, token, wallet and grant in one transaction

Until the last step nothing is consumed: whoever was refused, or found the chain out of reach, signs nothing anew but
shows the same signature again. A known wallet is told whose it is, and never gets a token: it may be somebody else who
holds the key by now (F-127), and a token is shown once.

Chains are asked for few at a time (gateway/flows/turns.py).
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import structlog

from gateway.core import ids, siwe
from gateway.core.agent import Principal
from gateway.core.errors import Code, Problem
from gateway.core.grant import Policy, Withheld
from gateway.core.money import format_usd
from gateway.core.networks import checksum_address
from gateway.core.siwe import Invitation, Purpose, Site
from gateway.core.x402.typed_data import recover
from gateway.flows.turns import RETRY_S, Turns
from gateway.settlement.protocol import SignedText, Unknown, Wallets
from gateway.store import agents, registrations
from gateway.store.database import Database
from gateway.store.registrations import Funds, Newcomer, NotLinked, Proof, Registered

log = structlog.get_logger("registration")

ASKING_MAX, WAITING_MAX = 16, 64
"""Wallets that a chain is asked about at once, and those that may wait for it."""
CLOCK_SKEW_S = 60
ERC6492 = bytes.fromhex("6492" * 16)
"""How a signature ends whose wallet stands nowhere yet."""


@dataclass(frozen=True, slots=True)
class Terms:
    site: Site
    networks: Mapping[int, str]
    """chain id -> `eip155:8453`, the one to propose first."""
    policy: Policy
    token_prefix: str
    ours: frozenset[str] = frozenset()
    """Addresses of our own, in lower case, which cannot be customers."""


@dataclass(frozen=True, slots=True)
class Invited:
    """What a wallet is asked to sign."""

    invitation: Invitation
    nonce: str
    message: str
    allowance_message: str | None


@dataclass(frozen=True, slots=True)
class Signed:
    """What somebody says that a wallet has signed."""

    address: str
    """Lower case."""
    nonce: str
    message: str
    signature: bytes = field(repr=False)
    allowance_signature: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Admitted:
    """An answer to a wallet: `token` for a new agent, this once."""

    registered: Registered
    chain_id: int
    token: str | None = field(default=None, repr=False)


class Registration:
    def __init__(
        self,
        *,
        db: Database,
        wallets: Wallets | None,
        terms: Terms,
        clock: Callable[[], float],
        entropy: Callable[[int], bytes],
        signs: Callable[[str], None] = lambda address: None,
    ) -> None:
        """Without `wallets`, or a network to ask about them, nobody is registered. `signs(address)` is told of every
        wallet that has signed, and raises Problem for one that does it too often: nobody else can do it for it."""
        self._db = db
        self._wallets = wallets if terms.networks else None
        self.terms = terms
        self._clock = clock
        self._entropy = entropy
        self._signs = signs
        self._key: bytes | None = None
        self._turns = Turns(
            ASKING_MAX,
            WAITING_MAX,
            "many wallets register just now; nothing was consumed, show the same signature again",
        )

    async def invite(
        self, address: str, chain_id: int | None, allowance_micros: int, agent: Principal | None
    ) -> Invited:
        """`address` in lower case; `agent`: to whom the wallet is to be linked. Raises Problem."""
        self._open()
        networks = self.terms.networks
        chain_id = next(iter(networks)) if chain_id is None else chain_id
        if chain_id not in networks:
            taken = ", ".join(map(str, networks))
            raise Problem(Code.VALIDATION_ERROR, f"wallets of this chain are not registered here; taken are {taken}")
        if address in self.terms.ours:
            raise Problem(Code.VALIDATION_ERROR, "this address is the gateway's own")
        invitation = Invitation(
            Purpose.LINK if agent else Purpose.REGISTER, address, chain_id, int(self._clock()), allowance_micros,
            self._entropy(siwe.SALT_BYTES), agent.agent_id if agent else "",
        )  # fmt: skip
        nonce = siwe.nonce(invitation, await self._nonce_key())
        site = self.terms.site
        return Invited(
            invitation, nonce, siwe.message(invitation, nonce, site), siwe.allowance_message(invitation, nonce, site)
        )

    async def register(self, signed: Signed, label: str) -> Admitted:
        """An agent for a wallet that has none. Raises Problem SIGNATURE_INVALID, NONCE_EXPIRED, NONCE_USED,
        WALLET_BALANCE_TOO_LOW, BALANCE_CHECK_UNAVAILABLE."""
        invitation = await self._read(signed, Purpose.REGISTER)
        standing = await self._db.read(registrations.standing, signed.nonce)
        if standing.used:
            raise _used()
        proof = await self._prove(signed, invitation)
        if await self._db.read(registrations.is_known, proof):
            registered = await self._db.write(registrations.sign_in, proof)
            token = None
        else:
            async with self._turns.turn():
                funds = await self._funds(proof, standing.given_micros)
            token = ids.new_token(f"{self.terms.token_prefix}_", self._entropy(ids.ENTROPY_TOKEN_BYTES))
            newcomer = Newcomer(
                self._new_id("agt_"), label, self._new_id("tok_"), ids.token_hash(token), ids.token_hint(token)
            )
            registered = await self._db.write(registrations.register, proof, newcomer, funds, self.terms.policy)
        if registered is None:
            raise _used()
        return Admitted(registered, invitation.chain_id, token if registered.created else None)

    async def link(self, signed: Signed, agent: Principal) -> bool:
        """Puts a further wallet beside those of the agent; False where it was there before. Raises Problem as
        `register`, and WALLET_TAKEN."""
        invitation = await self._read(signed, Purpose.LINK, agent.agent_id)
        standing = await self._db.read(registrations.standing, signed.nonce)
        if standing.used:
            raise _used()
        proof = await self._prove(signed, invitation)
        link = agents.by_admin(agent, registrations.link)
        match await self._db.write(link, proof, agent.agent_id, agent.token_id):
            case bool() as linked:
                return linked
            case NotLinked.TAKEN:
                raise Problem(Code.WALLET_TAKEN, "this wallet belongs to another agent, for ever")
            case NotLinked.TOO_MANY:
                most = registrations.WALLETS_MAX
                raise Problem(Code.VALIDATION_ERROR, f"an agent has {most} wallets at most")
            case None:
                raise _used()

    # what costs nobody anything

    async def _read(self, signed: Signed, purpose: Purpose, agent_id: str = "") -> Invitation:
        """That this very message is ours, for this wallet and purpose, and still good."""
        self._open()
        invitation = siwe.read(signed.nonce, await self._nonce_key(), purpose, signed.address, agent_id)
        if invitation is None:
            raise _invalid("nonce", "this nonce was not made here for this address and purpose: ask for one")
        # One from the future was made before a clock went back: nobody knows for how long it would be good.
        if not invitation.issued_s - CLOCK_SKEW_S <= self._clock() < invitation.expires_s:
            raise Problem(Code.NONCE_EXPIRED, "this nonce is over its ten minutes: ask for another one, and sign anew")
        if invitation.chain_id not in self.terms.networks:
            raise _invalid("chain_id", "this chain is not taken here any more: ask for another nonce")
        different = siwe.difference(siwe.message(invitation, signed.nonce, self.terms.site), signed.message)
        if different is not None:
            raise _invalid(different, f"the message is not the one that was made for this nonce: see its {different}")
        if signed.allowance_signature is not None and not invitation.allowance_micros:
            raise Problem(Code.VALIDATION_ERROR, "this nonce was made without an allowance, and one is signed for")
        return invitation

    async def _prove(self, signed: Signed, invitation: Invitation) -> Proof:
        """That the wallet has signed all of it: by its key, or else by its contract."""
        texts = [SignedText(siwe.digest(signed.message), signed.signature)]
        stated = siwe.allowance_message(invitation, signed.nonce, self.terms.site)
        if signed.allowance_signature is not None and stated is not None:
            texts.append(SignedText(siwe.digest(stated), signed.allowance_signature))
        network = self.terms.networks[invitation.chain_id]
        by_contract = not all(recover(text.digest, text.signature) == signed.address for text in texts)
        if by_contract:
            await self._ask_contract(network, signed.address, texts)
        self._signs(signed.address)
        states = len(texts) > 1
        return Proof(
            signed.address, network, by_contract, signed.nonce, invitation.expires_s * 1000,
            invitation.allowance_micros if states else 0, texts[1].signature if states else b"",
        )  # fmt: skip

    # what costs a question to the chain

    async def _ask_contract(self, network: str, address: str, texts: list[SignedText]) -> None:
        if any(text.signature.endswith(ERC6492) for text in texts):
            raise _invalid("signature", "a wallet that stands nowhere yet cannot be asked: deploy it first")
        async with self._turns.turn():
            confirmed = await self._chain().confirms(network, address, texts)
        if isinstance(confirmed, Unknown):
            raise _unavailable(confirmed)
        if not confirmed:
            raise _invalid(
                "signature", "it is signed by another key, and no contract at this address takes it for its own"
            )

    async def _funds(self, proof: Proof, given_micros: int) -> Funds:
        """That there is enough, and, where that matters for a grant, who has sent it. Raises Problem."""
        policy = self.terms.policy
        holding = await self._chain().holding(proof.network, proof.address)
        if isinstance(holding, Unknown):
            raise _unavailable(holding)
        if holding.micros < policy.least_micros:
            raise Problem(
                Code.WALLET_BALANCE_TOO_LOW,
                f"a wallet that registers holds at least {format_usd(policy.least_micros)} USD of a token taken here "
                f"on {proof.network}; nothing of it is taken. Fund it, and show the same signature again",
                details={
                    "required_usd": format_usd(policy.least_micros),
                    "observed_usd": format_usd(holding.micros),
                    "network": proof.network,
                    "token": holding.token.address,
                },
            )
        within = policy.grant_micros and given_micros + policy.grant_micros <= policy.budget_micros
        if not (within and policy.once_per_dollar):
            return Funds(holding.micros, None)
        found = await self._chain().senders(proof.network, proof.address, holding)
        if isinstance(found, Unknown):
            log.warning("senders_unknown", network=proof.network, cause=found.message)
            return Funds(holding.micros, None)
        return Funds(holding.micros, found.most, found.others_micros)

    # small things

    def _open(self) -> None:
        self._chain()

    def _chain(self) -> Wallets:
        if self._wallets is None:
            raise Problem(Code.ROUTE_OFFLINE, "wallets are not registered here; ask the operator for a token")
        return self._wallets

    async def _nonce_key(self) -> bytes:
        if self._key is None:
            self._key = await self._db.write(registrations.nonce_key, self._entropy(siwe.KEY_BYTES))
        return self._key

    def _new_id(self, prefix: str) -> str:
        return ids.new_id(prefix, int(self._clock() * 1000), self._entropy(ids.ENTROPY_ID_BYTES))


WHY_NO_GRANT: Mapping[Withheld, str] = {
    Withheld.OFF: "no grants are given here",
    Withheld.BUDGET: "the grants of a day are all given; come with a deposit instead",
    Withheld.SHARED: "what this wallet holds came from one that was registered lately",
    Withheld.UNKNOWN: "it could not be seen just now where this wallet's money came from",
    Withheld.LINKED: "a further wallet of an agent is given no grant",
}


def label_of(address: str) -> str:
    """What an agent is called whose wallet names none."""
    shown = checksum_address(address)
    return f"wallet {shown[:6]}...{shown[-4:]}"


def _invalid(field: str, message: str) -> Problem:
    return Problem(Code.SIGNATURE_INVALID, message, details={"field": field})


def _used() -> Problem:
    return Problem(Code.NONCE_USED, "this nonce was used: ask for another one, and sign anew")


def _unavailable(unknown: Unknown) -> Problem:
    log.warning("balance_check_unavailable", cause=unknown.message)
    return Problem(
        Code.BALANCE_CHECK_UNAVAILABLE,
        "the chain cannot be asked just now; nothing was consumed, show the same signature again",
        retry_after_s=RETRY_S,
    )
