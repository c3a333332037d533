"""One table, told twice."""

from pages import Page

from mura_tf.reports.page import write_page
from mura_tf.reports.section import Section

KAPPAS = Section(
    "Kappa & more", "Of studies.", ["System", "Wrist"], [["a|b", "0.717"]], below=["By patients."]
)


def test_markdown_has_the_note_the_table_and_what_stands_below():
    assert KAPPAS.markdown == [
        *("## Kappa & more", "", "Of studies.", ""),
        *("| System | Wrist |", "| --- | ---: |", "| a\\|b | 0.717 |", ""),
        *("By patients.", ""),
    ]
    assert KAPPAS._replace(note="", below=()).markdown[2] == "| System | Wrist |"


def test_html_has_the_same_in_the_same_order(tmp_path):
    page = Page(write_page(tmp_path / "page.html", "A page", [KAPPAS.html]))
    assert page.table("System") == {"a|b": {"System": "a|b", "Wrist": "0.717"}}
    places = [page.text.index(text) for text in ("Kappa & more", "Of studies.", "0.717", "By pat")]
    assert places == sorted(places)
