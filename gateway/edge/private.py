"""What one caller is told alone: JSON that no cache keeps, on the way or at his end."""

from collections.abc import Mapping

import orjson
from starlette.responses import Response

PRIVATE = {"Cache-Control": "private, no-store"}


def private(value: Mapping[str, object], status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json", headers={**PRIVATE, **(headers or {})})
