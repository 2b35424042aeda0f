"""A picows server: `python -m benchmarks.peers.serve_picows PORT fanout|echo`. Pings it answers itself."""

from __future__ import annotations

import sys

import picows
import uvloop

members: set[picows.WSTransport] = set()


class Echo(picows.WSListener):
    """Sends back what comes."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        transport.send(picows.WSMsgType.BINARY, frame.get_payload_as_memoryview())


class Talker(picows.WSListener):
    """Hands what comes to every member."""

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        payload = frame.get_payload_as_bytes()
        for member in members:
            member.send(picows.WSMsgType.BINARY, payload)


class Member(picows.WSListener):
    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        members.add(transport)

    def on_ws_disconnected(self, transport: picows.WSTransport) -> None:
        members.discard(transport)


async def main(port: int, mode: str) -> None:
    def listener(request: picows.WSUpgradeRequest) -> picows.WSListener:
        if mode == "echo":
            return Echo()
        return Member() if request.path == b"/member" else Talker()

    server = await picows.ws_create_server(listener, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


uvloop.run(main(int(sys.argv[1]), sys.argv[2]))
