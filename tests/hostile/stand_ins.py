"""Stand-ins for what is below HTTP: a name server, the routes of a network, a port that nobody answers at."""

import contextlib
import ipaddress
import socket
from collections import Counter


def _is_literal(host):
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class Names:
    """A name server. It says what a test has told it, each answer once and the last one from then on."""

    def __init__(self, resolve):
        self._resolve = resolve
        self._answers = {}
        self.asked = Counter()

    def say(self, name, *answers):
        """Answer for a name: each a list of addresses, or an exception."""
        self._answers[name] = list(answers)

    def __call__(self, host, port, *about, **more):
        if host is None or _is_literal(host):
            return self._resolve(host, port, *about, **more)
        self.asked[host] += 1
        line = self._answers.get(host) or [socket.gaierror(socket.EAI_NONAME, "Name or service not known")]
        answer = line.pop(0) if len(line) > 1 else line[0]
        if isinstance(answer, Exception):
            raise answer
        return [_found(address, int(port or 0)) for address in answer]


def _found(address, port):
    if ":" in address:
        return socket.AF_INET6, socket.SOCK_STREAM, 6, "", (address, port, 0, 0)
    return socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)


class Routes:
    """The routes of a network, asked at each connect: whether there is one, and where it leads."""

    def __init__(self):
        self.missing = None
        """The errno of every connect while the network is gone, or None."""
        self.missing_to = {}
        """The same for one address."""
        self.detours = {}
        """What else an address and port, or an address with any port, leads to: another address and port."""
        self.tries = Counter()
        """Connects by address and port, whether there was a route or not."""

    def passing(self, connect):
        """Return `socket.connect` over these routes."""

        def over_routes(connection, address):
            if connection.family not in (socket.AF_INET, socket.AF_INET6):
                return connect(connection, address)
            place = tuple(address[:2])
            self.tries[place] += 1
            missing = self.missing or self.missing_to.get(place[0])
            if missing:
                raise OSError(missing, "there is no route")
            return connect(connection, self.detours.get(place, address))

        return over_routes


@contextlib.contextmanager
def closed_port(host="127.0.0.1"):
    """Yield the address of a port that nobody listens at, and that nobody else can get meanwhile."""
    with socket.socket() as kept:
        kept.bind((host, 0))
        yield kept.getsockname()


@contextlib.contextmanager
def black_hole(host="127.0.0.1", port=0):
    """Yield the address of a port whose connects are never answered: its queue is full."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.ExitStack() as kept:
        listener = kept.enter_context(socket.socket(family))
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(8):
            other = kept.enter_context(socket.socket(family))
            other.setblocking(False)
            other.connect_ex(listener.getsockname())
        yield listener.getsockname()[:2]
