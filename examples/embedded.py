"""A gateway inside a program that has work of its own: an order desk that tells customers what happens.

A customer's device sends `{"item": "tea"}` to the route `order`; the desk works on it while the gateway goes on, and
the answer waits in the customer's inbox, connected or not.
"""

import asyncio
import json

import imcore


def expected(message: imcore.Uplink) -> str | None:
    """Looks at an order before it is taken: None, or what was expected."""
    try:
        order = json.loads(message.body)
    except ValueError:
        order = None
    ok = isinstance(order, dict) and isinstance(order.get("item"), str)
    return None if ok else 'order expects a JSON object {"item": "<what>"}'


async def desk(orders: "asyncio.Queue[imcore.Uplink]", service: imcore.Service) -> None:
    while True:
        message = await orders.get()
        item = json.loads(message.body)["item"]
        answer = json.dumps({"order": message.id, "item": item, "state": "done"}).encode()
        await service.push(message.user, "order", answer, key=f"done/{message.key}")


async def main() -> None:
    node = imcore.Node(listen=["127.0.0.1:9000"], data="data")
    orders: asyncio.Queue[imcore.Uplink] = asyncio.Queue()

    @node.service.on("order", check=expected)
    async def take(message: imcore.Uplink) -> None:
        await orders.put(message)

    async with node, asyncio.TaskGroup() as tasks:
        tasks.create_task(desk(orders, node.service))
        await node.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
