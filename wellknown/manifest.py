"""/.well-known/x402 and /.well-known/x402.json: the origin's own list of what it sells.

The two formats have different readers. The first is read by strict readers that know nothing but a list of
strings, and by directories that look for `routes`; the second carries whole offers. Both name addresses that
answer: an operation with `{name}` segments is listed by its example.
"""

from gateway.core.catalogue import Catalogue, Operation
from gateway.core.money import format_usd
from gateway.core.upstream import Json
from gateway.core.x402 import bazaar
from wellknown.identity import Identity
from wellknown.offer import Offer, challenge_parts, requirements
from wellknown.prices import notes


def manifest(catalogue: Catalogue, identity: Identity) -> Json:
    """/.well-known/x402. `resources` are strings "METHOD url", and empty where nothing can be paid by x402."""
    payable = catalogue.operations if identity.terms else ()
    return {
        "x402Version": 2,
        "version": 1,
        "kind": "resource-server",
        "name": identity.name,
        "description": identity.description,
        **({"sandbox": True} if identity.sandbox else {}),
        **({"network": identity.terms[0].network} if identity.terms else {}),
        "networks": list(dict.fromkeys(terms.network for terms in identity.terms)),
        "updated": identity.updated,
        "contact": identity.contact_email or identity.docs,
        "docs": identity.docs,
        "resources": [f"{operation.method} {_url(operation, identity)}" for operation in payable],
        "routes": [_route(operation, identity) for operation in payable],
        "prices": [_price(operation, identity) for operation in payable],
        "ownershipProofs": list(identity.ownership_proofs),
        "discovery": identity.url("/discovery/resources"),
        "openapi": identity.url("/openapi.json"),
        "instructions": " ".join(notes(catalogue, identity)),
    }


def items_document(catalogue: Catalogue, identity: Identity) -> Json:
    """/.well-known/x402.json: {x402Version, lastUpdated (unix seconds), items}."""
    payable = catalogue.operations if identity.terms else ()
    return {
        "x402Version": 2,
        "lastUpdated": identity.updated_s,
        **({"sandbox": True} if identity.sandbox else {}),
        "items": [_item(operation, challenge_parts(operation, identity)) for operation in payable],
    }


def _url(operation: Operation, identity: Identity) -> str:
    return identity.url(operation.example_url_path)


def _route(operation: Operation, identity: Identity) -> Json:
    block = bazaar.extension(operation)
    request = block["schema"]["properties"]["input"]["properties"]
    return {
        "endpoint": _url(operation, identity),
        "method": operation.method,
        "x402_version": 2,
        **({"route_template": block["routeTemplate"]} if "routeTemplate" in block else {}),
        "input_schema": request.get("body") or request.get("queryParams") or {"type": "object", "properties": {}},
    }


def _price(operation: Operation, identity: Identity) -> Json:
    return {
        "resource": _url(operation, identity),
        "method": operation.method,
        "price_usd": format_usd(operation.price.base_micros),
        "schemes": list(dict.fromkeys(accepted.scheme for accepted in requirements(operation, identity))),
        "bill_on_match": operation.miss_free,
        "settle": operation.settle,
    }


def _item(operation: Operation, offer: Offer) -> Json:
    """One offer with its contract lifted out of the bazaar block: `input` and `output` hold JSON Schemas."""
    block = bazaar.extension(operation)
    request = block["schema"]["properties"]["input"]["properties"]
    return {
        "resource": offer.resource.to_json(),
        "type": "http",
        "accepts": [accepted.to_json() for accepted in offer.accepts],
        "input": {
            "method": operation.method,
            **({"routeTemplate": block["routeTemplate"]} if "routeTemplate" in block else {}),
            **({"bodyType": "json"} if operation.takes_body else {}),
            **{part: request[part] for part in ("pathParams", "queryParams", "body") if part in request},
        },
        "output": {"mimeType": offer.resource.mime_type, "example": dict(operation.example_output)},
    }
