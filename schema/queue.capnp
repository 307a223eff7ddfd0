@0xd3a1c0f4e5b60102;
# What the agent writes into its queue: never sent as such.

using Batch = import "batch.capnp";

struct QueueRecord {
  batch @0 :Batch.Batch;
  cursors @1 :List(FileCursor);    # new positions that the batch's lines imply
}

struct QueueSnapshot {
  # Begins every queue segment, so that older segments can go.
  dictionary @0 :Batch.Dictionary;
  cursors @1 :List(FileCursor);
}

struct FileCursor {
  path @0 :Data;
  device @1 :UInt64;
  inode @2 :UInt64;
  fingerprintBytes @3 :UInt32;
  fingerprintCrc32c @4 :UInt32;
  offset @5 :UInt64;
}
