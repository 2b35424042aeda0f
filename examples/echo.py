"""The shortest service: what a device sends to `echo` comes back into its user's inbox. Talk to it with any client."""

import asyncio

import imcore

node = imcore.Node(listen=["127.0.0.1:9000"], data="data")


@node.service.on("echo")
async def echo(message: imcore.Uplink) -> None:
    await node.service.push(message.user, "echo", message.body, key=message.key)


async def main() -> None:
    async with node:
        await node.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
