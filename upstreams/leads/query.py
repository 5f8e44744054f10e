"""What may be asked of a lead session; a mistake is found here, before anything is held.

A validator raises ValueError, or a PydanticCustomError whose type is the error code where the code has a name of its
own: LEAD_TOO_THIN, INVALID_PHONE, CEILING_BELOW_PRICE.
"""

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, ClassVar, Literal, Self

import orjson
from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    WithJsonSchema,
    field_validator,
    model_validator,
)
from pydantic_core import PydanticCustomError

from gateway.core.money import USD_PATTERN, MoneyError, format_usd, parse_usd
from gateway.core.session import SessionQuery
from upstreams.leads import lead as leads
from upstreams.leads import prior
from upstreams.leads.graph import Graph
from upstreams.leads.lead import Lead, TooThin

PROMPTS_MAX = 5
PROMPT_MAX = 1_000
LEAST_MICROS = 50_000


def _usd(value: object) -> object:
    if value is None:
        return None
    if isinstance(value, bool):
        raise PydanticCustomError("VALIDATION_ERROR", "budget_usd: an amount is a number or a text, such as 2.50")
    try:
        return parse_usd(repr(value) if isinstance(value, float) else value)
    except MoneyError as error:
        raise PydanticCustomError("VALIDATION_ERROR", f"budget_usd: {error}") from None


Usd = Annotated[
    int | None,
    BeforeValidator(_usd),
    PlainSerializer(lambda micros: None if micros is None else format_usd(micros), return_type=str | None),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "string", "pattern": USD_PATTERN}, {"type": "null"}]}),
]


class LeadQuery(SessionQuery):
    """A lead as its caller's CRM has it, and how far to go for it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    region: ClassVar[str] = "US"
    base_micros: ClassVar[int] = 1_500_000
    ceiling_micros: ClassVar[int] = 20_000_000

    lead: dict[str, Any] = Field(
        description="What is known, under any names: company, business_name, dm_name, phone, number1, email, street, "
        "city, state, zip, mailing_address, website, contact_id. At most 64 keys; texts, numbers or short lists."
    )
    budget_usd: Usd = Field(None, description="The most it may cost, in USD; 2.00 where it is left out.")
    max_rounds: int = Field(5, ge=1, le=10, description="How often paid tools may add something.")
    mode: Literal["auto", "interactive"] = Field(
        "auto", description="auto goes on until enough is known; interactive stops early and offers what to do next."
    )
    prompts: list[str] = Field(
        default_factory=list, max_length=PROMPTS_MAX, description="What is wanted most, in words: the owner's mobile."
    )
    chat_session_id: str | None = Field(
        None, min_length=4, max_length=64, pattern=r"^[a-z0-9_]+$",
        description="Goes on where an earlier call with this very lead has ended, and charges what is added only.",
    )  # fmt: skip
    refresh: bool = Field(False, description="true: from scratch, as another session.")
    prior_backfill: dict[str, Any] | None = Field(
        None,
        description="A graph from an earlier answer: nothing in it is charged for. A session's first call "
        "goes on from it as from what you say.",
    )
    planner: Literal["auto", "rules", "llm"] = Field("auto", description="Who decides what to do next.")

    @classmethod
    def of(cls, *, region: str, base_micros: int, ceiling_micros: int) -> type[Self]:
        """With an operator's terms."""
        terms = {"region": region, "base_micros": base_micros, "ceiling_micros": ceiling_micros}
        return type(cls.__name__, (cls,), {**terms, "__module__": cls.__module__, "__doc__": cls.__doc__})

    @field_validator("lead", "prior_backfill", mode="before")
    @classmethod
    def _object(cls, value: object) -> object:
        if value is not None and not isinstance(value, Mapping):
            raise PydanticCustomError("VALIDATION_ERROR", "this is a JSON object")
        return value

    @field_validator("lead")
    @classmethod
    def _small(cls, value: dict[str, Any]) -> dict[str, Any]:
        if len(value) > leads.KEYS_MAX:
            raise PydanticCustomError("VALIDATION_ERROR", f"a lead has at most {leads.KEYS_MAX} keys")
        if len(orjson.dumps(value)) > leads.BYTES_MAX:
            raise PydanticCustomError("VALIDATION_ERROR", f"a lead has at most {leads.BYTES_MAX} bytes")
        return value

    @field_validator("max_rounds", mode="before")
    @classmethod
    def _a_number(cls, value: object) -> object:
        if isinstance(value, bool):
            raise PydanticCustomError("VALIDATION_ERROR", "this is a number")
        return value

    @field_validator("prompts")
    @classmethod
    def _short(cls, value: list[str]) -> list[str]:
        if any(len(prompt) > PROMPT_MAX for prompt in value):
            raise PydanticCustomError("VALIDATION_ERROR", f"a prompt has at most {PROMPT_MAX} characters")
        return [prompt for prompt in (" ".join(prompt.split()) for prompt in value) if prompt]

    @field_validator("budget_usd")
    @classmethod
    def _affordable(cls, value: int | None) -> int | None:
        if value is None:
            return None
        least = max(LEAST_MICROS, cls.base_micros)
        if value < least:
            raise PydanticCustomError("CEILING_BELOW_PRICE", f"this costs {format_usd(least)} USD at least")
        if value > cls.ceiling_micros:
            raise PydanticCustomError(
                "VALIDATION_ERROR", f"budget_usd is at most {format_usd(cls.ceiling_micros)} here"
            )
        return value

    @model_validator(mode="after")
    def _mapped(self) -> Self:
        try:
            assert self.known is not None
        except TooThin as thin:
            if thin.bad_phone:
                raise PydanticCustomError(
                    "INVALID_PHONE", "the lead has nothing but a phone number, and no such number is possible"
                ) from None
            raise PydanticCustomError(
                "LEAD_TOO_THIN",
                "the lead has nothing to look for: send a company, a full name, a phone, an email, a website or a "
                "street address",
            ) from None
        except ValueError as error:
            raise PydanticCustomError("VALIDATION_ERROR", str(error)) from None
        try:
            assert self.prior is not None
        except ValueError as error:
            raise PydanticCustomError("VALIDATION_ERROR", f"prior_backfill: {error}") from None
        return self

    @cached_property
    def known(self) -> Lead:
        """The lead, mapped. Raises TooThin, ValueError; never once it was validated."""
        return leads.mapped(self.lead, self.region)

    @cached_property
    def prior(self) -> Graph:
        """`prior_backfill` as its caller's word."""
        return prior.statements(self.prior_backfill, self.region) if self.prior_backfill else prior.NOTHING

    @property
    def budget_micros(self) -> int | None:
        return self.budget_usd

    @property
    def session_id(self) -> str | None:
        return None if self.refresh else self.chat_session_id

    @property
    def session_subject(self) -> bytes:
        """All that is known at first: who could add somebody to each later call would be told about all of them for the
        price of one."""
        return sha256(orjson.dumps(self.known.told()["mapped"]).lower()).digest()
