"""The styles of the products in QGIS, which takes them from the file of a layer's name beside it.

Polygons are red, or grey and dashed where the shift alone could explain them; in the raster only change has a colour;
probability goes from transparent over yellow to red. A table of styles inside the GeoPackage would be a second layer,
of which readers warn.
"""

__all__ = ["CHANGE_PIPE", "POLYGON_RENDERER", "PROBABILITY_PIPE", "PROBABILITY_STYLE", "STYLE"]


def _symbol(name: str, fill: str, outline: str, kind: str) -> str:
    options = {
        "color": fill,
        "outline_color": outline,
        "outline_style": kind,
        "outline_width": "0.4",
        "style": "solid",
    }
    rows = "".join(f'<Option type="QString" name="{key}" value="{value}"/>' for key, value in options.items())
    return (
        f'<symbol type="fill" name="{name}" alpha="1" clip_to_extent="1" force_rhr="0">'
        f'<layer class="SimpleFill" enabled="1" locked="0" pass="0"><Option type="Map">{rows}</Option></layer></symbol>'
    )


POLYGON_RENDERER = f"""<renderer-v2 type="RuleRenderer" symbollevels="0" forceraster="0" enableorderby="0"
      referencescale="-1">
    <rules key="change">
      <rule key="shift" filter="&quot;shift_explains&quot; = 1" symbol="1" label="the shift alone could explain it"/>
      <rule key="rest" filter="ELSE" symbol="0" label="change"/>
    </rules>
    <symbols>
      {_symbol("0", "255,0,0,50", "255,0,0,255", "solid")}
      {_symbol("1", "120,120,120,40", "90,90,90,255", "dash")}
    </symbols>
  </renderer-v2>"""
"""Of the polygons."""

CHANGE_PIPE = """<pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">
      <colorPalette>
        <paletteEntry value="0" color="#ffffff" alpha="0" label="unchanged"/>
        <paletteEntry value="1" color="#ff0000" alpha="255" label="changed"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>"""
"""Of ``change.tif``."""

_RAMP = (
    (0.0, "#ffffcc", 0),
    (0.25, "#fed976", 120),
    (0.5, "#fd8d3c", 200),
    (0.75, "#e31a1c", 230),
    (1.0, "#800026", 255),
)
"""Probability, colour and opacity (0 to 255); ColorBrewer's YlOrRd, which all kinds of colour vision tell apart."""

PROBABILITY_PIPE = (
    """<pipe>
    <rasterrenderer type="singlebandpseudocolor" band="1" opacity="1" alphaBand="-1" classificationMin="0"
        classificationMax="1">
      <rastershader>
        <colorrampshader colorRampType="INTERPOLATED" classificationMode="1" clip="0" minimumValue="0" maximumValue="1"
            labelPrecision="2">
          """
    + "".join(
        f'<item value="{value:g}" label="{value:g}" color="{colour}" alpha="{alpha}"/>'
        for value, colour, alpha in _RAMP
    )
    + """
        </colorrampshader>
      </rastershader>
    </rasterrenderer>
  </pipe>"""
)
"""Of ``probability.tif``."""


def _style(*parts: str) -> str:
    inside = "\n  ".join(parts)
    return f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="Symbology">
  {inside}
</qgis>
"""


STYLE = _style(POLYGON_RENDERER, CHANGE_PIPE, "<layerGeometryType>2</layerGeometryType>")
"""QGIS's own format; a layer reads what is for its kind."""
PROBABILITY_STYLE = _style(PROBABILITY_PIPE)
