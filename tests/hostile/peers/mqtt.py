"""MQTT: paho against mosquitto, sessions kept and QoS 1, as their manuals advise for who must not miss anything.

`python -m tests.hostile.peers.mqtt service FILE` beside mosquitto echoes and tells the news, `… device HOST TALK` is
the phone.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from pathlib import Path

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode

from ..node import NEWS_S, last, quiet
from ..talk import Talk, say

__all__: list[str] = []

PORT = 1883


def client(name: str) -> Client:
    """keepalive is its default, 60 s; the pause between tries is as in its example of a reconnecting client."""
    made = Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
    made.reconnect_delay_set(min_delay=1, max_delay=120)
    return made


def service(told: Path) -> None:
    """Until killed. told: keeps the number of the last news over its deaths."""
    here = client("service")

    def connected(client: Client, *_: object) -> None:
        client.subscribe("up/phone", qos=1)

    def came(client: Client, userdata: object, message: MQTTMessage) -> None:
        client.publish("down/phone/echo", message.payload, qos=1)

    here.on_connect, here.on_message = connected, came
    here.connect("127.0.0.1", PORT)
    here.loop_start()
    print("READY", flush=True)
    for number in itertools.count(last(told) + 1):
        time.sleep(NEWS_S)
        while quiet(told):
            time.sleep(NEWS_S)
        here.publish("down/phone/news", b"%d" % number, qos=1)
        told.write_text(str(number))


async def device(host: str, talk: Talk) -> None:
    """Until its input ends."""
    phone = client("phone")
    numbers: dict[int, int] = {}
    missing: set[int] = set()
    """Confirmed, or come back, and not both."""

    def connected(
        client: Client, userdata: object, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        say("state", "OPEN" if not code.is_failure else "WAITING", code)
        client.subscribe("down/phone/#", qos=1)

    def ended(
        client: Client, userdata: object, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        say("state", "WAITING", code)

    def came(client: Client, userdata: object, message: MQTTMessage) -> None:
        what, text = message.topic.rpartition("/")[2], message.payload.decode().rstrip()
        say(what, text)
        if what == "echo":
            missing.symmetric_difference_update({int(text)})

    def published(client: Client, userdata: object, mid: int, *_: object) -> None:
        number = numbers.pop(mid)
        say("confirmed", number)
        missing.symmetric_difference_update({number})

    phone.on_connect, phone.on_disconnect = connected, ended
    phone.on_message, phone.on_publish = came, published
    say("start")
    phone.connect_async(host, PORT)
    phone.loop_start()
    async for number in talk.numbers():
        say("sent", number)
        numbers[phone.publish("up/phone", talk.text(number), qos=1).mid] = number
    end = time.monotonic() + 5
    while (numbers or missing) and time.monotonic() < end:  # noqa: ASYNC110 - what fills it is another thread
        await asyncio.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[1] == "service":
        service(Path(sys.argv[2]))
    else:
        asyncio.run(device(sys.argv[2], Talk(**json.loads(sys.argv[3]))))
