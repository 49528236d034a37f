"""Part 13 Annex A as data: the example historians, and what the aggregates make of them from 12:00:00 to 12:01:40.

A row is `value:status`, or `@second=value:status` where it is not dated at the start of its interval. Status letters:
G Good, U Uncertain_DataSubNormal, u Uncertain, B Bad, N Bad_NoData; C Calculated, I Interpolated, P Partial,
M MultipleValues.
"""

from collections.abc import Mapping
from typing import NamedTuple

from nodesets.model import AggregateRules as Rules

MOON = 1_325_419_200_000_000_000
"""1 January 2012, 12:00:00 UTC, in ns."""

Row = tuple[int, float | None, str]
"""Second after 12:00:00, value, status."""

ONE: list[Row] = [
    (10, 10, "G"), (20, 20, "G"), (30, 30, "G"), (40, None, "B"), (50, 50, "G"), (60, 60, "G"), (70, 70, "u"),
    (80, 80, "G"), (90, 90, "G"),
]  # fmt: skip
TWO: list[Row] = [
    (2, 10, "G"), (25, 20, "G"), (28, 25, "G"), (39, 30, "G"), (42, None, "B"), (48, 40, "G"), (52, 50, "G"),
    (72, 60, "G"), (77, 70, "u"), (83, 70, "G"), (86, 80, "G"), (90, 90, "G"),
]  # fmt: skip
FOUR: list[Row] = [
    (2, 1, "G"), (25, 0, "G"), (28, 1, "G"), (39, 1, "G"), (42, None, "B"), (48, 1, "G"), (52, 0, "G"),
    (72, 0, "G"), (77, 1, "u"), (83, 1, "G"), (86, 0, "G"), (90, 1, "G"),
]  # fmt: skip
FIVE: list[Row] = [
    (2, 10, "G"), (25, 20, "G"), (28, 10, "G"), (39, 30, "G"), (42, None, "B"), (48, 30, "G"), (52, 50, "G"),
    (72, 30, "G"), (77, 70, "u"), (83, 70, "G"), (86, 80, "G"), (90, 70, "G"),
]  # fmt: skip

HISTORIANS: Mapping[str, tuple[Rules, list[Row]]] = {
    "Historian1": (Rules(uncertain_is_bad=False), ONE),
    "Historian2": (Rules(sloped_extrapolation=True), TWO),
    "Historian3": (Rules(stepped=True, percent_bad=50, percent_good=50), TWO),
    "Historian4": (Rules(stepped=True), FOUR),
    "Historian5": (Rules(uncertain_is_bad=False), FIVE),
}


class Example(NamedTuple):
    aggregate: str
    historian: str
    seconds: int
    """ProcessingInterval."""
    rows: str


EXAMPLES = [
    Example("Interpolative", "Historian1", 5,
        "N N 10:G 15:GI 20:G 25:GI 30:G 35:UI 40:UI 45:UI 50:G 55:GI 60:G 65:UI 70:u 75:UI 80:G 85:GI 90:G 90:UI"),
    Example("Interpolative", "Historian2", 5,
        "N 11.304:GI 13.478:GI 15.652:GI 17.826:GI 20:G 25.909:GI 28.182:GI 31.111:UI 36.667:UI 45:GI 51.5:GI 54:GI "
        "56.5:GI 59:GI 62.727:UI 67.273:UI 76.667:GI 90:G 102.5:UI"),
    Example("Interpolative", "Historian3", 5,
        "N 10:GI 10:GI 10:GI 10:GI 20:G 25:GI 25:GI 30:GI 30:UI 40:GI 50:GI 50:GI 50:GI 50:GI 60:GI 60:UI 70:GI 90:G "
        "90:UI"),
    Example("Interpolative", "Historian5", 5,
        "N 11.3043:GI 13.4783:GI 15.6522:GI 17.8261:GI 20:G 13.6364:GI 22.7273:GI 30:UI 30:UI 40:GI 47:GI 42:GI 37:GI "
        "32:GI 54:UI 70:UI 76.6667:GI 70:G 70:UI"),
    Example("Average", "Historian1", 5,
        "N N 10:GC N 20:GC N 30:GC N N N 50:GC N 60:GC N N N 80:GC N 90:GC N"),
    Example("Average", "Historian2", 5,
        "10:GC N N N N 22.5:GC N 30:GC N 40:GC 50:GC N N N 60:GC N 70:GC 80:GC 90:GC N"),
    Example("Average", "Historian3", 5,
        "10:GC N N N N 22.5:GC N 30:GC N 40:GC 50:GC N N N 60:GC N 70:GC 80:GC 90:GC N"),
    Example("Average", "Historian5", 5,
        "10:GC N N N N 15:GC N 30:GC N 30:GC 50:GC N N N 30:GC N 70:GC 80:GC 70:GC N"),
    Example("TimeAverage", "Historian1", 5,
        "N N 12.5:GC 17.5:GC 22.5:GC 27.5:GC 32.5:UC 37.5:UC 42.5:UC 47.5:UC 52.5:GC 57.5:GC 62.5:UC 67.5:UC 72.5:UC "
        "77.5:UC 82.5:GC 87.5:GC 90:UCP N"),
    Example("TimeAverage", "Historian2", 5,
        "10.652:UCP 12.391:GC 14.565:GC 16.739:GC 18.913:GC 23.682:GC 27.045:GC 29.384:UC 33.889:UC 40:UC 49.45:GC "
        "52.75:GC 55.25:GC 57.75:GC 60.618:UC 65:UC 70.515:UC 83.667:GC 96.25:UCP N"),
    Example("TimeAverage", "Historian3", 5,
        "10.652:UCP 12.391:GC 14.565:GC 16.739:GC 18.913:GC 23.682:GC 27.045:GC 29.384:UC 33.889:UC 40:UC 49.45:GC "
        "52.75:GC 55.25:GC 57.75:GC 60.618:UC 65:UC 70.515:UC 83.667:GC 90:UCP N"),
    Example("TimeAverage", "Historian5", 5,
        "10.6522:UCP 12.3913:GC 14.5652:GC 16.7391:GC 18.9130:GC 13.7273:GC 18.1818:GC 27.0909:UC 30:UC 32:UC 47.1:GC "
        "44.5:GC 39.5:GC 34.5:GC 37.6:UC 66.8:UC 71.3333:UC 75.6667:GC 70:UCP N"),
    Example("TimeAverage2", "Historian1", 5,
        "N N 12.5:GC 17.5:GC 22.5:GC 27.5:GC 30:UC 30:UC N N 52.5:GC 57.5:GC 62.5:UC 67.5:UC 72.5:UC 77.5:UC 82.5:GC "
        "87.5:GC 90:UCP N"),
    Example("Minimum", "Historian1", 16, "10:GCP 20:GC N 50:GC N 80:GP N"),
    Example("Minimum", "Historian2", 16, "10:GCP 20:GC 30:UC 40:G 60:UC 70:GCP N"),
    Example("Minimum", "Historian3", 16, "10:GCP 20:GC 30:UC 40:G 60:UC 70:GCP N"),
    Example("Minimum", "Historian5", 16, "10:GCP 10:GC 30:UC 30:G 30:GC 70:GCMP N"),
    Example("Maximum", "Historian1", 16, "10:GCP 30:GC N 60:GC N 90:GCP N"),
    Example("Maximum", "Historian2", 16, "10:GCP 25:GC 30:UC 50:GC 60:UC 90:GCP N"),
    Example("Maximum", "Historian3", 16, "10:GCP 25:GC 30:UC 50:GC 60:UC 90:GCP N"),
    Example("Maximum", "Historian5", 16, "10:GCP 20:GC 30:UC 50:GC 30:GC 80:GCP N"),
    Example("MinimumActualTime", "Historian1", 16, "@10=10:GP @20=20:G N @50=50:G N @80=80:GP N"),
    Example("MinimumActualTime", "Historian2", 16, "@2=10:GP @25=20:G @39=30:U @48=40:G @72=60:U @83=70:GP N"),
    Example("MinimumActualTime", "Historian3", 16, "@2=10:GP @25=20:G @39=30:U @48=40:G @72=60:U @83=70:GP N"),
    Example("MaximumActualTime", "Historian1", 16, "@10=10:GP @30=30:G N @60=60:G N @90=90:GP N"),
    Example("MaximumActualTime", "Historian2", 16, "@2=10:GP @28=25:G @39=30:U @52=50:G @72=60:U @90=90:GP N"),
    Example("MaximumActualTime", "Historian3", 16, "@2=10:GP @28=25:G @39=30:U @52=50:G @72=60:U @90=90:GP N"),
    Example("Minimum2", "Historian1", 16, "10:UCP 16:UI 30:UI 50:UC 64:UI 80:UP N"),
    Example("Minimum2", "Historian2", 16, "10:UCP 16.087:GI 26.818:UI 40:G 56:UI 70:UCP N"),
    Example("Minimum2", "Historian3", 16, "10:GCP 10:GI 25:GI 40:G 50:GI 70:GCP N"),
    Example("MinimumActualTime2", "Historian1", 16,
        "@10=10:UP @16=16:UI @32=30:UI @50=50:U @64=64:UI @80=80:UP N"),
    Example("MinimumActualTime2", "Historian2", 16,
        "@2=10:UP @16=16.087:GI @32=26.818:UI @48=40:G @64=56:UI @83=70:UP N"),
    Example("MinimumActualTime2", "Historian3", 16,
        "@2=10:GP @16=10:GI @32=25:GI @48=40:G @64=50:GI @83=70:GP N"),
    Example("MaximumActualTime2", "Historian1", 16,
        "@15.999=16:UIP @30=30:UM @32=30:UI @63.999=64:UI @79.999=80:UI @90=90:UP N"),
    Example("MaximumActualTime2", "Historian2", 16,
        "@15.999=16.087:UIP @31.999=26.818:GI @47.999=40:UI @63.999=56:GI @72=60:U @90=90:UP N"),
    Example("MaximumActualTime2", "Historian3", 16,
        "@2=10:GP @28=25:G @39=30:G @52=50:G @72=60:G @90=90:GP N"),
    Example("Count", "Historian1", 16, "1:GCP 2:GC B 2:GC 0:UC 2:GCP N"),
    Example("Count", "Historian2", 16, "1:GCP 2:GC 1:UC 2:GC 1:UC 3:GCP N"),
    Example("Count", "Historian3", 16, "1:GCP 2:GC 1:GC 2:GC 1:GC 3:GCP N"),
    Example("Count", "Historian4", 16, "1:GCP 2:GC 1:UC 2:GC 1:UC 3:GCP N"),
    Example("Count", "Historian5", 16, "1:GCP 2:GC 1:UC 2:GC 1:UC 3:GCP N"),
    Example("DurationInStateZero", "Historian4", 16, "0:UCP 3000:GC 0:UC 12000:GC 13000:UC 4000:UCP N"),
    Example("Start", "Historian1", 16, "@10=10:GP @20=20:G @40=B @50=50:G @70=70:u @80=80:GP N"),
    Example("Start", "Historian2", 16, "@2=10:GP @25=20:G @39=30:G @48=40:G @72=60:G @83=70:GP N"),
    Example("Start", "Historian3", 16, "@2=10:GP @25=20:G @39=30:G @48=40:G @72=60:G @83=70:GP N"),
    Example("Start", "Historian5", 16, "@2=10:GP @25=20:G @39=30:G @48=30:G @72=30:G @83=70:GP N"),
    Example("End", "Historian1", 16, "@10=10:GP @30=30:G @40=B @60=60:G @70=70:u @90=90:GP N"),
    Example("End", "Historian2", 16, "@2=10:GP @28=25:G @42=B @52=50:G @77=70:u @90=90:GP N"),
    Example("End", "Historian3", 16, "@2=10:GP @28=25:G @42=B @52=50:G @77=70:u @90=90:GP N"),
    Example("End", "Historian5", 16, "@2=10:GP @28=10:G @42=B @52=50:G @77=70:u @90=70:GP N"),
    Example("StartBound", "Historian1", 16, "NP 16:GI 30:UI N 64:UI 80:GP N"),
    Example("StartBound", "Historian2", 16, "NP 16.087:GI 26.818:GI 40:G 56:GI NP N"),
    Example("StartBound", "Historian3", 16, "NP 10:GI 25:GI 40:G 50:GI NP N"),
    Example("DurationGood", "Historian1", 16, "6000:GCP 16000:GC 0:GC 14000:GC 0:GC 10001:GCP N"),
    Example("DurationGood", "Historian2", 16, "14000:GCP 16000:GC 10000:GC 16000:GC 13000:GC 7001:GCP N"),
    Example("DurationGood", "Historian3", 16, "14000:GCP 16000:GC 10000:GC 16000:GC 13000:GC 7001:GCP N"),
    Example("StandardDeviationSample", "Historian1", 20, "0:GCP 7.0711:GC 0:UC 0:UC 7.0711:GCP"),
    Example("StandardDeviationSample", "Historian2", 20, "0:GCP 5:GC 7.0711:UC 0:UC 10:GCP"),
    Example("StandardDeviationSample", "Historian3", 20, "0:GCP 5:GC 7.0711:UC 0:UC 10:GCP"),
    Example("StandardDeviationSample", "Historian5", 20, "0:GCP 10:GC 14.1421:UC 0:UC 5.7735:GCP"),
    Example("VarianceSample", "Historian1", 20, "0:GCP 50:GC 0:UC 0:UC 50:GCP"),
    Example("VarianceSample", "Historian2", 20, "0:GCP 25:GC 50:UC 0:UC 100:GCP"),
    Example("VarianceSample", "Historian3", 20, "0:GCP 25:GC 50:UC 0:UC 100:GCP"),
]  # fmt: skip
