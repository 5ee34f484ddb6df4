"""What a gateway's adapter has against a request, as it would say before anything is sent."""

from kling_async.errors import InvalidRequestError, KlingError
from kling_async.gateways.protocol import Gateway
from kling_async.requests import Request


def refusal(gateway: Gateway, request: Request) -> list[tuple[str, str, str]]:
    """Return field, code and words of everything that is refused."""
    exchange = gateway.submit(request, "plan")
    try:
        next(exchange)
    except KlingError as error:
        if isinstance(error, InvalidRequestError) and error.faults:
            return list(error.faults)
        name = error.field or ""
        return [(name, error.code or "", error.message.removeprefix(f"{name}: "))]
    finally:
        exchange.close()
    return []
