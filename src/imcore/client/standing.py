"""What a client says of itself to whoever asks, and what it is told of the device that it is on."""

from __future__ import annotations

from .connection import Connection, State
from .receiving import Receiving
from .sending import Sending

__all__ = ["Standing"]


class Standing:
    """How a client stands."""

    _connection: Connection
    _receiving: Receiving
    _sending: Sending

    def network_changed(self) -> None:
        """Say that this device is on another network now, where your system tells you: a phone's does. On Linux a
        client notices by itself. Links that can't be reached any more are left at once, others are asked whether they
        live."""
        self._connection.moved()

    @property
    def dropped(self) -> int:
        """Room messages that were dropped because the application was too slow for them."""
        return self._receiving.downlink.dropped

    @property
    def unconfirmed(self) -> int:
        """Messages that were given to `send` and have no answer."""
        return len(self._sending)

    @property
    def up_state(self) -> State:
        """Where what goes up stands; where one link does both, the same as `state`."""
        return self._connection.up_state

    @property
    def still_s(self) -> float:
        """How long a connection may be silent on this network, seconds, as far as is known: signs of life are as often
        as that wants, within the gateway's bounds."""
        return self._connection.spare.known().holds_s
