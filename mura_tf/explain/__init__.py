"""Trained models and images come in; heatmaps go out, and scores of heatmaps against boxes.

Open `heatmaps` first. `methods` are the ways to make one, `ensemble` is finished runs as one,
`localization` knows the maps of chance and scores a map against boxes, `detection` makes boxes of
it; `scores` does so with every method, `sanity` asks whether a map heeds the model at all; `maps`
are those of many views.
"""
