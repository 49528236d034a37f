"""Engineering units used here: UNECE Recommendation 20 codes, numbered as in UNECE_to_OPCUA.csv (Part 8 5.6.4.3).

Traps of that table: HPA is "hectolitre of pure alcohol", hectopascal is A97; there is no code for %RH or sccm.
"""

from dataclasses import dataclass

NAMESPACE = "http://www.opcfoundation.org/UA/units/un/cefact"


@dataclass(frozen=True, slots=True)
class Unit:
    code: str
    """UNECE common code."""
    unit_id: int
    """EUInformation.UnitId: the code's characters as a big-endian number."""
    symbol: str
    name: str


def _unit(code: str, symbol: str, name: str) -> Unit:
    return Unit(code, int.from_bytes(code.encode("ascii"), "big"), symbol, name)


UNITS: dict[str, Unit] = {
    u.code: u
    for u in (
        _unit("OHM", "Ω", "ohm"),
        _unit("B49", "kΩ", "kiloohm"),
        _unit("B75", "MΩ", "megaohm"),
        _unit("C62", "1", "one"),
        _unit("59", "ppm", "parts per million"),
        _unit("61", "ppb", "parts per billion"),
        _unit("C39", "nA", "nanoampere"),
        _unit("2Z", "mV", "millivolt"),
        _unit("VLT", "V", "volt"),
        _unit("HTZ", "Hz", "hertz"),
        _unit("4T", "pF", "picofarad"),
        _unit("CEL", "°C", "degree Celsius"),
        _unit("P1", "%", "percent"),
        _unit("A97", "hPa", "hectopascal"),
        _unit("KPA", "kPa", "kilopascal"),
        _unit("41", "ml/min", "millilitre per minute"),
        _unit("L2", "l/min", "litre per minute"),
        _unit("Q30", "pH", "pH"),
        _unit("SEC", "s", "second"),
        _unit("C26", "ms", "millisecond"),
        _unit("HUR", "h", "hour"),
        _unit("DAY", "d", "day"),
        _unit("GP", "mg/m³", "milligram per cubic metre"),
    )
}
