"""What an alarm says in the languages of the plants, with source, value, limit, unit and batch in it.

English is what was found, in words; the others are made of templates. A plant file may have its own of each.
"""

import math
from collections.abc import Mapping

from nodesets.model import Finding
from opcua_server.plant.translations import LANGUAGES, TRANSLATIONS

_ROWS: tuple[tuple[str, ...], ...] = (
    # kind, de, fr, es, ja, zh
    (
        "CommunicationLost",
        "{source}: keine Verbindung zum Gerät",
        "{source} : pas de communication avec l'appareil",
        "{source}: sin comunicación con el equipo",
        "{source}: 機器と通信できません",
        "{source}: 设备通信中断",
    ),
    (
        "SensorFailure",
        "{source}: Sensorausfall ({text})",
        "{source} : défaut de capteur ({text})",
        "{source}: fallo de sensor ({text})",
        "{source}: センサー故障 ({text})",
        "{source}: 传感器故障 ({text})",
    ),
    (
        "HeaterFailure",
        "{source}: eine Heizung ist ausgefallen",
        "{source} : un chauffage est en défaut",
        "{source}: ha fallado un calefactor",
        "{source}: ヒーター故障",
        "{source}: 加热器故障",
    ),
    (
        "FlowLow",
        "{source}: Probenfluss zu niedrig",
        "{source} : débit d'échantillon trop faible",
        "{source}: caudal de muestra demasiado bajo",
        "{source}: サンプル流量低下",
        "{source}: 样品流量过低",
    ),
    (
        "DeviceFailure",
        "{source}: Gerät ausgefallen",
        "{source} : appareil en défaut",
        "{source}: equipo averiado",
        "{source}: 機器故障",
        "{source}: 设备故障",
    ),
    (
        "DeviceCheckFunction",
        "{source}: Funktionskontrolle",
        "{source} : contrôle de fonctionnement",
        "{source}: comprobación de funcionamiento",
        "{source}: 機能チェック中",
        "{source}: 功能检查",
    ),
    (
        "DeviceMaintenanceRequired",
        "{source}: Wartung nötig",
        "{source} : maintenance requise",
        "{source}: se requiere mantenimiento",
        "{source}: 保守が必要です",
        "{source}: 需要维护",
    ),
    (
        "LevelAlarm",
        "{source}: {value} {unit} jenseits von {level} {limit}",
        "{source} : {value} {unit} au-delà de {level} {limit}",
        "{source}: {value} {unit} fuera de {level} {limit}",
        "{source}: {value} {unit}、{level} {limit} を超過",
        "{source}: {value} {unit} 超出 {level} {limit}",
    ),
    (
        "AnomalyDetected",
        "{source}: Anomaliewert {value} (Grenze {limit}) {batch}",
        "{source} : score d'anomalie {value} (limite {limit}) {batch}",
        "{source}: índice de anomalía {value} (límite {limit}) {batch}",
        "{source}: 異常スコア {value} (限界 {limit}) {batch}",
        "{source}: 异常评分 {value} (限值 {limit}) {batch}",
    ),
    (
        "QualityScoreLow",
        "{source}: Qualitätswert {value} (Grenze {limit}) {batch}",
        "{source} : score de qualité {value} (limite {limit}) {batch}",
        "{source}: puntuación de calidad {value} (límite {limit}) {batch}",
        "{source}: 品質スコア {value} (限界 {limit}) {batch}",
        "{source}: 质量评分 {value} (限值 {limit}) {batch}",
    ),
    (
        "DeviceOffSpec",
        "{source}: außerhalb des Messbereichs ({text})",
        "{source} : hors de la plage de mesure ({text})",
        "{source}: fuera del rango de medida ({text})",
        "{source}: 測定範囲外 ({text})",
        "{source}: 超出测量范围 ({text})",
    ),
    (
        "SensorDrift",
        "{source}: Grundlinien gedriftet ({text}), Driftindex {value} (Grenze {limit})",
        "{source} : dérive des lignes de base ({text}), indice {value} (limite {limit})",
        "{source}: deriva de las líneas base ({text}), índice {value} (límite {limit})",
        "{source}: ベースラインのドリフト ({text}) 指数 {value} (限界 {limit})",
        "{source}: 基线漂移 ({text}) 指数 {value} (限值 {limit})",
    ),
    (
        "ChannelDisagreement",
        "{source}: weicht vom Vergleichskanal ab, {value} {unit} (Toleranz {limit})",
        "{source} : écart avec le canal redondant, {value} {unit} (tolérance {limit})",
        "{source}: difiere del canal redundante, {value} {unit} (tolerancia {limit})",
        "{source}: 冗長チャンネルとの不一致 {value} {unit} (許容差 {limit})",
        "{source}: 与冗余通道不一致 {value} {unit} (允差 {limit})",
    ),
    (
        "FingerprintDeviation",
        "{source}: Abweichung vom Geruchsprofil {value} (Grenze {limit}) {batch}",
        "{source} : écart à l'empreinte {value} (limite {limit}) {batch}",
        "{source}: desviación de la huella {value} (límite {limit}) {batch}",
        "{source}: 指紋からの偏差 {value} (限界 {limit}) {batch}",
        "{source}: 指纹偏差 {value} (限值 {limit}) {batch}",
    ),
    (
        "Decision",
        "{source}: Empfehlung: {text}",
        "{source} : recommandation : {text}",
        "{source}: recomendación: {text}",
        "{source}: 推奨: {text}",
        "{source}: 建议: {text}",
    ),
    (
        "BatchExceptionOpen",
        "{source}: Abweichungen der Charge offen",
        "{source} : exceptions de lot ouvertes",
        "{source}: excepciones del lote abiertas",
        "{source}: バッチの例外が未処理です",
        "{source}: 批次异常未处理",
    ),
    (
        "ReleaseOverdue",
        "{source}: Freigabe der Charge überfällig",
        "{source} : libération du lot en retard",
        "{source}: liberación del lote atrasada",
        "{source}: バッチの出荷判定が遅れています",
        "{source}: 批次放行逾期",
    ),
    (
        "AuditChainBroken",
        "Das Protokoll, ein Datensatz oder die Historie wurde verändert",
        "Le journal, un enregistrement ou l'historique a été modifié",
        "Se ha alterado el registro de auditoría, un registro o el historial",
        "監査ログ、記録または履歴が改変されています",
        "审计日志、记录或历史数据被篡改",
    ),
    (
        "StorageFailure",
        "Aufzeichnungen gehen nicht in die Datenbank ({text})",
        "Les enregistrements ne vont pas dans la base de données ({text})",
        "Los registros no llegan a la base de datos ({text})",
        "記録がデータベースに保存されません ({text})",
        "记录未写入数据库 ({text})",
    ),
    (
        "CertificateExpiring",
        "Das Zertifikat des Servers läuft bald ab",
        "Le certificat du serveur expire bientôt",
        "El certificado del servidor caduca pronto",
        "サーバー証明書の有効期限が近づいています",
        "服务器证书即将到期",
    ),
)
MESSAGES: Mapping[str, Mapping[str, str]] = {row[0]: dict(zip(LANGUAGES, row[1:], strict=True)) for row in _ROWS}
"""Kind -> language -> template of an active alarm."""
_OVER = dict(zip(LANGUAGES, ("vorbei", "terminé", "finalizado", "解除", "已恢复"), strict=True))


def english(finding: Finding, own: Mapping[str, str]) -> str:
    """What was found, or what the plant says instead while it lasts."""
    template = own.get("en") if finding.level else None
    return finding.text if template is None else _filled(template, finding)


def translations(finding: Finding, own: Mapping[str, str]) -> dict[str, str]:
    """The message in every other language."""
    templates = {**MESSAGES.get(finding.kind, {}), **own}
    if finding.level:
        return {language: _filled(templates[language], finding) for language in LANGUAGES if language in templates}
    names = TRANSLATIONS.get(finding.kind, {})
    name = {language: names.get(language, finding.kind) for language in LANGUAGES}
    return {language: f"{finding.source}: {name[language]}: {_OVER[language]}" for language in LANGUAGES}


def _filled(template: str, finding: Finding) -> str:
    details = finding.details
    return template.format(
        source=finding.source,
        value=_number(finding.value),
        limit=_number(finding.limit),
        unit=details.get("Unit", ""),
        batch=details.get("Batch", ""),
        text=details.get("Channels", finding.text),
        level=finding.level,
    ).strip()


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "-"
