@0xd3a1c0f4e5b60106;
# What an operator sees and may do. Every list is paged: ask again with the
# last id while `hasMore` is set.

using Mesh = import "mesh.capnp";

interface Operator {
  sessions @0 (afterId :UInt64, limit :UInt32) -> (sessions :List(SessionFacts), hasMore :Bool);
  capabilities @1 (filter :CapabilityFilter, afterId :UInt64, limit :UInt32)
      -> (capabilities :List(CapabilityFacts), hasMore :Bool);
  calls @2 (slowerThanMicros :UInt64, limit :UInt32) -> (calls :List(CallFacts), slowAfterMicros :UInt64);
  # Calls in flight that have lasted longer than asked, longest first, then
  # the latest finished ones that the collector kept because they were slow.
  tap @3 (filter :TapFilter) -> (tap :Tap);
  revoke @4 (target :Target, reason :Text) -> (outcome :RevokeOutcome);
  deny @5 (identity :Text, reason :Text) -> (outcome :RevokeOutcome);
  # Durable before it is answered; ends every session and capability of the
  # identity. Holds until `allow`.
  allow @6 (identity :Text) -> (wasDenied :Bool);
  denials @7 () -> (denials :List(Denial));
  describe @8 (name :Text) -> (interfaces :List(InterfaceFacts));
  # An interface by name; all of them when the name is empty.
  reload @9 () -> (parts :List(ReloadedPart));
  # Reads tokens and certificates again. A part that fails keeps its last
  # good state.
  status @10 () -> (status :MeshStatus);
  revokeSessions @11 (role :Text, identity :Text, reason :Text, all :Bool) -> (outcome :RevokeOutcome);
  # Every session of the role and of the identity (empty: any), in one step;
  # the caller's own is left out. With both empty it is refused unless `all`
  # is set: an empty message must not end every session.
  agentStatus @12 (identity :Text) -> (answer :AgentAnswer);
  flushAgent @13 (identity :Text, waitMs :UInt32) -> (answer :AgentAnswer);
  # Both through the AgentControl that the agent handed out.
}

struct AgentAnswer {
  union {
    notConnected @0 :Void;
    notAllowed @1 :Void;           # the agent handed out no AgentControl
    failed @2 :Text;               # what the agent said, or that it said nothing
    status @3 :Mesh.AgentStatus;
    pendingBatches @4 :UInt64;     # after a flush
  }
}

struct Target {
  union {
    session @0 :UInt64;
    capability @1 :UInt64;
  }
}

struct RevokeOutcome {
  union {
    notFound @0 :Void;
    done @1 :Void;
  }
  capabilities @2 :UInt32;         # that ended
  sessions @3 :UInt32;
}

struct Denial {
  identity @0 :Text;
  reason @1 :Text;
  by @2 :Text;
  unixMs @3 :Int64;
}

struct ReloadedPart {
  name @0 :Text;                   # "tokens", "certificate"
  error @1 :Text;                  # empty: in force
  changes @2 :Text;                # "2 added, 1 removed"
}

struct SessionFacts {
  id @0 :UInt64;
  identity @1 :Text;
  product @2 :Text;
  version @3 :Text;
  role @4 :Text;
  remote @5 :Text;                 # address and port, the path in use
  transport @6 :Text;              # "quic", "tcp", "unix"
  connectedUnixMs @7 :Int64;
  lastHeartbeatUnixMs @8 :Int64;   # 0: none yet
  clockSkewMs @9 :Int64;           # peer minus collector, at the last heartbeat
  queuePendingBytes @10 :UInt64;
  queuePendingBatches @11 :UInt64;
  queueCapacityBytes @12 :UInt64;
  droppedItems @13 :UInt64;
  bytesReceived @14 :UInt64;       # UDP payload, or of the TCP streams
  bytesSent @15 :UInt64;
  rttMicros @16 :UInt64;
  lostPackets @17 :UInt64;
  calls @18 :UInt64;
  batches @19 :UInt64;
  items @20 :UInt64;
  hostname @21 :Text;
  congestionWindowBytes @22 :UInt64;
  mtuBytes @23 :UInt32;
  migrations @24 :UInt32;          # how often the peer's address changed
  capability @25 :UInt64;          # the root of what the session holds
  capabilities @26 :UInt32;        # that it holds now
  callsInFlight @27 :UInt32;
  callsRefused @28 :UInt64;        # answered `overloaded:`
  admission @29 :AdmissionFacts;
}

struct AdmissionFacts {
  # What the RPC connections of a session hold here, against their bounds.
  questions @0 :UInt32;            # calls of the peer that it has not finished
  exports @1 :UInt32;              # references that the peer has not released
  unsentBytes @2 :UInt64;          # answers that the peer does not read
  budgetBytes @3 :UInt64;          # of the ingest budget
  messageBytesIn @4 :UInt64;
  messageBytesOut @5 :UInt64;
  messagesIn @6 :UInt64;
  messagesOut @7 :UInt64;
  readPauses @8 :UInt64;           # how often reading had to wait for a bound
}

struct CapabilityFilter {
  session @0 :UInt64;              # 0: any
  interface @1 :Text;              # "Reader"; empty: any
  holder @2 :Text;                 # empty: any
}

struct CapabilityFacts {
  id @0 :UInt64;
  grantor @1 :UInt64;              # the capability it was derived from; 0: a session's root
  session @2 :UInt64;
  holder @3 :Text;
  interface @4 :Text;
  scope @5 :Text;
  grantedUnixMs @6 :Int64;
  expiresUnixMs @7 :Int64;         # 0: with its session
  calls @8 :UInt64;
  errors @9 :UInt64;
  bytesReceived @10 :UInt64;       # of the messages that its calls came in
  bytesSent @11 :UInt64;           # of results
  inFlight @12 :UInt32;
  lastMethod @13 :Text;
  lastUseUnixMs @14 :Int64;        # 0: never
}

struct CallFacts {
  capability @0 :UInt64;
  session @1 :UInt64;
  holder @2 :Text;
  interface @3 :Text;
  method @4 :Text;
  startedUnixMs @5 :Int64;
  micros @6 :UInt64;               # so far, or in all
  isInFlight @7 :Bool;
  isWaiting @8 :Bool;              # a long poll: slow on purpose
  error @9 :Text;                  # the stable code; empty: fine
  parameterBytes @10 :UInt64;
}

struct TapFilter {
  session @0 :UInt64;              # 0: any
  capability @1 :UInt64;           # 0: any
  holder @2 :Text;                 # empty: any
  interface @3 :Text;              # empty: any
  method @4 :Text;                 # empty: any
  errorsOnly @5 :Bool;
  sampleEvery @6 :UInt32;          # 0 and 1: every call
}

interface Tap {
  # Finished calls as they happen: facts, never contents. Bounded: a reader
  # that lags misses calls and is told how many.
  next @0 (waitMs :UInt32, limit :UInt32) -> (calls :List(CallFacts), missed :UInt64, cost :TapCost);
}

struct TapCost {
  seen @0 :UInt64;                 # calls that the filter looked at
  matched @1 :UInt64;
  nanos @2 :UInt64;                # processor time that the tap took from the calls
}

struct InterfaceFacts {
  name @0 :Text;
  id @1 :UInt64;
  doc @2 :Text;
  methods @3 :List(MethodFacts);
}

struct MethodFacts {
  name @0 :Text;
  ordinal @1 :UInt16;
  signature @2 :Text;              # "(query :Text, timeMs :Int64) -> (answer :Answer)"
  doc @3 :Text;
}

struct MeshStatus {
  uptimeMs @0 :UInt64;
  sessions @1 :UInt32;
  capabilities @2 :UInt32;
  calls @3 :UInt64;
  callsInFlight @4 :UInt32;
  callsRefused @5 :UInt64;
  sessionsEndedByLimit @6 :UInt64;
  panics @7 :UInt64;
  budgetBytes @8 :UInt64;          # of the ingest budget, in use
  budgetBytesMax @9 :UInt64;
  budgetWaits @10 :UInt64;
  loginsRefused @11 :UInt64;
  handshakesRefused @12 :UInt64;
  denials @13 :UInt32;
  unixMs @14 :Int64;
  version @15 :Text;
  clusterId @16 :Data;
}
