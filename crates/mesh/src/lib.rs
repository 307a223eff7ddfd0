//! Cap'n Proto RPC over QUIC: endpoint, workers, admission, login, sessions.
