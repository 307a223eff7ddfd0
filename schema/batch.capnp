@0xd3a1c0f4e5b60101;
# A batch: what an agent queues, sends, and a collector spools. The bytes of
# `Batch.body` are made once, on the agent, and never change again.
# docs/formats/batch.md draws them.

enum Stream {
  metrics @0;
  logs @1;
  events @2;
}

struct Incarnation {
  # One run of an agent. Later runs have larger ordinals.
  ordinal @0 :UInt64;
  nonce @1 :UInt64;
}

enum Codec {
  none @0;
  zstd @1;
  lz4 @2;
}

struct Batch {
  # Plain fields beside the body, so that a collector can shed, deduplicate
  # and route without decoding.
  version @0 :UInt16;              # of the body's format; 1
  stream @1 :Stream;
  incarnation @2 :Incarnation;
  sequence @3 :UInt64;             # first sequence that this covers
  sequenceEnd @4 :UInt64;          # exclusive; sequence + 1 but for a loss
  kind @5 :Kind;
  itemCount @6 :UInt32;            # samples, histograms, lines, events; of a loss: 0
  itemsBefore @7 :UInt64;          # items of this stream and incarnation before this batch
  timeMinUnixMs @8 :Int64;
  timeMaxUnixMs @9 :Int64;
  dictionaryEpoch @10 :UInt32;
  dictionaryLength @11 :UInt32;    # entries that must be known before this batch's own
  codec @12 :Codec;
  rawBytes @13 :UInt32;            # length of the body after decoding
  bodyCrc32c @14 :UInt32;          # of the encoded body
  body @15 :Data;                  # a BatchBody message, encoded

  enum Kind {
    samples @0;
    logs @1;
    loss @2;
    events @3;
    histograms @4;
  }
}

struct BatchBody {
  # Dictionary entries first used here: their references are
  # dictionaryLength, dictionaryLength + 1, ...
  newEntries @0 :List(Labels);
  union {
    samples @1 :Samples;
    logs @2 :Logs;
    loss @3 :Loss;
    events @4 :List(Event);
    histograms @5 :Histograms;
    # Room: exemplars.
  }
}

struct Label {
  name @0 :Text;
  value @1 :Text;
}

struct Labels {
  pairs @0 :List(Label);           # sorted by name, each name once
}

struct Samples {
  # One timestamp a scrape, not a series: scrape i has lengths[i] consecutive
  # entries of references and values.
  timesUnixMs @0 :List(Int64);
  lengths @1 :List(UInt32);
  references @2 :List(UInt32);
  values @3 :List(Float64);
}

struct Histograms {
  # Native histograms, in the columns of samples.
  timesUnixMs @0 :List(Int64);
  lengths @1 :List(UInt32);
  references @2 :List(UInt32);
  values @3 :List(NativeHistogram);
}

struct NativeHistogram {
  # As lm_model::Histogram and Prometheus' FloatHistogram have it.
  schema @0 :Int8;                 # -4 to 8, or -53: customBounds are the bounds
  resetHint @1 :UInt8;             # 0 unknown, 1 reset, 2 not reset, 3 gauge
  zeroThreshold @2 :Float64;
  zeroCount @3 :Float64;
  count @4 :Float64;
  sum @5 :Float64;
  positiveSpans @6 :List(BucketSpan);
  positiveCounts @7 :List(Float64);  # absolute, one for each bucket of the spans
  negativeSpans @8 :List(BucketSpan);
  negativeCounts @9 :List(Float64);
  customBounds @10 :List(Float64);   # ascending, without +Inf
}

struct BucketSpan {
  offset @0 :Int32;                # buckets left out before; of the first, its index
  length @1 :UInt32;
}

struct Logs {
  # Line i is text[ends[i-1] .. ends[i]], any bytes.
  references @0 :List(UInt32);     # dictionary entry of each line's stream
  timesUnixNano @1 :List(Int64);
  ends @2 :List(UInt32);
  text @3 :Data;
  # Room: structured fields.
}

enum LossReason {
  queueFullOldest @0;
  queueFullNewest @1;
  rejected @2;
  corrupt @3;
  reassigned @4;
  limit @5;
  source @6;
  fenced @7;
}

struct Loss {
  # Records of [sequence, sequenceEnd) of the batch that carries this are
  # given up. It fills exactly that hole.
  items @0 :UInt64;
  bytes @1 :UInt64;
  reason @2 :LossReason;
}

struct Event {
  timeUnixMs @0 :Int64;
  union {
    notice @1 :Notice;
    sourceLoss @2 :SourceLoss;     # lost before it was accepted, e.g. truncated file
  }
}

struct Notice {
  code @0 :Text;                   # stable, lower_snake_case
  message @1 :Text;
}

struct SourceLoss {
  source @0 :Text;                 # e.g. the file's path
  items @1 :UInt64;                # 0 when unknown
  bytes @2 :UInt64;
  code @3 :Text;
}

struct Dictionary {
  # All entries of one epoch up to `length`; entry i has reference i.
  epoch @0 :UInt32;
  entries @1 :List(Labels);
}
