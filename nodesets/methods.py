"""The methods a client may call: arguments, who may call, what happens (information model 1.6). The one place.

Address space, argument checks, handlers' keys and `docs/methods.md` follow from `METHODS`.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from nodesets.declarations import Argument, Declaration, Method
from nodesets.model import Role

_ARGUMENTS: Mapping[str, tuple[str, str]] = {
    # name: (data type, description). A name means the same in every method.
    "BatchId": ("String", "Batch; letters, digits, dot, dash and underscore"),
    "Comment": ("String", "Why, in the caller's own words; recorded"),
    "Disposition": ("Int32", "1 accept, 2 investigate, 3 reject"),
    "ExceptionId": ("String", "Exception of the batch"),
    "ExecutionCycle": ("Int32", "0 idle, 1 diagnostic, 2 cleaning, 4 calibration, 8 validation, 16 sampling"),
    "ExecutionCycleSubcode": ("UInt32", "Site-specific variant of the cycle; 0 is the plain one"),
    "ExpiresAt": ("DateTime", "UTC; later signatures are refused"),
    "FieldName": ("String", "Context field, e.g. Operation, Unit, SampleId"),
    "FirstBroken": ("UInt32", "Sequence number of the first entry that does not fit; 0 when intact"),
    "FromSequence": ("UInt32", "First audit entry to check"),
    "FullName": ("String", "Printed name, as it stands on signatures"),
    "Intact": ("Boolean", "Chain and records are as written"),
    "IsValid": ("Boolean", "The signature is ours and belongs to this digest"),
    "LotId": ("String", "Lot of the material"),
    "Lots": ("String", "Batch ids or START/END in ISO 8601, at least three, separated by semicolons"),
    "Manifest": ("String", "What is signed, readable, as it will be printed"),
    "Meaning": ("String", "review, approval, release, rejection or quarantine"),
    "ModelId": ("String", "Model, PRODUCT/version"),
    "NewPassword": ("String", "Password to use from now on; never recorded"),
    "OldPassword": ("String", "Present password; never recorded"),
    "OnBehalfOf": ("String", "Who acts behind a shared session, as claimed; may be left out"),
    "OpenExceptions": ("UInt32", "Exceptions of the batch without disposition"),
    "PlannedQuantity": ("Double", "In the unit of the product"),
    "ProductId": ("String", "Product of the plant's configuration"),
    "Reason": ("String", "Why; must not be empty; recorded"),
    "ReasonCode": ("Int32", "0 other, 1 quality, 2 exception, 3 documentation, 4 recall"),
    "RecipeId": ("String", "Recipe of the MES; may be empty"),
    "RecommendationId": ("String", "Recommendation in one of the slots R01 to R10"),
    "RecordDigest": ("String", "SHA-256 of the record, hex"),
    "RecordId": ("String", "Name of the record, e.g. batch or model id"),
    "RecordType": ("String", "batch, exception, model or result"),
    "ReleaseId": ("String", "Name of the release"),
    "ReleasedAt": ("DateTime", "UTC"),
    "Role": ("String", "Role of information model 1.7, e.g. Operator, QA; several separated by commas"),
    "RunId": ("String", "Name of the acquisition run"),
    "Score": ("Double", "0 to 100; NaN when it cannot be decided"),
    "Secret": ("String", "Password; never recorded; only over SignAndEncrypt"),
    "SelectedStream": ("String", "Stream of the device, e.g. Stream01"),
    "SignatureId": ("String", "Signature made for this act by ExecuteSignature"),
    "SignatureRequestId": ("String", "What RequestSignature returned"),
    "SignedAt": ("DateTime", "UTC"),
    "SignerName": ("String", "Printed name of the signer"),
    "State": ("Int32", "0 empty, 1 proposed, 2 accepted, 3 rejected, 4 expired, 5 superseded"),
    "StateNumber": ("UInt32", "Execution state after the call; numbers as in BatchExecutionStateMachineType"),
    "StreamId": ("String", "Stream of the device, e.g. Stream01"),
    "SummaryJson": ("String", "Batch record as a JSON object"),
    "TemporaryPassword": ("String", "Must be changed at the first login; never recorded"),
    "ToSequence": ("UInt32", "Last audit entry to check; 0: the newest"),
    "UserId": ("String", "Account name"),
    "Value": ("String", "Text to set; at most 254 Latin-1 characters"),
    "Verdict": ("Int32", "0 undefined, 1 OK, 2 not OK, 3 not decidable"),
}

SECRETS = frozenset({"Secret", "NewPassword", "OldPassword", "TemporaryPassword", "PrivateKey"})
"""Arguments that are written nowhere (R25, R26)."""
MASK = "***"

ANYONE = frozenset(Role) - {Role.ANONYMOUS}
"""Every authenticated user."""
_OPERATOR = frozenset({Role.OPERATOR})
_BATCH = frozenset({Role.OPERATOR, Role.MES})
_QA = frozenset({Role.QA})
_QA_MES = frozenset({Role.QA, Role.MES})
_ENGINEER = frozenset({Role.ENGINEER})
_HUMAN = frozenset({Role.OPERATOR, Role.ENGINEER, Role.QA, Role.QA_RELEASE})
_ADMIN = frozenset({Role.SECURITY_ADMIN})


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSpec:
    """One row of the method table."""

    object: str
    """Browse name of the object that has it."""
    name: str
    inputs: tuple[Argument, ...]
    outputs: tuple[Argument, ...]
    roles: frozenset[Role]
    """Roles that may call it; `compliance.policy` decides, and a test holds the two together."""
    description: str
    on_behalf_of: bool = False
    """A service account may call it for a person: OnBehalfOf is its optional last input (process rule 15)."""

    @property
    def key(self) -> str:
        """`Object.Method`."""
        return f"{self.object}.{self.name}"

    @property
    def required(self) -> int:
        """How many inputs a call must have at least."""
        return len(self.inputs) - self.on_behalf_of


def _arguments(names: str) -> tuple[Argument, ...]:
    return tuple(Argument(name=n, data_type=_ARGUMENTS[n][0], description=_ARGUMENTS[n][1]) for n in names.split())


def _row(
    key: str, inputs: str, outputs: str, roles: frozenset[Role], description: str, *, shared: bool = False
) -> MethodSpec:
    owner, name = key.split(".")
    return MethodSpec(
        object=owner,
        name=name,
        inputs=_arguments(f"{inputs} OnBehalfOf" if shared else inputs),
        outputs=_arguments(outputs),
        roles=roles,
        description=description,
        on_behalf_of=shared,
    )


METHODS: Mapping[str, MethodSpec] = {
    m.key: m
    for m in (
        _row(
            "MethodSet.StartSingleAcquisition",
            "ExecutionCycle ExecutionCycleSubcode SelectedStream",
            "RunId",
            _OPERATOR,
            "Starts one cycle; BadInvalidState while one runs.",
            shared=True,
        ),
        _row("MethodSet.StopAcquisition", "Reason", "", _OPERATOR, "Stops the running cycle.", shared=True),
        _row(
            "MethodSet.SetContext",
            "StreamId FieldName Value",
            "",
            _OPERATOR,
            "Sets one context field; the identity of the material comes only from BatchControl.",
            shared=True,
        ),
        _row(
            "BatchControl.CreateBatch",
            "BatchId ProductId RecipeId LotId PlannedQuantity",
            "RecordId",
            _BATCH,
            "Opens a batch in the line's slot; BadEntryExists when it exists with other arguments, "
            "BadInvalidState while the slot is busy, BadConfigurationError without an approved model.",
            shared=True,
        ),
        _row("BatchControl.StartBatch", "BatchId", "StateNumber", _BATCH, "Idle to Running.", shared=True),
        _row("BatchControl.CompleteBatch", "BatchId", "StateNumber", _BATCH, "Running to Complete.", shared=True),
        _row("BatchControl.HoldBatch", "BatchId Reason", "StateNumber", _BATCH, "Running to Held.", shared=True),
        _row("BatchControl.RestartBatch", "BatchId Reason", "StateNumber", _BATCH, "Held to Running.", shared=True),
        _row("BatchControl.StopBatch", "BatchId Reason", "StateNumber", _BATCH, "Ends the batch early.", shared=True),
        _row(
            "BatchControl.AbortBatch", "BatchId Reason", "StateNumber", _BATCH, "Ends the batch at once.", shared=True
        ),
        _row(
            "BatchControl.EvaluateBatch",
            "BatchId",
            "Score Verdict OpenExceptions RecordDigest",
            _QA_MES,
            "Evaluates the batch's results; BadNoData with too few.",
            shared=True,
        ),
        _row("BatchControl.GetBatchSummary", "BatchId", "SummaryJson", ANYONE, "The batch record; BadNotFound."),
        _row(
            "BatchControl.DispositionException",
            "BatchId ExceptionId Disposition Comment SignatureId",
            "OpenExceptions",
            _QA,
            "Decides about one exception.",
        ),
        _row(
            "BatchControl.RequestRelease",
            "BatchId Comment",
            "SignatureRequestId RecordDigest Manifest",
            _QA_MES,
            "Reviewed batch to AwaitingSignature; BadInvalidState with open critical exceptions.",
            shared=True,
        ),
        _row(
            "BatchControl.ReleaseBatch",
            "BatchId SignatureId Comment",
            "ReleaseId ReleasedAt RecordDigest",
            frozenset({Role.QA_RELEASE}),
            "Releases by signature; BadNoMatch when the record changed since, BadUserAccessDenied for the reviewer.",
        ),
        _row(
            "BatchControl.RejectBatch",
            "BatchId ReasonCode Comment SignatureId",
            "ReleaseId",
            _QA,
            "Rejects; of a released batch: recalls.",
        ),
        _row(
            "BatchControl.QuarantineBatch",
            "BatchId ReasonCode Comment SignatureId",
            "StateNumber",
            _QA,
            "Back to Quarantine.",
        ),
        _row(
            "Signatures.RequestSignature",
            "RecordType RecordId Meaning",
            "SignatureRequestId RecordDigest Manifest ExpiresAt",
            ANYONE,
            "Freezes a record for signing.",
        ),
        _row(
            "Signatures.ExecuteSignature",
            "SignatureRequestId UserId Secret Comment",
            "SignatureId SignedAt SignerName",
            ANYONE,
            "Signs; BadIdentityTokenRejected, BadRequestNotAllowed when locked, BadSecurityModeInsufficient.",
        ),
        _row(
            "Signatures.CancelSignature",
            "SignatureRequestId",
            "",
            ANYONE,
            "Withdraws a request that is not signed.",
        ),
        _row(
            "Signatures.VerifySignature",
            "SignatureId RecordDigest",
            "IsValid SignerName Meaning SignedAt",
            ANYONE,
            "Whose signature it is, and whether it belongs to this digest.",
        ),
        _row(
            "Models.LearnProduct",
            "ProductId Lots Reason",
            "ModelId RecordDigest",
            _ENGINEER,
            "Learns a draft from the good cycles of some lots; BadNoData with too few cycles or lots.",
        ),
        _row(
            "Models.ApproveModel",
            "ModelId SignatureId",
            "RecordDigest",
            _QA,
            "Makes a draft the product's approved model, from the next batch on.",
        ),
        _row("Agents.AcceptRecommendation", "RecommendationId Comment", "State", _HUMAN, "Carries out nothing."),
        _row("Agents.RejectRecommendation", "RecommendationId Comment", "State", _HUMAN, "Carries out nothing."),
        _row("Agents.DeferRecommendation", "RecommendationId Comment", "State", _HUMAN, "Asks again later."),
        _row(
            "Compliance.VerifyAuditChain",
            "FromSequence ToSequence",
            "Intact FirstBroken",
            frozenset({Role.AUDITOR}),
            "Checks the audit log against itself and the records it covers.",
        ),
        _row(
            "Security.AddUser",
            "UserId FullName Role TemporaryPassword",
            "",
            _ADMIN,
            "Opens an account; an id is never used twice.",
        ),
        _row("Security.DisableUser", "UserId Reason", "", _ADMIN, "Closes an account and its sessions."),
        _row(
            "Security.ResetUser",
            "UserId TemporaryPassword Reason",
            "",
            _ADMIN,
            "Unlocks an account; its owner must change the password before signing.",
        ),
        _row("Security.ChangePassword", "OldPassword NewPassword", "", ANYONE, "The caller's own password."),
    )
}


def methods_of(owner: str) -> tuple[Declaration, ...]:
    """Declarations of an object's methods."""
    return tuple(
        Declaration(
            name=m.name,
            node_class="Method",
            description=m.description,
            method=Method(inputs=m.inputs, outputs=m.outputs, optional=int(m.on_behalf_of)),
            members=tuple(_described(a) for a in m.inputs[m.required :]),
        )
        for m in METHODS.values()
        if m.object == owner
    )


def _described(argument: Argument) -> Declaration:
    """The variable that marks an argument as optional (Part 3 5.7.1, 5.7.3)."""
    return Declaration(
        name=argument.name,
        node_class="Variable",
        type="BaseDataVariableType",
        reference="HasOptionalInputArgumentDescription",
        data_type=argument.data_type,
        description=argument.description,
        value="",
    )
