"""What the adapters to gateways with a bearer key have in common: the key, and how it is sent."""

from attrs import define, field

from kling_async.errors import ConfigurationError
from kling_async.gateways.asking import bearer
from kling_async.gateways.protocol import Gateway
from kling_async.secret import Secret
from kling_async.wire import HttpRequest


@define(init=False)
class KeyedGateway(Gateway):
    """A gateway that takes its key as `Authorization: Bearer`.

    Args:
        api_key: sent with every request to the API and to nobody else.
    """

    api_key: Secret = field(converter=Secret, repr=False)

    # Not left to attrs: a key that cannot be one would stand among the locals of what it writes.
    def __init__(self, api_key: Secret | str) -> None:
        try:
            self.api_key = Secret(api_key)
        except ConfigurationError:
            api_key = ""
            raise

    def authorize(self, request: HttpRequest, now: float) -> HttpRequest:
        """Add the bearer key."""
        return bearer(request, self.api_key)
