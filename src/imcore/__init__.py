"""The channel layer of instant messaging."""
