"""The server side of links: connections, acknowledgements, heartbeats, rooms. It knows no business."""
