"""Trained models and images come in; heatmaps go out, and scores of heatmaps against boxes.

Open `heatmaps` first. `methods` are the ways to make one, `ensemble` is finished runs as one,
`localization` knows the boxes, `scores` and `sanity` say whether a map can be trusted.
"""
