"""The colours of pages, plots and pictures."""

COLOURS = {  # name: (on white, on black); the hues are Okabe and Ito's, safe for colour-blind eyes
    "paper": ("#ffffff", "#14181c"),
    "ink": ("#1d2730", "#e4e9ee"),
    "muted": ("#65717d", "#97a3af"),
    "line": ("#dde3e8", "#323a42"),
    "wash": ("#f5f7f9", "#1c2227"),
    "blue": ("#0072b2", "#5cb8ec"),
    "orange": ("#c65300", "#f08c4a"),
    "green": ("#00875f", "#35c496"),
    "purple": ("#a8548a", "#d98fbd"),
    "gold": ("#9a7500", "#d8b13c"),
    "sky": ("#3a9bd0", "#8fd0f2"),
    "slate": ("#4a5560", "#b4bec8"),
}
