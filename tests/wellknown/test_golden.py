"""What crawlers and clients have read of one invented shop, word for word: a change here is a change for all of them.

FAREGATE_WRITE_GOLDEN=1 writes the files anew; what changed is then to be seen in the diff.
"""

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from rigs import shop

from gateway.core.x402 import challenge
from wellknown import DOCUMENTS, challenge_parts

GOLDEN = Path(__file__).with_name("golden")
CATALOGUE, IDENTITY = shop.catalogue(), shop.identity()


def pretty(value: object) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"


def document(path: str) -> Callable[[], str]:
    def text() -> str:
        content = next(each for each in DOCUMENTS if each.path == path).build(CATALOGUE, IDENTITY) or b""
        return pretty(json.loads(content)) if content.startswith(b"{") else content.decode()

    return text


def offers() -> str:
    """PAYMENT-REQUIRED, decoded, of every operation: GET with a path, GET with a query, POST, POST with a path."""
    read = {}
    for operation in CATALOGUE.operations:
        resource, accepts, extensions = challenge_parts(operation, IDENTITY)
        made = challenge.build(
            resource=resource, accepts=accepts, extensions=extensions, repeat_key="41" * 16,
            error="pay first", code="PAYMENT_REQUIRED",
        )  # fmt: skip
        read[operation.id] = json.loads(base64.b64decode(made.header))
    return pretty(read)


def paid_paths() -> str:
    """The paid half of /openapi.json. Its answers are the table of errors, which has a test of its own."""
    paths = json.loads(document("/openapi.json")())["paths"]
    paid = {path: item for path, item in paths.items() if path in {o.path for o in CATALOGUE.operations}}
    for item in paid.values():
        for described in item.values():
            described["responses"] = {"200": described["responses"]["200"]}
    return pretty(paid)


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("offers.json", offers),
        ("openapi-paid.json", paid_paths),
        ("x402.json", document("/.well-known/x402")),
        ("x402-items.json", document("/.well-known/x402.json")),
        ("pricing.json", document("/pricing")),
        ("llms.txt", document("/llms.txt")),
        ("robots.txt", document("/robots.txt")),
    ],
)
def test_the_shop_reads_as_it_did(name: str, made: Callable[[], str]) -> None:
    if os.environ.get("FAREGATE_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        (GOLDEN / name).write_text(made(), encoding="utf-8")
    assert made() == (GOLDEN / name).read_text(encoding="utf-8")
