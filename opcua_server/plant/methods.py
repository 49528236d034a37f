"""What the methods of `nodesets.methods.METHODS` do: a row, a function (site, caller, owner, *arguments) -> outputs.

checked by services (count, types, roles), a refusal logged -> intent logged where something outside the database is
done -> handler -> outcome logged -> what changed is shown
"""

import json
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

from asyncua import ua

from compliance import audit, batches, exceptions, models, policy, recommendations, signatures, texts
from compliance.batches import Batch
from compliance.rows import entry
from nodesets.errors import EnoseError, InvalidArgument, InvalidState, NotFound, StorageError
from nodesets.methods import MASK, METHODS, SECRETS
from nodesets.model import Caller, Role
from nodesets.types import ExecutionCycle
from opcua_server.plant import events
from opcua_server.plant.audited import Auditing
from opcua_server.plant.condition_types import CONDITION_NAMES
from opcua_server.plant.site import CONTEXT_FIELDS, IDENTITY_FIELDS, Site
from opcua_server.plant.space import Space, methods
from opcua_server.services.nodes import site as node_id
from opcua_server.services.server import UaServer

log = logging.getLogger(__name__)

Outputs = Sequence[Any]
Handler = Callable[..., Awaitable[Outputs]]

METRICS_RESET = "ENose.AlarmMetrics.Reset"

# Batches


async def create_batch(
    site: Site, caller: Caller, line: str, batch_id: str, product: str, recipe: str, lot: str, quantity: float,
    on_behalf_of: str = "",
) -> Outputs:  # fmt: skip
    made = await _batch(
        site,
        line,
        lambda tx, now: batches.create(
            tx, caller, now, line, batch_id, product, recipe, lot, quantity, on_behalf_of=on_behalf_of
        ),
    )
    await site.show(site.refresh_models, "showing models")
    return (made.batch_id,)


async def start_batch(site: Site, caller: Caller, line: str, batch_id: str, on_behalf_of: str = "") -> Outputs:
    started = await _batch(
        site,
        line,
        lambda tx, now: batches.start(tx, caller, now, _on(tx, line, batch_id), site.pins, on_behalf_of=on_behalf_of),
    )
    site.start_job(site.raise_what_holds(line), f"exceptions of batch {batch_id}")
    await site.show(site.refresh_models, "showing models")
    return (int(started.execution),)


async def complete_batch(site: Site, caller: Caller, line: str, batch_id: str, on_behalf_of: str = "") -> Outputs:
    return await _end(
        site,
        line,
        lambda tx, now: batches.complete(tx, caller, now, _on(tx, line, batch_id), on_behalf_of=on_behalf_of),
    )


def _with_reason(operation: Callable[..., Batch]) -> Handler:
    """Handler of an execution step that takes a reason."""

    async def handler(
        site: Site, caller: Caller, line: str, batch_id: str, reason: str, on_behalf_of: str = ""
    ) -> Outputs:
        return await _end(
            site,
            line,
            lambda tx, now: operation(tx, caller, now, _on(tx, line, batch_id), reason, on_behalf_of=on_behalf_of),
        )

    return handler


async def _end(site: Site, line: str, operation: Callable[[Any, int], Batch]) -> Outputs:
    """A step of execution; when it ends the batch, the agents are asked about it."""
    batch = await _batch(site, line, operation)
    if batch.ended:
        await site.show(site.refresh_models, "showing models")
        site.start_job(site.ask_agents(batch.batch_id), f"advice on batch {batch.batch_id}")
    return (int(batch.execution),)


async def evaluate_batch(site: Site, caller: Caller, line: str, batch_id: str, on_behalf_of: str = "") -> Outputs:
    batch = await _batch(
        site,
        line,
        lambda tx, now: batches.evaluate(tx, caller, now, _on(tx, line, batch_id), on_behalf_of=on_behalf_of),
    )
    site.start_job(site.ask_agents(batch_id), f"advice on batch {batch_id}")
    return batch.score, int(batch.verdict), batch.open_exceptions, batch.digest


async def get_batch_summary(site: Site, caller: Caller, line: str, batch_id: str) -> Outputs:  # noqa: ARG001
    summary = await site.reader.read(lambda tx: batches.summary(tx, _on(tx, line, batch_id)))
    return (json.dumps(summary),)


async def disposition_exception(
    site: Site, caller: Caller, line: str, batch_id: str, exception_id: str, disposition: int, comment: str,
    signature_id: str,
) -> Outputs:  # fmt: skip
    left = await site.submit(
        lambda tx: exceptions.dispose(
            tx, caller, site.clock.now(), _on(tx, line, batch_id), exception_id, disposition, comment, signature_id
        )
    )
    await site.show(partial(site.refresh_line, line), f"showing {line}")
    return (left,)


async def request_release(
    site: Site, caller: Caller, line: str, batch_id: str, comment: str, on_behalf_of: str = ""
) -> Outputs:
    expiry = site.plant.security.signature_expiry
    request = await site.submit(
        lambda tx: batches.request_release(
            tx, caller, site.clock.now(), _on(tx, line, batch_id), comment, expiry=expiry, on_behalf_of=on_behalf_of
        )
    )
    await site.show(partial(site.refresh_line, line), f"showing {line}")
    await site.show(site.refresh_signatures, "showing signatures")
    return request.request_id, request.digest, request.manifest


async def release_batch(
    site: Site, caller: Caller, line: str, batch_id: str, signature_id: str, comment: str
) -> Outputs:
    batch = await _batch(
        site,
        line,
        lambda tx, now: batches.release(tx, caller, now, _on(tx, line, batch_id), signature_id, comment),
        alone=True,
    )
    return batch.release_id, events.date(batch.released), batch.digest


async def reject_batch(
    site: Site, caller: Caller, line: str, batch_id: str, code: int, comment: str, signature_id: str
) -> Outputs:
    batch = await _batch(
        site,
        line,
        lambda tx, now: batches.reject(tx, caller, now, _on(tx, line, batch_id), code, comment, signature_id),
    )
    return (batch.release_id,)


async def quarantine_batch(
    site: Site, caller: Caller, line: str, batch_id: str, code: int, comment: str, signature_id: str
) -> Outputs:
    batch = await _batch(
        site,
        line,
        lambda tx, now: batches.quarantine(tx, caller, now, _on(tx, line, batch_id), code, comment, signature_id),
    )
    return (int(batch.disposition),)


async def _batch(site: Site, line: str, operation: Callable[[Any, int], Batch], *, alone: bool = False) -> Batch:
    batch = await site.submit(lambda tx: operation(tx, site.clock.now()), alone=alone)
    await site.show(partial(site.refresh_line, line), f"showing {line}")
    return batch


def _on(tx: Any, line: str, batch_id: str) -> str:
    """A batch is addressed through its own line. Raises NotFound."""
    if batches.get(tx, batch_id).line != line:
        raise NotFound(f"line {line} has no batch {batch_id!r}")
    return batch_id


# Signatures


async def request_signature(
    site: Site, caller: Caller, _: str, record_type: str, record_id: str, meaning: str
) -> Outputs:
    expiry = site.plant.security.signature_expiry
    request = await site.submit(
        lambda tx: signatures.request(tx, caller, site.clock.now(), record_type, record_id, meaning, expiry=expiry)
    )
    await site.show(site.refresh_signatures, "showing signatures")
    return request.request_id, request.digest, request.manifest, events.date(request.expires)


async def execute_signature(
    site: Site, caller: Caller, _: str, request_id: str, user_id: str, secret: str, comment: str
) -> Outputs:
    zone = ZoneInfo(site.plant.site.time_zone)
    signed = await signatures.execute(site.accounts, caller, request_id, user_id, secret, comment, zone=zone)
    await site.show(site.refresh_signatures, "showing signatures")
    record = f"{signed.record_type}/{signed.record_id}"
    site.publisher.happened(
        events.signature_executed(signed.signature_id, signed.printed_name, signed.meaning, record, signed.signed)
    )
    return signed.signature_id, events.date(signed.signed), signed.printed_name


async def cancel_signature(site: Site, caller: Caller, _: str, request_id: str) -> Outputs:
    await site.submit(lambda tx: signatures.cancel(tx, caller, site.clock.now(), request_id))
    await site.show(site.refresh_signatures, "showing signatures")
    return ()


async def verify_signature(site: Site, _caller: Caller, _: str, signature_id: str, digest: str) -> Outputs:
    found = await site.reader.read(lambda tx: signatures.verify(tx, signature_id, digest))
    return found.valid, found.printed_name, str(found.meaning), events.date(found.signed)


# Models


async def learn_product(site: Site, caller: Caller, _: str, product: str, lots: str, reason: str) -> Outputs:
    texts.reason("Reason", reason)
    named = [lot.strip() for lot in lots.split(";") if lot.strip()]
    if files := [lot for lot in named if "=" in lot]:
        raise InvalidArgument(f"Lots: {files[0]} is a file of the server; only `enose learn` takes files")
    site.publisher.happened(events.progress("ENose.Models", product, 0, f"learning {product}", site.clock.now()))
    try:
        saved = await site.learn(caller, product, named, ())
    finally:
        words = f"learning {product} has ended"
        site.publisher.happened(events.progress("ENose.Models", product, 100, words, site.clock.now()))
    return saved.model_id, saved.digest


async def approve_model(site: Site, caller: Caller, _: str, model_id: str, signature_id: str) -> Outputs:
    approved = await site.submit(lambda tx: models.approve(tx, caller, site.clock.now(), model_id, signature_id))
    await site.show(site.refresh_models, "showing models")
    return (approved.digest,)


# Agents


def _decision(decision: str) -> Handler:
    async def handler(site: Site, caller: Caller, _: str, key: str, comment: str) -> Outputs:
        decided = await site.submit(
            lambda tx: recommendations.decide(tx, caller, site.clock.now(), key, decision, comment)
        )
        await site.show(site.refresh_recommendations, "showing recommendations")
        return (int(decided.state),)

    return handler


# Devices


async def start_single_acquisition(
    site: Site, _caller: Caller, device: str, cycle: int, _subcode: int, stream: str, _on_behalf_of: str = ""
) -> Outputs:
    if cycle != ExecutionCycle.SAMPLING:
        raise InvalidArgument(f"ExecutionCycle {cycle}: only {ExecutionCycle.SAMPLING:d}, sampling, is offered")
    _stream(site, device, stream)
    await site.sources[device].command("start_cycle")
    return (f"{device}.{stream}.{site.clock.now()}",)


async def stop_acquisition(site: Site, _caller: Caller, device: str, reason: str, _on_behalf_of: str = "") -> Outputs:
    texts.reason("Reason", reason)
    await site.sources[device].command("stop")
    return ()


async def set_context(
    site: Site, caller: Caller, device: str, stream: str, name: str, value: str, on_behalf_of: str = ""
) -> Outputs:
    at = _stream(site, device, stream)
    if name not in CONTEXT_FIELDS:
        raise NotFound(f"no context field {name!r}")
    if name in IDENTITY_FIELDS:
        raise InvalidState(f"{name} is set by BatchControl alone")
    texts.text("Value", value)
    fields = site.context.setdefault(at, {})
    change = {"old": fields.get(name, ""), "new": value, "on_behalf_of": on_behalf_of}
    logged = entry(caller, site.clock.now(), "context.set", f"{at}.Context.{name}", **change)
    await site.submit(lambda tx: audit.append(tx, logged))
    fields[name] = value
    site.show_context(at)
    return ()


def _stream(site: Site, device: str, stream: str) -> str:
    if stream not in {s.id for s in site.plant.device(device).streams}:
        raise NotFound(f"{device} has no stream {stream!r}")
    return f"{device}.{stream}"


# Accounts and the log


async def add_user(site: Site, caller: Caller, _: str, user: str, full_name: str, role: str, password: str) -> Outputs:
    try:
        roles = [Role(name.strip()) for name in role.split(",")]
    except ValueError as error:
        raise InvalidArgument(f"Role: one of {', '.join(Role)}") from error
    service = Role.MES in roles or Role.ADVISOR in roles
    await site.accounts.add(caller, user, roles, password, printed_name=full_name, service=service)
    return ()


async def disable_user(site: Site, caller: Caller, _: str, user: str, reason: str) -> Outputs:
    account = await site.accounts.disable(caller, user, reason)
    site.close_sessions(account.name)
    return ()


async def reset_user(site: Site, caller: Caller, _: str, user: str, password: str, reason: str) -> Outputs:
    account = await site.accounts.reset(caller, user, password, reason)
    site.close_sessions(account.name)
    return ()


async def change_password(site: Site, caller: Caller, _: str, old: str, new: str) -> Outputs:
    await site.accounts.change_password(caller, old, new)
    return ()


async def verify_audit_chain(site: Site, _caller: Caller, _: str, first: int, last: int) -> Outputs:
    report = await site.check_log()
    broken = [s for s in report.broken if s >= first and (last == 0 or s <= last)]
    return report.clean, (min(broken) if broken else 0)


HANDLERS: Mapping[str, Handler] = {
    "MethodSet.StartSingleAcquisition": start_single_acquisition,
    "MethodSet.StopAcquisition": stop_acquisition,
    "MethodSet.SetContext": set_context,
    "BatchControl.CreateBatch": create_batch,
    "BatchControl.StartBatch": start_batch,
    "BatchControl.CompleteBatch": complete_batch,
    "BatchControl.HoldBatch": _with_reason(batches.hold),
    "BatchControl.RestartBatch": _with_reason(batches.restart),
    "BatchControl.StopBatch": _with_reason(batches.stop),
    "BatchControl.AbortBatch": _with_reason(batches.abort),
    "BatchControl.EvaluateBatch": evaluate_batch,
    "BatchControl.GetBatchSummary": get_batch_summary,
    "BatchControl.DispositionException": disposition_exception,
    "BatchControl.RequestRelease": request_release,
    "BatchControl.ReleaseBatch": release_batch,
    "BatchControl.RejectBatch": reject_batch,
    "BatchControl.QuarantineBatch": quarantine_batch,
    "Signatures.RequestSignature": request_signature,
    "Signatures.ExecuteSignature": execute_signature,
    "Signatures.CancelSignature": cancel_signature,
    "Signatures.VerifySignature": verify_signature,
    "Models.LearnProduct": learn_product,
    "Models.ApproveModel": approve_model,
    "Agents.AcceptRecommendation": _decision("accept"),
    "Agents.RejectRecommendation": _decision("reject"),
    "Agents.DeferRecommendation": _decision("defer"),
    "Compliance.VerifyAuditChain": verify_audit_chain,
    "Security.AddUser": add_user,
    "Security.DisableUser": disable_user,
    "Security.ResetUser": reset_user,
    "Security.ChangePassword": change_password,
}


# Linking


def link(server: UaServer, site: Site, space: Space) -> None:
    """Answer every method of the address space. A method without a handler is a mistake of ours (LookupError).

    Those of conditions are `condition_methods`.
    """
    auditing = Auditing(site)
    for node, instance, _ in methods(space.instances):
        if instance.template.name in CONDITION_NAMES or node == METRICS_RESET:
            continue
        at, _, name = node.rpartition(".")
        owner, _, kind = at.rpartition(".")
        key = f"{kind}.{name}"
        if key in HANDLERS:
            _link(server, site, auditing, node_id(node), key, HANDLERS[key], partial(_owner, owner))
        else:
            raise LookupError(f"no handler for {node} of {instance.template.name}")


def _owner(owner: str, _called: ua.NodeId) -> str:
    return owner


def _link(
    server: UaServer,
    site: Site,
    auditing: Auditing,
    method: ua.NodeId,
    action: str,
    handler: Handler,
    owner: Callable[[ua.NodeId], str],
) -> None:
    names = [a.name for a in METHODS[action].inputs]

    async def answer(caller: Caller, called: ua.NodeId, arguments: tuple[Any, ...]) -> Outputs:
        policy.permit(caller, action)
        at = owner(called)
        given = {n: MASK if n in SECRETS else a for n, a in zip(names, arguments, strict=False)}
        if action.startswith("MethodSet."):  # acts on a device: what was meant is on record before it is tried
            await log_call(site, caller, f"{action}.intent", at, given, "Good")
        try:
            if given.get("OnBehalfOf") and not caller.service:
                raise InvalidArgument("OnBehalfOf: only a service account acts for others")
            outputs = await handler(site, caller, at, *arguments)
        except EnoseError as error:
            await log_outcome(site, caller, action, at, given, ua.StatusCode(error.status).name, str(error))
            _tell(site, action, at, f"{action} {ua.StatusCode(error.status).name}: {error}")
            raise
        await log_outcome(site, caller, action, at, given, "Good")
        _tell(site, action, at, f"{action} Good")
        return outputs

    async def refused(caller: Caller, called: ua.NodeId, status: int) -> None:
        """Without the arguments: which of them is a secret is not known before they fit."""
        at, outcome = owner(called), ua.StatusCode(status).name
        await log_call(site, caller, action, at, {}, outcome)
        _tell(site, action, at, f"{action} {outcome}")

    server.link_method(
        method, answer, lambda caller: policy.allowed(caller, action), refused, auditing.of(action, names)
    )


def _tell(site: Site, action: str, at: str, words: str) -> None:
    """LastCallResult of the line, for a SCADA that shows no StatusCodes."""
    if action.startswith("BatchControl."):
        site.publisher.write(f"{at}.Batch", {"LastCallResult": events.string(words[:254])}, site.clock.now())


async def log_outcome(
    site: Site, caller: Caller, action: str, at: str, given: Mapping[str, Any], outcome: str, reason: str = ""
) -> None:
    """Log what became of a call. What was done stands, and is on record by itself: a refusal here changes no answer."""
    try:
        await log_call(site, caller, action, at, given, outcome, reason)
    except StorageError as error:
        log.error("call of %s at %s by %s, %s, not in the audit log: %s", action, at, caller.user, outcome, error)


async def log_call(
    site: Site, caller: Caller, action: str, at: str, given: Mapping[str, Any], outcome: str, reason: str = ""
) -> None:
    """One audit entry a call, whatever became of it. Secrets are masked before they come here."""
    logged = entry(
        caller,
        site.clock.now(),
        f"call.{action}",
        at,
        outcome=outcome,
        reason=reason,
        new=dict(given),
        on_behalf_of=str(given.get("OnBehalfOf", "")),
    )
    await site.submit(lambda tx: audit.append(tx, logged))
