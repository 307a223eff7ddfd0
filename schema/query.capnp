@0xd3a1c0f4e5b60105;
# What a reader may ask. Answers come in bounded chunks through a cursor;
# dropping the cursor cancels the evaluation.

using Batch = import "batch.capnp";

interface Reader {
  query @0 (expression :Text, timeUnixMs :Int64, options :QueryOptions) -> (answer :Answer);
  queryRange @1 (expression :Text, startUnixMs :Int64, endUnixMs :Int64, stepMs :Int64,
                 options :QueryOptions) -> (answer :Answer);
  series @2 (selection :Selection) -> (answer :Answer);
  labelNames @3 (selection :Selection) -> (answer :Names);
  labelValues @4 (name :Text, selection :Selection) -> (answer :Names);
  searchLogs @5 (search :LogSearch) -> (answer :LogAnswer);
  tail @6 (after :EventId, filter :LogFilter) -> (tail :Tail);
  losses @7 () -> (streams :List(StreamAccount));
  dashboards @8 (id :Text) -> (dashboards :List(Dashboard));
  # One dashboard, or all when the id is empty. The collector bounds what it
  # has, so that an answer is one message.
  metadata @9 (metric :Text, limit :UInt32) -> (metrics :List(MetricMetadata));
  # What metrics mean, by name: of one, or of all that the reader sees; 0: no
  # limit beyond the collector's.
  targets @10 () -> (targets :List(Target));
  # Hosts and scraped targets with a recent sample of `up`.
  storeStatus @11 (limit :UInt32) -> (status :StoreStatus);
  # Counts of what the reader sees; `limit` entries of each list.
  format @12 (expression :Text) -> (answer :Formatted);
  # The same expression in its canonical form.
  syntaxTree @13 (expression :Text) -> (answer :Formatted);
  # The tree of an expression, as JSON in the shape of Prometheus.
}

struct QueryOptions {
  timeoutMs @0 :UInt32;            # 0: the collector's default
  lookbackMs @1 :UInt32;           # 0: the default, 5 min
}

struct Selection {
  selectors @0 :List(Text);        # PromQL series selectors, any of which may match; none: all
  startUnixMs @1 :Int64;
  endUnixMs @2 :Int64;             # inclusive, as in the Prometheus API
  limit @3 :UInt32;                # 0: off
}

struct Failure {
  kind @0 :Kind;
  message @1 :Text;
  enum Kind {
    badData @0;
    execution @1;
    timeout @2;
    canceled @3;
    limit @4;
    overloaded @5;
    internal @6;
  }
}

struct Answer {
  union {
    failed @0 :Failure;
    ok @1 :Opened;
  }
}

struct Opened {
  type @0 :ResultType;
  warnings @1 :List(Text);
  infos @2 :List(Text);
  cursor @3 :Cursor;
  stats @4 :QueryStats;
}

struct QueryStats {
  queueMicros @0 :UInt64;          # waited for a thread
  evalMicros @1 :UInt64;
  samplesRead @2 :UInt64;
  samplesPeak @3 :UInt64;          # samples and values held at once
}

enum ResultType {
  scalar @0;
  vector @1;
  matrix @2;
  string @3;
  series @4;                       # labels only
}

interface Cursor {
  next @0 () -> (chunk :Chunk, done :Bool);
}

struct Chunk {
  series @0 :List(SeriesChunk);
  text @1 :Text;                   # of a string result
}

struct SeriesChunk {
  labels @0 :List(Batch.Label);
  timesUnixMs @1 :List(Int64);
  values @2 :List(Float64);
  isContinued @3 :Bool;            # more of the series that ended the last chunk
  histogramTimesUnixMs @4 :List(Int64);
  histograms @5 :List(Batch.NativeHistogram);
  # Of a series its numbers come first, then its histograms; no time is in both.
}

struct Names {
  union {
    failed @0 :Failure;
    ok @1 :List(Text);
  }
  isTruncated @2 :Bool;
}

struct LogFilter {
  selector @0 :Text;               # `{filename="/var/log/syslog"}`; empty: all
  contains @1 :List(Text);         # each must occur
  excludes @2 :List(Text);         # none may occur
  regex @3 :Text;                  # empty: none
}

struct LogSearch {
  filter @0 :LogFilter;
  startUnixNano @1 :Int64;
  endUnixNano @2 :Int64;           # exclusive
  limit @3 :UInt32;
  isForward @4 :Bool;              # oldest first; otherwise newest first
}

struct LogAnswer {
  union {
    failed @0 :Failure;
    ok @1 :List(LogLine);
  }
  isTruncated @2 :Bool;            # the limit or the scan budget ended it
}

struct LogLine {
  labels @0 :List(Batch.Label);
  timeUnixNano @1 :Int64;
  line @2 :Data;
}

struct EventId {
  # Events are numbered within one run of the collector.
  epoch @0 :UInt64;                # 0: from now on
  position @1 :UInt64;
}

interface Tail {
  # Long poll. The ring is shared and bounded: a reader that lags is told how
  # many events it missed.
  next @0 (waitMs :UInt32, eventsMax :UInt32) -> (events :List(TailEvent), missed :UInt64, isRestarted :Bool, next :EventId);
}

struct TailEvent {
  id @0 :EventId;
  timeUnixNano @1 :Int64;
  union {
    log @2 :LogLine;
    notice @3 :Notice;
  }
}

struct Notice {
  code @0 :Text;
  agent @1 :Text;
  message @2 :Text;
  items @3 :UInt64;
}

struct StreamAccount {
  # accepted = stored + declared lost + still queued at the agent
  agent @0 :Text;
  stream @1 :Batch.Stream;
  incarnation @2 :Batch.Incarnation;
  durableEnd @3 :UInt64;
  storedItems @4 :UInt64;
  lost @5 :List(LostByReason);
  isFenced @6 :Bool;
}

struct LostByReason {
  reason @0 :Text;
  items @1 :UInt64;
  batches @2 :UInt64;
}

struct Dashboard {
  # What to ask and how to show it. `$name` in an expression or selector stands
  # for the chosen value of a variable; docs/configuration.md says how.
  id @0 :Text;
  title @1 :Text;
  description @2 :Text;
  tags @3 :List(Text);
  isBuiltin @4 :Bool;
  rangeMs @5 :UInt64;              # how far back to look at first
  refreshMs @6 :UInt64;            # 0: not by itself
  variables @7 :List(DashboardVariable);
  rows @8 :List(DashboardRow);
}

struct DashboardVariable {
  # Its choices are the values of a label of the series that are selected.
  name @0 :Text;
  title @1 :Text;
  label @2 :Text;
  selector @3 :Text;               # empty: all series
}

struct DashboardRow {
  title @0 :Text;
  panels @1 :List(DashboardPanel);
}

struct DashboardPanel {
  title @0 :Text;
  description @1 :Text;
  kind @2 :PanelKind;
  unit @3 :PanelUnit;
  width @4 :UInt8;                 # of the 12 columns of a row
  thresholds @5 :List(PanelThreshold);
  union {
    queries @6 :List(PanelQuery);
    logs @7 :LogFilter;
  }
}

enum PanelKind {
  timeseries @0;
  stat @1;
  gauge @2;
  table @3;
  logs @4;
}

enum PanelUnit {
  none @0;
  count @1;
  perSecond @2;
  bytes @3;
  bytesPerSecond @4;
  seconds @5;
  ratio @6;                        # 1 is the whole
  unixSeconds @7;
}

struct PanelQuery {
  expression @0 :Text;
  legend @1 :Text;                 # `{{label}}` stands for a label's value; empty: all labels
}

struct PanelThreshold {
  from @0 :Float64;                # from this value on
  level @1 :Level;
  enum Level {
    ok @0;
    warning @1;
    critical @2;
  }
}

struct MetricMetadata {
  metric @0 :Text;                 # of a classic histogram without `_bucket`, `_sum`, `_count`
  type @1 :Text;                   # counter, gauge, histogram, summary, info, unknown
  help @2 :Text;
  unit @3 :Text;
}

struct Target {
  labels @0 :List(Batch.Label);    # job, instance and what else the series have
  health @1 :Health;
  lastSampleUnixMs @2 :Int64;
  durationMicros @3 :UInt64;       # of the last scrape; 0: not known
  intervalMs @4 :UInt64;           # between the last two samples; 0: not known
  isHost @5 :Bool;                 # seen by an agent on it
  scrapeUrl @6 :Text;              # this and the next three as the agent says that
  lastError @7 :Text;              # scrapes it; empty or 0: not known
  scrapeIntervalMs @8 :UInt64;
  scrapeTimeoutMs @9 :UInt64;
  enum Health {
    unknown @0;
    up @1;
    down @2;
  }
}

struct StoreStatus {
  series @0 :UInt64;
  chunks @1 :UInt64;               # of everything stored, whatever the scope; 0: in a scope
  labelPairs @2 :UInt64;
  startUnixMs @3 :Int64;           # of the process
  oldestUnixMs @4 :Int64;          # first and last sample; 0 when there is none
  newestUnixMs @5 :Int64;
  retentionMs @6 :UInt64;
  seriesByMetric @7 :List(NamedCount);
  valuesByLabel @8 :List(NamedCount);
  bytesByLabel @9 :List(NamedCount);
  seriesByPair @10 :List(NamedCount);
}

struct NamedCount {
  name @0 :Text;
  count @1 :UInt64;
}

struct Formatted {
  union {
    failed @0 :Failure;
    ok @1 :Text;
  }
}
