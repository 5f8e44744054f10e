"""`faregate operations`: what is on sale by this configuration."""

import json
from typing import TYPE_CHECKING

from gateway.cli import terminal

if TYPE_CHECKING:
    from gateway.core.catalogue import Operation


def operations(config: terminal.Config = None, as_json: terminal.AsJson = False) -> None:
    """List what is on sale, with prices, and what is offline."""
    from gateway.assemble import configured_upstreams

    sold = configured_upstreams(terminal.read_settings(config))
    rows = [_row(each.operation, True) for upstream in sold for each in upstream.offerings()]
    rows += [_row(operation, False) for upstream in sold for operation in upstream.offline()]
    if as_json:
        for row in rows:
            terminal.say(json.dumps(row))
    elif rows:
        terminal.table(list(rows[0]), [list(row.values()) for row in rows], right=(3,))
    else:
        terminal.note("Nothing is on sale.")


def _row(operation: "Operation", online: bool) -> dict[str, str]:
    from gateway.core.money import format_usd

    return {
        "operation": operation.id,
        "method": operation.method,
        "path": operation.path,
        "usd": format_usd(operation.price.base_micros),
        "state": "on sale" if online else "offline",
        "summary": operation.summary,
    }
