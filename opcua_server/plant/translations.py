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
    ("Confirmed", "Bestätigt", "Confirmé", "Confirmado", "承認済み", "已核准"),
    ("Unconfirmed", "Unbestätigt", "Non confirmé", "No confirmado", "未承認", "未核准"),
    ("Suppressed", "Unterdrückt", "Supprimé", "Suprimido", "抑制中", "已抑制"),
    ("Unsuppressed", "Nicht unterdrückt", "Non supprimé", "No suprimido", "抑制なし", "未抑制"),
    ("Out of Service", "Außer Betrieb", "Hors service", "Fuera de servicio", "使用停止", "停用"),
    ("In Service", "In Betrieb", "En service", "En servicio", "使用中", "在用"),
    ("Silenced", "Stumm", "Silencieux", "Silenciado", "消音", "已消音"),
    ("Not Silenced", "Nicht stumm", "Non silencieux", "No silenciado", "消音なし", "未消音"),
    ("Latched", "Verriegelt", "Verrouillé", "Enclavado", "ラッチ", "已锁存"),
    ("Unlatched", "Nicht verriegelt", "Non verrouillé", "No enclavado", "ラッチなし", "未锁存"),
    ("Unshelved", "Nicht zurückgestellt", "Non différé", "No aplazado", "棚上げなし", "未搁置"),
    (
        "TimedShelved",
        "Auf Zeit zurückgestellt",
        "Différé temporairement",
        "Aplazado por tiempo",
        "時限棚上げ",
        "定时搁置",
    ),
    ("OneShotShelved", "Einmal zurückgestellt", "Différé une fois", "Aplazado una vez", "一回棚上げ", "单次搁置"),
    ("Accept", "Annehmen", "Accepter", "Aceptar", "承認", "接受"),
    ("Reject", "Ablehnen", "Rejeter", "Rechazar", "却下", "拒绝"),
    ("Defer", "Zurückstellen", "Différer", "Aplazar", "保留", "推迟"),
    ("HeaterFailure", "Heizungsausfall", "Défaut de chauffage", "Fallo de calefactor", "ヒーター故障", "加热器故障"),
    ("FlowLow", "Fluss niedrig", "Débit bas", "Caudal bajo", "流量低下", "流量低"),
    ("LevelAlarm", "Grenzwert", "Seuil", "Límite", "限界値", "限值"),
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
