//! The process that stores and answers.
