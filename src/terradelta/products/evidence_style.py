"""The style of ``change.gpkg`` and ``change.tif`` in QGIS, which takes it from the file of their name beside them.

Polygons are red, or grey and dashed where the shift alone could explain them; in the raster only change has a colour. A
table of styles inside the GeoPackage would be a second layer, of which readers warn.
"""

__all__ = ["STYLE"]


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


STYLE = f"""<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="Symbology">
  <renderer-v2 type="RuleRenderer" symbollevels="0" forceraster="0" enableorderby="0" referencescale="-1">
    <rules key="change">
      <rule key="shift" filter="&quot;shift_explains&quot; = 1" symbol="1" label="the shift alone could explain it"/>
      <rule key="rest" filter="ELSE" symbol="0" label="change"/>
    </rules>
    <symbols>
      {_symbol("0", "255,0,0,50", "255,0,0,255", "solid")}
      {_symbol("1", "120,120,120,40", "90,90,90,255", "dash")}
    </symbols>
  </renderer-v2>
  <pipe>
    <rasterrenderer type="paletted" band="1" opacity="1" alphaBand="-1">
      <colorPalette>
        <paletteEntry value="0" color="#ffffff" alpha="0" label="unchanged"/>
        <paletteEntry value="1" color="#ff0000" alpha="255" label="changed"/>
      </colorPalette>
    </rasterrenderer>
  </pipe>
  <layerGeometryType>2</layerGeometryType>
</qgis>
"""
"""QGIS's own format; a layer reads what is for its kind."""
