"""The peer: the official Python x402 SDK as its own examples use it. Runs in a virtual environment of its own.

peer.py facilitator PORT RPC_URL KEY      the SDK's facilitator behind POST /verify, POST /settle, GET /supported
peer.py server PORT FACILITATOR PAY_TO    one paid route, GET /paid at $0.001, behind the SDK's FastAPI middleware
peer.py verify < payload.json             us for one signature check without RPC: typed data, digest, recovery
"""

import json
import sys
import time


def facilitator(port: int, rpc_url: str, key: str) -> None:
    import uvicorn
    from fastapi import FastAPI
    from pydantic import BaseModel
    from x402 import x402Facilitator
    from x402.mechanisms.evm import FacilitatorWeb3Signer
    from x402.mechanisms.evm.exact import register_exact_evm_facilitator
    from x402.schemas import PaymentPayload, PaymentRequirements

    signer = FacilitatorWeb3Signer(private_key=key, rpc_url=rpc_url)
    settles = x402Facilitator()
    register_exact_evm_facilitator(settles, signer, networks="eip155:84532")

    class Ask(BaseModel):
        x402Version: int
        paymentPayload: dict
        paymentRequirements: dict

    app = FastAPI()

    def parts(ask: Ask) -> tuple[PaymentPayload, PaymentRequirements]:
        return PaymentPayload.model_validate(ask.paymentPayload), PaymentRequirements.model_validate(
            ask.paymentRequirements
        )

    @app.post("/verify")
    async def verify(ask: Ask) -> dict:
        return (await settles.verify(*parts(ask))).model_dump(by_alias=True, exclude_none=True)

    @app.post("/settle")
    async def settle(ask: Ask) -> dict:
        return (await settles.settle(*parts(ask))).model_dump(by_alias=True, exclude_none=True)

    @app.get("/supported")
    async def supported() -> dict:
        return settles.get_supported().model_dump(by_alias=True, exclude_none=True)

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def server(port: int, facilitator_url: str, pay_to: str) -> None:
    import uvicorn
    from fastapi import FastAPI
    from x402 import x402ResourceServer
    from x402.http import HTTPFacilitatorClient
    from x402.http.middleware.fastapi import PaymentMiddlewareASGI
    from x402.mechanisms.evm.exact import register_exact_evm_server

    asks = x402ResourceServer(HTTPFacilitatorClient({"url": facilitator_url}))
    register_exact_evm_server(asks, "eip155:84532")
    app = FastAPI()
    routes = {
        "GET /paid": {
            "accepts": {"scheme": "exact", "payTo": pay_to, "price": "$0.001", "network": "eip155:84532"},
            "description": "A small answer",
            "mimeType": "application/json",
        }
    }
    app.add_middleware(PaymentMiddlewareASGI, routes=routes, server=asks)

    @app.get("/paid")
    async def paid() -> dict:
        return {"answer": "small"}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def verify() -> None:
    from x402.mechanisms.evm.eip712 import hash_eip3009_authorization
    from x402.mechanisms.evm.types import ExactEIP3009Payload
    from x402.mechanisms.evm.verify import verify_eoa_signature
    from x402.schemas import PaymentPayload

    text = sys.stdin.read()

    payload = PaymentPayload.model_validate_json(text)

    def check() -> bool:
        signed = ExactEIP3009Payload.from_dict(payload.payload)
        given, extra = signed.authorization, payload.accepted.extra
        digest = hash_eip3009_authorization(given, 84532, payload.accepted.asset, extra["name"], extra["version"])
        return verify_eoa_signature(digest, bytes.fromhex(signed.signature[2:]), given.from_address)

    if not check():
        raise SystemExit("the SDK refused the payload")
    print(json.dumps(sorted(timed(check, 25) for _ in range(5))[2]))


def timed(check, times: int) -> float:
    started = time.perf_counter()
    for _ in range(times):
        check()
    return (time.perf_counter() - started) / times * 1e6


if __name__ == "__main__":
    mode, *rest = sys.argv[1:]
    match mode:
        case "facilitator":
            facilitator(int(rest[0]), rest[1], rest[2])
        case "server":
            server(int(rest[0]), rest[1], rest[2])
        case "verify":
            verify()
