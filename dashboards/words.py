"""Text that is shown as it is."""


def plain(text: str) -> str:
    """Escape text for markdown, so that two dollar signs are no formula and nothing in a name is markup."""
    # The backslash first, or it would escape our own escapes. A
    # colon begins Streamlit's colours and icons, such as `:red[…]`.
    for sign in ("\\", "$", "*", "_", "`", "[", "]", "<", "#", "|", "~", ":"):
        text = text.replace(sign, f"\\{sign}")
    return text
