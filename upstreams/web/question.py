"""The contract of web research: what may be asked, and the shape of what is answered.

The question is loose: only the firm's name must be there, what is not known is a hint, and an odd state or domain is
passed over rather than refused. What cannot be a question at all gets a clear error before anything is charged.
"""

from collections.abc import Mapping
from typing import Any

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from gateway.core.addresses import host_of
from upstreams.directory import firms, places
from upstreams.person import Text, printable
from upstreams.web.findings import Subject

PROMPT_CHARS_MAX = 2_000
HINTS_MAX = 64
_HINT_CHARS_MAX = 500


class WebQuery(BaseModel):
    """What is there to know about this firm?"""

    model_config = ConfigDict(extra="allow", str_strip_whitespace=True, frozen=True)

    business_name: str = Field(
        min_length=1,
        max_length=200,
        description="The firm's name: Sample Window Care LLC.",
        validation_alias=AliasChoices("business_name", "company", "company_name", "name"),
    )
    city: Text = Field(None, max_length=120, description="City.")
    state: Text = Field(
        None,
        max_length=40,
        description="US state, two letters or in full: FL. A source in another state is no match.",
        validation_alias=AliasChoices("state", "state_code"),
    )
    domain: Text = Field(
        None,
        max_length=253,
        description="The firm's own website: sample-window.example.",
        validation_alias=AliasChoices("domain", "website", "url"),
    )
    prompt: Text = Field(
        None, max_length=PROMPT_CHARS_MAX, description="What is wanted most, in words; at most 2,000 characters."
    )

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, value: object) -> object:
        return printable(value)

    @model_validator(mode="before")
    @classmethod
    def _few_hints(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and len(data) > HINTS_MAX:
            raise PydanticCustomError("VALIDATION_ERROR", f"send at most {HINTS_MAX} fields")
        return data

    @field_validator("business_name")
    @classmethod
    def _has_words(cls, value: str) -> str:
        if not firms.words(value):
            raise PydanticCustomError("MISSING_QUERY", "business_name has no letter or digit in it")
        return value

    def subject(self) -> Subject:
        """The firm, in its plain form. A state or a domain that is none is left out."""
        return Subject(
            name=self.business_name,
            city=self.city or "",
            state=places.state_code(self.state or "") or "",
            domain=domain_of(self.domain or ""),
        )

    @property
    def hints(self) -> dict[str, str]:
        """What else was sent, as text: fields we have no name for."""
        extra = self.model_extra or {}
        return {
            str(key)[:80]: str(value)[:_HINT_CHARS_MAX]
            for key, value in sorted(extra.items())
            if isinstance(value, (str, int, float)) and not isinstance(value, bool)
        }

    @property
    def wish(self) -> str:
        """The prompt with the hints behind it: what a model is told of what the customer wants."""
        return "\n".join([*([self.prompt] if self.prompt else []), *(f"{k}: {v}" for k, v in self.hints.items())])


def domain_of(text: str) -> str:
    """ "https://www.Sample-Window.example/about" -> "sample-window.example"; "" for what is no host name."""
    text = text.strip().lower().partition("#")[0]
    host = host_of(text if "://" in text else f"https://{text}") or ""
    host = host.removeprefix("www.")
    return host if "." in host and any(sign.isalpha() for sign in host.rpartition(".")[2]) else ""


# The answer. JSON Schema with everything inlined, since crawlers follow no references.

Schema = Mapping[str, Any]


def _object(properties: Mapping[str, Schema], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties if required is None else required),
    }


def _list(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


_STRING = {"type": "string"}
_NUMBER = {"type": "number"}
_INTEGER = {"type": "integer"}
_MAYBE = {"type": ["string", "null"]}
_STATED = {
    "confidence": _NUMBER,
    "sources": _list(_object({"id": _STRING, "url": _MAYBE, "quote": _STRING})),
}

DATA: Schema = _object(
    {
        "phones": _list(
            _object({"number": _STRING, "national": _STRING, "line_type": _MAYBE, "region": _MAYBE, **_STATED})
        ),
        "people": _list(_object({"name": _STRING, "title": _MAYBE, **_STATED})),
        "addresses": _list(
            _object(
                {
                    "line1": _MAYBE,
                    "line2": _MAYBE,
                    "city": _MAYBE,
                    "state_code": _MAYBE,
                    "zip": _MAYBE,
                    "country": _STRING,
                    **_STATED,
                }
            )
        ),
        "legal_associates": _list(
            _object({"name": _STRING, "role": _STRING, "entity": {"enum": ["person", "organization"]}, **_STATED})
        ),
        "emails": _list(_object({"email": _STRING, **_STATED})),
    }
)

METADATA: Schema = _object(
    {
        "query_mode": {"enum": ["web", "registry", "directory"]},
        "match": _object({"rule": _STRING, "confidence_min": _NUMBER, "values": _INTEGER}),
        "pages": {"type": "object", "additionalProperties": _INTEGER},
        "sources": _list(
            _object(
                {"id": _STRING, "provider": _STRING, "url": _MAYBE, "record": _MAYBE, "retrieved_at": _STRING},
            )
        ),
        "providers_tried": _list(
            _object(
                {
                    "provider": _STRING,
                    "outcome": {"enum": ["match", "no_match", "failed", "skipped"]},
                    "error": _STRING,
                    "ms": _INTEGER,
                    "cost_usd": _STRING,
                },
                required=("provider", "outcome", "ms"),
            )
        ),
        "elapsed_ms": _INTEGER,
    }
)

ANSWER: Schema = _object(
    {
        "request_id": _STRING,
        "route": _STRING,
        "matched": {"type": "boolean"},
        "billed": {"type": "boolean"},
        "cache_hit": {"type": "boolean"},
        "billing": {"type": "object"},
        "data": DATA,
        "metadata": METADATA,
    }
)
