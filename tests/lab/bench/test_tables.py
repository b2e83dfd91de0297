import csv
import io
import shutil
import statistics
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from terradelta.errors import InputError, OutputError
from terradelta.lab.bench.tables import Column, Spread, Table, comma_separated, html, latex, markdown, write_tables

TABLE = Table(
    "Scores of A & B",
    (Column("network"), Column("F1 %", 1), Column("runs"), Column("published")),
    (
        ("a|b_c", Spread.of([80.0, 84.0]), 2, "90.71 †"),
        ("<d>", Spread.of([50.04]), 1, None),
        ("failed: 50 % of {x}\\y", None, 0, None),
    ),
    ("One seed says <little> & costs 5 %.",),
)


class Cells(HTMLParser):
    """Text of the cells, row by row."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.inside = False

    def handle_starttag(self, tag, attrs):
        if tag == "tr":
            self.rows.append([])
        self.inside = tag in ("td", "th")
        if self.inside:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        self.inside = False

    def handle_data(self, data):
        if self.inside:
            self.rows[-1][-1] += data


def test_spread_is_mean_and_sample_standard_deviation():
    values = [80.0, 84.5, 79.0]
    spread = Spread.of(values)
    assert spread.mean == pytest.approx(statistics.mean(values))
    assert spread.sd == pytest.approx(statistics.stdev(values))
    assert spread.n == 3
    assert Spread.of([3.0]) == Spread(3.0, None, 1)
    with pytest.raises(InputError, match="needs one value or more"):
        Spread.of([])


def test_markdown():
    assert markdown(TABLE).splitlines() == [
        "## Scores of A & B",
        "",
        "| network | F1 % | runs | published |",
        "| --- | ---: | ---: | --- |",
        "| a\\|b_c | 82.0 ± 2.8 | 2 | 90.71 † |",
        "| <d> | 50.0 | 1 | – |",
        "| failed: 50 % of {x}\\\\y | – | 0 | – |",
        "",
        "- One seed says <little> & costs 5 %.",
    ]


def test_csv_reads_back_with_full_precision():
    rows = list(csv.DictReader(io.StringIO(comma_separated(TABLE))))
    assert [row["network"] for row in rows] == ["a|b_c", "<d>", "failed: 50 % of {x}\\y"]
    assert [float(rows[0][name]) for name in ("F1 %", "F1 % sd", "F1 % runs")] == [82.0, 8.0**0.5, 2]
    assert (rows[1]["F1 %"], rows[1]["F1 % sd"], rows[2]["F1 %"]) == ("50.04", "", "")


def test_html_holds_the_cells_and_opens_offline():
    page = html(TABLE)
    parser = Cells()
    parser.feed(page)
    assert parser.rows == [["network", "F1 %", "runs", "published"], *TABLE.shown()]
    assert "http" not in page
    assert "One seed says &lt;little&gt; &amp; costs 5 %." in page


def test_latex_escapes_and_has_one_column_for_each():
    text = latex(TABLE)
    assert r"\begin{tabular}{lrrl}" in text
    assert r"a|b\_c & 82.0 $\pm$ 2.8 & 2 & 90.71 \textdagger{} \\" in text
    assert r"failed: 50 \% of \{x\}\textbackslash{}y & -- & 0 & -- \\" in text
    assert r"\caption{Scores of A \& B}" in text
    assert text.count("{") == text.count("}")


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no LaTeX here")
def test_latex_compiles(tmp_path: Path):
    head = "\\documentclass{article}\n\\usepackage[T1]{fontenc}\n\\usepackage{booktabs}\n\\begin{document}\n"
    (tmp_path / "t.tex").write_text(f"{head}{latex(TABLE)}\\end{{document}}\n")
    done = subprocess.run(
        ["pdflatex", "-halt-on-error", "t.tex"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-800:]


def test_a_table_without_rows():
    empty = Table("Nothing", (Column("a"), Column("b")), ())
    assert "| a | b |" in markdown(empty)
    assert comma_separated(empty) == "a,b\r\n"
    assert "ll" in latex(empty)


def test_a_row_of_another_length_is_refused():
    with pytest.raises(InputError, match="has 1 cells for 2 columns"):
        Table("T", (Column("a"), Column("b")), (("x",),))


def test_files_are_replaced_whole(tmp_path: Path):
    paths = write_tables(TABLE, tmp_path)
    assert [path.name for path in paths] == ["table.md", "table.csv", "table.tex", "table.html"]
    assert write_tables(TABLE, tmp_path) == paths
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(path.name for path in paths)
    with pytest.raises(OutputError, match=r"missing/table.md cannot be written .*; give a place that can be"):
        write_tables(TABLE, tmp_path / "missing")
