"""Scores, runs and studies come in; pages, plots and Markdown go out: how results look, never what
they are.

Open `experiment_page` first. `study_page` and `data_page` are the other pages; `*_section` are
parts of them, `*_plots` their figures; `page` is their HTML, `markdown` their text, `colours` the
palette and `style` who has which.
"""
