"""The contract of the people look-ups: what may be asked, and the shape of what is answered.

Whatever is wrong with a question is found here, before anything is charged: a validator raises a PydanticCustomError
whose type is the error code ("VALIDATION_ERROR", "INVALID_PHONE"), so that its sentence is told; that of a bare
ValueError is not. A model holds the question in its plain form: E.164, two-letter state, five-digit ZIP, None for what
is blank.
"""

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Self

from pydantic import AliasChoices, BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from upstreams.directory import names, phones, places
from upstreams.directory.matching import Query
from upstreams.directory.names import Name
from upstreams.waterfalls import TRIED_SCHEMA

_EMAIL = re.compile(r"[^@\s]{1,64}@[^@\s]+\.[^@\s.]{2,63}", re.ASCII)
_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def _blank_is_absent(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def printable(value: object) -> object:
    """What was sent, unless it is a text with NUL, ESC or their like in it: nobody and nothing is called that. Raises
    ValueError."""
    if isinstance(value, str) and _CONTROLS.search(value):
        raise PydanticCustomError("VALIDATION_ERROR", "a text has no control characters")
    return value


Text = Annotated[str | None, BeforeValidator(_blank_is_absent)]


def optional(description: str, *aliases: str, length: int = 120) -> Any:
    """An optional text; `aliases` are other names under which clients send it, the first is ours."""
    return Field(
        default=None,
        max_length=length,
        description=description,
        validation_alias=AliasChoices(*aliases) if aliases else None,
    )


def state_of(text: str) -> str:
    """A state's code. Raises ValueError."""
    code = places.state_code(text)
    if code is None:
        raise PydanticCustomError("VALIDATION_ERROR", "a state is a US state, two letters or in full: WA or Washington")
    return code


def zip_of(text: str) -> str:
    """Five digits. Raises ValueError."""
    code = places.zip5(text)
    if code is None:
        raise PydanticCustomError("VALIDATION_ERROR", "a ZIP has five digits, or nine as ZIP+4: 98101 or 98101-1234")
    return code


class Question(BaseModel):
    """`region` is where a phone number without a country code is dialled; another region is a subclass."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True, frozen=True)
    region: ClassVar[str] = "US"

    @field_validator("*", mode="before")
    @classmethod
    def _printable(cls, value: object) -> object:
        return printable(value)

    @classmethod
    def of_region(cls, region: str) -> type[Self]:
        if region == cls.region:
            return cls
        return type(cls.__name__, (cls,), {"region": region, "__module__": cls.__module__, "__doc__": cls.__doc__})

    @classmethod
    def e164(cls, text: str) -> str:
        number = phones.normalise(text, cls.region)
        if number is None:
            raise PydanticCustomError(
                "INVALID_PHONE", "no such phone number is possible: send it with its area code, such as +12065550100"
            )
        return number


class PhoneQuery(Question):
    """Whose number is this?"""

    phone: str = Field(
        max_length=64,
        description="Phone number, best as E.164 (+12065550100); (206) 555-0100 is read as a US number.",
        validation_alias=AliasChoices("phone", "phone_number", "number"),
    )

    @field_validator("phone")
    @classmethod
    def _possible(cls, value: str) -> str:
        return cls.e164(value)

    def query(self) -> Query:
        return Query(phone=self.phone)


class PersonQuery(Question):
    """Who is this? At least one of phone, email, name or street; whatever else is known narrows it down."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    name: Text = optional("Full name: Dana Q Sample. Not together with first_name and last_name.", "name", "full_name")
    first_name: Text = optional("First name.", "first_name", "firstname", "first")
    middle_name: Text = optional("Middle name or initial.", "middle_name", "middlename", "middle")
    last_name: Text = optional("Last name.", "last_name", "lastname", "last")
    phone: Text = optional(
        "Phone number, best as E.164. With a phone the look-up is a reverse phone look-up.",
        "phone", "phone_number", "number", length=64,
    )  # fmt: skip
    email: Text = optional("Email address.", "email", "email_address", length=254)
    street: Text = optional(
        "Street line with house number: 12 Example Ave.", "street", "street_address", "address", "line1"
    )
    city: Text = optional("City.", "city")
    state_code: Text = optional("US state, two letters or in full: WA.", "state_code", "state", length=40)
    zip: Text = optional("US ZIP code, five digits or ZIP+4.", "zip", "zipcode", "zip_code", "postal_code", length=10)

    @field_validator("phone")
    @classmethod
    def _possible(cls, value: str | None) -> str | None:
        return None if value is None else cls.e164(value)

    @field_validator("email")
    @classmethod
    def _email(cls, value: str | None) -> str | None:
        if value is not None and _EMAIL.fullmatch(value) is None:
            raise PydanticCustomError("VALIDATION_ERROR", "an email address looks like dana@example.com")
        return None if value is None else value.lower()

    @field_validator("state_code")
    @classmethod
    def _state(cls, value: str | None) -> str | None:
        return None if value is None else state_of(value)

    @field_validator("zip")
    @classmethod
    def _zip(cls, value: str | None) -> str | None:
        return None if value is None else zip_of(value)

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.name and (self.first_name or self.middle_name or self.last_name):
            raise PydanticCustomError("VALIDATION_ERROR", "send either name or first_name and last_name, not both")
        if self.phone or self.email or names.fold(self.street or ""):
            return self
        first, last = self._words()
        if not last:
            raise PydanticCustomError("MISSING_QUERY", "send at least one of phone, email, name or street")
        if not first:
            raise PydanticCustomError("MISSING_QUERY", "a last name alone finds nobody: add a first name or a phone")
        return self

    def _words(self) -> tuple[bool, bool]:
        """Whether there is a (first, last) name with a letter or digit in it."""
        if self.name:
            words = names.fold(self.name).split()
            return len(words) > 1, bool(words)
        return bool(names.fold(self.first_name or "")), bool(names.fold(self.last_name or ""))

    def query(self) -> Query:
        """The question for the directory. Splitting an unusual name takes 0.2 ms, and 0.1 s the first time."""
        if self.name:
            name = names.split(self.name)
        else:
            name = Name(self.first_name or "", self.middle_name or "", self.last_name or "")
        return Query(
            phone=self.phone or "",
            email=self.email or "",
            name=name,
            street=self.street or "",
            city=self.city or "",
            state=self.state_code or "",
            zip=self.zip or "",
        )


# The answer. JSON Schema with everything inlined, since crawlers follow no references.

Schema = Mapping[str, Any]


def an_object(properties: Mapping[str, Schema], *, required: tuple[str, ...] | None = None) -> dict[str, Any]:
    names_required = tuple(properties) if required is None else required
    return {"type": "object", "properties": dict(properties), "required": list(names_required)}


def a_list(items: Schema) -> dict[str, Any]:
    return {"type": "array", "items": dict(items)}


STRING = {"type": "string"}
NUMBER = {"type": "number"}
INTEGER = {"type": "integer"}
BOOLEAN = {"type": "boolean"}
MAYBE = {"type": ["string", "null"]}
STRINGS = a_list(STRING)
SOURCES = a_list(an_object({"id": STRING, "provider": STRING, "record": STRING, "retrieved_at": STRING}))

PERSON: Schema = an_object(
    {
        "id": STRING,
        "name": STRING,
        "name_parts": {
            "type": ["object", "null"],
            "properties": {"first": MAYBE, "middle": MAYBE, "last": MAYBE, "suffix": MAYBE},
        },
        "aliases": STRINGS,
        "age_range": MAYBE,
        "deceased": {"type": ["boolean", "null"]},
        "phones": a_list(
            an_object(
                {
                    "number": STRING,
                    "national": STRING,
                    "line_type": MAYBE,
                    "carrier": MAYBE,
                    "region": MAYBE,
                    "score": NUMBER,
                    "sources": STRINGS,
                }
            )
        ),
        "emails": a_list(an_object({"email": STRING, "score": NUMBER, "sources": STRINGS})),
        "addresses": a_list(
            an_object(
                {
                    "kind": STRING,
                    "line1": MAYBE,
                    "line2": MAYBE,
                    "city": MAYBE,
                    "state_code": MAYBE,
                    "zip": MAYBE,
                    "country": STRING,
                    "score": NUMBER,
                    "sources": STRINGS,
                }
            )
        ),
        "relatives": a_list(an_object({"id": MAYBE, "name": STRING})),
        "employer": MAYBE,
        "title": MAYBE,
        "match_score": NUMBER,
        "matched_by": STRINGS,
    }
)

_METADATA: Schema = an_object(
    {
        "notice": STRING,
        "query_mode": {"enum": ["reverse_phone", "email", "name", "name_address", "reverse_address"]},
        "reason": {"enum": ["too_common", "ambiguous", "place_missing"]},
        "match": an_object({"rule": STRING, "score_min": NUMBER, "people": INTEGER}),
        "phone": an_object(
            {
                "e164": STRING,
                "national": STRING,
                "valid": BOOLEAN,
                "region": MAYBE,
                "location": MAYBE,
                "line_type": MAYBE,
                "carrier": MAYBE,
                "timezones": STRINGS,
            },
            required=("e164", "national", "valid", "region", "location", "line_type", "timezones"),
        ),
        "zip": an_object(
            {
                "zip": STRING,
                "known": BOOLEAN,
                "city": STRING,
                "state": STRING,
                "county": MAYBE,
                "timezone": MAYBE,
                "area_codes": STRINGS,
            },
            required=("zip", "known"),
        ),
        "sources": SOURCES,
        "providers_tried": TRIED_SCHEMA,
        "elapsed_ms": INTEGER,
    },
    required=("query_mode", "match", "sources", "providers_tried", "elapsed_ms"),
)

ANSWER: Schema = an_object(
    {
        "request_id": STRING,
        "route": STRING,
        "matched": BOOLEAN,
        "billed": BOOLEAN,
        "cache_hit": BOOLEAN,
        "billing": {"type": "object"},
        "data": an_object({"people": a_list(PERSON)}),
        "metadata": _METADATA,
    }
)
