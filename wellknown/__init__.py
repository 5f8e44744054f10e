"""What the gateway tells the world about itself: pure functions of the catalogue and the operator's identity.

    identity.py     who sells, where, on which terms
    offer.py        one operation's offer: what the live 402 asks for and every document repeats
    documents.py    DOCUMENTS: every path that is answered with the same bytes for everybody
    discovery.py    QUERIES: the listings that take filters and pages

No document reads a clock, a request or a store, so none can drift from the live 402 or leak what it does not know.
"""

from wellknown.discovery import QUERIES, Query
from wellknown.documents import DOCUMENTS, Document
from wellknown.identity import Anonymous, Identity
from wellknown.offer import Offer, challenge_parts, max_timeout_s, requirements, resource_of

__all__ = [
    "DOCUMENTS",
    "QUERIES",
    "Anonymous",
    "Document",
    "Identity",
    "Offer",
    "Query",
    "challenge_parts",
    "max_timeout_s",
    "requirements",
    "resource_of",
]
