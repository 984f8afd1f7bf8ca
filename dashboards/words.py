"""Text that is shown as it is."""


def plain(text: str) -> str:
    """Text for markdown: two dollar signs in a sentence are no formula, and what stands in a name is no markup."""
    for sign in ("\\", "$", "*", "_", "`", "[", "]", "<", "#", "|", "~", ":"):
        text = text.replace(sign, f"\\{sign}")
    return text
