"""The user's device: one object that sends, receives, and stays connected."""

from .client import Client, Receipt, Settled, State
from .downlink import Gap, Message

__all__ = ["Client", "Gap", "Message", "Receipt", "Settled", "State"]
