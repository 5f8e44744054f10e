"""What every poll of an ended job must say of the money, whoever asks: both rigs, Gate and Running, look at each one.

charged + released = held       to the micro-dollar, however the job has ended; what was refunded counts as charged
nothing is shown unpaid         where there is a charge by signature, the result comes with its settlement
"""

import re
from decimal import Decimal
from typing import Any, Protocol, TypeVar

ENDED = ("completed", "failed", "cancelled")
JOB = re.compile(r"/api/v1/enrich/jobs/ej_[0-9a-z]+(\?.*)?")


def usd(text: str) -> int:
    """Micro-dollars."""
    return int(Decimal(text).scaleb(6).to_integral_exact())


def settled_up(told: Any) -> None:
    """`told` is the poll of a job that has ended."""
    billing = told["billing"]
    names = ("bill_up_to_usd", "charged_usd", "refunded_usd", "released_usd")
    held, charged, refunded, released = (usd(billing[name]) for name in names)
    charged += refunded
    assert charged + released == held, told
    assert told["billed"] is (charged > 0), told
    if charged and billing["mode"] != "virtual_balance":
        assert (billing["settlement"]["state"], billing["settlement"]["amount"]) == ("proven", str(charged)), told
    if told["error"] is not None and told["error"]["code"] not in ("RESULT_EXPIRED", "RESULT_ERASED"):
        assert (told["result"], charged) == (None, 0), told


class Answer(Protocol):
    @property
    def status(self) -> int: ...
    @property
    def json(self) -> Any: ...


A = TypeVar("A", bound=Answer)


def looked_at(path: str, answer: A) -> A:
    """Any answer, unchanged; that of an ended job's poll is judged."""
    if answer.status == 200 and JOB.fullmatch(path) and answer.json["status"] in ENDED:
        settled_up(answer.json)
    return answer
