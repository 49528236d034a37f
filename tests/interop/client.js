// An OPC UA client of another stack, driven over its standard streams by client.py.
//
// usage: node client.js PKI_FOLDER
//
// One request a line, one answer a line, in any order; `id` pairs them:
//   {"id": 1, "verb": "read", "arguments": {"nodes": ["ns=0;i=2258"]}}
//   {"id": 1, "result": [...]}
//   {"id": 1, "error": {"message": "...", "status": 2149580800, "name": "BadUserAccessDenied"}}
// A value travels as {type, value}: 64-bit integers as decimal strings, DateTime as ns UTC since 1970 in decimal,
// ByteString as base64, NaN and infinities as strings, StatusCode as {name, value}.
"use strict";

console.log = console.info = console.error; // the library talks on stdout, which is ours

const path = require("node:path");
const fs = require("node:fs");
const readline = require("node:readline");
const {
  AttributeIds, BrowseDirection, ClientMonitoredItem, ClientMonitoredItemGroup, DataType, HistoryReadRequest,
  HistoryUpdateType, MessageSecurityMode, OPCUAClient, ReadAtTimeDetails, ReadEventDetails, ReadProcessedDetails,
  ReadRawModifiedDetails, RepublishRequest, SecurityPolicy, StatusCodes, TimestampsToReturn, UserTokenType, Variant,
  VariantArrayType, coerceNodeId, constructEventFilter, installAlarmMonitoring, ofType,
} = require("node-opcua-client");
const { acknowledgeCondition, confirmCondition } = require("node-opcua-alarm-condition");
const { BinaryStream } = require("node-opcua-binary-stream");
const { OPCUACertificateManager } = require("node-opcua-certificate-manager");
const { exploreCertificateSigningRequest } = require("node-opcua-crypto");
const { TrustListDataType } = require("node-opcua-types");

const APPLICATION = "enose-interop";
const APPLICATION_URI = "urn:enose:interop";
const HIERARCHICAL_REFERENCES = "i=33";
const ACKNOWLEDGE = "i=9111";
const CONDITION_TYPE = "i=2782";
const CONDITION_REFRESH = "i=3875";
const NODES_PER_REQUEST = 100;
const NODES_PER_PAGED_BROWSE = 10;

// ---- values -------------------------------------------------------------------------------------------------------

const nanoseconds = (date, picoseconds) =>
  date ? (BigInt(date.getTime()) * 1000000n + BigInt(Math.floor((picoseconds || 0) / 1000))).toString() : null;
const statusOf = (code) => ({ name: code.name, value: code.value });
const real = (x) => (Number.isFinite(x) ? x : String(x));
const wide = (signed) => ([high, low]) => {
  const bits = (BigInt(high >>> 0) << 32n) | BigInt(low >>> 0);
  return (signed ? BigInt.asIntN(64, bits) : bits).toString();
};
const text = (x) => String(x);

const ENCODERS = {
  Float: real,
  Double: real,
  Int64: wide(true),
  UInt64: wide(false),
  DateTime: (x) => nanoseconds(x, x.picoseconds),
  ByteString: (x) => x.toString("base64"),
  NodeId: text,
  ExpandedNodeId: text,
  QualifiedName: text,
  LocalizedText: (x) => x.text,
  StatusCode: statusOf,
  ExtensionObject: (x) => x.toJSON(),
  DataValue: (x) => encodeDataValue(x),
  Variant: (x) => encodeVariant(x),
};

function encodeVariant(variant) {
  const type = DataType[variant.dataType];
  const encode = ENCODERS[type] || ((x) => x);
  const one = (x) => (x === null || x === undefined ? null : encode(x));
  const scalar = variant.arrayType === VariantArrayType.Scalar || variant.value === null;
  return { type, value: scalar ? one(variant.value) : Array.from(variant.value, one) };
}

function encodeDataValue(data) {
  return {
    ...encodeVariant(data.value || new Variant()),
    status: statusOf(data.statusCode),
    sourceTime: nanoseconds(data.sourceTimestamp, data.sourcePicoseconds),
    serverTime: nanoseconds(data.serverTimestamp, data.serverPicoseconds),
  };
}

const encodeMessage = (subscriptionId, message) => ({
  subscriptionId,
  sequenceNumber: message.sequenceNumber,
  values: message.notificationData.flatMap((data) => (data.monitoredItems || []).map((m) => encodeDataValue(m.value))),
});

const DECODERS = {
  DateTime: (x) => {
    const date = new Date(Number(BigInt(x) / 1000000n));
    date.picoseconds = Number(BigInt(x) % 1000000n) * 1000;
    return date;
  },
  ByteString: (x) => Buffer.from(x, "base64"),
  NodeId: (x) => coerceNodeId(x),
  LocalizedText: (x) => ({ text: x }),
  Int64: (x) => [Number(BigInt.asIntN(32, BigInt(x) >> 32n)), Number(BigInt(x) & 0xffffffffn)],
  UInt64: (x) => [Number((BigInt(x) >> 32n) & 0xffffffffn), Number(BigInt(x) & 0xffffffffn)],
  Float: Number,
  Double: Number,
};

function decodeVariant({ type, value }) {
  const one = DECODERS[type] || ((x) => x);
  const dataType = DataType[type];
  if (value === null) return new Variant({ dataType, value: null });
  if (!Array.isArray(value)) return new Variant({ dataType, value: one(value) });
  return new Variant({ dataType, arrayType: VariantArrayType.Array, value: value.map(one) });
}

// ---- the client ---------------------------------------------------------------------------------------------------

/** A log that can be read from any position and waited on. */
class Log {
  entries = [];
  waiting = [];

  push(entry) {
    this.entries.push(entry);
    for (const wake of this.waiting.splice(0)) wake();
  }

  async since(position, milliseconds) {
    if (this.entries.length <= position && milliseconds > 0) {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.waiting.push(() => {
          clearTimeout(timer);
          resolve();
        });
      });
    }
    return { entries: this.entries.slice(position), next: this.entries.length };
  }
}

const pki = path.resolve(process.argv[2]);
const certificateFile = path.join(pki, "own/certs/client.pem");
const certificates = new OPCUACertificateManager({
  rootFolder: pki, automaticallyAcceptUnknownCertificate: false, disableFileWatchers: true,
});
let client = null;
let session = null;
const subscriptions = new Map();
const changes = new Log();
const events = new Log();
const messages = new Log();
const lifecycle = new Log();

async function prepare() {
  await certificates.initialize();
  if (!fs.existsSync(certificateFile)) {
    await certificates.createSelfSignedCertificate({
      applicationUri: APPLICATION_URI,
      dns: ["localhost"],
      ip: ["127.0.0.1"],
      outputFile: certificateFile,
      subject: `/CN=${APPLICATION}`,
      startDate: new Date(Date.now() - 60000),
      validity: 30,
    });
  }
}

function identity({ user, password, userCertificate, userKey }) {
  if (userCertificate) {
    return {
      type: UserTokenType.Certificate,
      certificateData: pemOrDer(userCertificate),
      privateKey: fs.readFileSync(userKey, "ascii"),
    };
  }
  return user ? { type: UserTokenType.UserName, userName: user, password } : { type: UserTokenType.Anonymous };
}

function pemOrDer(file) {
  const bytes = fs.readFileSync(file);
  const pem = /-----BEGIN CERTIFICATE-----([^-]+)-----END/.exec(bytes.toString("latin1"));
  return pem ? Buffer.from(pem[1], "base64") : bytes;
}

function open() {
  if (!session) throw new Error("BadSessionNotActivated: connect first");
  return session;
}

async function inChunks(items, size, work) {
  const results = [];
  for (let i = 0; i < items.length; i += size) results.push(...(await work(items.slice(i, i + size))));
  return results;
}

async function subscription(publishingInterval) {
  const created = await open().createSubscription2({
    requestedPublishingInterval: publishingInterval,
    requestedLifetimeCount: 600,
    requestedMaxKeepAliveCount: 20,
    maxNotificationsPerPublish: 0,
    publishingEnabled: true,
    priority: 1,
  });
  subscriptions.set(created.subscriptionId, created);
  created.on("raw_notification", (message) => {
    if (message.notificationData.length) messages.push(encodeMessage(created.subscriptionId, message)); // no keep-alive
  });
  created.on("terminated", () => lifecycle.push({ event: "subscription terminated", id: created.subscriptionId }));
  return created;
}

const initialized = (item) =>
  new Promise((resolve, reject) => {
    item.on("initialized", resolve);
    item.on("err", (message) => reject(new Error(message)));
  });

async function pages(results, perNode) {
  const references = results.map((result) => [...(result.references || [])]);
  let unfinished = results.flatMap((result, at) => (result.continuationPoint?.length ? [[at, result.continuationPoint]] : []));
  while (unfinished.length) {
    const next = await open().browseNext(unfinished.map(([, point]) => point), false);
    next.forEach((result, i) => {
      if (perNode && result.references.length > perNode) throw new Error("BadUnexpectedError: page longer than asked");
      if (result.statusCode.isNot(StatusCodes.Good)) throw new Error(result.statusCode.toString());
      references[unfinished[i][0]].push(...result.references);
    });
    unfinished = next.flatMap((r, i) => (r.continuationPoint?.length ? [[unfinished[i][0], r.continuationPoint]] : []));
  }
  return references;
}

const VERBS = {
  certificate: async () => ({ file: certificateFile, applicationUri: APPLICATION_URI }),

  async connect({ endpoint, policy, mode, serverCertificate, tokenLifetime, retries = 0, endpointMustExist = true, ...user }) {
    if (client) throw new Error("BadInvalidState: already connected");
    if (serverCertificate) await certificates.trustCertificate(pemOrDer(serverCertificate));
    client = OPCUAClient.create({
      applicationName: APPLICATION,
      applicationUri: APPLICATION_URI,
      clientCertificateManager: certificates,
      certificateFile,
      securityPolicy: SecurityPolicy[policy],
      securityMode: MessageSecurityMode[mode],
      endpointMustExist,
      connectionStrategy: { maxRetry: retries, initialDelay: 100, maxDelay: 1000 },
      requestedSessionTimeout: 120000,
      defaultSecureTokenLifetime: tokenLifetime,
      keepSessionAlive: true,
    });
    for (const event of ["connection_lost", "connection_reestablished", "after_reconnection"]) {
      client.on(event, () => lifecycle.push({ event: event.replaceAll("_", " ") }));
    }
    try {
      await client.connect(endpoint);
      session = await client.createSession(identity(user));
    } catch (error) {
      await VERBS.disconnect();
      throw error;
    }
    return { sessionId: session.sessionId.toString(), namespaces: await session.readNamespaceArray() };
  },

  /** Another certificate of the server, before it shows it. */
  trust: ({ certificate }) => certificates.trustCertificate(pemOrDer(certificate)),

  /** A trust list as the file it is written as (Part 12 7.8.2.8), and back. */
  encodeTrustList({ trusted }) {
    const list = new TrustListDataType({ specifiedLists: 1, trustedCertificates: trusted.map(DECODERS.ByteString) });
    const stream = new BinaryStream(list.binaryStoreSize());
    list.encode(stream);
    return stream.buffer.toString("base64");
  },

  decodeTrustList({ data }) {
    const list = new TrustListDataType();
    list.decode(new BinaryStream(Buffer.from(data, "base64")));
    return list.trustedCertificates.map((each) => each.toString("base64"));
  },

  /** ApplicationUri of a PKCS #10 request. */
  applicationUriOf: ({ request }) =>
    exploreCertificateSigningRequest(Buffer.from(request, "base64"))
      .extensionRequest.subjectAltName.uniformResourceIdentifier[0],

  async disconnect() {
    const [oldSession, oldClient] = [session, client];
    session = client = null;
    subscriptions.clear();
    if (oldSession) await oldSession.close(true).catch(() => undefined); // the server may be gone: nothing to close
    if (oldClient) await oldClient.disconnect();
  },

  /** ActivateSession with another identity on the same session (Part 4 5.7.3). */
  activate: async (user) => statusOf(await open().changeUser(identity(user))),

  /** Every node below `root` once, breadth first, over hierarchical references; `perNode` forces BrowseNext. */
  async browse({ root = "i=85", perNode = 0 }) {
    open().requestedMaxReferencesPerNode = perNode;
    const seen = new Map();
    let level = [coerceNodeId(root).toString()];
    while (level.length) {
      const below = [];
      // A page of each node may leave a continuation point behind, of which a server keeps few for one session.
      await inChunks(level, perNode ? NODES_PER_PAGED_BROWSE : NODES_PER_REQUEST, async (nodes) => {
        const results = await open().browse(nodes.map((nodeId) => ({
          nodeId, browseDirection: BrowseDirection.Forward, referenceTypeId: HIERARCHICAL_REFERENCES,
          includeSubtypes: true, nodeClassMask: 0, resultMask: 63,
        })));
        results.forEach((result) => {
          if (result.statusCode.isNot(StatusCodes.Good)) throw new Error(result.statusCode.toString());
        });
        (await pages(results, perNode)).forEach((references, i) => {
          for (const reference of references) {
            const nodeId = reference.nodeId.toString();
            if (seen.has(nodeId) || nodeId === root) continue;
            seen.set(nodeId, {
              nodeId,
              browseName: reference.browseName.toString(),
              displayName: reference.displayName.text,
              nodeClass: reference.nodeClass,
              typeDefinition: reference.typeDefinition.toString(),
              referenceType: reference.referenceTypeId.toString(),
              parent: nodes[i],
            });
            below.push(nodeId);
          }
        });
        return [];
      });
      level = below;
    }
    return [...seen.values()];
  },

  read: async ({ nodes, attribute = "Value" }) =>
    inChunks(nodes, NODES_PER_REQUEST, async (some) =>
      (await open().read(some.map((nodeId) => ({ nodeId, attributeId: AttributeIds[attribute] })))).map(encodeDataValue)),

  write: async ({ node, value, attribute = "Value" }) =>
    statusOf(await open().write({
      nodeId: node, attributeId: AttributeIds[attribute], value: { value: decodeVariant(value) },
    })),

  async subscribe({ nodes, publishingInterval = 100, samplingInterval = 0, queueSize = 100 }) {
    const created = await subscription(publishingInterval);
    const items = await inChunks(nodes, 10 * NODES_PER_REQUEST, async (some) => {
      const group = ClientMonitoredItemGroup.create(
        created,
        some.map((nodeId) => ({ nodeId, attributeId: AttributeIds.Value })),
        { samplingInterval, queueSize, discardOldest: true },
        TimestampsToReturn.Both,
      );
      group.on("changed", (_item, data, i) => changes.push({ node: some[i], ...encodeDataValue(data) }));
      await initialized(group);
      return group.monitoredItems.map((item) => statusOf(item.statusCode));
    });
    return { subscriptionId: created.subscriptionId, publishingInterval: created.publishingInterval, items };
  },

  async subscribeEvents({ node = "i=2253", fields, type, publishingInterval = 100 }) {
    const created = await subscription(publishingInterval);
    const item = ClientMonitoredItem.create(
      created,
      { nodeId: node, attributeId: AttributeIds.EventNotifier },
      { filter: constructEventFilter(fields, type ? ofType(type) : undefined), queueSize: 1000, discardOldest: true },
    );
    item.on("changed", (values) =>
      events.push(Object.fromEntries(fields.map((field, i) => [field, encodeVariant(values[i])]))));
    await initialized(item);
    return { subscriptionId: created.subscriptionId, publishingInterval: created.publishingInterval };
  },

  changes: ({ since, wait = 0 }) => changes.since(since, wait),
  messages: ({ since, wait = 0 }) => messages.since(since, wait),
  events: ({ since, wait = 0 }) => events.since(since, wait),
  lifecycle: ({ since, wait = 0 }) => lifecycle.since(since, wait),

  /** A message once more (Part 4 5.14.6). */
  async republish({ subscriptionId, sequenceNumber }) {
    const request = new RepublishRequest({ subscriptionId, retransmitSequenceNumber: sequenceNumber });
    const response = await new Promise((resolve, reject) =>
      open().republish(request, (error, answered) => (error ? reject(error) : resolve(answered))));
    return encodeMessage(subscriptionId, response.notificationMessage);
  },

  async unsubscribe({ subscriptionId }) {
    await subscriptions.get(subscriptionId).terminate();
    subscriptions.delete(subscriptionId);
  },

  async call({ objectId, methodId, inputs }) {
    const result = await open().call({ objectId, methodId, inputArguments: inputs.map(decodeVariant) });
    return {
      status: statusOf(result.statusCode),
      inputs: (result.inputArgumentResults || []).map(statusOf),
      outputs: (result.outputArguments || []).map(encodeVariant),
    };
  },

  async acknowledge({ conditionId, eventId, comment }) {
    const inputs = [{ type: "ByteString", value: eventId }, { type: "LocalizedText", value: comment }];
    return (await VERBS.call({ objectId: conditionId, methodId: ACKNOWLEDGE, inputs })).status;
  },

  async conditionRefresh({ subscriptionId }) {
    const inputs = [{ type: "UInt32", value: subscriptionId }];
    return (await VERBS.call({ objectId: CONDITION_TYPE, methodId: CONDITION_REFRESH, inputs })).status;
  },

  /** The alarms as the library's own list keeps them: subscribed, refreshed, and followed by itself. */
  async alarms() {
    const list = await installAlarmMonitoring(open());
    return list.alarms().map(({ conditionId, eventId, fields }) => ({
      conditionId: String(conditionId),
      eventId: eventId.toString("base64"),
      retain: fields.retain.value,
      active: fields.activeState.id.value,
      acked: fields.ackedState.id.value,
      confirmed: fields.confirmedState.id.value,
      shelving: fields.shelvingState.currentState.value.text,
      message: fields.message.value.text,
    }));
  },

  /** Acknowledge or confirm as the library does: it looks the method up by its browse path. */
  async answer({ act, conditionId, eventId, comment }) {
    const answers = { acknowledge: acknowledgeCondition, confirm: confirmCondition };
    return statusOf(await answers[act](open(), conditionId, Buffer.from(eventId, "base64"), comment));
  },

  /** An aggregate (NodeId) of intervals of so many milliseconds (Part 11 6.5.4). */
  async historyProcessed({ node, start, end, interval, aggregate }) {
    const details = new ReadProcessedDetails({
      startTime: DECODERS.DateTime(start),
      endTime: DECODERS.DateTime(end),
      processingInterval: interval,
      aggregateType: [coerceNodeId(aggregate)],
      aggregateConfiguration: { useServerCapabilitiesDefaults: true },
    });
    return (await readHistory(node, details)).dataValues.map(encodeDataValue);
  },

  /** Values at instants (Part 11 6.5.5). */
  async historyAtTime({ node, times }) {
    const details = new ReadAtTimeDetails({ reqTimes: times.map(DECODERS.DateTime), useSimpleBounds: false });
    return (await readHistory(node, details)).dataValues.map(encodeDataValue);
  },

  /** Values that were changed, and what was done to each (Part 11 6.5.3.3). */
  async historyModified({ node, start, end }) {
    const details = new ReadRawModifiedDetails({
      isReadModified: true, startTime: DECODERS.DateTime(start), endTime: DECODERS.DateTime(end),
    });
    const data = await readHistory(node, details);
    const infos = data.modificationInfos.map((i) => ({ user: i.userName, kind: HistoryUpdateType[i.updateType] }));
    return data.dataValues.map((value, i) => ({ value: encodeDataValue(value), ...infos[i] }));
  },

  /** All values of one node between two instants, page by page (Part 11 6.5.3). */
  async historyRead({ node, start, end, numValues = 0 }) {
    const pages = await historyPages(node, new ReadRawModifiedDetails({
      isReadModified: false,
      startTime: start === null ? undefined : DECODERS.DateTime(start),
      endTime: end === null ? undefined : DECODERS.DateTime(end),
      numValuesPerNode: numValues,
      returnBounds: false,
    }));
    return { values: pages.flatMap((page) => (page?.dataValues || []).map(encodeDataValue)), pages: pages.length };
  },

  /** All events of one notifier between two instants, page by page (Part 11 6.5.2). */
  async historyEvents({ node, fields, type, start, end, numValues = 0 }) {
    const pages = await historyPages(node, new ReadEventDetails({
      numValuesPerNode: numValues,
      startTime: start === null ? undefined : DECODERS.DateTime(start),
      endTime: end === null ? undefined : DECODERS.DateTime(end),
      filter: constructEventFilter(fields, type ? ofType(type) : undefined),
    }));
    const found = pages.flatMap((page) => page?.events || []);
    const named = ({ eventFields }) =>
      Object.fromEntries(fields.map((field, i) => [field, encodeVariant(eventFields[i])]));
    return { events: found.map(named), pages: pages.length };
  },
};

async function historyPage(historyReadDetails, nodeToRead) {
  const response = await open().historyRead(new HistoryReadRequest({
    historyReadDetails,
    timestampsToReturn: TimestampsToReturn.Both,
    releaseContinuationPoints: false,
    nodesToRead: [nodeToRead],
  }));
  const result = response.results[0];
  if (result.statusCode.isBad()) throw new Error(result.statusCode.toString());
  return result;
}

const readHistory = async (nodeId, details) => (await historyPage(details, { nodeId })).historyData;

async function historyPages(nodeId, details) {
  const pages = [];
  let continuationPoint = null;
  do {
    const result = await historyPage(details, { nodeId, continuationPoint });
    pages.push(result.historyData);
    continuationPoint = result.continuationPoint?.length ? result.continuationPoint : null;
  } while (continuationPoint);
  return pages;
}

// ---- the wire -----------------------------------------------------------------------------------------------------

function describe(error) {
  const named = error.statusCode?.name || error.response?.responseHeader?.serviceResult?.name;
  const inText = (String(error.message).match(/\b(?:Bad|Uncertain)[A-Z]\w*/g) || []).find((name) => StatusCodes[name]);
  const code = StatusCodes[named || inText] || StatusCodes.BadUnexpectedError;
  return { message: String(error.message), ...{ name: code.name, status: code.value } };
}

const answer = (message) => process.stdout.write(`${JSON.stringify(message)}\n`);

async function serve(line) {
  const { id, verb, arguments: given } = JSON.parse(line);
  try {
    if (!Object.hasOwn(VERBS, verb)) throw new Error(`BadNotSupported: no verb ${verb}`);
    answer({ id, result: (await VERBS[verb](given)) ?? null });
  } catch (error) {
    answer({ id, error: describe(error) });
  }
}

prepare().then(() => {
  answer({ ready: true });
  const lines = readline.createInterface({ input: process.stdin });
  lines.on("line", serve);
  lines.on("close", () => VERBS.disconnect().then(() => process.exit(0)));
});
