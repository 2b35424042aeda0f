"""The central place behind the gateways: uplink queue, inboxes, routes, wake-ups; four small ports and their engines."""
