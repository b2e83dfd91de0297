"""`render`: pages out of templates. Each room has its own beside its code, in the frame of ``html/base.html.j2``."""

from jinja2 import Environment, PackageLoader, StrictUndefined

from terradelta.html import text as words
from terradelta.html.pictures import data_uri
from terradelta.html.text import shown

__all__ = ["render"]

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
