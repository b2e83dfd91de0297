"""`render`: pages out of templates. Each room has its own beside its code, in the frame of ``html/base.html.j2``."""

from collections.abc import Iterable, Mapping
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined

from terradelta.html import text as words
from terradelta.html.pictures import data_uri
from terradelta.html.text import shown, text

__all__ = ["data_table", "facts", "page", "render", "section"]

_TEMPLATES = Environment(
    loader=PackageLoader("terradelta", "."),
    autoescape=True,
    undefined=StrictUndefined,  # a name that does not exist is an error
    finalize=shown,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
_TEMPLATES.filters |= {name: getattr(words, name) for name in words.__all__} | {"data_uri": data_uri}


def render(template: str, **values: object) -> str:
    """A page, or a part of one, as text; every value is escaped unless it is `markupsafe.Markup`.

    Args:
        template: its path within the package, such as ``area/page.html.j2``.
        values: what it shows. It may use the functions of `terradelta.html.text` and `data_uri` as filters.

    Raises:
        jinja2.TemplateError: if the template does not exist, has an error, or uses a value that was not given.
    """
    return _TEMPLATES.get_template(template).render(values)


_ASSETS = files("terradelta.html") / "assets"


def page(
    kicker: str,
    title: str,
    sections: Iterable[str],
    footer: str,
    *,
    lead: str = "",
    styles: tuple[str, ...] = (),
    scripts: tuple[str, ...] = (),
) -> str:
    """The whole page.

    Args:
        kicker: what kind of page it is, in two words.
        title: its title; escaped here, as the kicker is.
        sections: HTML, as from `section`; empty ones are left out.
        footer: HTML.
        lead: what stands below the title; text, escaped here.
        styles: names of more style sheets among the assets.
        scripts: names of scripts among the assets.
    """
    sheets, code = (
        "".join((_ASSETS / name).read_text(encoding="utf-8") for name in names)
        for names in (("report.css", *styles), scripts)
    )
    return "\n".join(
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            '<meta name="color-scheme" content="light dark">',
            f"<title>{text(title)}</title>\n<style>\n{sheets}</style>\n</head>\n<body>\n<main>",
            f'<header><p class="kicker">{text(kicker)}</p><h1>{text(title)}</h1>'
            + (f'<p class="muted">{text(lead)}</p>' if lead else "")
            + "</header>",
            *(each for each in sections if each),
            f"<footer><p>{footer}</p></footer>\n</main>",
            *([f"<script>\n{code}</script>"] if code else []),
            "</body>\n</html>\n",
        )
    )


def section(name: str, heading: str, body: str) -> str:
    """A part of the page under a heading; all is HTML."""
    return f'<section aria-labelledby="{name}">\n<h2 id="{name}">{heading}</h2>\n{body}\n</section>'


def facts(rows: Mapping[str, str]) -> str:
    """A table of names and values, both HTML."""
    cells = "".join(f'<tr><th scope="row">{name}</th><td>{value}</td></tr>' for name, value in rows.items())
    return f'<table class="facts"><tbody>{cells}</tbody></table>'


def data_table(head: Iterable[str], rows: Iterable[Iterable[str]], labelled_by: str) -> str:
    """A table of numbers; cells are HTML, the first one of a row names it."""
    names = "".join(f'<th scope="col">{name}</th>' for name in head)
    body = []
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        body.append(f'<tr><th scope="row">{first}</th>{cells}</tr>\n')
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-labelledby="{labelled_by}"><table class="data">'
        f"<thead><tr>{names}</tr></thead>\n<tbody>{''.join(body)}</tbody></table></div>"
    )
