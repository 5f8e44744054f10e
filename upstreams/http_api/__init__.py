"""Any HTTP API on sale, without code: an `[[http_upstreams]]` table in faregate.toml.

    [[http_upstreams]]
    id = "weather/now"                          # sold at /api/v1/weather/now, unless `path` says otherwise
    summary = "The weather in a city"
    price = "0.010"                             # USD a call, in quotes
    method = "GET"                              # or POST; the same for our callers and for the vendor
    url = "https://api.example.com/v1/cities/{city}/weather"
    query = { days = "{days}", units = "metric" }       # GET without it: all inputs the path leaves over
    headers = { Authorization = "Bearer ${WEATHER_KEY}" }
    # body = { city = "{city}", options = { days = "{days}" } }     # POST; without it: the input as JSON
    match = { pointer = "/temperature", exists = true }     # or several; default: the answer is not empty
    # failure = { pointer = "/error", exists = true }       # for vendors who answer 200 with an error in it
    # miss_statuses = [404, 204]                # beside them 200, 201 and 203 are answers, all else is failure
    response_headers = ["X-Data-Date"]          # the only headers that are passed on
    timeout_s = 10
    response_bytes_max = 200_000
    cost = "0.002"                              # what the vendor takes, for the books
    # billing = "metered"                       # costs price at least, and more by what the vendor takes:
    # cost_pointer = "/usage/cost_usd"          # where the answer says that, in USD (where it does not: `cost`)
    # markup_percent = 130                      # of it, rounded up
    # ceiling = "1.50"                          # the most a call may cost: what is held, or signed for by `upto`
    # settle = "before"                         # a signed payment is settled first, as a top-up of its payer's account
    # job = true                                # may be handed over as a job
    # repeatable = true                         # after a crash a job may ask again for an answer that was lost
    # private = true                            # the url is on this machine or a private network
    # free = true                               # the vendor takes nothing: the sandbox may call it too
    # secrets = ["${OTHER_KEY}"]                # what else no answer may give away
    example_output = { temperature = 21.5 }

    [http_upstreams.input]                      # or JSON Schema
    city = { type = "string", description = "City name", example = "Springfield" }
    days = { type = "integer", minimum = 1, maximum = 7, default = 3 }

`{name}` is the value of the input of that name. In a url it is percent-encoded as a whole; in a body a text that is
nothing but `{name}` becomes the value itself, with its type. What was not given is left out. `{{` is a brace.

What becomes of an answer is said in answers.py, when a vendor is left alone in upstreams/breaker.py, which secrets are
looked for in upstreams/leaks.py and settings.py.
"""

from upstreams.http_api.api import HttpApi
from upstreams.http_api.reading import mistakes, read
from upstreams.http_api.settings import HttpUpstream

__all__ = ["HttpApi", "HttpUpstream", "mistakes", "read"]
