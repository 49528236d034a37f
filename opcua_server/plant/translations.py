"""What the names of states and alarms are called in other languages, by their English text."""

from collections.abc import Mapping

LANGUAGES = ("de", "fr", "es", "ja", "zh")

_ROWS: tuple[tuple[str, ...], ...] = (
    ("Enabled", "Aktiviert", "Activé", "Habilitado", "有効", "已启用"),
    ("Disabled", "Deaktiviert", "Désactivé", "Deshabilitado", "無効", "已禁用"),
    ("Active", "Aktiv", "Actif", "Activo", "アクティブ", "激活"),
    ("Inactive", "Inaktiv", "Inactif", "Inactivo", "非アクティブ", "未激活"),
    ("Acknowledged", "Quittiert", "Acquitté", "Reconocido", "確認済み", "已确认"),
    ("Unacknowledged", "Unquittiert", "Non acquitté", "No reconocido", "未確認", "未确认"),
    ("High", "Hoch", "Haut", "Alto", "上限", "高"),
    ("HighHigh", "Sehr hoch", "Très haut", "Muy alto", "上上限", "高高"),
    ("Low", "Niedrig", "Bas", "Bajo", "下限", "低"),
    ("LowLow", "Sehr niedrig", "Très bas", "Muy bajo", "下下限", "低低"),
    ("CommunicationLost", "Verbindung verloren", "Communication perdue", "Comunicación perdida", "通信断", "通信中断"),
    ("SensorFailure", "Sensorausfall", "Défaut de capteur", "Fallo de sensor", "センサー故障", "传感器故障"),
    (
        "AnomalyDetected",
        "Anomalie erkannt",
        "Anomalie détectée",
        "Anomalía detectada",
        "異常検出",
        "检测到异常",
    ),
    (
        "QualityScoreLow",
        "Qualitätswert niedrig",
        "Score de qualité bas",
        "Puntuación de calidad baja",
        "品質スコア低下",
        "质量评分低",
    ),
)

TRANSLATIONS: Mapping[str, Mapping[str, str]] = {row[0]: dict(zip(LANGUAGES, row[1:], strict=True)) for row in _ROWS}
"""English text -> language -> translation."""
