"""The central place behind the gateways: uplink queue, inboxes, routes and wake-ups; four ports and their engines."""
