"""Every table of faregate.toml. The description of a key explains it in error messages, in the file that
`faregate init` writes, and in the README; a test compares them.

Models are lax about spelling (the environment has strings only) and strict about everything else: unknown keys are
refused, numbers have bounds, addresses their checksum, and whoever prints a Settings sees no secret.
"""

import ipaddress
import re
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    model_validator,
)

from gateway.core.api_key import ApiKey
from gateway.core.deposit import Match
from gateway.core.keys import Key
from gateway.core.money import MoneyError, parse_usd
from gateway.core.networks import NETWORKS, ZERO_ADDRESS, Network, Token, parse_address

SANDBOX_NETWORK = "eip155:31337"
WEBSEARCH_MICROS = 1_000_000
"""What enrich/websearch costs at least, where [prices] says nothing."""
SANDBOX_PAY_TO = "0xdF3e18d64BC6A983f673Ab319CCaE4f1a57C7097"
"""Where play money goes: the nineteenth of the well-known test accounts, which no wallet of the demo pays from."""


def is_loopback(host: str) -> bool:
    """Whether whatever listens at `host`, or is reached by it, is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("this takes a number, not true or false")
    return value


def _split(value: object) -> object:
    """One string stands for a list of one; in the environment, commas separate several."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _address(text: str) -> str:
    address = parse_address(text)
    if address is None:
        digits = text.removeprefix("0x")
        if len(digits) == 40 and all(char in "0123456789abcdefABCDEF" for char in digits):
            raise ValueError(f"the checksum of {text} is wrong: a character is mistyped; copy the address anew")
        raise ValueError("this is no address: write 0x and 40 hexadecimal digits")
    if address == ZERO_ADDRESS:
        raise ValueError("the zero address belongs to nobody: money sent there is lost; name one of your own")
    return address


def _origin(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("this is no address of a site: write it as https://api.example.com")
    if url.path.strip("/") or url.query or url.fragment or "@" in url.netloc:
        raise ValueError("only scheme, host and port: write it as https://api.example.com")
    if url.scheme == "http" and not is_loopback(url.hostname):
        raise ValueError("payments travel encrypted: use https, or a loopback address to try things out")
    return f"{url.scheme}://{url.netloc.lower()}"


def _url(text: str) -> str:
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise ValueError("this is no URL: write it as https://host/path")
    return text


def _encrypted(text: str) -> str:
    if urlsplit(_url(text)).scheme == "http" and not is_loopback(urlsplit(text).hostname or ""):
        raise ValueError("signed payments travel there: use https, or a loopback address to try things out")
    return text


def _browser_origin(text: str) -> str:
    if text != "*" and not re.fullmatch(r"https?://[a-z0-9.\-\[\]:]+", text):
        raise ValueError('an origin is spelled as browsers do, "https://app.example.com", or "*" for all')
    return text


def _one_line(text: str) -> str:
    if not text.isprintable():
        raise ValueError("this is printed in documents as it stands: write it in one line, without control characters")
    return text


def _only_star(origins: tuple[str, ...]) -> tuple[str, ...]:
    if "*" in origins and len(origins) > 1:
        raise ValueError('"*" allows every origin: leave out the others, or leave out "*"')
    return origins


def _proxy(text: str) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError('this is no address or network: write "10.0.0.5" or "10.0.0.0/8"') from None
    if network.prefixlen == 0:
        raise ValueError("this trusts everybody to name any address: list your own proxies only")
    return text


def _usd(value: object) -> int:
    if isinstance(value, float):
        raise ValueError('write the price in quotes, as in "0.330": a float is no amount of money')
    try:
        micros = parse_usd(value)
    except MoneyError as error:
        raise ValueError(str(error)) from None
    if micros == 0:
        raise ValueError("a price is above zero: leave the operation out rather than give it away")
    return micros


def _usd_text(value: object) -> str:
    _usd(value)
    return str(value)


def _usd_text_or_none(value: object) -> str:
    return "0" if value in (0, "0") and not isinstance(value, float) else _usd_text(value)


def _here(path: Path, info: ValidationInfo) -> Path:
    """Relative paths start from the folder of the configuration, wherever the program is started."""
    base: Path = (info.context or {}).get("base", Path())
    return base / path.expanduser()


def _key(secret: SecretStr) -> SecretStr:
    Key.from_hex(secret.get_secret_value())
    return SecretStr(secret.get_secret_value().strip().removeprefix("0x"))


def _signs(secret: SecretStr) -> SecretStr:
    ApiKey("", secret.get_secret_value())
    return secret


def _long_enough(secret: SecretStr) -> SecretStr:
    if len(secret.get_secret_value()) < 16:
        raise ValueError("it can be guessed: take at least 16 characters, as from `openssl rand -hex 24`")
    return secret


def _rate(text: str) -> str:
    from limits import parse_many  # takes a while to load, and only who writes a limit needs it

    try:
        items = parse_many(text) if text else []
    except ValueError:
        raise ValueError(
            'this is no limit: write it as "30 per minute", or "10/minute;100/day", or "" for none'
        ) from None
    if any(item.amount == 0 for item in items):
        raise ValueError('this lets nobody in at all: write "1 per day" at least, or "" for no limit')
    return text


Whole = Annotated[int, BeforeValidator(_no_bool)]
Seconds = Annotated[float, BeforeValidator(_no_bool)]
Share = Annotated[float, BeforeValidator(_no_bool)]
Number = Annotated[Decimal, BeforeValidator(_no_bool)]
Address = Annotated[str, AfterValidator(_address)]
Origin = Annotated[str, AfterValidator(_origin)]
Url = Annotated[str, AfterValidator(_url)]
EncryptedUrl = Annotated[str, AfterValidator(_encrypted)]
Usd = Annotated[int, BeforeValidator(_usd)]
"""Written as a decimal string, kept as micro-USD."""
UsdText = Annotated[str, BeforeValidator(_usd_text)]
"""A decimal string of USD, kept as it is written."""
UsdTextOrZero = Annotated[str, BeforeValidator(_usd_text_or_none)]
File = Annotated[Path, AfterValidator(_here)]
Secret = Annotated[SecretStr, AfterValidator(_long_enough)]
PrivateKey = Annotated[SecretStr, AfterValidator(_key)]
Rate = Annotated[str, AfterValidator(_rate)]
"""How often something may be asked for, in the notation of `limits`; "" for as often as one likes."""
ApiSecret = Annotated[SecretStr, AfterValidator(_signs)]
Listed = BeforeValidator(_split)


class Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=True)


class Service(Table):
    """Who sells, and where it listens."""

    name: Annotated[str, AfterValidator(_one_line)] = Field(
        "Faregate", min_length=1, max_length=80, description="the service's name in every document"
    )
    description: Annotated[str, AfterValidator(_one_line)] = Field(
        "Data by the call, paid by prepaid balance or x402, charged only on a match.",
        max_length=500,
        description="what is sold, in at most 500 characters, for crawlers and agents",
    )
    public_url: Origin | None = Field(
        None, description="the address clients use, as https://api.example.com; required when host is not loopback"
    )
    host: str = Field("127.0.0.1", min_length=1, description="the address to listen on; a proxy with TLS stands before")
    port: Whole = Field(8402, ge=1, le=65535, description="the TCP port to listen on, 1 to 65535")
    contact_email: str | None = Field(
        None, pattern=r"^[^@\s]+@[^@\s]+\.[^@\s]+$", description="whom crawlers and customers may write to"
    )
    docs_url: EncryptedUrl | None = Field(None, description="your own pages for people, linked from the documents")
    ownership_proofs: Annotated[tuple[Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{130}$")], ...], Listed] = Field(
        (), description="signatures of the origin by the key of a pay_to (personal_sign), shown to registries"
    )
    index_verification: str | None = Field(
        None, pattern=r"^[!-~]{1,256}$", description="what /.well-known/402index-verify.txt answers"
    )
    token_prefix: str = Field(
        "411", pattern=r"^[0-9a-z]{1,12}$", description="the start of every agent's token, 1 to 12 of 0-9 and a-z"
    )
    anonymous: Literal["all", "none"] = Field("all", description='who may pay without an agent: "all" or "none"')
    trusted_proxies: Annotated[tuple[Annotated[str, AfterValidator(_proxy)], ...], Listed] = Field(
        (), description="addresses or networks of your own proxies, whose X-Forwarded-For is believed"
    )
    operator_token: Secret | None = Field(
        None, description="opens /metrics from other machines; at least 16 characters, from the environment"
    )
    show_costs: bool = Field(False, description="whether answers tell what each provider took for them")
    allowed_origins: Annotated[
        tuple[Annotated[str, AfterValidator(_browser_origin)], ...], AfterValidator(_only_star), Listed
    ] = Field(("*",), description='web pages that may call from a browser: origins, or "*"; cookies are never allowed')

    @property
    def origin(self) -> str:
        """The address clients use: `public_url`, or where it listens."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return self.public_url or f"http://{host}:{self.port}"


class Limits(Table):
    """What one caller may take."""

    body_bytes: Whole = Field(65_536, ge=1024, le=16_777_216, description="largest request body, 1 KiB to 16 MiB")
    header_bytes: Whole = Field(
        16_384, ge=12_288, le=1_048_576, description="largest request head, 12 KiB (a payment has up to 8) to 1 MiB"
    )
    header_timeout_s: Seconds = Field(10, gt=0, le=120, description="seconds a request's head may take to arrive")
    body_timeout_s: Seconds = Field(15, gt=0, le=600, description="seconds a request's body may take to arrive")
    connections: Whole = Field(4096, ge=1, le=100_000, description="open connections at most")
    concurrent_calls: Whole = Field(
        1024, ge=1, le=100_000, description="paid calls worked on at once; more are answered 503 at once"
    )


class RateLimitsTable(Table):
    """How often a caller may ask for what is free: "n per period", several parted by semicolons, "" for no limit."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    documents: Rate = Field("600 per minute", description="documents, listings, health and wrong paths, by address")
    unpaid: Rate = Field("6000 per minute", description="unpaid calls of operations, each answered 402, by address")
    balance: Rate = Field("300 per minute", description="what an agent asks about itself, by agent or usage key")
    polls: Rate = Field(
        "3000 per minute", description="polls of jobs and charges, by the bearer, agent or usage key that asks"
    )
    changes: Rate = Field(
        "120 per hour;500 per day", description="new tokens, keys, terms, webhook secrets and links of an agent"
    )
    bad_tokens: Rate = Field(
        "60 per minute", description="tokens there that open nothing, by address; what opened lately is let pass"
    )
    misses: Rate = Field(
        "5000 per day", description="look-ups that found nothing and were free, by agent or paying wallet"
    )
    nonces: Rate = Field("30 per minute", description="messages for a wallet to sign, by address")
    registrations: Rate = Field(
        "10 per minute;100 per day", description="registrations and links, by address, and by wallet once it has signed"
    )
    claims: Rate = Field("30 per minute;500 per day", description="claims of a deposit, by agent")
    recoveries: Rate = Field(
        "30 per hour", description="steps of a recovery, by address, and by wallet once it has sent"
    )
    network_times: Whole = Field(
        8,
        ge=1,
        le=1_000_000,
        description="how many times as much all of a network may: an IPv4 /24, an IPv6 /48; and an agent with its keys",
    )
    long_polls: Whole = Field(
        500,
        ge=1,
        le=100_000,
        description="polls that wait for the jobs of one payer at once; more are answered at once",
    )

    @property
    def by_kind(self) -> dict[str, str]:
        return {name: value for name, value in self if isinstance(value, str)}


class Store(Table):
    """The gateway's memory."""

    path: File = Field(Path("data/faregate.db"), description="the SQLite file with money, agents and results")
    result_ttl_hours: Whole = Field(
        24, ge=3, le=8760, description="hours a paid result can be fetched again, 3 at least: a clock may jump"
    )


class SettlementTable(Table):
    """How signed payments become money."""

    kind: Literal["none", "relayer", "facilitator", "sandbox"] = Field(
        "none",
        description='"none" sells from balance only, "relayer" settles with a key of yours, "facilitator" lets a '
        'remote service settle, "sandbox" takes play money on this machine',
    )
    wait_s: Seconds = Field(15, ge=1, le=120, description="seconds a paid call waits for its settlement")


class TokenTable(Table):
    """A token the gateway does not know by itself."""

    address: Address = Field(description="the contract's address")
    name: str = Field(min_length=1, description="the name in the token's EIP-712 domain")
    version: str = Field(min_length=1, description="the version in the token's EIP-712 domain")
    decimals: Whole = Field(ge=0, le=36, description="the token's decimals")
    symbol: str = Field("", description="how to show it; the name if left out")
    eip2612: bool = Field(True, description="whether the token has permit()")


class NetworkTable(Table):
    """A chain on which payments are taken."""

    id: str = Field(pattern=r"^eip155:[1-9][0-9]{0,18}$", description='CAIP-2 id, as "eip155:8453" for Base')
    rpc_urls: Annotated[tuple[Url, ...], Listed] = Field(
        (), repr=False, description="JSON-RPC endpoints, best first; needed to prove payments"
    )
    pay_to: Address = Field(description="your address that gets the money; not the relayer's")
    tokens: tuple[TokenTable, ...] = Field((), description="tokens taken; left out, the network's USDC")
    methods: Annotated[tuple[Literal["eip3009", "permit2"], ...], Listed] = Field(
        ("eip3009", "permit2"), min_length=1, description='how a payer may sign: "eip3009", "permit2" or both'
    )
    confirmations: Whole = Field(1, ge=1, le=256, description="blocks until a payment counts")
    block_time_s: Seconds | None = Field(None, gt=0, le=600, description="seconds between blocks of an unknown network")

    @property
    def network(self) -> Network:
        """The chain with the tokens that are taken on it."""
        known = NETWORKS.get(self.id)
        return Network(
            id=self.id,
            name=known.name if known else self.id,
            chain_id=int(self.id.partition(":")[2]),
            testnet=known is not None and known.testnet,
            tokens=tuple(self._token(each) for each in self.tokens) or (known.tokens if known else ()),
            block_time_s=self.block_time_s or (known.block_time_s if known else 2.0),
        )

    @property
    def real(self) -> bool:
        """Whether real money moves here; a chain nobody told us about is taken for real."""
        return self.id != SANDBOX_NETWORK and not self.network.testnet

    def _token(self, table: TokenTable) -> Token:
        return Token(
            network=self.id,
            address=table.address,
            symbol=table.symbol or table.name,
            name=table.name,
            version=table.version,
            decimals=table.decimals,
            eip2612=table.eip2612,
        )


class Relayer(Table):
    """The key that settles: it pays gas and never receives customers' money."""

    key: PrivateKey | None = Field(None, description="its private key, as ${RELAYER_KEY} from the environment")
    key_file: File | None = Field(None, description="or a file that holds the key and nothing else")
    old_keys: tuple[PrivateKey, ...] = Field(
        (), max_length=4, description="keys it had before, which still settle what was signed for them"
    )
    max_fee_gwei: Number = Field(Decimal(100), gt=0, le=100_000, description="the most to pay for gas, in gwei a unit")
    gas_low_eth: Number = Field(
        Decimal("0.002"), ge=0, le=1000, description="alarm when the key has less than this for gas, in ETH"
    )

    @model_validator(mode="before")
    @classmethod
    def _read_key_file(cls, data: Any, info: ValidationInfo) -> Any:
        if not isinstance(data, Mapping) or not isinstance(data.get("key_file"), str):
            return data
        if data.get("key") is not None:
            raise ValueError("key and key_file are both given: keep one")
        path = _here(Path(data["key_file"]), info)
        try:
            return {**data, "key": path.read_text(encoding="utf-8", errors="replace")}
        except OSError as error:
            raise ValueError(f"key_file {path} cannot be read: {error.strerror}") from None

    @property
    def private_keys(self) -> list[bytes]:
        """32 bytes each, the one to send with first. Raises ValueError without a key."""
        if self.key is None:
            raise ValueError("no relayer key is configured")
        return [bytes.fromhex(key.get_secret_value()) for key in (self.key, *self.old_keys)]

    @property
    def addresses(self) -> list[str]:
        """The keys' addresses, EIP-55."""
        return [Key(key).address for key in self.private_keys]

    @property
    def max_fee_wei(self) -> int:
        return int(self.max_fee_gwei * 10**9)

    @property
    def gas_low_wei(self) -> int:
        return int(self.gas_low_eth * 10**18)


class Facilitator(Table):
    """A remote x402 facilitator."""

    url: EncryptedUrl | None = Field(None, description="its base URL, to which /verify and /settle are added")
    bearer: SecretStr | None = Field(None, min_length=1, description="its bearer token, from the environment")
    jwt_key_id: str | None = Field(
        None,
        pattern=r"^[!-~]{1,256}$",
        repr=False,  # whoever takes the one for the other puts a secret here
        description="or the id of an API key there (Coinbase's has them), with jwt_secret",
    )
    jwt_secret: ApiSecret | None = Field(
        None,
        description="that key's secret, from the environment: it signs a token for each request; base64 (Ed25519) or "
        "PEM (P-256)",
    )
    trust_facilitator: bool = Field(
        False, description="true: its word is proof, and no RPC is needed; it can then take your goods for nothing"
    )

    @property
    def credential(self) -> str | ApiKey | None:
        """How it knows us: by a token, by a key that signs tokens, or not at all."""
        if self.bearer is not None:
            return self.bearer.get_secret_value()
        if self.jwt_key_id is None or self.jwt_secret is None:
            return None
        return ApiKey(self.jwt_key_id, self.jwt_secret.get_secret_value())


class Directory(Table):
    """The operator's own records, sold by enrich/phone and enrich/person, and by leads/search if you say so."""

    path: File | None = Field(
        None,
        description="its SQLite file, else directory.db beside the ledger; these operations are offline without it",
    )
    default_region: str = Field(
        "US", pattern=r"^[A-Z]{2}$", description="country of phone numbers without a country code, two capital letters"
    )
    sell_lists: bool = Field(
        False, description="true: leads/search gives them away in lists, by place, title or company"
    )


class LeadsTable(Table):
    """Lead sessions: enrich/lead-session, which asks everything that is on sale here about one lead."""

    budget: UsdText = Field("2.00", description="USD that one may cost when its caller says nothing; its base at least")
    ceiling: UsdText = Field("20", description="the most USD that a caller may allow one call")
    markup_percent: Whole = Field(130, ge=100, le=10_000, description="percent of what vendors took that it costs")
    planner: Literal["auto", "rules"] = Field(
        "auto", description='who decides what to ask next: "auto" by an LLM where one is configured, "rules" never'
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if parse_usd(self.budget) > parse_usd(self.ceiling):
            raise ValueError("budget is above ceiling: lower the one or raise the other")
        return self


class WebTable(Table):
    """Web research, sold by enrich/websearch: with an engine or registry among [providers], or firms in a directory."""

    pages: Whole = Field(8, ge=1, le=20, description="found pages that are read for one call, 1 to 20")
    private: bool = Field(False, description="true: pages may be on this machine or a private network")
    ceiling: UsdText = Field("1.50", description="the most USD a call may cost, where the search takes more")
    markup_percent: Whole = Field(130, ge=100, le=10_000, description="of what search and model take, in percent")

    @property
    def ceiling_micros(self) -> int:
        return parse_usd(self.ceiling)


class LlmTable(Table):
    """A language model that reads the pages of web research; everything works without one."""

    api: Literal["openai", "anthropic"] | None = Field(
        None,
        description='"openai": any server that speaks /chat/completions; "anthropic": one that speaks /v1/messages',
    )
    url: Url | None = Field(None, repr=False, description='its base URL, as "https://api.example.com/v1" for openai')
    model: str | None = Field(None, min_length=1, max_length=200, description="the model's name there")
    key: SecretStr | None = Field(None, min_length=8, description="its key, from the environment")
    input_usd: UsdTextOrZero | None = Field(
        None, description='USD for a million tokens it reads, such as "0.50"; "0" for one of your own'
    )
    output_usd: UsdTextOrZero | None = Field(None, description="USD for a million tokens it writes")
    output_tokens: Whole = Field(2_000, ge=100, le=32_000, description="tokens it may write for one call")
    timeout_s: Seconds = Field(25, gt=0, le=300, description="seconds it may take")
    private: bool = Field(False, description="true: its url is on this machine or a private network")
    repeatable: bool = Field(False, description="true: a reading whose answer was lost may be made again")


class ProviderTable(Table):
    """Whom answers are bought from: one table each, by its name."""

    key: SecretStr = Field(SecretStr(""), description="the secret it knows you by, as ${...} from the environment")
    user: str = Field("", max_length=200, description="the login beside the key, where it has one")
    cost_per_call: UsdTextOrZero | None = Field(
        None, description='USD it takes for an answer, such as "0.10"; this or the next must be said, "0" for nothing'
    )
    cost_per_match: UsdTextOrZero | None = Field(None, description="USD it takes for a match beside that")
    bill_misses: bool | None = Field(
        None, description="whether a miss costs cost_per_call too; as its public terms say if left out"
    )
    timeout_s: Seconds = Field(10, gt=0, le=60, description="seconds it may take to answer")
    repeatable: bool = Field(
        False, description="true: a question whose answer was lost may be asked, and paid, a second time"
    )
    requests_per_min: Whole | None = Field(
        None, ge=1, le=100_000, description="questions a minute at most; more go to the next provider"
    )
    quota_low: Whole | None = Field(
        None, ge=0, description="what is left of its quota, where it tells that, when there is an alarm; a tenth of it "
        "if left out",
    )  # fmt: skip
    score_min: Share | None = Field(
        None, gt=0, le=1, description="its own score, 0 to 1, below which nobody is taken; 0.6 if left out"
    )
    url: Url | None = Field(None, description="where it is called, if not at its public address")
    private: bool = Field(False, description="true: that is on this machine or a private network")


class CacheTable(Table):
    """Answers that are given again to the same question of the same agent."""

    ttl_hours: Whole = Field(
        0,
        ge=0,
        le=8760,
        description="hours an answer is given again without asking any vendor, 168 is a week; 0: never",
    )
    discount_percent: Whole = Field(
        0, ge=0, le=100, description="percent off the price of an answer that is given again; none where the payment is"
        " `exact`",
    )  # fmt: skip
    shared: bool = Field(
        False, description="true: what one agent has bought is given to another too; think of the people in it first"
    )


class SubjectsTable(Table):
    """The people in the data: see `faregate subject`."""

    notice: Annotated[str, AfterValidator(_one_line)] = Field(
        "Not a consumer report: not to be used for decisions on credit, insurance, employment, housing or anything "
        "else that the Fair Credit Reporting Act covers.",
        max_length=500,
        description='stands in the metadata of every answer about people; "" for none',
    )
    access_log_days: Whole = Field(
        365, ge=1, le=3650, description="days it is remembered which agent was told about whom, by keyed hashes"
    )


class JobsTable(Table):
    """Work that is handed over and asked about later."""

    at_once: Whole = Field(
        8,
        ge=1,
        le=1000,
        description="jobs worked on at once by this process; of 4 or more, one place is for payers with none under way",
    )
    time_s: Whole = Field(900, ge=10, le=1000, description="seconds a job may take, its time in the queue included")
    lease_s: Seconds = Field(
        20, ge=1, le=600, description="seconds after which the jobs of a process that died are taken over"
    )
    bill_up_to: UsdText = Field("1.50", description="USD a job may cost when its submitter says nothing")
    bill_up_to_max: UsdText = Field("50", description="the most USD that a submitter may allow")
    result_ttl_hours: Whole = Field(
        168, ge=25, le=8760, description="hours a job can be asked about after its end: longer than a signature lives"
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if parse_usd(self.bill_up_to) > parse_usd(self.bill_up_to_max):
            raise ValueError("bill_up_to is above bill_up_to_max: lower the one or raise the other")
        return self


class DepositsTable(Table):
    """How agents top their balances up by themselves."""

    enabled: bool = Field(True, description="false: only you credit balances, by `faregate agents credit`")
    address: Address | None = Field(
        None, description="your address for plain transfers, no pay_to and not the relayer's; without it there are none"
    )
    min_usd: UsdText = Field("1", description="the least USD that is a deposit; smaller transfers are ignored")
    confirmations: Whole = Field(6, ge=1, le=256, description="blocks until a plain transfer is credited")

    @property
    def min_micros(self) -> int:
        return parse_usd(self.min_usd)


class WalletRecoveryTable(Table):
    """Agents that have lost their token and still have their wallet; where plain transfers are taken."""

    enabled: bool = Field(True, description="false: only you give an agent another token, by `faregate agents token`")
    key_file: File | None = Field(
        None,
        description="the key that requests, what agents ask about and suppressed people are hashed with, else beside "
        "the ledger, with .leads-key after its name; made at the first start, and no part of a backup: keep a copy of "
        "it apart",
    )


class DepositMatchTable(Table):
    """Bonus that comes with a deposit: spent after own money, and never paid out."""

    percent: Whole = Field(0, ge=0, le=1000, description="percent of a deposit that come as bonus; 0 is no match")
    min_usd: UsdText = Field("10", description="the least USD of a deposit that is matched")
    max_bonus_usd: UsdText = Field("10", description="the most USD of bonus for one agent, over all its deposits")
    total_budget_usd: UsdText = Field("100", description="the most USD of bonus for all agents together")
    ends_at: AwareDatetime | None = Field(
        None, description='when it ends, as "2027-01-31T00:00:00Z"; left out, with its budget'
    )
    first_deposit_only: bool = Field(True, description="false: every deposit is matched, within the limits above")

    @property
    def rule(self) -> Match | None:
        if self.percent == 0:
            return None
        return Match(
            percent=self.percent,
            min_micros=parse_usd(self.min_usd),
            max_bonus_micros=parse_usd(self.max_bonus_usd),
            budget_micros=parse_usd(self.total_budget_usd),
            ends_ms=None if self.ends_at is None else int(self.ends_at.timestamp() * 1000),
            first_deposit_only=self.first_deposit_only,
        )


class WebhooksTable(Table):
    """How callbacks are told to customers' servers."""

    allow_http: bool = Field(
        False, description="true: callbacks may go to http:// urls, where anybody on the way reads them"
    )
    tries: Whole = Field(5, ge=1, le=20, description="tries until a callback is given up; five take about five hours")
    brand: str = Field(
        "Faregate",
        pattern=r"^[A-Za-z0-9](?:[A-Za-z0-9-]{0,30}[A-Za-z0-9])?$",
        description="the name in the headers X-Faregate-Signature and X-Faregate-Timestamp of a callback",
    )


class SupportTable(Table):
    """Tickets that customers write to you: read them with `faregate tickets`."""

    enabled: bool = Field(False, description="true: tickets are taken, at POST /api/v1/support/tickets")
    price: UsdText = Field("0.010", description="USD that a ticket costs, so that writing many of them does")
    bug_credit: UsdText = Field("1.00", description="USD of bonus that a bug earns when you confirm it, once")
    open_max: Whole = Field(
        20, ge=1, le=10_000, description="tickets of one customer that may wait for you; one more is answered 429"
    )

    @model_validator(mode="after")
    def _above_zero(self) -> Self:
        for key in ("price", "bug_credit"):
            if not parse_usd(getattr(self, key)):
                raise ValueError(f"{key} is zero: name an amount above it")
        return self

    @property
    def bug_credit_micros(self) -> int:
        return parse_usd(self.bug_credit)


class RegistrationTable(Table):
    """Wallets that become agents by themselves."""

    enabled: bool = Field(True, description="whether a wallet may register, where a network can be asked about it")
    min_wallet_usd: UsdTextOrZero = Field("1.00", description="USD of a token taken here that such a wallet must hold")
    grant_usd: UsdTextOrZero = Field(
        "0.20", description="USD that it is given to begin with, once for ever; 0: nothing"
    )
    grant_budget_usd_per_day: UsdTextOrZero = Field(
        "20", description="USD given so in any 24 hours at most; further wallets are registered without"
    )
    grant_once_per_dollar: bool = Field(
        True, description="true: no grant where the wallet's money has just come from one that was registered lately"
    )
    grant_looks_back_hours: int = Field(
        24, ge=1, le=168, description="hours of the token's transfers that are asked for that, up to 100,000 blocks"
    )


class Settings(Table):
    """Everything an operator decides, checked; see `gateway.settings.load`."""

    service: Service = Service()
    limits: Limits = Limits()
    rate_limits: RateLimitsTable = RateLimitsTable()
    store: Store = Store()
    settlement: SettlementTable = SettlementTable()
    networks: tuple[NetworkTable, ...] = ()
    relayer: Relayer = Relayer()
    facilitator: Facilitator = Facilitator()
    directory: Directory = Directory()
    leads: LeadsTable = LeadsTable()
    web: WebTable = WebTable()
    llm: LlmTable = LlmTable()
    providers: dict[str, ProviderTable] = Field(
        {}, description="whom answers are bought from, a table each: [providers.whitepages]"
    )
    waterfalls: dict[str, Annotated[tuple[str, ...], Listed]] = Field(
        {}, description='by operation, who is asked in which order: "enrich/phone" = ["local_directory", "whitepages"]'
    )
    subjects: SubjectsTable = SubjectsTable()
    cache: CacheTable = CacheTable()
    jobs: JobsTable = JobsTable()
    webhooks: WebhooksTable = WebhooksTable()
    deposits: DepositsTable = DepositsTable()
    deposit_match: DepositMatchTable = DepositMatchTable()
    wallet_recovery: WalletRecoveryTable = WalletRecoveryTable()
    support: SupportTable = SupportTable()
    registration: RegistrationTable = RegistrationTable()
    prices: dict[str, Usd] = Field({}, description='operation id = price in USD: "enrich/phone" = "0.330"')
    settle: dict[str, Literal["after", "before"]] = Field(
        {},
        description='operation id = when its signed payments are settled, "after" a match or "before" the work, as a '
        'top-up of the payer\'s account: "enrich/person" = "before"',
    )
    plugins: dict[str, dict[str, Any]] = Field(
        {}, repr=False, description="a table for each plug-in that is installed, by its name: [plugins.tides]"
    )
    http_upstreams: tuple[dict[str, Any], ...] = Field(
        (), repr=False, description="tables of HTTP APIs to sell, as upstreams/http_api.py reads them"
    )
    source: Path | None = None
    """The file it was read from."""
    changed_s: float = 0.0
    """When that file was last changed, unix seconds; 0 without a file."""

    @property
    def sandbox(self) -> bool:
        return self.settlement.kind == "sandbox"
