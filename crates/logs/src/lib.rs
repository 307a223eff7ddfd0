//! Log store: recent lines and their search.
