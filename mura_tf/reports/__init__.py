"""Scores, runs and studies come in; pages, plots and Markdown go out: how results look, never what
they are.

Open `experiment_page` first. `study_page` and `data_page` are the other pages; `page` is their
HTML, `markdown` their text, `style` the colours of all plots.
"""
