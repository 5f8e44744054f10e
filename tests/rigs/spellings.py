"""F-015: how a path may be spelt so that one server takes it for itself and another for nothing."""


def aliases(path: str) -> list[str]:
    """Spellings that some server or proxy somewhere takes for `path`."""
    last = path.rsplit("/", 1)[1]
    first, rest = path[1:].split("/", 1)
    return [
        path + "/",
        path + "//",
        "/" + path,
        "//" + path,
        path.replace("/", "//"),
        path.replace("/v1/", "/v1//"),
        path.replace("/v1/", "/v1/./"),
        path.replace("/v1/", "/v1/../v1/"),
        path.replace("/v1/", "/v1/%2e%2e/v1/"),
        path.replace("/v1/", "/v1%2f"),
        path.replace("/v1/", "/v1%2F"),
        path.replace("/v1/", "/v1%252f"),
        path.replace("/v1/", "/v1\\"),
        path.replace("/v1/", "/v1%5c"),
        f"/{first}%2F{rest}",
        path.upper(),
        path.replace("api", "Api"),
        path + ";",
        path + ";jsessionid=1",
        path.replace("/v1/", "/v1;x/"),
        path + "%00",
        path + "%20",
        path + "%0a",
        path + "%",
        path + "%zz",
        path + "%2",
        path + ".json",
        path + "%3Fx=1",
        path + "%23",
        path.replace(last, f"%{ord(last[0]):02x}{last[1:]}"),
        path.replace(last, f"%25{ord(last[0]):02x}{last[1:]}"),
        path.replace("api", "%61pi"),
        path.replace("a", "%C0%A1", 1),
        path.replace("/v1/", "/v1/%c0%af"),
        path.replace("/v1/", "/v1/%u002f"),
        "/x/.." + path,
    ]
