@0xd3a1c0f4e5b60104;
# Sessions: login, tickets, delivery, inspection. No method asks who calls;
# holding the capability is the permission.

using Batch = import "batch.capnp";
using Query = import "query.capnp";
using Operator = import "operator.capnp";

interface Gate {
  # Bootstrap of the control stream. It can do one thing.
  login @0 (credential :Credential, peer :PeerFacts) -> (grant :Grant);
  # Room: enroll.
}

interface Attach {
  # Bootstrap of every other stream of the connection. A ticket works once,
  # within ten seconds, on the connection that it was issued to.
  attach @0 (ticket :Data) -> (attached :Attached);
}

struct Attached {
  union {
    sink @0 :BatchSink;
    users @1 :UserGate;
  }
}

struct Credential {
  union {
    bearer @0 :Text;
    # Room: enrolment token, client certificate, peer credentials of a unix socket.
    none @1 :Void;
  }
}

struct PeerFacts {
  product @0 :Text;                # "lm-agent"
  version @1 :Text;
  hostname @2 :Text;
  clusterId @3 :Data;              # pinned by the peer; empty when it has none yet
  batchVersions @4 :List(UInt16);
  incarnations @5 :List(StreamIncarnation); # what the queue still holds
  job @6 :Text;                    # the label of an agent's own series; empty: the usual one
}

struct StreamIncarnation {
  stream @0 :Batch.Stream;
  incarnation @1 :Batch.Incarnation;
}

struct Grant {
  sessionId @0 :UInt64;
  clusterId @1 :Data;
  identity @2 :Text;               # of the credential: the agent's or operator's name
  expiresUnixMs @3 :Int64;         # 0: does not expire
  acceptedBatchVersions @4 :List(UInt16);
  resume @5 :List(Resume);
  limits @6 :Limits;
  union {
    agent @7 :AgentSession;
    gateway @8 :GatewaySession;
    operator @9 :Operator.Operator;
    none @10 :Void;
    # Room: relay.
  }
}

struct Limits {
  batchBytesMax @0 :UInt32;        # encoded
  batchRawBytesMax @1 :UInt32;
  callsInFlightMax @2 :UInt16;     # pushes on the bulk stream
  logLineBytesMax @3 :UInt32;
  logsPerBatchMax @4 :UInt32;
  seriesPerBatchMax @5 :UInt32;
}

struct Resume {
  stream @0 :Batch.Stream;
  incarnation @1 :Batch.Incarnation;
  durableEnd @2 :UInt64;
  landedEnd @3 :UInt64;
}

interface AgentSession {
  heartbeat @0 (facts :AgentFacts) -> (directives :Directives);
  bulkTicket @1 () -> (ticket :Data);
  control @2 (control :AgentControl);
  # From an agent whose configuration allows it; a later one takes its place.
  scraped @3 (targets :List(ScrapedTarget)) -> ();
  # How targets fare that the agent scrapes: of all after a login, then of those
  # that changed. Kept as long as the session. A target whose labels no series
  # may have is passed over.
}

struct ScrapedTarget {
  labels @0 :List(Batch.Label);    # those of its `up` but for the name
  url @1 :Text;                    # empty: it is no longer scraped
  error @2 :Text;                  # why the last scrape failed; empty: it did not
  intervalMs @3 :UInt64;
  timeoutMs @4 :UInt64;
}

interface AgentControl {
  # What an agent lets its collector ask of it. Nothing here runs a command,
  # reads a file or changes a setting.
  status @0 () -> (status :AgentStatus);
  flush @1 (waitMs :UInt32) -> (pendingBatches :UInt64);
  # Sends what is queued without waiting out a retry. Answers when nothing is
  # pending, or after the wait, which is ten seconds at most.
}

struct AgentStatus {
  version @0 :Text;
  configSha256 @1 :Data;           # of the configuration file as it was read
  unixMs @2 :Int64;
  uptimeMs @3 :UInt64;
  queuePendingBytes @4 :UInt64;
  queuePendingBatches @5 :UInt64;
  queueCapacityBytes @6 :UInt64;
  sentBatches @7 :UInt64;          # since its start, as are the next two
  droppedItems @8 :UInt64;
  reconnects @9 :UInt64;
}

struct AgentFacts {
  unixMs @0 :Int64;
  queuePendingBytes @1 :UInt64;
  queuePendingBatches @2 :UInt64;
  queueCapacityBytes @3 :UInt64;
  droppedItems @4 :UInt64;
  uptimeMs @5 :UInt64;
}

struct Directives {
  collectorUnixMs @0 :Int64;
  # Room: configuration revision, credential rotation.
}

interface BatchSink {
  # Bulk stream of an agent.
  push @0 (batch :Batch.Batch) -> (receipt :Receipt);
  define @1 (incarnation :Batch.Incarnation, dictionary :Batch.Dictionary) -> (outcome :DefineOutcome);
}

struct Receipt {
  union {
    durable @0 :Void;
    duplicate @1 :Void;
    rejected @2 :Text;             # never acceptable; a tombstone fills its place
    needDictionary @3 :UInt32;     # define this epoch, then send the same bytes
    unsupported @4 :UInt16;        # the newest version that is understood
    retryAfterMs @5 :UInt32;
    gap @6 :UInt64;                # the sequence that must come next
    quarantined @7 :Void;          # of a fenced incarnation: kept apart, declared
  }
  durableEnd @8 :UInt64;           # of this stream and incarnation
  landedEnd @9 :UInt64;
  credit @10 :UInt16;              # pushes the peer may have in flight
  droppedItems @11 :UInt64;        # stored without these: over a limit
}

struct DefineOutcome {
  union {
    durable @0 :Void;
    rejected @1 :Text;
    retryAfterMs @2 :UInt32;
  }
}

interface GatewaySession {
  heartbeat @0 (unixMs :Int64) -> (collectorUnixMs :Int64);
  queryTicket @1 () -> (ticket :Data, cancelledCallsMax :UInt32);
  # More cancelled calls than this on the stream end the session. 0: 65,536.
  revocations @2 (afterGeneration :UInt64, waitMs :UInt32) -> (generation :UInt64);
  # Long poll. The generation grows whenever a credential of a user may have
  # lost its worth; every exchange that was remembered before it is void.
  writeTicket @3 () -> (ticket :Data);
  # For a bulk stream whose UserGate gives nothing but Writers: what is written
  # is bounded and delayed there, and no question waits behind it.
}

interface UserGate {
  # Exchanges an HTTP user's credential for that user's own capability. The
  # gateway itself may read nothing.
  authenticate @0 (credential :Credential) -> (result :Authenticated);
}

struct Authenticated {
  union {
    refused @0 :Text;
    user @1 :User;
  }
}

struct User {
  # What a credential is worth. A capability that is absent was not granted.
  name @0 :Text;
  reader @1 :Query.Reader;
  cacheMs @2 :UInt32;              # how long the exchange may be remembered
  operator @3 :Operator.Operator;
  writer @4 :Writer;               # only through the gate of a bulk stream
}

interface Writer {
  # Puts records into the system for an application that speaks HTTP. It
  # cannot read.
  write @0 (client :UInt64, batch :Batch.Batch) -> (receipt :WriteReceipt);
  # Answered when the batch is stored and its samples were looked at. The batch
  # says neither incarnation nor sequence: the collector gives it its place.
  # Its dictionary is of (writer, client, epoch); `client` is a random number,
  # and a new one begins with no epoch.
  describe @1 (metrics :List(MetricText)) -> ();
  # What metrics mean, for those who ask. Kept in memory only.
}

struct WriteReceipt {
  union {
    stored @0 :Void;               # but for the counts below
    rejected @1 :Text;             # never acceptable
    needDictionary @2 :Void;       # begin another client, then send again
    retryAfterMs @3 :UInt32;       # no room, or the disk fails
    limitedMs @4 :UInt32;          # over the rate of this writer
  }
  tooOldItems @5 :UInt32;          # refused: too far behind their series
  conflictItems @6 :UInt32;        # refused: another value is there
  seriesLimitItems @7 :UInt32;     # refused: of series beyond a limit
}

struct MetricText {
  name @0 :Text;
  type @1 :Text;                   # as Prometheus names it
  help @2 :Text;
  unit @3 :Text;
}
