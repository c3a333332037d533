"""Trained models and images come in; heatmaps go out, and scores of heatmaps against boxes.

Open `heatmaps` first. `methods` are the ways to make one, `ensemble` is finished runs as one,
`localization` knows the boxes and the maps of chance, and scores a map against them; `scores` does
so with every method, `sanity` asks whether a map heeds the model at all; `maps` are those of many
views.
"""
