@0xd3a1c0f4e5b60103;
# What the collector writes into its spool. Each spool segment is complete in
# itself: watermarks first, and each dictionary before its first use.

using Batch = import "batch.capnp";

struct SpoolRecord {
  receivedUnixMs @0 :Int64;
  agent @1 :Text;
  instance @2 :Text;               # label value that native series get; empty: their own
  union {
    batch @3 :Accepted;
    dictionary @4 :DictionaryOf;
    tombstone @5 :Tombstone;
    quarantined @6 :Batch.Batch;   # of a fenced incarnation; kept, not served
    watermarks @7 :List(Watermark);
  }
  labels @8 :List(Batch.Label);     # that all series and streams get, beside instance
}

struct Accepted {
  batch @0 :Batch.Batch;
  droppedEntries @1 :List(UInt32); # references refused by a limit; a fact, not replayed as a decision
  droppedItems @2 :UInt64;
}

struct DictionaryOf {
  incarnation @0 :Batch.Incarnation;
  dictionary @1 :Batch.Dictionary;
}

struct Tombstone {
  # A batch that can never be accepted; its place in the sequence is filled.
  stream @0 :Batch.Stream;
  incarnation @1 :Batch.Incarnation;
  sequence @2 :UInt64;
  sequenceEnd @3 :UInt64;
  items @4 :UInt64;
  bytes @5 :UInt64;
  reason @6 :Text;
}

struct Watermark {
  agent @0 :Text;
  stream @1 :Batch.Stream;
  incarnation @2 :Batch.Incarnation;
  durableEnd @3 :UInt64;           # every sequence below is stored or declared lost
  isFenced @4 :Bool;
  items @5 :UInt64;                # stored
  lostItems @6 :List(LostItems);
}

struct LostItems {
  reason @0 :Text;
  items @1 :UInt64;
  batches @2 :UInt64;
}
