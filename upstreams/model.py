"""A language model, asked: any server that speaks /chat/completions ("openai"), or Anthropic's /v1/messages
("anthropic").

What it is shown is data in one JSON value. What it can do is answer with an object of a schema, or use one of the tools
that it is offered; whatever else an answer holds is passed over. What came of it is for the asker to believe or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

import orjson

from upstreams.http_api.answers import Unusable, read_json
from upstreams.leaks import Leaks
from upstreams.provider import ErrorClass, HttpAsk, Line, ProviderTerms, Reply, by_status, failed

Json = Any

_TOKENS_MAX: Final = 10_000_000
"""No answer counts more."""
_ANSWER: Final = "emit"
"""The tool that takes an object of a schema."""


@dataclass(frozen=True, slots=True)
class TokenPrices:
    """Micro-USD for a million tokens."""

    input_micros: int = 0
    output_micros: int = 0

    def cost_micros(self, tokens_in: int, tokens_out: int) -> int:
        return -(-(tokens_in * self.input_micros + tokens_out * self.output_micros) // 1_000_000)


@dataclass(frozen=True, slots=True)
class Tool:
    """What a model may use: a name of ours, and the JSON Schema of what it says with it."""

    name: str
    description: str
    schema: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Prompt:
    """Either `tools`, of which it must use one, or the `schema` that its answer must have."""

    instructions: str
    shown: Json = field(repr=False)
    tokens_max: int
    """It may write."""
    tools: tuple[Tool, ...] = ()
    schema: Mapping[str, Json] = field(default_factory=dict)
    form: int = 0
    """How strictly the schema is asked for, where a server may not know how: below `Server.forms`."""


@dataclass(frozen=True, slots=True)
class Said:
    """What a model has answered, as far as it was asked for."""

    used: str
    """The name of the tool; "" where there was none."""
    told: dict[str, Json] | None
    """What came with the tool, or the object of the schema; None: nothing readable."""
    refused: bool
    """That it would rather not."""
    cost_micros: int | None
    """None: it has not counted."""


@dataclass(frozen=True)
class Server:
    """What providers that ask a model are made of."""

    url: str
    model: str
    prices: TokenPrices
    terms: ProviderTerms
    key: str = field(default="", repr=False)
    line: Line = field(default_factory=Line, repr=False)
    api: ClassVar[str]
    forms: ClassVar[int]

    def asks(self, prompt: Prompt) -> HttpAsk:
        raise NotImplementedError

    def said(self, prompt: Prompt, status: int, body: bytes) -> Said | Reply[Any]:
        """A Reply is what has failed."""
        raise NotImplementedError

    def _cost(self, usage: Json, tokens_in: str, tokens_out: str) -> int | None:
        """Never more than the terms say, whatever a server counts."""
        counts = [_at(usage, tokens_in), _at(usage, tokens_out)]
        if not all(type(count) is int and 0 <= count <= _TOKENS_MAX for count in counts):
            return None
        return min(self.prices.cost_micros(*counts), self.terms.most_micros)


@dataclass(frozen=True)
class OpenAi(Server):
    """Where `response_format` is refused it can be asked again with a looser one, and at last without."""

    api: ClassVar[str] = "openai"
    forms: ClassVar[int] = 3

    def asks(self, prompt: Prompt) -> HttpAsk:
        told = prompt.instructions
        if prompt.form:
            told += f" Its JSON Schema: {orjson.dumps(prompt.schema).decode()}"
        asked: dict[str, Json] = {
            "model": self.model,
            "messages": [{"role": "system", "content": told}, {"role": "user", "content": _text(prompt.shown)}],
            "temperature": 0,
            "max_tokens": prompt.tokens_max,
        }
        if prompt.tools:
            asked["tools"] = [{"type": "function", "function": _tool(each, "parameters")} for each in prompt.tools]
            asked["tool_choice"] = "required"
        elif prompt.form < 2:
            shape = {"name": "findings", "schema": prompt.schema, "strict": True}
            formats = {"type": "json_schema", "json_schema": shape}, {"type": "json_object"}
            asked["response_format"] = formats[prompt.form]
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return HttpAsk(f"{self.url}/chat/completions", "POST", headers, orjson.dumps(asked))

    def said(self, prompt: Prompt, status: int, body: bytes) -> Said | Reply[Any]:
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        cost = self._cost(answer.get("usage"), "prompt_tokens", "completion_tokens")
        message = _at(answer, "choices", 0, "message")
        refused = isinstance(_at(message, "refusal"), str) and not _at(message, "content")
        if not prompt.tools:
            return Said("", _object_in(_written(_at(message, "content"))), refused, cost)
        called = _at(message, "tool_calls", 0, "function")
        arguments = _at(called, "arguments")
        told = _object_in(arguments) if isinstance(arguments, str) else arguments
        return Said(_name(_at(called, "name")), told if isinstance(told, dict) else None, refused, cost)


@dataclass(frozen=True)
class Anthropic(Server):
    """An object of a schema is what it says with a tool that it must use: the most portable form there."""

    api: ClassVar[str] = "anthropic"
    forms: ClassVar[int] = 1

    def asks(self, prompt: Prompt) -> HttpAsk:
        tools = prompt.tools or (Tool(_ANSWER, "Takes the answer.", prompt.schema),)
        asked = {
            "model": self.model,
            "max_tokens": prompt.tokens_max,
            "temperature": 0,
            "system": prompt.instructions,
            "messages": [{"role": "user", "content": _text(prompt.shown)}],
            "tools": [_tool(each, "input_schema") for each in tools],
            "tool_choice": {"type": "any"} if prompt.tools else {"type": "tool", "name": _ANSWER},
        }
        headers = {"Content-Type": "application/json", "x-api-key": self.key, "anthropic-version": "2023-06-01"}
        return HttpAsk(f"{self.url}/v1/messages", "POST", headers, orjson.dumps(asked))

    def said(self, prompt: Prompt, status: int, body: bytes) -> Said | Reply[Any]:
        answer = _answer(status, body)
        if isinstance(answer, Reply):
            return answer
        cost = self._cost(answer.get("usage"), "input_tokens", "output_tokens")
        content = answer.get("content")
        used = [block for block in content if _at(block, "type") == "tool_use"] if isinstance(content, list) else []
        if not prompt.tools:
            used = [block for block in used if block.get("name") == _ANSWER]
        first = used[0] if used else {}
        told = first.get("input")
        return Said(_name(first.get("name")), told if isinstance(told, dict) else None, False, cost)


def server(
    api: str,
    terms: ProviderTerms,
    prices: TokenPrices,
    line: Line | None = None,
    *,
    name: str,
    url: str | None = None,
    key: str = "",
) -> Server:
    """ "openai" or "anthropic"; `line`: one to share, which knows the key; `name` is the model's."""
    line = line or Line(Leaks((key,)))
    if api == Anthropic.api:
        return Anthropic((url or "https://api.anthropic.com").rstrip("/"), name, prices, terms, key, line)
    return OpenAi((url or "").rstrip("/"), name, prices, terms, key, line)


def _text(shown: Json) -> str:
    return orjson.dumps(shown).decode()


def _tool(tool: Tool, schema: str) -> dict[str, Json]:
    return {"name": tool.name, "description": tool.description, schema: dict(tool.schema)}


# Reading an answer


def _answer(status: int, body: bytes) -> dict[str, Json] | Reply[Any]:
    refused = by_status(status)
    if refused is not None:
        return refused
    try:
        answer = read_json(body)
    except Unusable:
        return failed(ErrorClass.SHAPE)
    return answer if isinstance(answer, dict) else failed(ErrorClass.SHAPE)


def _at(value: Json, *path: str | int) -> Json:
    """What stands at a path, None where there is no such place."""
    for step in path:
        if isinstance(value, dict) and isinstance(step, str):
            value = value.get(step)
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            return None
    return value


def _name(value: Json) -> str:
    return value[:64] if isinstance(value, str) else ""


def _written(value: Json) -> str:
    """A text, or a list of parts that have one."""
    if isinstance(value, str):
        return value
    parts = value if isinstance(value, list) else []
    return "".join(p["text"] for p in parts if isinstance(p, dict) and isinstance(p.get("text"), str))


def _object_in(text: str) -> dict[str, Json] | None:
    """The JSON object that an answer is, or holds: in a fence, or between other words."""
    first, last = text.find("```"), text.rfind("```")
    for place in (text[first:last], text) if first < last else (text,):
        written = place[place.find("{") : place.rfind("}") + 1]
        try:
            value = read_json(written.encode("utf-8", "replace"))
        except Unusable:
            continue
        if isinstance(value, dict):
            return value
    return None
