"""What all pictures of the documents look like: their text, by day and by night."""

from __future__ import annotations

__all__ = ["style"]


def style(rules: str, dark: str) -> str:
    """A picture's style sheet. rules: its own. dark: what of them changes where pages are dark."""
    return (
        "\ntext { font: 12px system-ui, sans-serif; fill: #24292f; }\n"
        ".title { font-size: 17px; font-weight: 600; }\n"
        ".small { font-size: 11px; fill: #57606a; }\n"
        f"{rules.strip()}\n"
        "@media (prefers-color-scheme: dark) {\n"
        "  text { fill: #e6edf3; }\n"
        "  .small { fill: #8b949e; }\n"
        f"  {dark.strip()}\n"
        "}\n"
    )
