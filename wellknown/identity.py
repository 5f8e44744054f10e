"""Who sells, where, and on which terms: everything a document needs that is not in the catalogue."""

import re
from dataclasses import dataclass
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from gateway.core.x402.offers import Terms

Anonymous = Literal["all", "jobs_only", "none"]
"""Which operations a payer without a bearer token may buy."""

ORIGIN = re.compile(r"https?://[a-z0-9.-]+(:[0-9]{1,5})?|https?://\[[0-9a-f:]+\](:[0-9]{1,5})?")

SERVICE_NAME_MAX = 32


@dataclass(frozen=True, slots=True)
class Identity:
    """The operator's side of every document. Raises ValueError for a `public_url` or `updated` nobody could read."""

    name: str
    description: str
    public_url: str
    """The origin as the world sees it, without a path: `https://api.example.com`. Never taken from a request."""
    version: str
    updated: str
    """ISO 8601 with its zone: when the offers last changed, as the configuration's own time."""
    contact_email: str | None = None
    terms: tuple[Terms, ...] = ()
    """One for each network and token that is accepted; empty where only prepaid balances pay."""
    anonymous: Anonymous = "all"
    sandbox: bool = False
    """No real money: every document says so."""
    settle_wait_s: int = 15
    """How long a paid call waits for its settlement."""
    ownership_proofs: tuple[str, ...] = ()
    """EIP-191 signatures of `public_url` by the key of an address that is paid."""
    docs_url: str | None = None
    """The operator's own pages for humans."""
    index_verification: str | None = None
    """The whole content of /.well-known/402index-verify.txt."""
    token_prefix: str = "411"
    features: frozenset[str] = frozenset()
    """What agents may do here beyond buying: `topups` by x402, `transfers` to an address for deposits, and
    `recovery` of their tokens by one."""

    def __post_init__(self) -> None:
        if not ORIGIN.fullmatch(self.public_url):
            raise ValueError(f"public_url {self.public_url!r} is no origin such as https://api.example.com")
        if datetime.fromisoformat(self.updated).tzinfo is None:
            raise ValueError(f"updated {self.updated!r} has no time zone")

    def url(self, path: str) -> str:
        """`/pricing` -> `https://api.example.com/pricing`."""
        return self.public_url + path

    @property
    def docs(self) -> str:
        """Where a human or an agent reads on."""
        return self.docs_url or self.url("/llms.txt")

    @property
    def updated_s(self) -> int:
        """`updated` in unix seconds."""
        return int(datetime.fromisoformat(self.updated).timestamp())

    @property
    def service_name(self) -> str | None:
        """The name as catalogues take it, 1 to 32 printable ASCII characters; None when nothing is left of it.

        One character too many and strict readers drop the whole offer, not only the name.
        """
        return ascii_label(self.name)

    @property
    def icon_url(self) -> str | None:
        """The icon, where catalogues would take its address: on a host with a name of its own."""
        host = urlsplit(self.public_url).hostname or ""
        named = re.fullmatch(r"([a-z0-9-]+\.)+[a-z][a-z0-9-]*", host) and not host.endswith(".localdomain")
        return self.url("/favicon.ico") if named else None


def ascii_label(text: str) -> str | None:
    """`text` cut to what service names and tags may be: 32 printable ASCII characters."""
    kept = "".join(char for char in text if " " <= char <= "~").strip()
    return kept[:SERVICE_NAME_MAX].rstrip() or None
