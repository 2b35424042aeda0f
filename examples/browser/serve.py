"""A chat in a page: the node serves the page, and the page speaks the HTTP tunnel with the node that it came from.

`python examples/browser/serve.py`, then open http://127.0.0.1:9000 in two windows. A message goes to the user it names.
"""

import asyncio
import json
import sys
from pathlib import Path

from aiohttp import web

import imcore

PAGE = Path(__file__).parent


def expected(message: imcore.Uplink) -> str | None:
    """Looks at a message before it is taken: None, or what was expected."""
    try:
        said = json.loads(message.body)
    except ValueError:
        said = None
    ok = isinstance(said, dict) and all(isinstance(said.get(key), str) and said[key] for key in ("to", "text"))
    return None if ok else 'chat expects a JSON object {"to": "<name>", "text": "<what>"}'


async def page(_: web.Request) -> web.FileResponse:
    return web.FileResponse(PAGE / "index.html")


async def main(address: str) -> None:
    node = imcore.Node(listen=[address], data="data")
    node.http.router.add_get("/", page)
    node.http.router.add_static("/browser", PAGE)

    @node.service.on("chat", check=expected)
    async def chat(message: imcore.Uplink) -> None:
        said = json.loads(message.body)
        body = json.dumps({"from": message.user, "text": said["text"]}).encode()
        await node.service.push(said["to"], "chat", body, key=message.key)

    async with node:
        print(f"open http://{node.addresses[0]}", flush=True)
        await node.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:9000"))
